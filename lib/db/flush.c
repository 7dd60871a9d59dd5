/* Committed pages into the database file, once their log records are durable: image/writeback.c with the right to
 * change the database, and what has the log to say. */
#include <errno.h>

#include "db/db_internal.h"

int
keep_committed(struct db_access *a)
{
        struct db *db = a->db;
        int r = image_commit_uncommitted(&db->image, db->last.lsn);

        if (r < 0) {
                /* They can be neither kept nor written: memory and log disagree. */
                db_fail(db, "committed pages could not be kept");
                return r;
        }
        if (db->env->wants_housekeeping != NULL)
                db->env->wants_housekeeping(db->env->arg);
        return 0;
}

int
flush_writeback(struct db_access *a)
{
        struct db *db = a->db;
        int r = access_check(a, NULL);

        if (r < 0)
                return r;
        if (!overlay_is_empty(&db->image.writeback) &&
            txlog_synced_lsn(db->log) < db->image.writeback_lsn)
                return -EAGAIN;
        r = image_write_back(&db->image, a->room);
        access_lock(a);
        image_end_writeback(&db->image, r);
        if (r == 0)
                flush_trim_file(a);
        access_unlock(a);
        return r;
}

int
flush_if_free(struct db *db)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_SYNC, &a, NULL);

        if (r == 0)
                r = flush_writeback(&a);
        db_access_end(&a);
        return r == E_BUSY ? -EAGAIN : r;
}

void
flush_trim_file(struct db_access *a)
{
        struct db *db = a->db;

        if (!wal_has_pending(db->wal) && txlog_synced_lsn(db->log) >= db->last.lsn)
                image_trim_file(&db->image);
}
