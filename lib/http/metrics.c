/* /metrics: LiteFS's names where they can be true here, and what an operator needs beyond. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "http/api_internal.h"
#include "http/prom.h"

static int
take_sample(void *arg, struct db *db)
{
        struct db_samples *s = arg;
        size_t want = s->capacity == 0 ? 16 : s->capacity * 2;
        struct txlog_record first, last;
        struct db_sample *d;

        if (!db_exists(db))
                return 0;
        if (s->n == s->capacity) {
                d = realloc(s->items, want * sizeof *d);
                if (d == NULL)
                        return -1;
                s->items = d;
                s->capacity = want;
        }
        d = &s->items[s->n++];
        *d = (struct db_sample){ .db = db };
        db_get_info(db, &d->info);
        txlog_get_stat(db_log(db), &d->log);
        if (txlog_first(db_log(db), &first) && txlog_last(db_log(db), &last) &&
            last.max_txid >= first.min_txid)
                d->n_records = last.max_txid - first.min_txid + 1;
        return 0;
}

/* --- the node --- */

static void
add_node(struct prom *p, const struct api_view *v, size_t n_dbs)
{
        const struct api *a = v->api;
        const struct node_status *st = &v->nodes.self;

        prom_gauge(p, "litefs_db_count", "Number of databases.", n_dbs);
        prom_gauge(p, "litefs_is_primary", "Whether this node is the primary.", st->is_primary);
        prom_gauge(p, "litefs_subscriber_count", "Replicas that follow this node.", st->n_replicas);
        prom_gauge(p, "litefs_http_stream_count", "Connected replication streams.", st->n_replicas);
        prom_gauge(p, "litefs_http_connections", "Connections of the HTTP API.", v->n_conns);
        prom_gauge(p, "litefs_http_event_subscribers", "Listeners of /events.", v->n_listeners);
        prom_gauge(p, "litefs_term", "Term of the primary.", st->term);
        prom_counter(p, "litefs_streams_total", "Replication streams that were opened to this node.",
                     st->n_streams);
        prom_counter(p, "litefs_stream_sent_bytes_total", "Bytes sent to replicas.", st->bytes_sent);
        prom_counter(p, "litefs_stream_received_bytes_total", "Bytes received from a primary.",
                     st->bytes_received);
        prom_family(p, "litefs_lag_seconds", "gauge",
                    "Time since this node had everything, 0 on the primary.");
        prom_real(p, (double)store_lag_ms(a->config.store) / 1000, NULL);
        if (st->lease_ms >= 0) {
                prom_family(p, "litefs_lease_remaining_seconds", "gauge",
                            "Time for which the primary may still commit without a renewal.");
                prom_real(p, (double)st->lease_ms / 1000, NULL);
        }
        prom_gauge(p, "litefs_is_ready", "Whether this node is the primary or has caught up with it.",
                   st->is_ready);
        prom_gauge(p, "litefs_is_connected", "Whether this node, a replica, follows a primary.",
                   st->is_connected);
        prom_family(p, "litefs_build_info", "gauge", "The version, in a label.");
        prom_int(p, 1, PROM_LABELS("version", a->config.version));
}

static void
add_answers(struct prom *p, const struct api_view *v)
{
        static const char *const classes[] = { "", "1xx", "2xx", "3xx", "4xx", "5xx" };

        prom_family(p, "litefs_http_responses_total", "counter",
                    "Answers of the HTTP API by the class of their status.");
        for (int i = 1; i < 6; i++)
                prom_int(p, v->n_answers[i], PROM_LABELS("class", classes[i]));
}

/* --- what went wrong --- */

static void
add_database_errors(struct prom *p, const struct api_view *v)
{
        static const char *const names[] = {
                [DB_ERROR_REFUSED] = "commit_refused",
                [DB_ERROR_COMMIT] = "commit",
                [DB_ERROR_CHECKSUM] = "checksum",
                [DB_ERROR_APPLY] = "apply",
                [DB_ERROR_SYNC] = "sync",
                [DB_ERROR_STOPPED] = "database_stopped",
        };
        const struct db_meters *m = store_meters(v->api->config.store);

        prom_family(p, "litefs_errors_total", "counter", "Errors by kind.");
        for (int i = 0; i < DB_N_ERRORS; i++)
                prom_int(p, atomic_load(&m->errors[i]), PROM_LABELS("kind", names[i]));
        prom_int(p, v->nodes.self.n_stream_errors, PROM_LABELS("kind", "stream"));
        prom_int(p, v->nodes.self.n_lease_errors, PROM_LABELS("kind", "lease"));
}

static void
add_times(struct prom *p, const struct db_meters *m)
{
        prom_histogram(p, "litefs_commit_duration_seconds",
                       "Time in which a transaction of this node's was captured into the log.",
                       &m->commit);
        prom_histogram(p, "litefs_fsync_duration_seconds", "Time in which a log was made durable.",
                       &m->sync);
        prom_histogram(p, "litefs_sync_wait_duration_seconds",
                       "Time that applications waited for the log to be durable, when they had to.",
                       &m->sync_wait);
}

/* --- the data directory --- */

uint64_t
api_count_orphans(const char *data_dir)
{
        char path[PATH_MAX];
        DIR *d = NULL;
        const struct dirent *de;
        uint64_t n = 0;

        if (snprintf(path, sizeof path, "%s/orphans", data_dir) < (int)sizeof path)
                d = opendir(path);
        while (d != NULL && (de = readdir(d)) != NULL)
                n += de->d_name[0] != '.';
        if (d != NULL)
                closedir(d);
        return n;
}

static void
add_data_dir(struct prom *p, const char *data_dir)
{
        struct statvfs st;

        prom_gauge(p, "litefs_orphans",
                   "Histories that were set aside and are still in the data directory.",
                   api_count_orphans(data_dir));
        if (statvfs(data_dir, &st) == 0)
                prom_gauge(p, "litefs_data_free_bytes",
                           "Space that is left on the disk of the data directory.",
                           (uint64_t)st.f_bavail * st.f_frsize);
}

static void
reply_metrics(struct http_call *call, void *view)
{
        struct api_view *v = view;
        struct db_samples s = { 0 };
        struct text t = { 0 };
        struct prom p = { &t, NULL };

        if (store_each(v->api->config.store, take_sample, &s) < 0)
                t.is_cut = true;
        add_node(&p, v, s.n);
        add_times(&p, store_meters(v->api->config.store));
        add_answers(&p, v);
        add_database_errors(&p, v);
        add_data_dir(&p, v->api->config.data_dir);
        metrics_add_databases(&p, &s, v->api->config.store);
        metrics_add_replicas(&p, &v->nodes, clock_wall_ms(v->api->config.clock));
        if (v->api->config.more_metrics != NULL)
                v->api->config.more_metrics(v->api->config.arg, &t);
        metrics_add_process(&p);
        if (t.is_cut)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_reply(call, 200, PROM_TYPE, t.s, t.n);
        text_release(&t);
        free(s.items);
}

void
api_metrics(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_metrics);
}
