/* The file NAME-wal but for writes to it, which are capture_wal.c's. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "db/wal_chain.h"

bool
db_wal_exists(struct db *db)
{
        bool exists;

        pthread_mutex_lock(&db->lock);
        exists = db->wal.fd >= 0;
        pthread_mutex_unlock(&db->lock);
        return exists;
}

int
db_wal_create(struct db *db, mode_t mode)
{
        char path[PATH_MAX];
        int r;

        pthread_mutex_lock(&db->lock);
        if (db->state == DB_FAILED)
                r = -EIO;
        else
                r = db->wal.fd >= 0 ? -EEXIST : db_path(db, "wal", path, sizeof path);
        if (r == 0) {
                r = os_open(db->env->os, "wal:create", path, O_RDWR | O_CREAT | O_TRUNC, mode);
                if (r >= 0) {
                        db->wal.fd = r;
                        wal_reset(db);
                        r = 0;
                }
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* Its transactions are visible to SQLite as soon as it has the name: so they are captured before. */
int
db_wal_take(struct db *db, const char *path, struct db_done done, struct err *e)
{
        char to[PATH_MAX];
        uint8_t header[WAL_HEADER_SIZE];
        ssize_t n = 0;
        int r;

        pthread_mutex_lock(&db->lock);
        r = db_path(db, "wal", to, sizeof to);
        if (r == 0)
                r = os_rename(db->env->os, "wal:take", path, to);
        if (r == 0)
                r = db->wal.fd = os_open(db->env->os, "wal:take", to, O_RDWR, 0);
        if (r >= 0) {
                wal_reset(db);
                n = os_pread_all(db->env->os, "wal:take", db->wal.fd, header, sizeof header, 0);
                r = n < 0 ? (int)n : 0;
        }
        if (r == 0 && n == WAL_HEADER_SIZE)
                r = wal_begin_chain(db, header);
        if (r == 0 && db->wal.is_live)
                r = wal_advance(db, done);
        /* SQLite must not find what the log does not have. */
        if (r < 0 && db->wal.is_live)
                wal_revoke_from(db, db->wal.n_captured + 1);
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? err_set(e, r, "take over %s", path) : r;
}

int
db_wal_stat(struct db *db, struct stat *ret)
{
        int r;

        pthread_mutex_lock(&db->lock); /* or the file could be closed, and its number be another's */
        r = db->wal.fd < 0 ? -ENOENT : os_fstat(db->env->os, "wal:stat", db->wal.fd, ret);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_chmod(struct db *db, mode_t mode)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : fchmod(db->wal.fd, mode & 07777) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_chown(struct db *db, uid_t uid, gid_t gid)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : fchown(db->wal.fd, uid, gid) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

ssize_t
db_wal_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT
                           : os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, n, (off_t)off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_truncate(struct db *db, uint64_t size_bytes)
{
        struct db_wal *w = &db->wal;
        uint32_t kept;
        int r = 0;

        pthread_mutex_lock(&db->lock);
        kept = db->page_size > 0 && size_bytes >= WAL_HEADER_SIZE
                       ? (uint32_t)((size_bytes - WAL_HEADER_SIZE) / wal_frame_size(db))
                       : 0;
        if (w->fd < 0)
                r = -ENOENT;
        else if (w->is_live && kept < w->n_captured && w->frames.n_pending > 0)
                r = -EBUSY;
        if (r == 0)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_ftruncate(db->env->os, "wal:truncate", w->fd, (off_t)size_bytes);
        if (r == 0 && w->is_live && kept < w->n_captured)
                wal_reset(db);
        else if (r == 0 && w->is_live && kept < w->frames.n)
                r = wal_rewind_to(db, kept + 1);
        if (r == 0 && w->n_written > kept)
                w->n_written = kept > w->n_captured ? kept : w->n_captured;
        w->header_frame = 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_unlink(struct db *db, int *ret_fd)
{
        char path[PATH_MAX];
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : db->wal.frames.n_pending > 0 ? -EBUSY : 0;
        if (r == 0)
                r = db_path(db, "wal", path, sizeof path);
        if (r == 0)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_unlink(db->env->os, "wal:unlink", path);
        if (r == 0) {
                *ret_fd = db->wal.fd;
                db->wal.fd = -1;
                wal_reset(db);
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_fsync(struct db *db, struct db_done done)
{
        int r;

        pthread_mutex_lock(&db->lock);
        db->wal.is_synced_each = true;
        r = db->state == DB_FAILED ? -EIO : sync_commit(db, NULL, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}
