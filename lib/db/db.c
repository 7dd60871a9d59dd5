/* The database as an object, and the attributes of the file NAME. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "db/passed.h"

/* --- life --- */

void
db_release(struct db *db)
{
        passed_release(db);
        txlog_close(db->log);
        recorder_release(&db->recorder);
        image_release(&db->image);
        spool_reset(&db->journal.content);
        free(db->journal.content.chunks);
        wal_free(db->wal);
        pthread_mutex_destroy(&db->shown.lock);
        pthread_mutex_destroy(&db->lock);
        free(db->dir);
        free(db->name);
        free(db);
}

static struct db *
db_allocate(const struct db_env *env, const char *name, const char *dir)
{
        struct db *db = calloc(1, sizeof *db);

        if (db == NULL)
                return NULL;
        db->env = env;
        db->passed.index_fd = -1;
        atomic_init(&db->kept_txid, env->keeps_log ? 0 : UINT64_MAX);
        pthread_mutex_init(&db->lock, NULL);
        pthread_mutex_init(&db->shown.lock, NULL);
        spool_init(&db->journal.content, env->os, env->tmp_dir, DB_JOURNAL_CAP);
        db->name = strdup(name);
        db->dir = strdup(dir);
        if (image_init(&db->image, env->os, env->tmp_dir) < 0 ||
            wal_new(env->os, &db->image, &db->wal) < 0 || db->name == NULL || db->dir == NULL ||
            recorder_init(&db->recorder, &db->image, env->is_compressed) < 0) {
                db_release(db);
                return NULL;
        }
        return db;
}

/* The directory, durable: the log's syncs end at the log's own name. Also when it is there: a run before this one
 * may have ended between making and syncing it. */
static int
make_db_dir(const struct os *os, const char *dir)
{
        char parent[PATH_MAX];
        int r;

        if (snprintf(parent, sizeof parent, "%s/..", dir) >= (int)sizeof parent)
                return -ENAMETOOLONG;
        r = os_mkdir_all(os, "db:mkdir", dir, 0700);
        return r < 0 ? r : os_sync_dir(os, "db:mkdir", parent);
}

int
db_open(const struct db_env *env, const char *name, const char *dir, struct db **ret, struct err *e)
{
        struct db_access a;
        struct db *db;
        int r;

        r = make_db_dir(env->os, dir);
        if (r < 0)
                return err_set(e, r, "create %s", dir);
        db = db_allocate(env, name, dir);
        if (db == NULL)
                return err_set(e, -ENOMEM, "open database %s", name);
        r = db_access_begin(db, DB_BY_OPENING, &a, e);
        if (r == 0) {
                r = recover(&a, e);
                db_access_end(&a);
        }
        if (r < 0) {
                err_prefix(e, "database %s", name);
                db_release(db);
                return r;
        }
        image_follow_page_size(&db->image);
        *ret = db;
        return 0;
}

/* For a start that has less to do. But while applications wait for the next program it comes sooner without. */
static bool
wants_base(const struct db *db)
{
        if (db->image.fd < 0 || db->pos.txid <= db->base.txid)
                return false;
        return !db->is_handed_on || txlog_end_lsn(db->log) - db->base.lsn > DB_REPLAYED_SOON;
}

/* What may not be captured any more stays in the WAL, and the next start finds it by the mark (recover_wal.c). */
static bool
is_all_captured(struct db *db)
{
        struct db_look ignored;

        return db_wal_look(db, &ignored) != E_NOT_PRIMARY;
}

void
db_close(struct db *db)
{
        struct err e = ERR_INIT;
        struct db_retention keep = { 0 };
        struct db_access a;
        bool is_current;

        if (db == NULL)
                return;
        if (db->passed.is_on && !db->is_handed_on && is_all_captured(db))
                (void)db_wal_pass_through(db, WAL_PASSTHROUGH_OFF);
        (void)db_housekeep(db, &keep, &e);
        if (db_access_begin(db, DB_BY_CLOSING, &a, NULL) == 0) {
                is_current = overlay_is_empty(&db->image.writeback) && !wal_has_pending(db->wal);
                if (is_current && wants_base(db) && base_write(&a, db->pos.txid, &e) < 0)
                        log_event(LOG_WARN, db->name, "base not moved at shutdown: %s", e.text);
                else if (!is_current)
                        (void)txlog_sync(db->log, db->last.lsn, NULL);
                free(a.room); /* it ends with the database, and nobody is to be told of that */
        }
        db_release(db);
}

const char *
db_name(const struct db *db)
{
        return db->name;
}

uint64_t
db_past_version(struct db *db)
{
        return atomic_load(&db->past_version);
}

struct txlog *
db_log(struct db *db)
{
        return db->log;
}

/* --- attributes --- */

int
db_stat(struct db *db, struct stat *ret)
{
        char path[PATH_MAX];
        int r = -ENOENT;

        db_lock(db);
        if (db->image.fd >= 0)
                r = os_fstat(db->env->os, "db:stat", db->image.fd, ret);
        else if (db->rest.is_closed && (r = db_path(db, "database", path, sizeof path)) == 0)
                r = os_lstat(db->env->os, "db:stat", path, ret); /* a look is no use of it */
        if (r == 0) {
                ret->st_size = (off_t)db->image.size_bytes;
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

        db_lock(db);
        n = db->image.size_bytes;
        pthread_mutex_unlock(&db->lock);
        return n;
}

int
db_chmod(struct db *db, mode_t mode)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = db->image.fd < 0 ? -ENOENT : fchmod(db->image.fd, mode & 01777) < 0 ? -errno : 0;
        db_access_end(&a);
        return r;
}

int
db_chown(struct db *db, uid_t uid, gid_t gid)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = db->image.fd < 0 ? -ENOENT : fchown(db->image.fd, uid, gid) < 0 ? -errno : 0;
        db_access_end(&a);
        return r;
}
