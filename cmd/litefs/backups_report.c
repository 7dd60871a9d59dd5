/* What is told of the destinations: /backup, and metrics. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/drill.h"
#include "backup/uploader.h"
#include "base/clock.h"
#include "base/rfc3339.h"
#include "cmd/litefs/backups.h"
#include "http/prom.h"
#include "store/dbname.h"
#include "txlog/txlog.h"

typedef unsigned long long ull;

static const char *
state_name(const struct upload_status *s)
{
        static const char *const names[] = { "looking", "following", "blocked" };

        return names[s->state];
}

/* Transactions that the destination lacks, and for how long it has: 0 when it has all. */
struct lag {
        uint64_t n;
        int64_t ms;
};

static struct lag
lag_of(struct db *db, const struct upload_status *s)
{
        struct txlog_reader *r = NULL;
        struct txlog_record record;
        struct byte_src *src;
        struct db_info info;
        struct lag lag = { 0 };

        db_get_info(db, &info);
        if (info.pos.txid <= s->pos.txid)
                return lag;
        lag.n = info.pos.txid - s->pos.txid;
        /* Since the first that it lacks; the last one where the log does not have that any more. */
        lag.ms = info.timestamp_ms;
        if (txlog_reader_open(db_log(db), s->pos.txid, &r, NULL) == 0 &&
            txlog_reader_next(r, &record, &src, NULL) > 0)
                lag.ms = record.timestamp_ms;
        txlog_reader_close(r);
        lag.ms = clock_wall_ms(clock_host()) - lag.ms;
        if (lag.ms < 0)
                lag.ms = 0;
        return lag;
}

/* --- /backup --- */

static void
add_backup_of(void *arg, struct db *db, const struct upload_status *s)
{
        struct lag lag = lag_of(db, s);
        char time[RFC3339_SIZE] = "";

        if (s->pos.txid != 0)
                rfc3339_format(s->time_ms, time);
        json_array_append_new(
                arg, json_pack("{s:s, s:s, s:o, s:o, s:s, s:I, s:I, s:o, s:I}", "name", db_name(db),
                               "state", state_name(s), "txid", json_sprintf("%016llx", (ull)s->pos.txid),
                               "postApplyChecksum", json_sprintf("%016llx", (ull)s->pos.checksum),
                               "timestamp", time, "lagTransactions", (json_int_t)lag.n, "lagMS",
                               (json_int_t)lag.ms, "snapshotTXID",
                               json_sprintf("%016llx", (ull)s->snapshot_txid), "gaps",
                               (json_int_t)s->n_gaps));
}

static json_t *
drill_json(struct drill *drill)
{
        char time[RFC3339_SIZE] = "";
        struct drill_status s;

        if (drill == NULL)
                return json_null();
        drill_get_status(drill, &s);
        if (s.done_ms != 0)
                rfc3339_format(s.done_ms, time);
        return json_pack("{s:s, s:I, s:I, s:s}", "timestamp", time, "databases",
                         (json_int_t)s.n_databases, "failed", (json_int_t)s.n_failed, "error",
                         s.trouble);
}

static void
add_destination(void *arg, struct uploader *up, struct drill *drill)
{
        const struct dest *d = uploader_dest(up);
        struct uploader_status st;
        json_t *databases = json_array();

        uploader_get_status(up, &st);
        uploader_each(up, add_backup_of, databases);
        json_array_append_new(arg, json_pack("{s:s, s:b, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:o, s:o}",
                                             "url", d->url, "active", (int)st.is_leading, "failures",
                                             (json_int_t)st.n_failures, "error", st.trouble,
                                             "ignoresConditions", (int)d->ignores_conditions, "requests",
                                             (json_int_t)d->counters.n_requests, "errors",
                                             (json_int_t)d->counters.n_errors, "sentBytes",
                                             (json_int_t)d->counters.sent_bytes, "receivedBytes",
                                             (json_int_t)d->counters.received_bytes, "databases",
                                             databases, "drill", drill_json(drill)));
}

void
backups_add_json(struct backups *b, struct text *t)
{
        json_t *destinations = json_array(), *all;
        char *s;

        backups_each(b, add_destination, destinations);
        all = json_pack("{s:o}", "destinations", destinations);
        s = all != NULL ? json_dumps(all, JSON_INDENT(2)) : NULL;
        if (s != NULL)
                text_printf(t, "%s\n", s);
        else
                t->is_cut = true;
        free(s);
        json_decref(all);
}

/* --- what is wrong --- */

struct troubles {
        void (*fn)(void *arg, const char *text);
        void *arg;
        const char *url;
        uint64_t n_blocked;
        char blocked[DBNAME_MAX + 1]; /* the first of them */
};

static void
count_blocked(void *arg, struct db *db, const struct upload_status *s)
{
        struct troubles *t = arg;

        if (s->state != UPLOAD_BLOCKED)
                return;
        if (t->n_blocked++ == 0)
                snprintf(t->blocked, sizeof t->blocked, "%s", db_name(db));
}

static void
tell_trouble(const struct troubles *t, const char *fmt, ...)
{
        char text[2 * ERR_TEXT_SIZE + DBNAME_MAX];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        t->fn(t->arg, text);
}

static void
add_destination_troubles(void *arg, struct uploader *up, struct drill *drill)
{
        struct troubles *t = arg;
        struct uploader_status st;
        struct drill_status ds = { 0 };

        t->url = uploader_dest(up)->url;
        t->n_blocked = 0;
        uploader_get_status(up, &st);
        uploader_each(up, count_blocked, t);
        if (drill != NULL)
                drill_get_status(drill, &ds);
        if (st.n_failures > 0 && strstr(st.trouble, t->url) != NULL)
                tell_trouble(t, "Backups fail: %s", st.trouble);
        else if (st.n_failures > 0)
                tell_trouble(t, "Backups to %s fail: %s", t->url, st.trouble);
        if (t->n_blocked > 0)
                tell_trouble(
                        t,
                        "%s (%llu in all) is not backed up to %s: something else writes at its place.",
                        t->blocked, (ull)t->n_blocked, t->url);
        if (ds.n_failed > 0)
                tell_trouble(t, "The drill could not restore %llu of %llu databases from %s: %s",
                             (ull)ds.n_failed, (ull)ds.n_databases, t->url, ds.trouble);
}

void
backups_each_trouble(struct backups *b, void (*fn)(void *arg, const char *text), void *arg)
{
        struct troubles t = { .fn = fn, .arg = arg };

        backups_each(b, add_destination_troubles, &t);
}

/* --- metrics --- */

/* One family over all destinations at a time, as the format wants it. */
struct family {
        struct prom p;
        uint64_t (*of_dest)(struct uploader *up);
        double (*of_db)(struct db *db, const struct upload_status *s);
        double (*of_drill)(const struct drill_status *s);
        const char *url;
};

static void
add_db_sample(void *arg, struct db *db, const struct upload_status *s)
{
        struct family *f = arg;

        prom_real(&f->p, f->of_db(db, s), PROM_LABELS("destination", f->url, "db", db_name(db)));
}

static void
add_sample(void *arg, struct uploader *up, struct drill *drill)
{
        struct family *f = arg;
        struct drill_status s;

        f->url = uploader_dest(up)->url;
        if (f->of_drill != NULL) {
                if (drill != NULL) {
                        drill_get_status(drill, &s);
                        prom_real(&f->p, f->of_drill(&s), PROM_LABELS("destination", f->url));
                }
        } else if (f->of_dest != NULL)
                prom_int(&f->p, f->of_dest(up), PROM_LABELS("destination", f->url));
        else
                uploader_each(up, add_db_sample, f);
}

static uint64_t
requests_of(struct uploader *up)
{
        return uploader_dest(up)->counters.n_requests;
}

static uint64_t
errors_of(struct uploader *up)
{
        return uploader_dest(up)->counters.n_errors;
}

static uint64_t
sent_of(struct uploader *up)
{
        return uploader_dest(up)->counters.sent_bytes;
}

static uint64_t
received_of(struct uploader *up)
{
        return uploader_dest(up)->counters.received_bytes;
}

static uint64_t
failures_of(struct uploader *up)
{
        struct uploader_status st;

        uploader_get_status(up, &st);
        return st.n_failures;
}

static uint64_t
ignores_conditions(struct uploader *up)
{
        return uploader_dest(up)->ignores_conditions;
}

static double
txid_of(struct db *db, const struct upload_status *s)
{
        (void)db;
        return (double)s->pos.txid;
}

static double
seconds_behind(struct db *db, const struct upload_status *s)
{
        return (double)lag_of(db, s).ms / 1000;
}

static double
is_blocked(struct db *db, const struct upload_status *s)
{
        (void)db;
        return s->state == UPLOAD_BLOCKED;
}

static double
gaps_of(struct db *db, const struct upload_status *s)
{
        (void)db;
        return (double)s->n_gaps;
}

static double
drill_time(const struct drill_status *s)
{
        return (double)s->done_ms / 1000;
}

static double
drill_failed(const struct drill_status *s)
{
        return (double)s->n_failed;
}

void
backups_add_metrics(struct backups *b, struct text *t)
{
        static const struct {
                const char *name, *type, *help;
                uint64_t (*of_dest)(struct uploader *up);
                double (*of_db)(struct db *db, const struct upload_status *s);
                double (*of_drill)(const struct drill_status *s);
        } rows[] = {
                { "litefs_backup_requests_total", "counter", "Calls to a destination of backups.",
                  requests_of, NULL, NULL },
                { "litefs_backup_errors_total", "counter", "Those that failed.", errors_of, NULL, NULL },
                { "litefs_backup_sent_bytes_total", "counter", "Bytes that went there.", sent_of, NULL,
                  NULL },
                { "litefs_backup_received_bytes_total", "counter", "Bytes that came from there.",
                  received_of, NULL, NULL },
                { "litefs_backup_failures", "gauge", "Attempts that failed since the last that did not.",
                  failures_of, NULL, NULL },
                { "litefs_backup_ignores_conditions", "gauge",
                  "Whether the destination takes an object whose condition does not hold.",
                  ignores_conditions, NULL, NULL },
                { "litefs_backup_txid", "gauge", "Transaction that the destination has of a database.",
                  NULL, txid_of, NULL },
                { "litefs_backup_lag_seconds", "gauge",
                  "How long the destination has lacked a transaction of the database, 0 when it has all.",
                  NULL, seconds_behind, NULL },
                { "litefs_backup_blocked", "gauge",
                  "Whether nothing goes out, for the place is another one's.", NULL, is_blocked, NULL },
                { "litefs_backup_gaps_total", "counter",
                  "Times that the log did not reach back to where the destination was.", NULL, gaps_of,
                  NULL },
                { "litefs_backup_drill_timestamp_seconds", "gauge",
                  "When the last round of restores to prove the backup ended; 0: none has.", NULL, NULL,
                  drill_time },
                { "litefs_backup_drill_failed", "gauge", "Databases that it could not restore.", NULL,
                  NULL, drill_failed },
        };

        if (b == NULL)
                return;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                struct family f = { .p = { t, NULL },
                                    .of_dest = rows[i].of_dest,
                                    .of_db = rows[i].of_db,
                                    .of_drill = rows[i].of_drill };

                prom_family(&f.p, rows[i].name, rows[i].type, rows[i].help);
                backups_each(b, add_sample, &f);
        }
}
