/* litefs backup: what a node says of its backups (status, sync), and what is at a destination (list, verify). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/head.h"
#include "backup/restore.h"
#include "base/monotonic.h"
#include "base/rfc3339.h"
#include "cmd/litefs/answer.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/client.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/quantity.h"

#define SYNC_DEFAULT_NS 30000000000
#define SYNC_ASK_MS 10000 /* that one request waits for it */

typedef unsigned long long ull;

struct request {
        struct client client;
        const char *timeout, *tmp_dir;
        bool is_json, is_quiet;
        const char *word; /* URL or DB */
        struct dest *dest;
        char place[1024];
        struct backup_objects objects, plan;
};

/* --- status --- */

static void
print_drill(const json_t *drill)
{
        long long n_failed = answer_number(drill, "failed");

        if (!json_is_object(drill))
                return;
        if (answer_cell(drill, "timestamp")[0] == '-')
                puts("  drill: not yet");
        else if (n_failed == 0)
                printf("  drill: %lld databases restored and proved at %s\n",
                       answer_number(drill, "databases"), answer_cell(drill, "timestamp"));
        else
                printf("  drill: %lld of %lld databases cannot be restored (%s): %s\n", n_failed,
                       answer_number(drill, "databases"), answer_cell(drill, "timestamp"),
                       answer_cell(drill, "error"));
}

static bool
is_destination_well(const json_t *d)
{
        bool is_active = json_is_true(json_object_get(d, "active")),
             is_well = answer_number(d, "failures") == 0 &&
                       answer_number(json_object_get(d, "drill"), "failed") == 0;
        size_t i;
        json_t *db;

        json_array_foreach(json_object_get(d, "databases"), i, db)
                is_well &= !is_active || strcmp(answer_cell(db, "state"), "blocked") != 0;
        return is_well;
}

static void
print_destination(const json_t *d)
{
        bool is_active = json_is_true(json_object_get(d, "active"));
        size_t i;
        json_t *db;

        printf("%s: %s, %lld requests, %lld errors, %lld bytes sent\n", answer_cell(d, "url"),
               is_active ? "this node writes there" : "this node does not lead",
               answer_number(d, "requests"), answer_number(d, "errors"), answer_number(d, "sentBytes"));
        if (answer_number(d, "failures") != 0)
                printf("  fails: %s\n", answer_cell(d, "error"));
        if (json_is_true(json_object_get(d, "ignoresConditions")))
                puts("  ignores If-None-Match: nobody there keeps two writers apart");
        print_drill(json_object_get(d, "drill"));
        json_array_foreach(json_object_get(d, "databases"), i, db)
        {
                if (!is_active)
                        break;
                printf("  %-24s %-9s %s  %s", answer_cell(db, "name"), answer_cell(db, "state"),
                       answer_cell(db, "txid"), answer_cell(db, "timestamp"));
                if (answer_number(db, "lagTransactions") > 0)
                        printf("  lacks %lld transactions, for %lld.%03llds",
                               answer_number(db, "lagTransactions"), answer_number(db, "lagMS") / 1000,
                               answer_number(db, "lagMS") % 1000);
                putchar('\n');
        }
}

static int
backup_status(struct request *rq, struct err *e)
{
        bool is_well = true;
        json_t *all, *d;
        size_t i;
        int r = client_open(&rq->client, e);

        if (r == 0)
                r = client_get_json(&rq->client, rq->client.base, "/backup", &all, e);
        if (r < 0)
                return r;
        if (rq->is_json) {
                json_dumpf(all, stdout, JSON_INDENT(2));
                putchar('\n');
        }
        json_array_foreach(json_object_get(all, "destinations"), i, d)
        {
                bool is_one_well = is_destination_well(d);

                is_well &= is_one_well;
                if (!rq->is_json && (!rq->is_quiet || !is_one_well))
                        print_destination(d);
        }
        if (i == 0 && !rq->is_json && !rq->is_quiet)
                puts("this node has no destination for backups (backup.url)");
        json_decref(all);
        return is_well ? 0 : 1;
}

/* --- sync --- */

static int
backup_sync(struct request *rq, struct err *e)
{
        int64_t ns = SYNC_DEFAULT_NS, until_ns = 0, left_ms;
        char ms[24];
        int r, status = 0;

        if (rq->timeout != NULL && (quantity_parse_duration(rq->timeout, &ns) < 0 || ns <= 0))
                return err_text(e, -EINVAL, "-timeout wants a duration such as 10s, not %s",
                                rq->timeout);
        until_ns = monotonic_ns() + ns;
        r = client_open(&rq->client, e);
        if (r < 0)
                return r;
        do {
                left_ms = (until_ns - monotonic_ns()) / 1000000;
                snprintf(ms, sizeof ms, "%lld",
                         (long long)(left_ms < SYNC_ASK_MS ? left_ms : SYNC_ASK_MS));
                r = client_post(&rq->client, "/backup/sync", "timeoutMS", ms, &status, e);
        } while (r < 0 && status == 504 && monotonic_ns() < until_ns);
        return r;
}

/* --- list --- */

static int
open_place(struct request *rq, struct err *e)
{
        int r = backups_open_place(rq->word, rq->client.config_path, &rq->dest, rq->place, e);

        return r == 0 ? backup_list(rq->dest, rq->place, &rq->objects, e) : r;
}

static void
print_object(const struct request *rq, const struct backup_object *o, json_t *list)
{
        char when[RFC3339_SIZE];

        rfc3339_format(o->time_ms, when);
        if (rq->is_json)
                json_array_append_new(list,
                                      json_pack("{s:i, s:o, s:o, s:I, s:s}", "level", (int)o->level,
                                                "min_txid", json_sprintf("%016llx", (ull)o->min_txid),
                                                "max_txid", json_sprintf("%016llx", (ull)o->max_txid),
                                                "size", (json_int_t)o->size_bytes, "timestamp", when));
        else
                printf("%5u  %016llx  %016llx  %12llu  %s\n", o->level, (ull)o->min_txid,
                       (ull)o->max_txid, (ull)o->size_bytes, when);
}

static void
print_head(const struct request *rq)
{
        char etag[DEST_ETAG_SIZE];
        struct backup_head h;

        if (backup_head_read(rq->dest, rq->place, &h, etag, NULL) < 0)
                return;
        printf("cluster %s, epoch %llu%s\n", h.lineage, (ull)h.epoch,
               h.is_deleted ? ", the database was deleted after what is here" : "");
        if (h.superseded_to != 0)
                printf("%016llx to %016llx were replaced: the cluster had gone on without them\n",
                       (ull)h.superseded_from, (ull)h.superseded_to);
}

static int
backup_list_objects(struct request *rq, struct err *e)
{
        json_t *list = json_array();
        int r = open_place(rq, e);

        if (r == 0 && !rq->is_json) {
                print_head(rq);
                puts("LEVEL  FROM              TO                        SIZE  TIME");
        }
        for (size_t i = 0; i < rq->objects.n && r == 0; i++)
                print_object(rq, &rq->objects.items[i], list);
        if (r == 0 && rq->is_json) {
                json_dumpf(list, stdout, JSON_INDENT(2));
                putchar('\n');
        }
        json_decref(list);
        return r;
}

/* --- verify --- */

/* An unnamed file that is gone with the descriptor. */
static int
open_scratch(const struct request *rq, struct err *e)
{
        const char *dir = rq->tmp_dir != NULL ? rq->tmp_dir : getenv("TMPDIR");
        int fd = open(dir != NULL ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return fd < 0 ? err_set(e, -errno, "a file in %s (-tmp-dir names another)",
                                dir != NULL ? dir : "/var/tmp")
                      : fd;
}

/* The newest state is made, which proves each object that leads to it, and thrown away. */
static int
backup_verify(struct request *rq, struct err *e)
{
        struct backup_target newest = { 0, false };
        struct backup_image_state s;
        char when[RFC3339_SIZE];
        int r = open_place(rq, e), fd;

        if (r == 0)
                r = backup_plan_make(&rq->objects, &newest, &rq->plan, e);
        if (r < 0)
                return r;
        fd = open_scratch(rq, e);
        if (fd < 0)
                return fd;
        r = backup_restore(rq->dest, rq->place, &rq->plan, os_host(), fd, NULL, &s, e);
        close(fd);
        if (r < 0)
                return r;
        rfc3339_format(s.time_ms, when);
        if (rq->is_json)
                printf("{\"txid\": \"%016llx\", \"checksum\": \"%016llx\", \"proved\": %s, \"files\": %zu, "
                       "\"timestamp\": \"%s\"}\n",
                       (ull)s.pos.txid, (ull)s.pos.checksum, s.is_proved ? "true" : "false", rq->plan.n,
                       when);
        else if (!rq->is_quiet)
                printf("ok: %zu files make %016llx/%016llx of %s, %u pages%s\n", rq->plan.n,
                       (ull)s.pos.txid, (ull)s.pos.checksum, when, s.page_count,
                       s.is_proved ? "" : " (without a checksum of the whole database)");
        return 0;
}

/* --- the command --- */

static const struct help_row actions[] = {
        { "status", "each destination of a running node, and what it has of each database" },
        { "sync", "wait until each destination has what is committed now" },
        { "list", "what a destination has of a database" },
        { "verify", "restore the newest state, prove it, and throw it away" },
        { 0 },
};
/* In the order of `actions`. */
static const struct {
        int (*fn)(struct request *rq, struct err *e);
        int n_words;
} work[] = { { backup_status, 0 }, { backup_sync, 0 }, { backup_list_objects, 1 }, { backup_verify, 1 } };
#define N_ACTIONS (sizeof work / sizeof work[0])

static int
print_backup_help(const struct flag *flags, const char *format)
{
        static const struct help_row examples[] = {
                { "litefs backup status", "show where the backups of this node are" },
                { "litefs backup sync -timeout 10s", "wait for the backups before a risky change" },
                { "litefs backup list app.db", "list what the first destination of litefs.yml has" },
                { "litefs backup verify -q s3://bucket/app.db",
                  "verify from cron: prints nothing if the database can be restored" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "done; status: all is well; verify: it can be restored" },
                { "1", "failed, or not well; the line on stderr that begins with ERROR: says what" },
                { "2", "an argument is wrong or missing" },
                { 0 },
        };
        static const struct help help = {
                .name = "backup",
                .synopsis = "ACTION [flags] [URL|DB]",
                .about =
                        "Shows what a running node says of its backups, and what is at a destination. URL and DB are as\n"
                        "for `litefs restore`.",
                .actions = actions,
                .operands = "databases",
                .examples = examples,
                .exits = exits,
        };

        return help_print(&help, flags, format);
}

static int
parse_backup_words(struct request *rq, size_t action, const struct flag *flags, int argc, char **argv,
                   const char **ret_help, struct err *e)
{
        struct flag_words w;
        int r = flags_parse(flags, argc, argv, &w, e), n;

        *ret_help = w.help;
        if (r != 0 || action == N_ACTIONS)
                return r;
        n = flag_words_count(&w);
        if (n != work[action].n_words)
                return err_text(e, -EINVAL,
                                n < work[action].n_words ? "the URL or the database is missing"
                                                         : "too many arguments");
        if (n > 0)
                rq->word = flag_words_get(&w, 0);
        return 0;
}

int
command_backup(int argc, char **argv)
{
        struct request rq = { 0 };
        const struct flag flags[] = {
                { "json", NULL, "print JSON", &rq.is_json, NULL },
                { "q", NULL, "print only what is wrong", &rq.is_quiet, NULL },
                { "timeout", "DURATION", "of sync; default: 30s", NULL, &rq.timeout },
                { "tmp-dir", "DIR", "where verify restores to; default: $TMPDIR or /var/tmp", NULL,
                  &rq.tmp_dir },
                CLIENT_FLAGS(&rq.client),
                { 0 },
        };
        const char *help = "";
        struct err e = ERR_INIT;
        size_t i = 0;
        int r;

        while (argc > 0 && i < N_ACTIONS && strcmp(actions[i].left, argv[0]) != 0)
                i++;
        if (argc > 0 && i == N_ACTIONS && strcmp(argv[0], "help") == 0)
                return print_backup_help(flags, help);
        if (argc == 0)
                i = N_ACTIONS, r = 0;
        else if (i == N_ACTIONS && argv[0][0] != '-')
                r = err_text(&e, -EINVAL, "unknown action %s: want status, sync, list or verify",
                             argv[0]);
        else
                r = parse_backup_words(&rq, i, flags, i < N_ACTIONS ? argc - 1 : argc,
                                       i < N_ACTIONS ? argv + 1 : argv, &help, &e);
        if (r > 0)
                return print_backup_help(flags, help);
        if (r == 0 && i == N_ACTIONS)
                r = err_text(&e, -EINVAL,
                             "the action comes first: litefs backup status|sync|list|verify");
        if (r < 0)
                return help_mistake("backup", e.text);
        if (r == 0)
                r = work[i].fn(&rq, &e);
        backup_objects_release(&rq.objects);
        backup_objects_release(&rq.plan);
        dest_free(rq.dest);
        client_close(&rq.client);
        if (r < 0)
                fprintf(stderr, "ERROR: %s%s\n", e.text,
                        e.code == E_NOT_FOUND
                                ? "; URL is the place of one database, as in backup.url/app.db"
                                : "");
        return r != 0;
}
