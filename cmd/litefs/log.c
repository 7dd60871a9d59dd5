/* litefs log: what has happened to a database, the newest transaction first. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rfc3339.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/log_of.h"
#include "history/changes.h"
#include "history/images.h"
#include "history/moment.h"

#define SHOWN_DEFAULT 20u

typedef unsigned long long ull;

struct log_view {
        struct log_place place;
        const char *count, *since; /* flags */
        bool is_json, shows_all;
        struct moment_spec from; /* of `since` */
        struct txlog *log;
        struct history_images images;
        uint64_t begin_txid; /* with which the states begin that can be opened; UINT64_MAX: there is none */
        int64_t begin_ms;
        struct history_change *rows; /* a ring of the last ones */
        size_t n_rows, capacity, n_seen;
};

static int
keep_row(void *arg, const struct history_change *change)
{
        const struct txlog_record *record = &change->record;
        struct log_view *v = arg;

        if (record->min_txid == 1 && record->max_txid < v->begin_txid) {
                v->begin_txid = record->max_txid;
                v->begin_ms = record->timestamp_ms;
        }
        if (v->since != NULL && (v->from.txid != 0 ? record->max_txid < v->from.txid
                                                   : record->timestamp_ms < v->from.time_ms))
                return 0;
        if (v->n_seen == v->capacity && v->shows_all) {
                size_t capacity = v->capacity * 2 + 64;
                struct history_change *p = realloc(v->rows, capacity * sizeof *p);

                if (p == NULL)
                        return -ENOMEM;
                v->rows = p;
                v->capacity = capacity;
        }
        v->rows[v->n_seen++ % v->capacity] = *change;
        return 0;
}

static void
describe_row(const struct history_change *row, char *buf, size_t size)
{
        const struct txlog_record *rec = &row->record;

        if (rec->commit == 0)
                snprintf(buf, size, "deleted");
        else if (rec->min_txid == 1)
                snprintf(buf, size, "whole database");
        else
                buf[0] = '\0';
}

static void
print_row(const struct history_change *row)
{
        const struct txlog_record *rec = &row->record;
        char when[RFC3339_SIZE], what[32];

        rfc3339_format(rec->timestamp_ms, when);
        describe_row(row, what, sizeof what);
        printf("%016llx  %-24s  %10llu  %10u  %10u%s%s\n", (ull)rec->max_txid, when,
               (ull)rec->size_bytes, row->n_changed, rec->commit, what[0] != '\0' ? "  " : "", what);
}

static json_t *
row_json(const struct log_view *v, const struct history_change *row)
{
        const struct txlog_record *rec = &row->record;
        char when[RFC3339_SIZE];

        rfc3339_format(rec->timestamp_ms, when);
        return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:o, s:b, s:b}", "txid",
                         json_sprintf("%016llx", (ull)rec->max_txid), "timestamp", when, "logBytes",
                         (json_int_t)rec->size_bytes, "changedPages", (json_int_t)row->n_changed,
                         "pages", (json_int_t)rec->commit, "pageSize", (json_int_t)rec->page_size,
                         "postApplyChecksum", json_sprintf("%016llx", (ull)rec->post_apply_checksum),
                         "isWhole", (int)(rec->min_txid == 1), "hasState",
                         (int)(rec->max_txid >= v->begin_txid && rec->commit > 0));
}

/* How far back NAME@MOMENT goes. */
static void
print_reach(const struct log_view *v)
{
        char when[RFC3339_SIZE];
        uint64_t bytes = 0;

        if (v->begin_txid == UINT64_MAX) {
                puts("No past state can be opened: the log has lost its beginning, and no whole database is kept beside "
                     "it (data.history).");
                return;
        }
        for (size_t i = 0; i < v->images.n; i++)
                bytes += v->images.items[i].size_bytes;
        rfc3339_format(v->begin_ms, when);
        printf("Past states begin with %016llx of %s.", (ull)v->begin_txid, when);
        if (v->images.n > 0)
                printf(" Kept for them: %zu times the whole database, %llu bytes.", v->images.n,
                       (ull)bytes);
        putchar('\n');
}

static int
print_rows(const struct log_view *v, struct err *e)
{
        size_t n = v->n_seen < v->capacity ? v->n_seen : v->capacity;
        json_t *list = json_array();
        int r = 0;

        if (!v->is_json)
                puts("TXID              TIME                        LOG BYTES     CHANGED       PAGES");
        for (size_t i = 0; i < n; i++) {
                const struct history_change *row = &v->rows[(v->n_seen - 1 - i) % v->capacity];

                if (v->is_json)
                        json_array_append_new(list, row_json(v, row));
                else
                        print_row(row);
        }
        if (v->is_json)
                r = client_print_json(list, e);
        else if (v->n_seen > 0)
                print_reach(v);
        json_decref(list);
        return r;
}

static int
look_into_log(struct log_view *v, const char *dir, struct err *e)
{
        char images_dir[PATH_MAX + 16];
        int r;

        snprintf(images_dir, sizeof images_dir, "%s/%s", dir, HISTORY_DIR);
        r = history_images_list(os_host(), images_dir, &v->images, e);
        if (r < 0)
                return r;
        v->begin_txid = UINT64_MAX;
        if (v->images.n > 0) {
                v->begin_txid = v->images.items[0].pos.txid;
                v->begin_ms = v->images.items[0].time_ms;
        }
        return history_each_change(os_host(), v->log, keep_row, v, e);
}

static int
parse_log_flags(struct log_view *v, struct err *e)
{
        unsigned long n = SHOWN_DEFAULT;
        char *end = NULL;

        if (v->since != NULL && moment_spec_parse(v->since, clock_wall_ms(clock_host()), &v->from) < 0)
                return err_text(
                        e, -EINVAL,
                        "-since wants a time such as 2026-01-02T03:04:05Z, -5m, or 16 hex digits of "
                        "a transaction, not %s",
                        v->since);
        if (v->count != NULL) {
                n = strtoul(v->count, &end, 10);
                if (v->count[0] < '0' || v->count[0] > '9' || *end != '\0' || n > 1000000)
                        return err_text(e, -EINVAL, "-n wants a number up to 1000000, not %s", v->count);
        }
        v->shows_all = n == 0 || (v->count == NULL && v->since != NULL);
        v->capacity = v->shows_all ? 0 : n;
        v->rows = v->shows_all ? NULL : calloc(n, sizeof *v->rows);
        return v->rows == NULL && !v->shows_all ? err_set(e, -ENOMEM, "log") : 0;
}

static const struct help log_help = {
        .name = "log",
        .synopsis = "[flags] DB",
        .about =
                "Shows the transactions in the log of a database, the newest first: when each was made, how many\n"
                "bytes of log it took, how many pages it changed, and how many pages the database then had. DB is\n"
                "the database's path in the mount. DB@TXID in the mount is the state after that transaction, if\n"
                "it is not older than the last line says. The node may be running.",
        .examples =
                (const struct help_row[]){
                        { "litefs log app.db", "show the last 20" },
                        { "litefs log -since -1h app.db", "show those of the last hour" },
                        { "litefs log -n 0 -json app.db", "print all of them for a program" },
                        { 0 },
                },
};

int
command_log(int argc, char **argv)
{
        struct log_view v = { 0 };
        char dir[PATH_MAX];
        const struct flag flags[] = {
                { "n", "N", "how many, 0: all; default: 20, or all with -since", NULL, &v.count },
                { "since", "MOMENT",
                  "from there on: RFC 3339, -N followed by s, m, h or d, or a transaction", NULL,
                  &v.since },
                { "json", NULL, "print JSON", &v.is_json, NULL },
                LOG_PLACE_FLAGS(&v.place),
                { 0 },
        };
        struct flag_words w;
        struct err e = ERR_INIT;
        int r = client_parse(flags, argc, argv, 1, &log_help, &w);

        if (r > 0)
                return r - 1;
        if (flag_words_count(&w) == 0)
                return help_mistake("log", "the database is missing");
        if (parse_log_flags(&v, &e) < 0)
                return help_mistake("log", e.text);
        r = log_of(&v.place, flag_words_get(&w, 0), &v.log, dir, &e);
        if (r == 0)
                r = look_into_log(&v, dir, &e);
        if (r == 0)
                r = print_rows(&v, &e);
        txlog_close(v.log);
        history_images_release(&v.images);
        free(v.rows);
        return client_exit(r, &e);
}
