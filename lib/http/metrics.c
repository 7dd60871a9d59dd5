/* /metrics: LiteFS's names where they can be true here, and what an operator needs beyond. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/api_internal.h"
#include "http/prom.h"

/* A database as it was when the scrape began: families go one after the other, each over all of them. */
struct db_sample {
        struct db *db;
        struct db_info info;
        struct txlog_stat log;
        uint64_t n_records;
};

struct samples {
        struct db_sample *dbs;
        size_t n, capacity;
};

static int
take_sample(void *arg, struct db *db)
{
        struct samples *s = arg;
        size_t want = s->capacity == 0 ? 16 : s->capacity * 2;
        struct txlog_record first, last;
        struct db_sample *d;

        if (s->n == s->capacity) {
                d = realloc(s->dbs, want * sizeof *d);
                if (d == NULL)
                        return -1;
                s->dbs = d;
                s->capacity = want;
        }
        d = &s->dbs[s->n++];
        *d = (struct db_sample){ .db = db };
        db_get_info(db, &d->info);
        txlog_get_stat(db_log(db), &d->log);
        if (txlog_first(db_log(db), &first) && txlog_last(db_log(db), &last) &&
            last.max_txid >= first.min_txid)
                d->n_records = last.max_txid - first.min_txid + 1;
        return 0;
}

/* --- values of a database --- */

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
get_failed(const struct db_sample *d)
{
        return d->info.is_failed;
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

static const struct gauge {
        const char *name;
        uint64_t (*get)(const struct db_sample *d);
        const char *help;
} db_gauges[] = {
        { "litefs_db_txid", get_txid, "Current transaction ID." },
        { "litefs_db_size_bytes", get_size, "Size of the database." },
        { "litefs_db_failed", get_failed, "Whether the database was stopped after an error." },
        { "litefs_db_base_txid", get_base, "Last transaction that the database file durably holds." },
        { "litefs_db_ltx_count", get_records, "Transactions in the log." },
        { "litefs_db_ltx_bytes", get_log_bytes, "Size of the transactions in the log." },
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
        { "litefs_db_commit_count", DB_COUNT_COMMITS, "Transactions committed on this node." },
        { "litefs_db_applied_total", DB_COUNT_APPLIED,
          "Transactions of other nodes that were applied." },
        { "litefs_db_snapshots_sent_total", DB_COUNT_SENT_SNAPSHOTS, "Snapshots sent to replicas." },
        { "litefs_db_snapshots_received_total", DB_COUNT_RECEIVED_SNAPSHOTS,
          "Snapshots received from a primary." },
        { "litefs_db_divergences_total", DB_COUNT_DIVERGENCES,
          "Times that the database's state was set aside, since the cluster did not have it." },
};

static void
add_databases(struct prom *p, const struct samples *s)
{
        for (size_t g = 0; g < sizeof db_gauges / sizeof db_gauges[0] && s->n > 0; g++) {
                prom_family(p, db_gauges[g].name, "gauge", db_gauges[g].help);
                for (size_t i = 0; i < s->n; i++)
                        prom_int(p, db_gauges[g].get(&s->dbs[i]),
                                 PROM_LABELS("db", db_name(s->dbs[i].db)));
        }
        for (size_t g = 0; g < sizeof db_counters / sizeof db_counters[0] && s->n > 0; g++) {
                prom_family(p, db_counters[g].name, "counter", db_counters[g].help);
                for (size_t i = 0; i < s->n; i++)
                        prom_int(p, db_counter(s->dbs[i].db, db_counters[g].what),
                                 PROM_LABELS("db", db_name(s->dbs[i].db)));
        }
}

/* Both kinds together, as the users' dashboards ask. */
static void
add_tx_counts(struct prom *p, const struct samples *s)
{
        if (s->n == 0)
                return;
        prom_family(p, "litefs_tx_count", "counter", "Transactions committed or applied.");
        for (size_t i = 0; i < s->n; i++)
                prom_int(p,
                         db_counter(s->dbs[i].db, DB_COUNT_COMMITS) +
                                 db_counter(s->dbs[i].db, DB_COUNT_APPLIED),
                         PROM_LABELS("db", db_name(s->dbs[i].db)));
        prom_family(p, "litefs_http_frame_send_count", "counter", "Records sent to replicas.");
        for (size_t i = 0; i < s->n; i++) {
                const char *name = db_name(s->dbs[i].db);

                prom_int(p, db_counter(s->dbs[i].db, DB_COUNT_SENT_RECORDS),
                         PROM_LABELS("db", name, "type", "ltx"));
                prom_int(p, db_counter(s->dbs[i].db, DB_COUNT_SENT_SNAPSHOTS),
                         PROM_LABELS("db", name, "type", "ltx:snapshot"));
        }
        prom_family(
                p, "litefs_db_lag_seconds", "gauge",
                "Age of the last transaction when it was applied here, 0 for one of this node's own.");
        for (size_t i = 0; i < s->n; i++)
                prom_real(p, (double)s->dbs[i].info.apply_lag_ms / 1000,
                          PROM_LABELS("db", db_name(s->dbs[i].db)));
}

/* --- the node --- */

static void
add_gauge(struct prom *p, const char *name, const char *help, uint64_t value)
{
        prom_family(p, name, "gauge", help);
        prom_int(p, value, NULL);
}

static void
add_counter(struct prom *p, const char *name, const char *help, uint64_t value)
{
        prom_family(p, name, "counter", help);
        prom_int(p, value, NULL);
}

static void
add_node(struct prom *p, const struct api_view *v, size_t n_dbs)
{
        const struct api *a = v->api;
        const struct node_status *st = &v->nodes.self;

        add_gauge(p, "litefs_db_count", "Number of databases.", n_dbs);
        add_gauge(p, "litefs_is_primary", "Whether this node is the primary.", st->is_primary);
        add_gauge(p, "litefs_subscriber_count", "Replicas that follow this node.", st->n_replicas);
        add_gauge(p, "litefs_http_stream_count", "Connected replication streams.", st->n_replicas);
        add_gauge(p, "litefs_http_connections", "Connections of the HTTP API.", v->n_conns);
        add_gauge(p, "litefs_http_event_subscribers", "Listeners of /events.", v->n_listeners);
        add_gauge(p, "litefs_term", "Term of the primary.", st->term);
        add_counter(p, "litefs_streams_total", "Replication streams that were opened to this node.",
                    st->n_streams);
        add_counter(p, "litefs_stream_sent_bytes_total", "Bytes sent to replicas.", st->bytes_sent);
        add_counter(p, "litefs_stream_received_bytes_total", "Bytes received from a primary.",
                    st->bytes_received);
        prom_family(p, "litefs_lag_seconds", "gauge",
                    "Time since this node had everything, 0 on the primary.");
        prom_real(p, (double)store_lag_ms(a->config.store) / 1000, NULL);
        if (st->lease_ms >= 0) {
                prom_family(p, "litefs_lease_remaining_seconds", "gauge",
                            "Time for which the primary may still commit without a renewal.");
                prom_real(p, (double)st->lease_ms / 1000, NULL);
        }
        prom_family(p, "litefs_build_info", "gauge", "The version, in a label.");
        prom_int(p, 1, PROM_LABELS("version", a->config.version));
}

static void
add_acks(struct prom *p, const struct api_nodes *n, bool is_lag)
{
        for (size_t i = 0; i < n->n_peers; i++)
                for (size_t k = 0; k < n->peers[i].n_acks; k++) {
                        const struct api_ack *ack = &n->peers[i].acks[k];
                        uint64_t value = ack->pos.txid;

                        if (is_lag) {
                                struct db_info info;

                                db_get_info(ack->db, &info);
                                value = info.pos.txid > value ? info.pos.txid - value : 0;
                        }
                        prom_int(p, value,
                                 PROM_LABELS("db", db_name(ack->db), "replica", n->peers[i].hostname));
                }
}

/* Two replicas that call themselves the same would be one series twice, which Prometheus refuses. */
static bool
has_namesakes(const struct api_nodes *n)
{
        for (size_t i = 0; i < n->n_peers; i++)
                for (size_t k = 0; k < i; k++)
                        if (strcmp(n->peers[i].hostname, n->peers[k].hostname) == 0)
                                return true;
        return false;
}

static void
add_replicas(struct prom *p, const struct api_nodes *n)
{
        if (n->n_peers == 0 || has_namesakes(n))
                return;
        prom_family(p, "litefs_replica_txid", "gauge", "Last transaction that the replica has applied.");
        add_acks(p, n, false);
        prom_family(p, "litefs_replica_lag_transactions", "gauge",
                    "Transactions that the replica has yet to apply.");
        add_acks(p, n, true);
}

/* --- the process --- */

static unsigned
count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        if (d == NULL)
                return 0;
        while (readdir(d) != NULL)
                n++;
        closedir(d);
        return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
}

static void
add_process(struct prom *p)
{
        unsigned long utime = 0, stime = 0;
        long rss_pages = 0;
        FILE *f = fopen("/proc/self/stat", "re");
        char line[1024], *rest = NULL;

        if (f != NULL && fgets(line, sizeof line, f) != NULL)
                rest = strrchr(line, ')');
        if (rest != NULL &&
            sscanf(rest,
                   ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
                   &utime, &stime, &rss_pages) == 3) {
                prom_family(p, "process_cpu_seconds_total", "counter", "CPU time of the process.");
                prom_real(p, (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK), NULL);
                add_gauge(p, "process_resident_memory_bytes", "Resident memory.",
                          (uint64_t)rss_pages * (uint64_t)sysconf(_SC_PAGESIZE));
        }
        if (f != NULL)
                fclose(f);
        add_gauge(p, "process_open_fds", "Open file descriptors.", count_fds());
}

static void
reply_metrics(struct http_call *call, void *view)
{
        struct api_view *v = view;
        struct samples s = { 0 };
        struct text t = { 0 };
        struct prom p = { &t, NULL };

        if (store_each(v->api->config.store, take_sample, &s) < 0)
                t.is_cut = true;
        add_node(&p, v, s.n);
        add_databases(&p, &s);
        add_tx_counts(&p, &s);
        add_replicas(&p, &v->nodes);
        if (v->api->config.more_metrics != NULL)
                v->api->config.more_metrics(v->api->config.arg, &t);
        add_process(&p);
        if (t.is_cut)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_reply(call, 200, PROM_TYPE, t.s, t.n);
        text_release(&t);
        free(s.dbs);
}

void
api_metrics(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_metrics);
}
