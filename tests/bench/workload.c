#include "workload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 60000
#define FILL_BATCH 1000

static int
fail(sqlite3 *db, const char *path, const char *what)
{
        fprintf(stderr, "bench: %s: %s: %s\n", path, what, db ? sqlite3_errmsg(db) : "no connection");
        return -1;
}

static int
run(sqlite3 *db, const char *path, const char *sql)
{
        return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(db, path, sql);
}

static int
step(struct worker *w, sqlite3_stmt *stmt, int want)
{
        int r = sqlite3_step(stmt);

        if (r != want)
                fail(w->db, w->path, sqlite3_sql(stmt));
        sqlite3_reset(stmt);
        return r == want ? 0 : -1;
}

static int
query_int64(sqlite3 *db, const char *path, const char *sql, int64_t *ret)
{
        sqlite3_stmt *stmt = NULL;
        bool ok = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
                  sqlite3_step(stmt) == SQLITE_ROW;

        if (ok)
                *ret = sqlite3_column_int64(stmt, 0);
        else
                fail(db, path, sql);
        sqlite3_finalize(stmt);
        return ok ? 0 : -1;
}

/* A mode that SQLite could not enter is not an error to it: it answers with the mode it stays in. */
static int
set_journal_mode(sqlite3 *db, const char *path, const char *mode)
{
        char sql[64];
        sqlite3_stmt *stmt = NULL;
        const char *now = NULL;

        snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s", mode);
        if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
            sqlite3_step(stmt) == SQLITE_ROW)
                now = (const char *)sqlite3_column_text(stmt, 0);
        bool ok = now && strcasecmp(now, mode) == 0;
        if (!ok)
                fail(db, path, sql);
        sqlite3_finalize(stmt);
        return ok ? 0 : -1;
}

static int
connect_to(const char *path, sqlite3 **ret)
{
        if (sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
                return fail(*ret, path, "open");
        sqlite3_busy_timeout(*ret, BUSY_TIMEOUT_MS);
        return 0;
}

static void
disconnect(struct worker *w)
{
        sqlite3_finalize(w->begin);
        sqlite3_finalize(w->main);
        sqlite3_finalize(w->commit);
        sqlite3_close(w->db);
        w->begin = w->main = w->commit = NULL;
        w->db = NULL;
}

static int
prepare(struct worker *w, const char *sql, sqlite3_stmt **ret)
{
        if (sqlite3_prepare_v2(w->db, sql, -1, ret, NULL) != SQLITE_OK)
                return fail(w->db, w->path, sql);
        return 0;
}

static uint64_t
next_random(struct worker *w)
{
        w->random ^= w->random << 13;
        w->random ^= w->random >> 7;
        w->random ^= w->random << 17;
        return w->random;
}

/* insert: a transaction of opt->rows rows */

static int
insert_row(struct worker *w)
{
        for (unsigned i = 0; i < w->opt->row_bytes; i += sizeof(uint64_t)) {
                uint64_t value = next_random(w);
                unsigned rest = w->opt->row_bytes - i;
                memcpy(w->row + i, &value, rest < sizeof(value) ? rest : sizeof(value));
        }
        sqlite3_bind_blob(w->main, 1, w->row, (int)w->opt->row_bytes, SQLITE_STATIC);
        return step(w, w->main, SQLITE_DONE);
}

static int
insert_setup(struct worker *w)
{
        char sql[64];

        w->row = malloc(w->opt->row_bytes);
        if (!w->row || connect_to(w->path, &w->db) < 0 ||
            set_journal_mode(w->db, w->path, w->opt->mode) < 0)
                return -1;
        snprintf(sql, sizeof(sql), "PRAGMA synchronous=%s", w->opt->sync);
        if (run(w->db, w->path, sql) < 0 || prepare(w, "INSERT INTO t(v) VALUES(?)", &w->main) < 0)
                return -1;
        if (prepare(w, w->opt->immediate ? "BEGIN IMMEDIATE" : "BEGIN", &w->begin) < 0)
                return -1;
        return prepare(w, "COMMIT", &w->commit);
}

static int
insert_op(struct worker *w)
{
        bool autocommit = w->opt->rows == 1 && !w->opt->immediate;

        if (autocommit)
                return insert_row(w);
        if (step(w, w->begin, SQLITE_DONE) < 0)
                return -1;
        for (unsigned i = 0; i < w->opt->rows; i++)
                if (insert_row(w) < 0)
                        return -1;
        return step(w, w->commit, SQLITE_DONE);
}

static void
insert_finish(struct worker *w)
{
        disconnect(w);
        free(w->row);
        w->row = NULL;
}

/* read: one row by its key, each in a transaction of its own */

static int
read_prepare(struct worker *w)
{
        return prepare(w, "SELECT v FROM t WHERE id = ?", &w->main);
}

static int
read_setup(struct worker *w)
{
        if (connect_to(w->path, &w->db) < 0)
                return -1;
        if (query_int64(w->db, w->path, "SELECT max(id) FROM t", &w->n_keys) < 0 || w->n_keys == 0)
                return -1;
        return read_prepare(w);
}

static int
read_op(struct worker *w)
{
        sqlite3_bind_int64(w->main, 1, 1 + (int64_t)(next_random(w) % (uint64_t)w->n_keys));
        return step(w, w->main, SQLITE_ROW);
}

/* Without @cold this is nothing: a warm operation finds what the one before it left. */
static int
drop_caches(struct worker *w)
{
        if (!w->opt->cold)
                return 0;
        sync(); /* only clean pages are dropped */
        int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
        bool ok = fd >= 0 && write(fd, "3", 1) == 1;
        if (!ok)
                perror("bench: /proc/sys/vm/drop_caches");
        if (fd >= 0)
                close(fd);
        return ok ? 0 : -1;
}

/* scan: every page of the table. Cold, on a connection whose own page cache is empty too. */

static int
scan_setup(struct worker *w)
{
        if (connect_to(w->path, &w->db) < 0)
                return -1;
        return prepare(w, "SELECT sum(length(v)) FROM t", &w->main);
}

static int
scan_before(struct worker *w)
{
        if (!w->opt->cold)
                return 0;
        disconnect(w);
        return drop_caches(w) < 0 ? -1 : scan_setup(w);
}

static int
scan_op(struct worker *w)
{
        return step(w, w->main, SQLITE_ROW);
}

/* open: a connection and its first SELECT; closing is not timed */

static int
open_setup(struct worker *w)
{
        int r = read_setup(w);

        disconnect(w);
        return r;
}

static int
open_before(struct worker *w)
{
        disconnect(w);
        return drop_caches(w);
}

static int
open_op(struct worker *w)
{
        if (connect_to(w->path, &w->db) < 0 || read_prepare(w) < 0)
                return -1;
        return read_op(w);
}

const struct workload workloads[] = {
        { "insert", insert_setup, NULL, insert_op, insert_finish, true },
        { "read", read_setup, NULL, read_op, disconnect, false },
        { "scan", scan_setup, scan_before, scan_op, disconnect, false },
        { "open", open_setup, open_before, open_op, disconnect, false },
        { NULL, NULL, NULL, NULL, NULL, false },
};

int
database_prepare(const char *path, const struct options *opt)
{
        sqlite3 *db = NULL;
        int r = connect_to(path, &db);

        if (r == 0)
                r = set_journal_mode(db, path, opt->mode);
        if (r == 0)
                r = run(db, path, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)");
        sqlite3_close(db);
        return r;
}

int
database_fill(const char *path, const struct options *opt)
{
        struct options batch = *opt;
        struct worker w = { .opt = &batch, .path = path, .random = 1 };

        batch.rows = FILL_BATCH;
        int r = insert_setup(&w);
        for (unsigned done = 0; r == 0 && done < opt->rows; done += FILL_BATCH)
                r = insert_op(&w);
        insert_finish(&w);
        return r;
}

int
database_measure(const char *path, int64_t *ret_rows, int64_t *ret_bytes)
{
        sqlite3 *db = NULL;
        int64_t page_size = 0, n_pages = 0;
        int r = connect_to(path, &db);

        if (r == 0)
                r = query_int64(db, path, "SELECT max(id) FROM t", ret_rows);
        if (r == 0)
                r = query_int64(db, path, "PRAGMA page_size", &page_size);
        if (r == 0)
                r = query_int64(db, path, "PRAGMA page_count", &n_pages);
        *ret_bytes = page_size * n_pages;
        sqlite3_close(db);
        return r;
}
