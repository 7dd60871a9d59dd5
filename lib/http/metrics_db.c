/* /metrics: each database, and what the replicas have of it. */
#include <stdio.h>
#include <string.h>

#include "http/api_internal.h"
#include "http/prom.h"

static uint64_t
get_txid(const struct db_sample *d)
{
        return d->info.pos.txid;
}

static uint64_t
get_size(const struct db_sample *d)
{
        return (uint64_t)d->info.page_count * d->info.page_size;
}

static uint64_t
get_base(const struct db_sample *d)
{
        return d->info.base_txid;
}

static uint64_t
get_records(const struct db_sample *d)
{
        return d->n_records;
}

static uint64_t
get_log_bytes(const struct db_sample *d)
{
        return d->log.bytes;
}

static uint64_t
get_log_allocated(const struct db_sample *d)
{
        return d->log.allocated_bytes;
}

static uint64_t
get_log_segments(const struct db_sample *d)
{
        return d->log.segments;
}

/* A gauge to LiteFS, whose dashboards are to go on. */
static uint64_t
get_reaped(const struct db_sample *d)
{
        return db_counter(d->db, DB_COUNT_DROPPED);
}

static const struct gauge {
        const char *name;
        uint64_t (*get)(const struct db_sample *d);
        const char *help;
} db_gauges[] = {
        { "litefs_db_txid", get_txid, "Current transaction ID." },
        { "litefs_db_size_bytes", get_size, "Size of the database." },
        { "litefs_db_base_txid", get_base, "Last transaction that the database file durably holds." },
        { "litefs_db_ltx_count", get_records, "Transactions in the log." },
        { "litefs_db_ltx_bytes", get_log_bytes, "Size of the transactions in the log." },
        { "litefs_db_ltx_reap_count", get_reaped, "Transactions that retention took out of the log." },
        { "litefs_db_log_allocated_bytes", get_log_allocated, "Size of the log's files." },
        { "litefs_db_log_segments", get_log_segments, "Files of the log." },
};

static const struct counter {
        const char *name;
        enum db_counter what;
        const char *help;
} db_counters[] = {
        { "litefs_db_database_write_count", DB_COUNT_DATABASE_WRITES,
          "Writes to the database file, checkpoints included." },
        { "litefs_db_journal_write_count", DB_COUNT_JOURNAL_WRITES, "Writes to the rollback journal." },
        { "litefs_db_wal_write_count", DB_COUNT_WAL_WRITES, "Writes to the WAL." },
        { "litefs_db_shm_write_count", DB_COUNT_SHM_WRITES,
          "Writes of the wal-index by the kernel; applications map it." },
        { "litefs_db_commit_count", DB_COUNT_COMMITS, "Transactions committed on this node." },
        { "litefs_db_synced_commits_total", DB_COUNT_SYNCED,
          "Of these in WAL mode, that the application synced (synchronous=FULL)." },
        { "litefs_db_unsynced_commits_total", DB_COUNT_UNSYNCED,
          "Of these in WAL mode, that the application did not sync (synchronous=NORMAL)." },
        { "litefs_db_applied_total", DB_COUNT_APPLIED,
          "Transactions of other nodes that were applied." },
        { "litefs_db_snapshots_sent_total", DB_COUNT_SENT_SNAPSHOTS, "Snapshots sent to replicas." },
        { "litefs_db_snapshots_received_total", DB_COUNT_RECEIVED_SNAPSHOTS,
          "Snapshots received from a primary." },
        { "litefs_db_divergences_total", DB_COUNT_DIVERGENCES,
          "Times that the database's state was set aside, since the cluster did not have it." },
};

/* Both kinds together, as the users' dashboards ask. */
static void
add_tx_counts(struct prom *p, const struct db_samples *s)
{
        prom_family(p, "litefs_tx_count", "counter", "Transactions committed or applied.");
        for (size_t i = 0; i < s->n; i++)
                prom_int(p,
                         db_counter(s->items[i].db, DB_COUNT_COMMITS) +
                                 db_counter(s->items[i].db, DB_COUNT_APPLIED),
                         PROM_LABELS("db", db_name(s->items[i].db)));
        prom_family(p, "litefs_http_frame_send_count", "counter", "Records sent to replicas.");
        for (size_t i = 0; i < s->n; i++) {
                const char *name = db_name(s->items[i].db);

                prom_int(p, db_counter(s->items[i].db, DB_COUNT_SENT_RECORDS),
                         PROM_LABELS("db", name, "type", "ltx"));
                prom_int(p, db_counter(s->items[i].db, DB_COUNT_SENT_SNAPSHOTS),
                         PROM_LABELS("db", name, "type", "ltx:snapshot"));
        }
        prom_family(
                p, "litefs_db_lag_seconds", "gauge",
                "Age of the last transaction when it was applied here, 0 for one of this node's own.");
        for (size_t i = 0; i < s->n; i++)
                prom_real(p, (double)s->items[i].info.apply_lag_ms / 1000,
                          PROM_LABELS("db", db_name(s->items[i].db)));
}

static void
add_broken(void *arg, const char *name)
{
        prom_int(arg, 1, PROM_LABELS("db", name));
}

static void
add_failed(struct prom *p, const struct db_samples *s, struct store *store)
{
        prom_family(p, "litefs_db_failed", "gauge",
                    "Whether the database was stopped after an error, or did not open.");
        for (size_t i = 0; i < s->n; i++)
                prom_int(p, s->items[i].info.is_failed, PROM_LABELS("db", db_name(s->items[i].db)));
        store_each_broken(store, add_broken, p);
}

void
metrics_add_databases(struct prom *p, const struct db_samples *s, struct store *store)
{
        if (s->n == 0 && !store_has_broken(store))
                return;
        add_failed(p, s, store);
        for (size_t g = 0; g < sizeof db_gauges / sizeof db_gauges[0]; g++) {
                prom_family(p, db_gauges[g].name, "gauge", db_gauges[g].help);
                for (size_t i = 0; i < s->n; i++)
                        prom_int(p, db_gauges[g].get(&s->items[i]),
                                 PROM_LABELS("db", db_name(s->items[i].db)));
        }
        for (size_t g = 0; g < sizeof db_counters / sizeof db_counters[0]; g++) {
                prom_family(p, db_counters[g].name, "counter", db_counters[g].help);
                for (size_t i = 0; i < s->n; i++)
                        prom_int(p, db_counter(s->items[i].db, db_counters[g].what),
                                 PROM_LABELS("db", db_name(s->items[i].db)));
        }
        add_tx_counts(p, s);
}

/* --- replicas --- */

struct replica_family {
        const char *name, *help;
        void (*add)(struct prom *p, const struct api_ack *ack, const struct api_behind *behind,
                    const char *const *labels);
};

static void
add_txid(struct prom *p, const struct api_ack *ack, const struct api_behind *behind,
         const char *const *labels)
{
        (void)behind;
        prom_int(p, ack->pos.txid, labels);
}

static void
add_lag_transactions(struct prom *p, const struct api_ack *ack, const struct api_behind *behind,
                     const char *const *labels)
{
        (void)ack;
        prom_int(p, behind->n, labels);
}

static void
add_lag_seconds(struct prom *p, const struct api_ack *ack, const struct api_behind *behind,
                const char *const *labels)
{
        (void)ack;
        prom_real(p, (double)behind->ms / 1000, labels);
}

static const struct replica_family replica_families[] = {
        { "litefs_replica_txid", "Last transaction that the replica has applied.", add_txid },
        { "litefs_replica_lag_transactions", "Transactions that the replica has yet to apply.",
          add_lag_transactions },
        { "litefs_replica_lag_seconds",
          "Age of the first transaction that the replica has yet to apply.", add_lag_seconds },
};

/* Two replicas that call themselves the same would be one series twice, which Prometheus refuses. */
static void
label_replica(const struct api_nodes *n, size_t i, char *buf, size_t size)
{
        char id[17];

        snprintf(buf, size, "%s", n->peers[i].hostname);
        for (size_t k = 0; k < n->n_peers; k++)
                if (k != i && strcmp(n->peers[i].hostname, n->peers[k].hostname) == 0) {
                        api_format_boot_id(n->peers[i].boot_id, id);
                        snprintf(buf, size, "%s (%s)", n->peers[i].hostname, id);
                        return;
                }
}

static void
add_acks(struct prom *p, const struct replica_family *f, const struct api_nodes *n, int64_t now_ms)
{
        char label[LEASE_HOSTNAME_SIZE + 32];

        for (size_t i = 0; i < n->n_peers; i++) {
                label_replica(n, i, label, sizeof label);
                for (size_t k = 0; k < n->peers[i].n_acks; k++) {
                        const struct api_ack *ack = &n->peers[i].acks[k];
                        struct api_behind behind;

                        api_get_behind(ack, now_ms, &behind);
                        f->add(p, ack, &behind, PROM_LABELS("db", db_name(ack->db), "replica", label));
                }
        }
}

void
metrics_add_replicas(struct prom *p, const struct api_nodes *n, int64_t now_ms)
{
        for (size_t f = 0; f < sizeof replica_families / sizeof replica_families[0] && n->n_peers > 0;
             f++) {
                prom_family(p, replica_families[f].name, "gauge", replica_families[f].help);
                add_acks(p, &replica_families[f], n, now_ms);
        }
}
