/* litefs restore: a state of a database, out of a backup, as a file. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/restore.h"
#include "base/clock.h"
#include "base/rfc3339.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/command.h"
#include "cmd/litefs/flags.h"
#include "cmd/litefs/help.h"
#include "cmd/litefs/output.h"
#include "cmd/litefs/restore_in_place.h"
#include "ltx/pos.h"

#define AGAIN 3

extern char **environ;

struct request {
        const char *url, *path, *timestamp, *txid, *check;
        char place[1024];
        bool if_db_not_exists, if_replica_exists, is_dry_run, is_json, is_quiet, force;
        struct backup_target target;
        bool has_time;
        int64_t time_ms;
        struct dest *dest;
        struct backup_objects objects, plan;
        struct output out;
        struct backup_image_state state;
        struct in_place in_place; /* its name is NULL where a file is made */
};

typedef unsigned long long ull;

/* --- what is asked for --- */

static int
parse_in_place(struct request *rq, struct err *e)
{
        if (rq->path != NULL || rq->url != NULL || rq->is_dry_run || rq->if_db_not_exists ||
            rq->if_replica_exists || rq->check != NULL)
                return err_text(e, -EINVAL, "-name goes with -timestamp or -txid alone");
        if (rq->has_time)
                rfc3339_format(rq->time_ms, rq->in_place.to);
        else if (rq->txid != NULL)
                snprintf(rq->in_place.to, sizeof rq->in_place.to, "%s", rq->txid);
        else
                return err_text(e, -EINVAL, "-name wants -timestamp TIME or -txid TXID");
        rq->in_place.is_json = rq->is_json;
        rq->in_place.is_quiet = rq->is_quiet;
        return 0;
}

static int
parse_target(struct request *rq, struct err *e)
{
        if (rq->txid != NULL && rq->timestamp != NULL)
                return err_text(e, -EINVAL, "-txid or -timestamp, not both");
        if (rq->txid != NULL) {
                if (ltx_txid_parse(rq->txid, &rq->target.txid) < 0 || rq->target.txid == 0)
                        return err_text(e, -EINVAL, "-txid wants 16 hex digits, not %s", rq->txid);
                rq->target.is_exact = true;
        }
        rq->has_time = rq->timestamp != NULL;
        if (rq->has_time && rfc3339_parse(rq->timestamp, &rq->time_ms) < 0)
                return err_text(e, -EINVAL,
                                "-timestamp wants a time such as 2026-01-02T03:04:05Z, not %s",
                                rq->timestamp);
        if (rq->check != NULL && strcmp(rq->check, "none") != 0 && strcmp(rq->check, "quick") != 0 &&
            strcmp(rq->check, "full") != 0)
                return err_text(e, -EINVAL, "-integrity-check wants none, quick or full, not %s",
                                rq->check);
        if (rq->in_place.name != NULL)
                return parse_in_place(rq, e);
        if (rq->path == NULL && !rq->is_dry_run)
                return err_text(e, -EINVAL, "-o FILE is missing");
        return 0;
}

static int
parse_restore_words(struct request *rq, const struct flag *flags, int argc, char **argv,
                    const char **ret_help, struct err *e)
{
        struct flag_words w;
        int r = flags_parse(flags, argc, argv, &w, e);

        *ret_help = w.help;
        if (r != 0)
                return r;
        if (flag_words_count(&w) != 1 && (rq->in_place.name == NULL || flag_words_count(&w) > 1))
                return err_text(e, -EINVAL,
                                flag_words_count(&w) == 0 ? "the URL of a backup is missing"
                                                          : "too many arguments");
        if (flag_words_count(&w) == 1)
                rq->url = flag_words_get(&w, 0);
        return parse_target(rq, e);
}

/* --- where it goes --- */

/* A journal or WAL of another file of that name would be taken for that of the new one. */
static int
check_restore_companions(const char *path, struct err *e)
{
        static const char *const suffixes[] = { "-journal", "-wal", "-shm" };
        char companion[PATH_MAX];

        for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
                if (snprintf(companion, sizeof companion, "%s%s", path, suffixes[i]) >=
                            (int)sizeof companion ||
                    access(companion, F_OK) == 0)
                        return err_text(
                                e, -EEXIST,
                                "%s%s is there: it belongs to another file, and SQLite would use it",
                                path, suffixes[i]);
        return 0;
}

/* 1: it is there, and that is fine. */
static int
check_path(struct request *rq, struct err *e)
{
        struct stat st;

        if (rq->path == NULL)
                return 0;
        if (lstat(rq->path, &st) < 0)
                return check_restore_companions(rq->path, e);
        if (rq->if_db_not_exists)
                return 1;
        if (rq->is_dry_run)
                return 0;
        if (!rq->force)
                return err_text(e, -EEXIST, "%s exists already: name another file, or -force", rq->path);
        return S_ISREG(st.st_mode) ? check_restore_companions(rq->path, e)
                                   : err_text(e, -EEXIST, "%s is not a file", rq->path);
}

/* --- output --- */

static json_t *
json_txid(uint64_t txid)
{
        return json_sprintf("%016llx", (ull)txid);
}

static int
print_restore_json(json_t *j, struct err *e)
{
        int r = j == NULL || json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) < 0
                        ? -ENOMEM
                        : 0;

        json_decref(j);
        putchar('\n');
        return r < 0 ? err_set(e, r, "print") : 0;
}

static const char *
kind_of(const struct request *rq)
{
        return rq->dest->layout == BACKUP_IN_DIRECTORY ? "file" : "s3";
}

static json_t *
json_object_of(const struct request *rq, const struct backup_object *o)
{
        char name[BACKUP_NAME_SIZE], when[RFC3339_SIZE];

        backup_object_name(rq->dest->layout, o, name);
        rfc3339_format(o->time_ms, when);
        return json_pack("{s:i, s:s, s:o, s:o, s:I, s:s}", "level", (int)o->level, "name",
                         strrchr(name, '/') + 1, "min_txid", json_txid(o->min_txid), "max_txid",
                         json_txid(o->max_txid), "size", (json_int_t)o->size_bytes, "timestamp", when);
}

static int
print_plan(const struct request *rq, struct err *e)
{
        const struct backup_objects *p = &rq->plan;
        json_t *files = json_array();
        uint64_t bytes = 0;

        for (size_t i = 0; i < p->n; i++) {
                const struct backup_object *o = &p->items[i];
                char name[BACKUP_NAME_SIZE];

                bytes += o->size_bytes;
                if (rq->is_json) {
                        json_array_append_new(files, json_object_of(rq, o));
                        continue;
                }
                backup_object_name(rq->dest->layout, o, name);
                printf("%-50s %12llu\n", name, (ull)o->size_bytes);
        }
        if (rq->is_json)
                return print_restore_json(
                        json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "source", rq->dest->url,
                                  "target_path", rq->path != NULL ? rq->path : "", "replica",
                                  kind_of(rq), "min_txid", json_txid(p->items[0].min_txid), "max_txid",
                                  json_txid(p->items[p->n - 1].max_txid), "files", files),
                        e);
        json_decref(files);
        printf("%zu files, %llu bytes, up to transaction %016llx\n", p->n, (ull)bytes,
               (ull)p->items[p->n - 1].max_txid);
        return 0;
}

static void
show_progress(void *arg, const struct backup_object *o, size_t n, size_t of)
{
        (void)arg;
        fprintf(stderr, "\r%zu of %zu files, transaction %016llx%s", n, of, (ull)o->max_txid,
                n == of ? "\r\033[K" : "");
}

/* --- SQLite's own opinion --- */

static int
run_sqlite(const char *uri, const char *sql, char *buf, size_t size, struct err *e)
{
        char program[] = "sqlite3", flag[] = "-readonly", *argv[] = { program, flag, NULL, NULL, NULL };
        posix_spawn_file_actions_t actions;
        int fds[2], status = 0, r;
        FILE *out;
        pid_t pid;
        size_t n;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_set(e, -errno, "pipe");
        argv[2] = strdup(uri);
        argv[3] = strdup(sql);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
        posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
        posix_spawn_file_actions_addclose(&actions, fds[0]);
        r = argv[2] == NULL || argv[3] == NULL
                    ? -ENOMEM
                    : -posix_spawnp(&pid, program, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        close(fds[1]);
        free(argv[2]);
        free(argv[3]);
        if (r < 0) {
                close(fds[0]);
                return err_set(e, r, "run the program sqlite3, which -integrity-check needs");
        }
        out = fdopen(fds[0], "r");
        n = out != NULL ? fread(buf, 1, size - 1, out) : 0;
        buf[n] = '\0';
        if (out != NULL)
                fclose(out);
        else
                close(fds[0]);
        waitpid(pid, &status, 0);
        return 0;
}

/* By its name, which only we know, before the file gets its own. */
static int
check_integrity(struct request *rq, struct err *e)
{
        char uri[PATH_MAX * 3 + 32] = "file:", answer[512];
        size_t n = strlen(uri);
        int r;

        if (rq->check == NULL || strcmp(rq->check, "none") == 0)
                return 0;
        r = output_give_name(&rq->out, e);
        if (r < 0)
                return r;
        for (const char *p = rq->out.tmp; *p != '\0'; p++)
                n += (size_t)snprintf(uri + n, sizeof uri - n, "%%%02x", (unsigned char)*p);
        snprintf(uri + n, sizeof uri - n, "?immutable=1");
        r = run_sqlite(uri,
                       strcmp(rq->check, "quick") == 0 ? "pragma quick_check" : "pragma integrity_check",
                       answer, sizeof answer, e);
        if (r < 0 || strcmp(answer, "ok\n") == 0)
                return r;
        return err_text(e, E_CORRUPT_DB, "integrity check of transaction %016llx: %s",
                        (ull)rq->state.pos.txid, answer);
}

/* --- work --- */

/* 1: there is no backup, and that is fine. */
static int
make_plan(struct request *rq, struct err *e)
{
        int r = backup_list(rq->dest, rq->place, &rq->objects, e);

        if (r == 0 && rq->objects.n == 0 && rq->if_replica_exists)
                return 1;
        if (r == 0 && rq->has_time) {
                r = backup_find_time(rq->dest, rq->place, &rq->objects, rq->time_ms, &rq->target.txid,
                                     e);
                rq->target.is_exact = true;
        }
        if (r == 0)
                r = backup_plan_make(&rq->objects, &rq->target, &rq->plan, e);
        return r;
}

static int
fill_output(struct request *rq, struct err *e)
{
        static const struct backup_progress progress = { .done = show_progress };
        int r = output_open(&rq->out, rq->path, e);

        if (r < 0)
                return r;
        r = backup_restore(rq->dest, rq->place, &rq->plan, os_host(), rq->out.fd,
                           isatty(2) == 1 && !rq->is_quiet ? &progress : NULL, &rq->state, e);
        if (r == 0)
                r = check_integrity(rq, e);
        if (r < 0) {
                output_discard(&rq->out);
                return r;
        }
        return output_publish(&rq->out, e);
}

static int
report_restore(const struct request *rq, int64_t began_ms, struct err *e)
{
        char when[RFC3339_SIZE];

        if (rq->is_json)
                return print_restore_json(
                        json_pack("{s:s, s:s, s:o, s:o, s:b, s:I, s:s}", "db_path", rq->path, "replica",
                                  kind_of(rq), "txid", json_txid(rq->state.pos.txid), "checksum",
                                  json_txid(rq->state.pos.checksum), "proved", (int)rq->state.is_proved,
                                  "duration_ms", (json_int_t)(clock_boot_ms(clock_host()) - began_ms),
                                  "integrity_check", rq->check != NULL ? rq->check : "none"),
                        e);
        if (rq->is_quiet)
                return 0;
        rfc3339_format(rq->state.time_ms, when);
        printf("restored %s: transaction %016llx of %s, %u pages of %u bytes%s\n", rq->path,
               (ull)rq->state.pos.txid, when, rq->state.page_count, rq->state.page_size,
               rq->state.is_proved ? "" : " (the backup has no checksum of the whole database)");
        return 0;
}

/* 1: there is nothing to do, or it was only shown. */
static int
make_file(struct request *rq, struct err *e)
{
        int r = check_path(rq, e);

        if (r == 0)
                r = backups_open_place(rq->url, rq->in_place.client.config_path, &rq->dest, rq->place,
                                       e);
        if (r == 0)
                r = make_plan(rq, e);
        if (r == 0 && rq->is_dry_run) {
                r = print_plan(rq, e);
                return r < 0 ? r : 1;
        }
        if (r == 0)
                r = fill_output(rq, e);
        /* While the backup goes on, longer pieces take the place of those that were listed. */
        for (int i = 0; i < AGAIN && r == E_NOT_FOUND && rq->plan.n > 0; i++) {
                backup_objects_release(&rq->plan);
                backup_objects_release(&rq->objects);
                r = make_plan(rq, e);
                if (r == 0)
                        r = fill_output(rq, e);
        }
        return r;
}

static int
restore(struct request *rq, struct err *e)
{
        int64_t began_ms = clock_boot_ms(clock_host());
        int r = make_file(rq, e);

        return r < 0 ? r : r > 0 ? 0 : report_restore(rq, began_ms, e);
}

static int
fetch_for_in_place(void *arg, const char *path, struct err *e)
{
        struct request *rq = arg;

        rq->url = rq->in_place.name;
        rq->path = path;
        return make_file(rq, e);
}

static int
change_in_place(struct request *rq, struct err *e)
{
        int r;

        rq->in_place.arg = rq;
        rq->in_place.fetch = fetch_for_in_place;
        r = restore_in_place(&rq->in_place, e);
        client_close(&rq->in_place.client);
        return r;
}

static int
print_restore_help(const struct flag *flags, const char *format)
{
        static const struct help_row examples[] = {
                { "litefs restore -o /root/app.db app.db",
                  "restore the newest state, from the destination in litefs.yml" },
                { "litefs restore -o app.db file:///backup/app.db", "restore from a directory" },
                { "litefs restore -o app.db -timestamp 2026-01-02T03:04:05Z /backup/app.db",
                  "restore the state at a time" },
                { "litefs restore -o app.db 's3://bucket/app.db?endpoint=https://s3.example.com'",
                  "restore from a bucket" },
                { "litefs restore -name app.db -timestamp 2026-01-02T03:04:05Z",
                  "change the running database in place" },
                { "litefs restore -dry-run /backup/app.db", "show which files would be read" },
                { "litefs restore -if-db-not-exists -if-replica-exists -o app.db /backup/app.db",
                  "restore before an application starts, if there is a backup and no database yet" },
                { 0 },
        };
        static const struct help_row exits[] = {
                { "0", "done, or nothing to do by -if-db-not-exists or -if-replica-exists" },
                { "1",
                  "failed, and FILE is as it was; the line on stderr that begins with ERROR: says why" },
                { "2", "an argument is wrong or missing" },
                { 0 },
        };
        static const struct help help = {
                .name = "restore",
                .synopsis = "[flags] -o FILE URL|DB\n[flags] -name DB -timestamp TIME|-txid TXID",
                .about =
                        "Restores a database from a backup into FILE, as of one transaction. DB is the database's path in\n"
                        "the mount; it is taken from the first destination of the configuration that has it. URL is the\n"
                        "place of one database: file:///PATH or /PATH for a directory, s3://BUCKET/PREFIX for a bucket\n"
                        "(with ?endpoint=, region= and forcePathStyle= if needed; keys from AWS_ACCESS_KEY_ID and\n"
                        "AWS_SECRET_ACCESS_KEY). Each file of the backup is checked against its checksum, and against\n"
                        "that of the whole database if litefs has written it. FILE appears when it is complete.\n"
                        "\n"
                        "With -name the database DB of a running cluster is changed in place, by one transaction of the\n"
                        "pages that differ. They come from the log of the node at -url, which must be the primary, or\n"
                        "else from a backup. The position before is printed, with the command that leads back to it.",
                .operands = "databases",
                .examples = examples,
                .exits = exits,
        };

        return help_print(&help, flags, format);
}

int
command_restore(int argc, char **argv)
{
        struct request rq = { 0 };
        const struct flag flags[] = {
                { "o", "FILE", "the file to make", NULL, &rq.path },
                { "timestamp", "TIME", "the last state of that moment, RFC 3339", NULL, &rq.timestamp },
                { "txid", "TXID",
                  "the state after this transaction, 16 hex digits; a border of the backup", NULL,
                  &rq.txid },
                { "if-db-not-exists", NULL, "do nothing when FILE is there", &rq.if_db_not_exists,
                  NULL },
                { "if-replica-exists", NULL, "do nothing when there is no backup", &rq.if_replica_exists,
                  NULL },
                { "force", NULL, "replace FILE", &rq.force, NULL },
                { "integrity-check", "HOW",
                  "have sqlite3 check FILE: none, quick or full; default: none", NULL, &rq.check },
                { "dry-run", NULL, "only show which files would be read", &rq.is_dry_run, NULL },
                { "json", NULL, "print JSON", &rq.is_json, NULL },
                { "q", NULL, "print nothing but errors", &rq.is_quiet, NULL },
                { "name", "DB", "change this database in place, on the node of -url", NULL,
                  &rq.in_place.name },
                CLIENT_FLAGS(&rq.in_place.client),
                { 0 },
        };
        const char *help = "";
        struct err e = ERR_INIT;
        int r = parse_restore_words(&rq, flags, argc, argv, &help, &e);

        if (r > 0)
                return print_restore_help(flags, help);
        if (r < 0)
                return help_mistake("restore", e.text);
        if (r == 0)
                r = rq.in_place.name != NULL ? change_in_place(&rq, &e) : restore(&rq, &e);
        backup_objects_release(&rq.objects);
        backup_objects_release(&rq.plan);
        dest_free(rq.dest);
        if (r < 0)
                fprintf(stderr, "ERROR: %s%s\n", e.text,
                        e.code == E_NOT_FOUND && rq.in_place.name == NULL
                                ? "; `litefs backup list URL` shows what is there"
                                : "");
        return r < 0;
}
