#include "tests/lib/db_driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/parcel.h"
#include "db/carry.h"
#include "db/passed.h"
#include "ltx/checksum.h"
#include "sqlite/wal_index.h"
#include "tests/lib/db_driver_internal.h"

/* --- waiting --- */

static void
on_idle(void *arg, struct db *db)
{
        struct db_driver *d = arg;

        (void)db;
        pthread_mutex_lock(&d->lock);
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
}

void
db_driver_wait_idle(struct db_driver *d)
{
        pthread_mutex_lock(&d->lock);
        while (db_looks_busy(d->db))
                pthread_cond_wait(&d->changed, &d->lock);
        pthread_mutex_unlock(&d->lock);
}

static void
on_done(void *arg, int result)
{
        struct db_driver_wait *w = arg;
        struct db_driver *d = w->d;

        pthread_mutex_lock(&d->lock);
        w->n_calls++;
        w->result = result;
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
}

struct db_done
db_driver_wait_begin(struct db_driver *d, struct db_driver_wait *w)
{
        db_driver_wait_idle(d);
        *w = (struct db_driver_wait){ .d = d };
        return (struct db_done){ on_done, w };
}

int
db_driver_wait_end(struct db_driver_wait *w, int r)
{
        struct db_driver *d = w->d;

        if (r == DB_PENDING) {
                pthread_mutex_lock(&d->lock);
                while (w->n_calls == 0)
                        pthread_cond_wait(&d->changed, &d->lock);
                pthread_mutex_unlock(&d->lock);
                r = w->result;
                /* The worker may still be on its way out of a capture: its second call would come from there. */
                db_driver_wait_idle(d);
                db_driver_require(w->n_calls == 1);
        } else {
                db_driver_require(w->n_calls == 0);
        }
        return r;
}

/* --- life --- */

static int
may_commit(void *arg)
{
        return atomic_load(&((struct db_driver *)arg)->is_fenced) ? E_FENCED : 0;
}

static int
may_confirm(void *arg, uint64_t term, bool is_passed_on)
{
        (void)term;
        (void)is_passed_on;
        return atomic_load(&((struct db_driver *)arg)->is_fenced) ? E_UNCONFIRMED : 0;
}

void
db_driver_fence(struct db_driver *d, bool is_fenced)
{
        atomic_store(&d->is_fenced, is_fenced);
}

static int
make_dirs(const struct os *os, const char *root, char *tmp, size_t tmp_size, char *dir, size_t dir_size)
{
        char dbs[4096];
        int r;

        if (snprintf(dbs, sizeof dbs, "%s/dbs", root) >= (int)sizeof dbs ||
            snprintf(tmp, tmp_size, "%s/tmp", root) >= (int)tmp_size ||
            snprintf(dir, dir_size, "%s/dbs/t.db", root) >= (int)dir_size)
                return -ENAMETOOLONG;
        if ((r = os_mkdir_all(os, "driver:mkdir", dbs, 0777)) < 0 ||
            (r = os_mkdir_all(os, "driver:mkdir", tmp, 0777)) < 0)
                return r;
        return os_sync_dir(os, "driver:mkdir", root);
}

int
db_driver_open(const struct os *os, const char *root, struct db_driver **ret, struct err *e)
{
        return db_driver_open_with(os, root, 0, ret, e);
}

int
db_driver_open_with(const struct os *os, const char *root, uint64_t segment_bytes,
                    struct db_driver **ret, struct err *e)
{
        struct db_driver *d = sqlite3_malloc(sizeof *d); /* not subject to malloc_fault */
        char dir[4096];
        int r;

        if (d == NULL)
                return err_set(e, -ENOMEM, "driver");
        memset(d, 0, sizeof *d);
        d->wal_fd = d->index_fd = -1;
        pthread_mutex_init(&d->lock, NULL);
        pthread_cond_init(&d->changed, NULL);
        d->env = (struct db_env){ .os = os,
                                  .clock = clock_host(),
                                  .tmp_dir = d->tmp_dir,
                                  .node_id = 1,
                                  .takes_wal_tail = true,
                                  .segment_bytes = segment_bytes,
                                  .base_every = segment_bytes / 2,
                                  .arg = d,
                                  .may_commit = may_commit,
                                  .may_confirm = may_confirm,
                                  .idle = on_idle };
        r = make_dirs(os, root, d->tmp_dir, sizeof d->tmp_dir, dir, sizeof dir);
        if (r < 0)
                err_set(e, r, "make %s", root);
        if (r == 0 && (r = workers_new(2, &d->env.workers)) < 0)
                err_set(e, r, "start workers");
        if (r == 0)
                r = db_open(&d->env, "t.db", dir, &d->db, e);
        if (r < 0) {
                workers_free(d->env.workers);
                pthread_cond_destroy(&d->changed);
                pthread_mutex_destroy(&d->lock);
                sqlite3_free(d);
                return r;
        }
        db_driver_register(d);
        *ret = d;
        return 0;
}

void
db_driver_close(struct db_driver *d)
{
        if (d == NULL)
                return;
        db_driver_require(d->n_shm_users == 0 && d->n_shared == 0);
        db_driver_unregister(d);
        workers_drain(d->env.workers);
        db_close(d->db);
        workers_free(d->env.workers);
        pthread_cond_destroy(&d->changed);
        pthread_mutex_destroy(&d->lock);
        sqlite3_free(d);
}

int
db_driver_resume(struct db_driver *d, struct err *e)
{
        struct parcel_reader reader = { 0 };
        struct parcel p = { 0 };
        char dir[4096];
        int r, fd;

        workers_drain(d->env.workers);
        db_driver_wait_idle(d);
        db_carry_out(d->db, &p);
        fd = parcel_finish(&p, 1, e);
        parcel_release(&p);
        if (fd < 0)
                return fd;
        db_leave(d->db);
        snprintf(dir, sizeof dir, "%.*s/dbs/t.db", (int)(strlen(d->tmp_dir) - strlen("/tmp")),
                 d->tmp_dir);
        db_close(d->db);
        d->db = NULL;
        d->env.is_resumed = true;
        r = db_open(&d->env, "t.db", dir, &d->db, e);
        d->env.is_resumed = false;
        if (r == 0)
                r = parcel_open(fd, 1, &reader, e);
        if (r == 0)
                r = db_carry_in(d->db, &reader, e);
        if (r == 0)
                r = parcel_check(&reader, e);
        parcel_close_inherited(&reader);
        parcel_reader_release(&reader);
        close(fd);
        return r;
}

struct db *
db_driver_db(struct db_driver *d)
{
        return d->db;
}

void
db_driver_drain(struct db_driver *d)
{
        workers_drain(d->env.workers);
}

int
db_driver_adopt(struct db_driver *d, const char *path, struct err *e)
{
        return db_adopt_file(d->db, path, e);
}

void
db_driver_set_padded(struct db_driver *d, bool is_padded)
{
        d->is_padded = is_padded;
}

void
db_driver_set_passed(struct db_driver *d, bool is_passed)
{
        d->is_passed = is_passed;
}

void
db_driver_die_at_sync(struct db_driver *d, bool is_before)
{
        d->dies_before_sync = is_before;
        d->dies_after_sync = !is_before;
}

void
db_driver_decide(struct db_driver *d)
{
        if (d->regions[0] != NULL)
                wal_index_invalidate(d->regions[0]);
        db_wal_decide(d->db);
}

int
db_driver_drop(struct db_driver *d, struct err *e)
{
        int fd = -1, wal_fd = -1, r;

        db_driver_wait_idle(d);
        r = db_drop(d->db, &fd, &wal_fd, e);
        os_close(d->env.os, "driver:close", fd);
        os_close(d->env.os, "driver:close", wal_fd);
        return r;
}

int
db_driver_connect(struct db_driver *d, int cache_pages, sqlite3 **ret)
{
        char sql[128];
        int rc;

        rc = sqlite3_open_v2("t.db", ret, SQLITE_OPEN_READWRITE, d->vfs_name);
        snprintf(sql, sizeof sql,
                 "pragma synchronous=full; pragma temp_store=memory; pragma cache_size=%d",
                 cache_pages > 0 ? cache_pages : -2000);
        if (rc == SQLITE_OK)
                rc = db_driver_exec(*ret, sql);
        if (rc != SQLITE_OK) {
                sqlite3_close(*ret);
                *ret = NULL;
        }
        return rc;
}

static void
read_backfill(struct db_driver *d)
{
        struct db_wal_mark mark;
        struct wal_index_header h;

        if (d->regions[0] == NULL || !db_wal_captured(d->db, &mark) || mark.n_frames == 0)
                return;
        if (wal_index_read_header(d->regions[0], &h) == 0 && h.salt[0] == mark.salt1 &&
            h.salt[1] == mark.salt2)
                db_wal_backfilled(d->db, &mark, wal_index_backfill(d->regions[0]));
}

int
db_driver_tick(struct db_driver *d, int64_t max_age_ms, struct err *e)
{
        struct db_retention retention = { max_age_ms };
        struct db_driver_wait w;
        struct err local = ERR_INIT;
        struct db_look look;
        struct db_done done;
        int r = 0;

        while (d->wal_fd >= 0 && db_wal_look(d->db, &look) == E_BUSY)
                db_driver_wait_idle(d);

        done = db_driver_wait_begin(d, &w);
        if (d->reserved == NULL && d->exclusive == NULL && db_has_unjournaled(d->db))
                r = db_driver_wait_end(&w, db_capture_unjournaled(d->db, done));
        if (r < 0)
                return err_set(e, r, "capture pages without a journal");
        read_backfill(d);
        (void)db_housekeep(d->db, &retention, &local);
        if (local.code < 0)
                err_text(e, local.code, "%s", local.text);
        return local.code;
}

/* --- SQL --- */

int
db_driver_exec(sqlite3 *c, const char *sql)
{
        return sqlite3_exec(c, sql, NULL, NULL, NULL);
}

int64_t
db_driver_int(sqlite3 *c, const char *sql)
{
        sqlite3_stmt *st;
        int64_t n = -1;

        if (sqlite3_prepare_v2(c, sql, -1, &st, NULL) != SQLITE_OK)
                return -1;
        if (sqlite3_step(st) == SQLITE_ROW)
                n = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        return n;
}

bool
db_driver_is_intact(sqlite3 *c)
{
        sqlite3_stmt *st;
        bool is_ok = false;

        if (sqlite3_prepare_v2(c, "pragma integrity_check", -1, &st, NULL) != SQLITE_OK)
                return false;
        if (sqlite3_step(st) == SQLITE_ROW)
                is_ok = strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;
        sqlite3_finalize(st);
        return is_ok;
}

static int
digest_rows(sqlite3 *c, const char *sql, uint64_t *sum)
{
        sqlite3_stmt *st;
        int rc = sqlite3_prepare_v2(c, sql, -1, &st, NULL);

        if (rc != SQLITE_OK)
                return rc;
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
                for (int i = 0; i < sqlite3_column_count(st); i++) {
                        const void *p = sqlite3_column_blob(st, i);
                        int n = sqlite3_column_bytes(st, i);

                        *sum = ltx_crc64(*sum, &n, sizeof n);
                        *sum = ltx_crc64(*sum, p, (size_t)n);
                }
        sqlite3_finalize(st);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int
db_driver_digest(sqlite3 *c, uint64_t *ret)
{
        sqlite3_stmt *st;
        char sql[256];
        int rc;

        *ret = 0;
        rc = digest_rows(c, "select name,sql from sqlite_schema order by name", ret);
        if (rc != SQLITE_OK)
                return rc;
        rc = sqlite3_prepare_v2(c, "select name from sqlite_schema where type='table' order by name", -1,
                                &st, NULL);
        if (rc != SQLITE_OK)
                return rc;
        while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
                snprintf(sql, sizeof sql, "select rowid,* from \"%s\" order by rowid",
                         (const char *)sqlite3_column_text(st, 0));
                rc = digest_rows(c, sql, ret);
                if (rc != SQLITE_OK)
                        break;
        }
        sqlite3_finalize(st);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}
