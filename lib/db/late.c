/* Committed pages on their way to the database file, and the base that moves behind them.
 *
 * The rule that recovery stands on: a page enters the database file only when the log record that carries
 * it is durable. So whatever part of the file's unsynced writes a power loss keeps, replaying the log from
 * the base writes each page that may be wrong. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "db/base_file.h"
#include "db/db_internal.h"

static int
put_page(const struct capturer *c, const struct overlay *o, uint32_t pgno)
{
        const uint8_t *page;
        int error = -EIO;

        page = overlay_get(o, pgno, c->page, &error);
        if (page == NULL)
                return error;
        snapshot_save_file(c->db, (uint64_t)(pgno - 1) * o->page_size, (uint64_t)pgno * o->page_size);
        return os_pwrite_all(c->db->env->os, "db:late", c->db->fd, page, o->page_size,
                             (off_t)(pgno - 1) * o->page_size);
}

/* Readers see the late page or the file's, which become the same: so a worker needs no lock here. */
static int
put_pages(const struct capturer *c)
{
        struct db *db = c->db;
        uint64_t end = (uint64_t)db->page_count * db->page_size;
        uint32_t *pgnos = overlay_sorted_pgnos(&db->late);
        int r = pgnos == NULL ? -ENOMEM : 0;

        for (uint32_t i = 0; i < db->late.n_pages && r == 0; i++)
                if ((uint64_t)(pgnos[i] - 1) * db->late.page_size < end)
                        r = put_page(c, &db->late, pgnos[i]);
        free(pgnos);
        return r;
}

int
late_flush(const struct capturer *c)
{
        struct db *db = c->db;
        int r = 0;

        if (!overlay_is_empty(&db->late)) {
                if (txlog_synced_lsn(db->log) < db->late_lsn)
                        return -EAGAIN;
                r = put_pages(c);
        }
        capturer_lock(c);
        db->late_error = r;
        if (r == 0) {
                overlay_reset(&db->late);
                late_trim_file(db);
        }
        capturer_unlock(c);
        return r;
}

void
late_trim_file(struct db *db)
{
        uint64_t size = (uint64_t)db->page_count * db->page_size;
        struct stat st;

        if (db->fd < 0 || !overlay_is_empty(&db->late) || db->wal.frames.n_pending > 0)
                return;
        if (txlog_synced_lsn(db->log) < db->last_lsn || db->size_bytes > size)
                return;
        /* A failure leaves bytes that nobody sees; recovery cuts them. */
        if (os_fstat(db->env->os, "db:trim", db->fd, &st) < 0 || (uint64_t)st.st_size <= size)
                return;
        snapshot_save_file(db, size, (uint64_t)st.st_size);
        (void)os_ftruncate(db->env->os, "db:trim", db->fd, (off_t)size);
}

/* Moves page by page; a page that cannot be added leaves the overlay as good as before. */
static int
merge_open(struct db *db)
{
        uint32_t *pgnos = overlay_sorted_pgnos(&db->open);
        uint32_t n = db->open.n_pages;
        const uint8_t *page;
        int r = pgnos == NULL ? -ENOMEM : 0;

        for (uint32_t i = 0; i < n && r == 0; i++) {
                page = overlay_get(&db->open, pgnos[i], db->page_buf, &r);
                if (page != NULL)
                        r = overlay_put(&db->late, pgnos[i], page);
        }
        free(pgnos);
        return r;
}

int
late_add_open(struct db *db)
{
        int r = 0;

        if (overlay_is_empty(&db->late)) {
                struct overlay empty = db->late;

                db->late = db->open;
                db->open = empty;
                overlay_set_page_size(&db->open, db->page_size);
        } else {
                assert(db->late.page_size == db->open.page_size);
                r = merge_open(db);
                if (r == 0)
                        overlay_reset(&db->open);
        }
        if (r < 0) {
                /* Committed pages that can be neither kept nor written: memory and log disagree. */
                db_fail(db, "committed pages could not be kept");
                return r;
        }
        db->open_floor = DB_NO_FLOOR;
        db->late_lsn = db->last_lsn;
        if (db->env->wants_housekeeping != NULL)
                db->env->wants_housekeeping(db->env->arg);
        return 0;
}

int
late_try_flush(struct db *db)
{
        struct capturer c = capturer_here(db);

        return db->state == DB_CAPTURING ? -EAGAIN : late_flush(&c);
}

/* --- the base --- */

/* Copies a slice of the checksums out, so that a write of them does not hold the lock. */
static uint32_t
copy_sums(void *arg, uint32_t first_pgno, uint64_t *ret, uint32_t n)
{
        struct db *db = arg;
        uint32_t i;

        pthread_mutex_lock(&db->lock);
        for (i = 0; i < n && first_pgno + i <= db->sums.n_pages; i++)
                ret[i] = pagesum_get(&db->sums, first_pgno + i);
        pthread_mutex_unlock(&db->lock);
        return i;
}

int
sync_file(struct db *db, struct err *e)
{
        int r = os_fdatasync(db->env->os, "db:base", db->fd);

        if (r == 0)
                return 0;
        /* The kernel tells of lost pages once and counts them as written from then on: the next sync would
         * succeed without them. The log has them, and a restart writes them again. */
        pthread_mutex_lock(&db->lock);
        db_fail(db, "the database file cannot be synced");
        pthread_mutex_unlock(&db->lock);
        return err_set(e, r, "sync %s/database", db->dir);
}

/* The file holds transaction @txid, though perhaps not durably yet. The checksums that go with it may be
 * those of later transactions: recovery replaces what it replays, and the log is synced past them. */
int
base_write(struct db *db, uint64_t txid, struct err *e)
{
        struct base_info info = { .txid = txid };
        uint64_t lsn;
        int r;

        pthread_mutex_lock(&db->lock);
        info.page_size = db->page_size;
        info.page_count = db->page_count;
        info.timestamp_ms = db->timestamp_ms;
        pthread_mutex_unlock(&db->lock);
        r = sync_file(db, e);
        if (r == 0)
                r = base_file_write(db->env->os, db->dir, &info, copy_sums, db, e);
        if (r < 0)
                return r;
        pthread_mutex_lock(&db->lock);
        lsn = db->last_lsn;
        pthread_mutex_unlock(&db->lock);
        r = sync_now(db, lsn, e);
        if (r == 0)
                r = base_file_publish(db->env->os, db->dir, e);
        if (r < 0)
                return r;
        pthread_mutex_lock(&db->lock);
        db->base_txid = txid;
        db->base_lsn = lsn;
        pthread_mutex_unlock(&db->lock);
        return 0;
}

/* The newest transaction that the file holds as a whole. With the lock. */
static uint64_t
base_candidate(const struct db *db)
{
        if (db->fd < 0 || !overlay_is_empty(&db->late) || db->state != DB_READY)
                return db->base_txid;
        if (db->wal.frames.n_pending == 0)
                return db->pos.txid;
        return db->wal_backfilled_txid > db->base_txid ? db->wal_backfilled_txid : db->base_txid;
}

static int
move_base(struct db *db, struct err *e)
{
        uint64_t txid;
        uint64_t every = db->env->base_every > 0 ? db->env->base_every : DB_BASE_EVERY;
        bool is_due;

        pthread_mutex_lock(&db->lock);
        txid = base_candidate(db);
        is_due = txid > db->base_txid && txlog_end_lsn(db->log) - db->base_lsn >= every;
        pthread_mutex_unlock(&db->lock);
        return is_due ? base_write(db, txid, e) : 0;
}

static int
sync_and_flush(struct db *db, struct err *e)
{
        uint64_t lsn;
        bool has_late;
        int r;

        pthread_mutex_lock(&db->lock);
        has_late = !overlay_is_empty(&db->late);
        lsn = db->late_lsn;
        pthread_mutex_unlock(&db->lock);
        if (!has_late)
                return 0;
        r = sync_now(db, lsn, e);
        pthread_mutex_lock(&db->lock);
        if (r < 0)
                db_fail(db, "the log cannot be synced");
        else
                r = late_try_flush(db);
        pthread_mutex_unlock(&db->lock);
        /* A transaction that committed meanwhile is late again: it asked for housekeeping itself. */
        return r == -EAGAIN ? 0 : r;
}

static int
retain(struct db *db, const struct txlog_retention *policy, struct err *e)
{
        struct txlog_record before, after;
        bool had = txlog_first(db->log, &before);
        int r = txlog_retain(db->log, policy, e);

        if (r > 0 && had && txlog_first(db->log, &after) && after.min_txid > before.min_txid)
                db_count_many(db, DB_COUNT_DROPPED, after.min_txid - before.min_txid);
        return r;
}

static bool
housekeep(struct db *db, const struct db_retention *retention, struct err *e)
{
        bool wants_more;
        int r;

        r = sync_and_flush(db, e);
        if (r == 0 && txlog_wants_space(db->log))
                (void)txlog_make_space(db->log);
        if (r == 0)
                r = move_base(db, e);
        if (r == 0 && retention->max_age_ms > 0) {
                struct txlog_retention policy = {
                        .keep_after_txid = db->base_txid,
                        .now_ms = clock_wall_ms(db->env->clock),
                        .max_age_ms = retention->max_age_ms,
                };

                r = retain(db, &policy, e);
        }
        pthread_mutex_lock(&db->lock);
        wants_more = !overlay_is_empty(&db->late);
        pthread_mutex_unlock(&db->lock);
        if (r < 0)
                err_prefix(e, "housekeeping");
        return wants_more && r >= 0;
}

bool
db_housekeep(struct db *db, const struct db_retention *retention, struct err *e)
{
        bool wants_more;

        pthread_mutex_lock(&db->keeping);
        wants_more = housekeep(db, retention, e);
        pthread_mutex_unlock(&db->keeping);
        return wants_more;
}
