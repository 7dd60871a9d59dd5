/* The file NAME-wal (wal/wal.h) but for writes to it, which are capture_wal.c's. Its fsync is where a WAL commit becomes
 * durable: sync.c; where the WAL is passed through, capture_passed.c first. */
#include <errno.h>
#include <limits.h>

#include "db/adopt.h"
#include "db/db_internal.h"

bool
db_wal_exists(struct db *db)
{
        bool exists;

        db_lock(db);
        exists = wal_exists(db->wal);
        pthread_mutex_unlock(&db->lock);
        return exists;
}

int
db_wal_create(struct db *db, mode_t mode)
{
        char path[PATH_MAX];
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        r = db_path(db, "wal", path, sizeof path);
        if (r == 0)
                r = wal_create(db->wal, path, mode);
        db_access_end(&a);
        return r;
}

/* Its transactions are visible to SQLite as soon as it has the name: so they are captured before. */
int
adopt_wal(struct db_access *a, const char *path, struct db_done done, struct err *e)
{
        struct db *db = a->db;
        struct wal_scan scan = wal_scan_rest();
        char to[PATH_MAX];
        int r;

        access_lock(a);
        r = db_path(db, "wal", to, sizeof to);
        if (r == 0)
                r = wal_take_file(db->wal, path, to);
        if (r == 0 && wal_is_live(db->wal))
                r = capture_scanned(a, &scan, done);
        access_unlock(a);
        return r < 0 ? err_set(e, r, "take over %s", path) : r;
}

int
db_wal_stat(struct db *db, struct stat *ret)
{
        int r;

        db_lock(db); /* or the file could be closed, and its number be another's */
        r = wal_stat(db->wal, ret);
        pthread_mutex_unlock(&db->lock);
        return r;
}

ssize_t
db_wal_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        db_lock(db);
        r = wal_read(db->wal, buf, n, off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_truncate(struct db *db, uint64_t size_bytes)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = passed_before_call(&a);
        if (r == 0)
                r = wal_truncate(db->wal, size_bytes);
        if (r == -ENOTRECOVERABLE) {
                db_fail(db, "frames that are committed were to be taken back");
                r = -EIO;
        }
        db_access_end(&a);
        return r;
}

int
db_wal_unlink(struct db *db, int *ret_fd)
{
        char path[PATH_MAX];
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = passed_before_call(&a);
        if (r == 0)
                r = db_path(db, "wal", path, sizeof path);
        if (r == 0)
                r = wal_unlink(db->wal, path, ret_fd);
        if (r == 0)
                passed_end(&a);
        db_access_end(&a);
        return r;
}

int
db_wal_fsync(struct db *db, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        if (db->passed.is_on) {
                r = passed_fsync(&a, done);
        } else {
                wal_note_sync(db->wal);
                habit_synced(db);
                r = sync_commit(&a, NULL, done);
        }
        db_access_end(&a);
        return r;
}

bool
db_note_index_repair(struct db *db, char ret_count[TROUBLE_COUNT_SIZE])
{
        bool is_told;

        db_lock(db);
        is_told = trouble_note(&db->index_repairs, clock_boot_ms(db->env->clock), 0, ret_count);
        pthread_mutex_unlock(&db->lock);
        return is_told;
}
