/* What is done behind the applications' backs: committed pages into the file, the base behind them, space in the log,
 * and old segments out of it. */
#include <errno.h>

#include "db/db_internal.h"
#include "db/image/base_file.h"

/* --- the base --- */

/* Copies a slice of the checksums out, so that a write of them does not hold the lock. */
static uint32_t
copy_image_sums(void *arg, uint32_t first_pgno, uint64_t *ret, uint32_t n)
{
        struct db_access *a = arg;
        struct db *db = a->db;
        uint32_t n_there;

        access_lock(a);
        n_there = pagesum_copy(&db->image.sums, first_pgno, ret, n);
        access_unlock(a);
        return n_there;
}

int
sync_file(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r = access_check(a, e), fd;

        if (r < 0)
                return r;
        access_lock(a);
        fd = db->image.fd; /* stays ours: who takes files away is kept out */
        access_unlock(a);
        r = os_fdatasync(db->env->os, "db:base", fd);
        if (r == 0)
                return 0;
        /* The kernel tells of lost pages once and counts them as written from then on: the next sync would
         * succeed without them. The log has them, and a restart writes them again. */
        access_lock(a);
        db_fail(db, "the database file cannot be synced");
        access_unlock(a);
        return err_set(e, r, "sync %s/database", db->dir);
}

/* The base that was written is that of @txid, once the log is durable to @lsn. */
static int
publish_base(struct db_access *a, uint64_t txid, uint64_t lsn, struct err *e)
{
        struct db *db = a->db;
        int r;

        r = sync_now(db, lsn, e);
        if (r == 0)
                r = base_file_publish(db->env->os, db->dir, e);
        if (r < 0)
                return r;
        access_lock(a);
        db->base.txid = txid;
        db->base.lsn = lsn;
        access_unlock(a);
        return 0;
}

/* The file holds transaction @txid, though perhaps not durably yet. The checksums that go with it may be
 * those of later transactions: recovery replaces what it replays, and the log is synced past them. */
int
base_write(struct db_access *a, uint64_t txid, struct err *e)
{
        struct db *db = a->db;
        struct base_info info = { .txid = txid };
        uint64_t lsn;
        int r;

        access_lock(a);
        info.page_size = db->image.page_size;
        info.page_count = db->image.page_count;
        info.timestamp_ms = db->timestamp_ms;
        access_unlock(a);
        r = sync_file(a, e);
        if (r == 0)
                r = base_file_write(db->env->os, db->dir, &info, copy_image_sums, a, e);
        if (r < 0)
                return r;
        access_lock(a);
        lsn = db->last.lsn;
        access_unlock(a);
        return publish_base(a, txid, lsn, e);
}

static uint32_t
copy_no_sums(void *arg, uint32_t first_pgno, uint64_t *ret, uint32_t n)
{
        (void)arg, (void)first_pgno, (void)ret, (void)n;
        return 0;
}

/* No page, and that is all there is to know. Should the database be made anew meanwhile, recovery begins with nothing, and
 * finds what made it in the log. */
int
base_write_empty(struct db_access *a, uint64_t txid, struct err *e)
{
        struct db *db = a->db;
        struct base_info info = { .txid = txid };
        uint64_t lsn;
        int r;

        access_lock(a);
        info.timestamp_ms = db->timestamp_ms;
        lsn = db->last.lsn;
        access_unlock(a);
        r = base_file_write(db->env->os, db->dir, &info, copy_no_sums, NULL, e);
        return r < 0 ? r : publish_base(a, txid, lsn, e);
}

/* The newest transaction that the file holds as a whole. With the lock. */
static uint64_t
base_candidate(const struct db *db)
{
        uint64_t backfilled;

        if (db->image.fd < 0 || !overlay_is_empty(&db->image.writeback) || db->use.state != DB_READY)
                return db->base.txid;
        if (!wal_has_pending(db->wal))
                return db->pos.txid;
        backfilled = wal_backfilled_txid(db->wal);
        return backfilled > db->base.txid ? backfilled : db->base.txid;
}

static int
move_base(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        uint64_t txid;
        uint64_t every = db->env->base_every > 0 ? db->env->base_every : DB_BASE_EVERY;
        bool is_due, is_deleted;

        db_lock(db);
        /* Of one that is deleted the log is all there is, and nobody is going to make it grow. */
        is_deleted = db->image.fd < 0 && db->image.page_count == 0 && db->use.state == DB_READY &&
                     db->pos.txid > db->base.txid;
        txid = is_deleted ? db->pos.txid : base_candidate(db);
        is_due = txid > db->base.txid && txlog_end_lsn(db->log) - db->base.lsn >= every;
        pthread_mutex_unlock(&db->lock);
        if (is_deleted)
                return base_write_empty(a, txid, e);
        return is_due ? base_write(a, txid, e) : 0;
}

static int
sync_and_flush(struct db *db, struct err *e)
{
        uint64_t lsn;
        bool has_pages;
        int r;

        db_lock(db);
        has_pages = !overlay_is_empty(&db->image.writeback);
        lsn = db->image.writeback_lsn;
        pthread_mutex_unlock(&db->lock);
        if (!has_pages)
                return 0;
        r = sync_now(db, lsn, e);
        if (r == 0)
                r = flush_if_free(db);
        else {
                db_lock(db);
                db_fail(db, "the log cannot be synced");
                pthread_mutex_unlock(&db->lock);
        }
        /* The pages of a transaction that committed meanwhile wait again: it asked for housekeeping itself. */
        return r == -EAGAIN ? 0 : r;
}

void
db_hold_log(struct db *db, unsigned slot, uint64_t txid)
{
        atomic_store_explicit(&db->holds[slot], txid + 1, memory_order_relaxed);
}

void
db_keep_log(struct db *db, uint64_t txid)
{
        atomic_store_explicit(&db->kept_txid, txid, memory_order_relaxed);
}

uint64_t
db_kept_log(const struct db *db)
{
        return atomic_load_explicit(&db->kept_txid, memory_order_relaxed);
}

/* @txid, or less while a backup, or a past state, needs what follows on less. */
static uint64_t
keep_for_others(struct db *db, uint64_t txid)
{
        uint64_t kept = db_kept_log(db);
        struct txlog_stat stat;

        txlog_get_stat(db->log, &stat);
        for (int i = 0; i < DB_N_HOLDS && stat.bytes <= DB_HELD_BYTES; i++) {
                uint64_t held = atomic_load_explicit(&db->holds[i], memory_order_relaxed);

                if (held != 0 && held - 1 < txid)
                        txid = held - 1;
        }
        return kept < txid ? kept : txid;
}

/* Recovery tells a WAL that a power cut has brought back by the records that the log has of it. */
static int
end_removed_wal(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r = 0;

        if (db->passed.is_removal_volatile)
                r = os_sync_dir(db->env->os, "housekeep:removed", db->dir);
        if (r < 0)
                return err_set(e, r, "sync %s", db->dir);
        db->passed.is_removal_volatile = false;
        return 0;
}

static int
retain(struct db_access *a, const struct txlog_retention *policy, struct err *e)
{
        struct db *db = a->db;
        struct txlog_record before, after;
        bool had = txlog_first(db->log, &before);
        int r = end_removed_wal(a, e);

        if (r == 0)
                r = txlog_retain(db->log, policy, e);
        if (r > 0 && had && txlog_first(db->log, &after) && after.min_txid > before.min_txid)
                db_count_many(db, DB_COUNT_DROPPED, after.min_txid - before.min_txid);
        return r;
}

static bool
housekeep_with_access(struct db_access *a, const struct db_retention *retention, struct err *e)
{
        struct db *db = a->db;
        bool wants_more;
        int r;

        r = sync_and_flush(db, e);
        if (r == 0 && txlog_wants_space(db->log))
                (void)txlog_make_space(db->log);
        if (r == 0)
                r = move_base(a, e);
        if (r == 0 && retention->max_age_ms > 0) {
                struct txlog_retention policy = {
                        .keep_after_txid = keep_for_others(db, db->base.txid),
                        .now_ms = clock_wall_ms(db->env->clock),
                        .max_age_ms = retention->max_age_ms,
                };

                r = retain(a, &policy, e);
        }
        db_lock(db);
        wants_more = !overlay_is_empty(&db->image.writeback);
        pthread_mutex_unlock(&db->lock);
        if (r < 0)
                err_prefix(e, "housekeeping");
        return wants_more && r >= 0;
}

bool
db_housekeep(struct db *db, const struct db_retention *retention, struct err *e)
{
        struct db_access a;
        bool wants_more;
        int r = db_access_begin(db, DB_BY_HOUSEKEEPING, &a, NULL);

        if (r < 0)
                return r == E_BUSY;
        wants_more = housekeep_with_access(&a, retention, e);
        db_access_end(&a);
        return wants_more;
}
