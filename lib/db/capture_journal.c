/* Commits of the rollback-journal modes, and of writes without a journal.
 *
 * SQLite commits by finalising the journal: unlink (DELETE), truncation to 0 (TRUNCATE, and DELETE under
 * locking_mode=EXCLUSIVE), a header of zeros (PERSIST). The journal itself lives in memory: until the
 * commit no page of the transaction has entered the database file, so there is nothing that a journal on
 * disk would be needed to undo. It is kept for the application: a writer that is killed leaves it hot, and
 * the next SQLite reader rolls back by it, through this mount, in the usual way. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "sqlite/dbheader.h"

/* --- the transaction --- */

static const uint8_t *
get_open_page(const struct capturer *c, const struct commit_request *rq, uint32_t i, int *ret_error)
{
        return db_visible_page(c, rq->page_size, rq->pgnos[i], ret_error);
}

/* The size that the new image claims: its header's page count if the header is in step with itself, else
 * the file's size, as SQLite does. */
static int
read_new_size(const struct capturer *c, uint32_t *ret_page_size, uint32_t *ret_commit, struct err *e)
{
        struct db *db = c->db;
        struct sqlite_dbheader h;
        const uint8_t *page;
        uint64_t pages;
        int r = -EIO;

        if (db->size_bytes == 0) {
                *ret_page_size = db->page_size;
                *ret_commit = 0;
                return 0;
        }
        page = db_visible_page(c, db->page_size, 1, &r);
        if (page == NULL)
                return err_set(e, r, "read page 1");
        r = sqlite_dbheader_parse(page, db->page_size, &h);
        if (r < 0)
                return err_set(e, r, "page 1 holds no SQLite header any more");
        pages = (db->size_bytes + h.page_size - 1) / h.page_size;
        if (pages > UINT32_MAX)
                return err_set(e, -EFBIG, "size %llu", (unsigned long long)db->size_bytes);
        *ret_page_size = h.page_size;
        *ret_commit = h.is_page_count_valid && h.page_count <= pages ? h.page_count : (uint32_t)pages;
        return 0;
}

/* Page numbers to look at: those written, and all that a cut has turned to zeros. */
static int
list_pages(struct db *db, uint32_t commit, uint32_t **ret, uint32_t *ret_n)
{
        uint32_t first_cut, end, n = 0;
        uint32_t *written, *all;

        *ret = NULL;
        *ret_n = db->open.n_pages;
        if (*ret_n > 0 && (*ret = overlay_sorted_pgnos(&db->open)) == NULL)
                return -ENOMEM;
        if (db->open_floor == DB_NO_FLOOR)
                return 0;
        first_cut = (uint32_t)(db->open_floor / db->page_size) + 1;
        end = commit < db->page_count ? commit : db->page_count;
        if (end < first_cut)
                return 0;
        written = *ret;
        all = malloc(((size_t)*ret_n + (end - first_cut + 1)) * sizeof *all);
        if (all == NULL)
                return -ENOMEM; /* the caller frees what *@ret has */
        for (uint32_t i = 0; i < *ret_n && written[i] < first_cut; i++)
                all[n++] = written[i];
        for (uint32_t pgno = first_cut; pgno <= end && pgno != 0; pgno++)
                all[n++] = pgno;
        for (uint32_t i = 0; i < *ret_n; i++)
                if (written[i] > end && written[i] >= first_cut)
                        all[n++] = written[i];
        free(written);
        *ret = all;
        *ret_n = n;
        return 0;
}

/* While the WAL holds newer images, the size and those pages are the WAL's, whatever is written to the
 * file beside it. */
static uint32_t
drop_pending(struct db *db, uint32_t *pgnos, uint32_t n)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++)
                if (!wal_frames_is_pending(&db->wal.frames, pgnos[i]))
                        pgnos[kept++] = pgnos[i];
        return kept;
}

static void
read_wal_flag(const struct capturer *c)
{
        struct db *db = c->db;
        struct sqlite_dbheader h;
        const uint8_t *page;
        int error;

        if (db->page_count == 0) {
                db->is_wal = false;
                return;
        }
        page = db_visible_page(c, db->page_size, 1, &error);
        if (page != NULL && sqlite_dbheader_parse(page, db->page_size, &h) == 0)
                db->is_wal = h.is_wal;
}

/* A cut or a new page size cannot wait in `late`: the file must be cut, or the pages be counted anew. */
static int
settle(const struct capturer *c, uint64_t cut, struct err *e)
{
        struct db *db = c->db;
        int r = sync_now(db, db->last_lsn, e);

        if (r == 0 && cut != DB_NO_FLOOR) {
                snapshot_save_file(db, cut, INT64_MAX);
                r = os_ftruncate(db->env->os, "db:cut", db->fd, (off_t)cut);
                if (r < 0)
                        err_set(e, r, "cut %s/database", db->dir);
        }
        if (r < 0) {
                capturer_lock(c);
                db_fail(db, "a committed transaction cannot be completed");
                capturer_unlock(c);
        }
        return r;
}

/* Makes `late` empty: before pages are counted in another size, before the file is cut, and so that a
 * huge transaction can become late by a swap. */
static int
flush_before(const struct capturer *c, struct err *e)
{
        struct db *db = c->db;
        int r;

        if (overlay_is_empty(&db->late))
                return 0;
        r = sync_or_fail(c, db->late_lsn, e);
        if (r < 0)
                return r;
        r = late_flush(c);
        return r < 0 ? err_set(e, r, "write committed pages") : 0;
}

/* After the record is in the log nothing may fail, and its pages go beside those that are late: so there must be room,
 * or none that are late. */
static int
make_room(const struct capturer *c, struct err *e)
{
        struct db *db = c->db;
        int r;

        if (overlay_is_empty(&db->late))
                return 0;
        capturer_lock(c);
        r = overlay_reserve(&db->late, db->open.n_pages);
        capturer_unlock(c);
        return r < 0 ? flush_before(c, e) : 0;
}

static int
finish_capture(const struct capturer *c, uint32_t old_page_size, struct err *e)
{
        struct db *db = c->db;
        bool is_repaged = old_page_size != db->page_size;
        bool is_settled = db->open_floor != DB_NO_FLOOR || is_repaged;
        int r = 0;

        if (is_settled)
                r = settle(c, db->open_floor, e);
        capturer_lock(c);
        if (r == 0)
                r = late_add_open(db);
        capturer_unlock(c);
        if (r < 0)
                return err_set(e, r, "keep committed pages");
        if (!is_settled)
                return 0;
        r = late_flush(c);
        capturer_lock(c);
        if (r < 0 && is_repaged)
                db_fail(db, "pages of the new size cannot be written");
        if (r == 0) {
                overlay_set_page_size(&db->late, db->page_size);
                overlay_set_page_size(&db->open, db->page_size);
        }
        capturer_unlock(c);
        return 0;
}

/* Fills in what of the transaction follows from the pages written; *@ret_pgnos is the caller's to free. */
static int
make_request(const struct capturer *c, struct commit_request *rq, uint32_t **ret_pgnos, struct err *e)
{
        struct db *db = c->db;
        bool has_pending = db->wal.frames.n_pending > 0;
        int r = 0;

        rq->received = db->received;
        if (rq->received != NULL) {
                rq->page_size = rq->received->record.page_size;
                rq->commit = rq->received->record.commit;
        } else {
                r = read_new_size(c, &rq->page_size, &rq->commit, e);
        }
        if (r < 0)
                return r;
        if (has_pending) {
                rq->page_size = db->page_size;
                rq->commit = db->page_count;
        }
        rq->is_snapshot = rq->page_size != db->page_size;
        if (rq->is_snapshot)
                return 0;
        r = list_pages(db, rq->commit, ret_pgnos, &rq->n_pgnos);
        if (r < 0)
                return err_set(e, r, "collect the transaction's pages");
        if (has_pending)
                rq->n_pgnos = drop_pending(db, *ret_pgnos, rq->n_pgnos);
        rq->pgnos = *ret_pgnos;
        return 0;
}

int
capture_open(const struct capturer *c, struct err *e)
{
        struct db *db = c->db;
        struct commit_request rq = { .get = get_open_page };
        uint32_t old_page_size = db->page_size;
        uint32_t *pgnos = NULL;
        int r;

        if (!db_is_dirty(db) && !db->is_unjournaled)
                return 0;
        r = make_request(c, &rq, &pgnos, e);
        if (r == 0)
                r = rq.is_snapshot || !capture_is_light(db) ? flush_before(c, e) : make_room(c, e);
        if (r == 0)
                r = commit_transaction(c, &rq, e);
        free(pgnos);
        if (r > 0)
                r = finish_capture(c, old_page_size, e);
        else if (r == 0) {
                capturer_lock(c);
                db_discard_open(db); /* nothing had changed: what is visible is what was committed */
                capturer_unlock(c);
        }
        if (r < 0)
                return r;
        capturer_lock(c);
        db->is_unjournaled = false;
        read_wal_flag(c);
        capturer_unlock(c);
        return verify_commit(c, e);
}

/* --- here or by a worker --- */

struct capture_job {
        struct work work;
        struct db *db;
        bool is_synced;
        void (*then)(struct db *db);
        struct db_done done;
};

bool
capture_is_light(const struct db *db)
{
        return db->open.n_pages <= DB_LIGHT_COMMIT_PAGES && db->open_floor == DB_NO_FLOOR;
}

static int
capture_as_worker(struct capture_job *job, struct err *e)
{
        struct db *db = job->db;
        struct capturer c;
        int r;

        r = capturer_init_worker(&c, db);
        if (r < 0)
                return err_set(e, r, "capture");
        r = capture_open(&c, e);
        if (r == 0 && job->is_synced)
                r = sync_or_fail(&c, db->last_lsn, e);
        if (r == 0)
                (void)late_flush(&c); /* what does not go now goes later: it is in the log */
        pthread_mutex_lock(&db->lock);
        db->wants_sync = false;
        if (r == 0) {
                db->durable_txid = db->pos.txid;
                if (db->env->committed != NULL)
                        db->env->committed(db->env->arg, db);
                r = confirm_commit(db, job->then);
        }
        pthread_mutex_unlock(&db->lock);
        capturer_release(&c);
        return r;
}

static void
run_capture(struct work *w)
{
        struct capture_job *job = (struct capture_job *)w;
        struct db *db = job->db;
        struct err e = ERR_INIT;
        int r = capture_as_worker(job, &e);

        if (r < 0)
                log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
        job->done.fn(job->done.arg, r);
        db_end_busy(db);
        free(job);
}

static int
start_capture_job(struct db *db, bool is_synced, void (*then)(struct db *), struct db_done done)
{
        struct capture_job *job = malloc(sizeof *job);

        if (job == NULL)
                return -ENOMEM;
        *job = (struct capture_job){ { run_capture, NULL }, db, is_synced, then, done };
        db->state = DB_CAPTURING;
        workers_post(db_capture_workers(db), &job->work);
        return DB_PENDING;
}

/* Memory for late pages is bounded: past it a commit waits until they are in the file. */
static bool
late_is_full(const struct db *db)
{
        return db->late.n_pages > DB_LATE_PAGES_MAX || db->late_error != 0;
}

int
capture_and_finish(struct db *db, bool is_synced, void (*then)(struct db *), struct db_done done)
{
        struct capturer c = capturer_here(db);
        struct err e = ERR_INIT;
        int r;

        if (db->state == DB_FAILED)
                return -EIO;
        assert(db->state == DB_READY);
        if (!capture_is_light(db) || db_forward_of(db) != NULL)
                return start_capture_job(db, is_synced || late_is_full(db), then, done);
        r = capture_open(&c, &e);
        if (r < 0) {
                log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
                return r;
        }
        db->wants_sync = false;
        if (is_synced || late_is_full(db))
                return sync_commit(db, then, done);
        return confirm_commit(db, then);
}

bool
db_has_unjournaled(struct db *db)
{
        bool has;

        pthread_mutex_lock(&db->lock);
        has = db->is_unjournaled && !db->journal.is_hot && db->state == DB_READY;
        pthread_mutex_unlock(&db->lock);
        return has;
}

int
db_capture_unjournaled(struct db *db, struct db_done done)
{
        int r = 0;

        pthread_mutex_lock(&db->lock);
        if (db->is_unjournaled && !db->journal.is_hot)
                r = capture_and_finish(db, db->wants_sync, NULL, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}
