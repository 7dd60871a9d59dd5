/* A database that nobody uses needs no descriptors: neither of its file nor of its log. Only one that is durable as a whole may
 * rest, base and all, or a lost write could go untold with the descriptor; and only one without a WAL, which somebody has
 * open as a rule.
 *
 *   awake --db_rest, nobody at work--> rests --db_wake, by whoever begins an access or reads--> awake
 *
 * What is deleted, or was never committed to, has no file: then only its log rests. */

#include "base/log.h"
#include "db/db_internal.h"

/* With the lock. */
static bool
is_idle(struct db *db)
{
        return db->use.state == DB_READY && db->use.access == NULL && db->use.keeper == NULL &&
               db->sync.job == NULL && db->sync.n_jobs == 0 && !db->sync.has_unsynced &&
               !image_is_dirty(&db->image) && overlay_is_empty(&db->image.writeback) &&
               !db->transaction.is_unjournaled && !db->journal.is_active && !wal_exists(db->wal) &&
               !image_has_snapshot(&db->image);
}

static bool
close_file(struct db *db)
{
        struct stat st;

        if (db->image.fd < 0 || db->image.page_count == 0 || db->base.txid < db->pos.txid ||
            os_fstat(db->env->os, "db:rest", db->image.fd, &st) < 0)
                return false;
        os_close(db->env->os, "db:rest", db->image.fd);
        db->image.fd = -1;
        db->rest.inode = st.st_ino;
        db->rest.is_closed = true;
        return true;
}

/* Of what was committed since, the file may have lost something yet. */
static void
move_base_on(struct db *db)
{
        struct db_access a;
        struct err e = ERR_INIT;
        uint64_t txid;
        bool is_behind;

        if (db_access_begin(db, DB_BY_HOUSEKEEPING, &a, NULL) < 0)
                return;
        access_lock(&a);
        txid = db->pos.txid;
        is_behind = db->image.fd >= 0 && db->image.page_count > 0 && db->base.txid < txid &&
                    db->use.state == DB_READY && overlay_is_empty(&db->image.writeback) &&
                    !wal_has_pending(db->wal);
        access_unlock(&a);
        if (is_behind && base_write(&a, txid, &e) < 0)
                log_event(LOG_WARN, db->name, "%s", e.text);
        db_access_end(&a);
}

unsigned
db_rest(struct db *db)
{
        bool is_quiet, is_behind;
        unsigned n_closed = 0;

        db_lock(db);
        is_quiet = !db->rest.was_used && is_idle(db);
        db->rest.was_used = false;
        is_behind = is_quiet && db->image.fd >= 0 && db->base.txid < db->pos.txid;
        if (is_quiet && !is_behind)
                n_closed = (unsigned)close_file(db) + (unsigned)txlog_rest(db->log);
        pthread_mutex_unlock(&db->lock);
        if (is_behind)
                move_base_on(db);
        return n_closed;
}
