/* The database as an object, and the file NAME.
 *
 *   OPENING --db_open--> READY --db_begin_busy--> CAPTURING --db_end_busy--> READY
 *   any --db_fail--> FAILED   (memory and disk may disagree: reads go on, the rest answers EIO) */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "db/db_internal.h"

int
db_path(const struct db *db, const char *file, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%s", db->dir, file);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

void
db_fail(struct db *db, const char *why)
{
        if (db->state == DB_FAILED)
                return;
        db->state = DB_FAILED;
        db_meter_error(db->env, DB_ERROR_STOPPED);
        log_event(LOG_ERROR, db->name, "writing is stopped until litefs is restarted, reads go on: %s",
                  why);
}

int
db_open_file(struct db *db)
{
        char path[PATH_MAX];
        int r;

        r = db_path(db, "database", path, sizeof path);
        if (r < 0)
                return r;
        r = os_open(db->env->os, "db:open", path, O_RDWR | O_CREAT, 0666);
        if (r < 0)
                return r;
        db->fd = r;
        return 0;
}

/* --- life --- */

static void
release(struct db *db)
{
        txlog_close(db->log);
        ltx_encoder_free(db->encoder);
        overlay_release(&db->open);
        overlay_release(&db->late);
        spool_reset(&db->journal.content);
        free(db->journal.content.chunks);
        wal_frames_reset(&db->wal.frames);
        os_close(db->env->os, "db:close", db->wal.fd);
        os_close(db->env->os, "db:close", db->fd);
        pagesum_release(&db->sums);
        free(db->changes);
        free(db->page_buf);
        pthread_mutex_destroy(&db->keeping);
        pthread_mutex_destroy(&db->snapshot_lock);
        pthread_mutex_destroy(&db->lock);
        free(db->dir);
        free(db->name);
        free(db);
}

static struct db *
allocate(const struct db_env *env, const char *name, const char *dir)
{
        struct db *db = calloc(1, sizeof *db);

        if (db == NULL)
                return NULL;
        db->env = env;
        db->fd = -1;
        db->wal.fd = -1;
        db->open_floor = DB_NO_FLOOR;
        pthread_mutex_init(&db->lock, NULL);
        pthread_mutex_init(&db->snapshot_lock, NULL);
        pthread_mutex_init(&db->keeping, NULL);
        overlay_init(&db->open, env->os, env->tmp_dir, DB_OVERLAY_CAP);
        overlay_init(&db->late, env->os, env->tmp_dir, DB_OVERLAY_CAP);
        spool_init(&db->journal.content, env->os, env->tmp_dir, DB_JOURNAL_CAP);
        db->name = strdup(name);
        db->dir = strdup(dir);
        db->page_buf = malloc(2 * DB_PAGE_BUF);
        if (db->name == NULL || db->dir == NULL || db->page_buf == NULL ||
            ltx_encoder_new(env->is_compressed, &db->encoder) < 0) {
                release(db);
                return NULL;
        }
        return db;
}

/* The directory, durable: the log's syncs end at the log's own name. Also when it is there: a run before this one
 * may have ended between making and syncing it. */
static int
make_dir(const struct os *os, const char *dir)
{
        char parent[PATH_MAX];
        int r;

        if (snprintf(parent, sizeof parent, "%s/..", dir) >= (int)sizeof parent)
                return -ENAMETOOLONG;
        r = os_mkdir_all(os, "db:mkdir", dir, 0777);
        return r < 0 ? r : os_sync_dir(os, "db:mkdir", parent);
}

int
db_open(const struct db_env *env, const char *name, const char *dir, struct db **ret, struct err *e)
{
        struct db *db;
        int r;

        r = make_dir(env->os, dir);
        if (r < 0)
                return err_set(e, r, "create %s", dir);
        db = allocate(env, name, dir);
        if (db == NULL)
                return err_set(e, -ENOMEM, "open database %s", name);
        r = recover(db, e);
        if (r < 0) {
                err_prefix(e, "database %s", name);
                release(db);
                return r;
        }
        overlay_set_page_size(&db->open, db->page_size);
        overlay_set_page_size(&db->late, db->page_size);
        db->size_bytes = (uint64_t)db->page_count * db->page_size;
        db->state = DB_READY;
        *ret = db;
        return 0;
}

void
db_close(struct db *db)
{
        struct err e = ERR_INIT;
        struct db_retention keep = { 0 };
        bool is_current;

        if (db == NULL)
                return;
        if (db->state == DB_READY) {
                (void)db_housekeep(db, &keep, &e);
                is_current = db->state == DB_READY && overlay_is_empty(&db->late) &&
                             db->wal.frames.n_pending == 0;
                if (is_current && db->fd >= 0 && db->pos.txid > db->base_txid &&
                    base_write(db, db->pos.txid, &e) < 0)
                        log_event(LOG_WARN, db->name, "base not moved at shutdown: %s", e.text);
                else if (!is_current)
                        (void)txlog_sync(db->log, db->last_lsn, NULL);
        }
        release(db);
}

const char *
db_name(const struct db *db)
{
        return db->name;
}

struct txlog *
db_log(struct db *db)
{
        return db->log;
}

void
db_count(struct db *db, enum db_counter what)
{
        db_count_many(db, what, 1);
}

void
db_count_many(struct db *db, enum db_counter what, uint64_t n)
{
        atomic_fetch_add_explicit(&db->counters[what], n, memory_order_relaxed);
}

uint64_t
db_counter(struct db *db, enum db_counter what)
{
        return atomic_load_explicit(&db->counters[what], memory_order_relaxed);
}

void
db_set_receiving(struct db *db, bool is_receiving)
{
        atomic_store(&db->is_receiving, is_receiving);
}

bool
db_is_receiving(struct db *db)
{
        return atomic_load(&db->is_receiving);
}

static int
may_confirm_locked(struct db *db)
{
        return db->is_unconfirmed && db->env->may_confirm != NULL ? db->env->may_confirm(db->env->arg)
                                                                  : 0;
}

int
db_may_confirm(struct db *db)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = may_confirm_locked(db);
        pthread_mutex_unlock(&db->lock);
        return r;
}

void
db_confirm(struct db *db)
{
        pthread_mutex_lock(&db->lock);
        db->is_unconfirmed = false;
        pthread_mutex_unlock(&db->lock);
}

int
confirm_commit(struct db *db, void (*then)(struct db *db))
{
        int r = may_confirm_locked(db);

        if (then != NULL && r == 0)
                then(db);
        else if (then != NULL)
                db_leave_empty_journal(db);
        return r;
}

void
db_get_info(struct db *db, struct db_info *ret)
{
        pthread_mutex_lock(&db->lock);
        *ret = (struct db_info){
                .pos = db->is_pos_held ? db->held_pos : db->pos,
                .timestamp_ms = db->timestamp_ms,
                .page_size = db->page_size,
                .page_count = db->page_count,
                .is_wal = db->is_wal,
                .is_failed = db->state == DB_FAILED,
                .base_txid = db->base_txid,
                .apply_lag_ms = db->apply_lag_ms,
        };
        pthread_mutex_unlock(&db->lock);
}

bool
db_exists(struct db *db)
{
        bool exists;

        pthread_mutex_lock(&db->lock);
        exists = db->fd >= 0;
        pthread_mutex_unlock(&db->lock);
        return exists;
}

bool
db_is_busy(struct db *db)
{
        bool is_busy;

        pthread_mutex_lock(&db->lock);
        is_busy = db->state == DB_CAPTURING;
        pthread_mutex_unlock(&db->lock);
        return is_busy;
}

void
db_begin_busy(struct db *db)
{
        pthread_mutex_lock(&db->lock);
        if (db->state == DB_READY)
                db->state = DB_CAPTURING;
        pthread_mutex_unlock(&db->lock);
}

void
db_end_busy(struct db *db)
{
        pthread_mutex_lock(&db->lock);
        if (db->state == DB_CAPTURING)
                db->state = DB_READY;
        if (db->env->committed != NULL) /* what was committed may be sent now: see db_shippable_txid */
                db->env->committed(db->env->arg, db);
        pthread_mutex_unlock(&db->lock);
        if (db->env->idle != NULL)
                db->env->idle(db->env->arg, db);
}

/* --- attributes --- */

int
db_stat(struct db *db, struct stat *ret)
{
        int r = -ENOENT;

        pthread_mutex_lock(&db->lock);
        if (db->fd >= 0)
                r = os_fstat(db->env->os, "db:stat", db->fd, ret);
        if (r == 0) {
                ret->st_size = (off_t)db->size_bytes;
                ret->st_blocks = (ret->st_size + 511) / 512;
                /* WAL commits do not touch the file: show watchers that the database has changed. */
                if ((int64_t)ret->st_mtim.tv_sec * 1000 < db->timestamp_ms) {
                        ret->st_mtim.tv_sec = db->timestamp_ms / 1000;
                        ret->st_mtim.tv_nsec = db->timestamp_ms % 1000 * 1000000;
                        ret->st_ctim = ret->st_mtim;
                }
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

uint64_t
db_size_bytes(struct db *db)
{
        uint64_t n;

        pthread_mutex_lock(&db->lock);
        n = db->size_bytes;
        pthread_mutex_unlock(&db->lock);
        return n;
}

int
db_chmod(struct db *db, mode_t mode)
{
        int r;

        pthread_mutex_lock(&db->lock); /* or the file could be closed, and its number be another's */
        r = db->fd < 0 ? -ENOENT : fchmod(db->fd, mode & 07777) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_chown(struct db *db, uid_t uid, gid_t gid)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->fd < 0 ? -ENOENT : fchown(db->fd, uid, gid) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* --- who captures --- */

int
capturer_init_worker(struct capturer *c, struct db *db)
{
        *c = (struct capturer){ db, true, malloc(2 * DB_PAGE_BUF), NULL };
        if (c->page == NULL)
                return -ENOMEM;
        c->scratch = c->page + DB_PAGE_BUF;
        return 0;
}

void
capturer_release(struct capturer *c)
{
        free(c->page);
        c->page = NULL;
}
