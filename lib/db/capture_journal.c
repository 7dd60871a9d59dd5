/* Commits of the rollback-journal modes, and of writes without a journal.
 *
 * SQLite commits by finalising the journal: unlink (DELETE), truncation to 0 (TRUNCATE, and DELETE under
 * locking_mode=EXCLUSIVE), a header of zeros (PERSIST). The journal itself lives in memory: until the
 * commit no page of the transaction has entered the database file, so there is nothing that a journal on
 * disk would be needed to undo. It is kept for the application: a writer that is killed leaves it hot, and
 * the next SQLite reader rolls back by it, through this mount, in the usual way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "db/parked.h"
#include "sqlite/dbheader.h"

/* --- the transaction --- */

static const uint8_t *
get_uncommitted_page(const struct commit_request *rq, uint32_t i, uint8_t *room, int *ret_error)
{
        return image_visible_page(rq->arg, rq->page_size, rq->pgnos[i], room, ret_error);
}

/* The size that the new image claims: its header's page count if the header is in step with itself, else
 * the file's size, as SQLite does. */
static int
read_new_size(struct db_access *a, uint32_t *ret_page_size, uint32_t *ret_commit, struct err *e)
{
        struct db *db = a->db;
        struct sqlite_dbheader h;
        const uint8_t *page;
        uint64_t pages;
        int r = -EIO;

        if (db->image.size_bytes == 0) {
                *ret_page_size = db->image.page_size;
                *ret_commit = 0;
                return 0;
        }
        page = image_visible_page(&db->image, db->image.page_size, 1, a->room, &r);
        if (page == NULL)
                return err_set(e, r, "read page 1");
        r = sqlite_dbheader_parse(page, db->image.page_size, &h);
        if (r < 0)
                return err_set(e, r, "page 1 holds no SQLite header any more");
        pages = (db->image.size_bytes + h.page_size - 1) / h.page_size;
        if (pages > UINT32_MAX)
                return err_set(e, -EFBIG, "size %llu", (unsigned long long)db->image.size_bytes);
        *ret_page_size = h.page_size;
        *ret_commit = h.is_page_count_valid && h.page_count <= pages ? h.page_count : (uint32_t)pages;
        return 0;
}

/* While the WAL holds newer images, the size and those pages are the WAL's, whatever is written to the
 * file beside it. */
static uint32_t
drop_pending(struct db *db, uint32_t *pgnos, uint32_t n)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++)
                if (!wal_is_pending(db->wal, pgnos[i]))
                        pgnos[kept++] = pgnos[i];
        return kept;
}

static void
read_wal_flag(struct db_access *a)
{
        struct db *db = a->db;
        struct sqlite_dbheader h;
        const uint8_t *page;
        int error;

        if (db->image.page_count == 0) {
                db->is_wal = false;
                return;
        }
        page = image_visible_page(&db->image, db->image.page_size, 1, a->room, &error);
        if (page != NULL && sqlite_dbheader_parse(page, db->image.page_size, &h) == 0)
                db->is_wal = h.is_wal;
}

/* A cut or a new page size cannot wait beside committed pages: the file must be cut, or the pages be counted anew. */
static int
cut_committed_file(struct db_access *a, uint64_t cut, struct err *e)
{
        struct db *db = a->db;
        int r = sync_now(db, db->last.lsn, e);

        if (r == 0 && cut != IMAGE_NO_FLOOR) {
                r = image_cut_file(&db->image, "db:cut", cut);
                if (r < 0)
                        err_set(e, r, "cut %s/database", db->dir);
        }
        if (r < 0) {
                access_lock(a);
                db_fail(db, "a committed transaction cannot be completed");
                access_unlock(a);
        }
        return r;
}

/* Lets no committed page wait: before pages are counted in another size, before the file is cut, and so that the pages of
 * a huge transaction can take their place as a whole. */
static int
flush_before_commit(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (overlay_is_empty(&db->image.writeback))
                return 0;
        r = sync_or_fail(a, db->image.writeback_lsn, e);
        if (r < 0)
                return r;
        r = flush_writeback(a);
        return r < 0 ? err_set(e, r, "write committed pages") : 0;
}

/* After the record is in the log nothing may fail, and its pages go beside those that wait already: so there must be room,
 * or none that wait. */
static int
make_writeback_room(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (overlay_is_empty(&db->image.writeback))
                return 0;
        access_lock(a);
        r = image_reserve_writeback(&db->image);
        access_unlock(a);
        return r < 0 ? flush_before_commit(a, e) : 0;
}

static int
finish_capture(struct db_access *a, uint32_t old_page_size, struct err *e)
{
        struct db *db = a->db;
        bool is_repaged = old_page_size != db->image.page_size;
        bool is_settled = db->image.uncommitted_floor != IMAGE_NO_FLOOR || is_repaged;
        int r = 0;

        if (is_settled)
                r = cut_committed_file(a, db->image.uncommitted_floor, e);
        access_lock(a);
        if (r == 0)
                r = keep_committed(a);
        access_unlock(a);
        if (r < 0)
                return err_set(e, r, "keep committed pages");
        if (!is_settled)
                return 0;
        r = flush_writeback(a);
        access_lock(a);
        if (r < 0 && is_repaged)
                db_fail(db, "pages of the new size cannot be written");
        if (r == 0)
                image_follow_page_size(&db->image);
        access_unlock(a);
        return 0;
}

/* Fills in what of the transaction follows from the pages written; *@ret_pgnos is the caller's to free. */
static int
make_request(struct db_access *a, struct commit_request *rq, uint32_t **ret_pgnos, struct err *e)
{
        struct db *db = a->db;
        bool has_pending = wal_has_pending(db->wal);
        int r = 0;

        rq->arg = &db->image;
        if (db->applying.rx != NULL) {
                rq->page_size = db->applying.rx->record.page_size;
                rq->commit = db->applying.rx->record.commit;
        } else {
                r = read_new_size(a, &rq->page_size, &rq->commit, e);
        }
        if (r < 0)
                return r;
        if (has_pending) {
                rq->page_size = db->image.page_size;
                rq->commit = db->image.page_count;
        }
        rq->is_snapshot = rq->page_size != db->image.page_size;
        if (rq->is_snapshot)
                return 0;
        r = image_list_uncommitted(&db->image, rq->commit, ret_pgnos, &rq->n_pgnos);
        if (r < 0)
                return err_set(e, r, "collect the transaction's pages");
        if (has_pending)
                rq->n_pgnos = drop_pending(db, *ret_pgnos, rq->n_pgnos);
        rq->pgnos = *ret_pgnos;
        return 0;
}

/* What @rq, once made, needs before its record is in the log. */
static int
prepare_capture(struct db_access *a, struct commit_request *rq, uint32_t **ret_pgnos, struct err *e)
{
        int r = make_request(a, rq, ret_pgnos, e);

        if (r < 0)
                return r;
        return rq->is_snapshot || !capture_is_light(a->db) ? flush_before_commit(a, e)
                                                           : make_writeback_room(a, e);
}

/* @r: whether there is a record, as commit_transaction says. */
static int
end_capture(struct db_access *a, int r, uint32_t old_page_size, struct err *e)
{
        struct db *db = a->db;

        if (r > 0)
                r = finish_capture(a, old_page_size, e);
        else if (r == 0) {
                access_lock(a);
                db_discard_uncommitted(
                        a); /* nothing had changed: what is visible is what was committed */
                access_unlock(a);
        }
        if (r < 0)
                return r;
        access_lock(a);
        db->transaction.is_unjournaled = db->transaction.is_refused = false;
        read_wal_flag(a);
        access_unlock(a);
        return verify_commit(a, e);
}

int
capture_uncommitted(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        struct commit_request rq = { .get = get_uncommitted_page };
        uint32_t old_page_size = db->image.page_size;
        uint32_t *pgnos = NULL;
        int r;

        if (!image_is_dirty(&db->image) && !db->transaction.is_unjournaled)
                return 0;
        r = prepare_capture(a, &rq, &pgnos, e);
        if (r == 0)
                r = commit_transaction(a, &rq, e);
        free(pgnos);
        return end_capture(a, r, old_page_size, e);
}

/* --- in two steps --- */

int
capture_append(struct capture *c, struct err *e)
{
        struct db *db = c->a->db;
        int r;

        c->rq = (struct commit_request){ .get = get_uncommitted_page };
        c->pgnos = NULL;
        c->old_page_size = db->image.page_size;
        if (!image_is_dirty(&db->image))
                return 0;
        r = prepare_capture(c->a, &c->rq, &c->pgnos, e);
        if (r == 0 && c->rq.is_snapshot)
                r = err_text(e, -ENOTSUP,
                             "the page size cannot change in a transaction over several databases");
        if (r == 0)
                r = commit_append(c->a, &c->rq, &c->record, e);
        return r < 0 ? r : 0;
}

/* After the record's end. */
static void
drop_request(struct capture *c)
{
        c->record = NULL;
        free(c->pgnos);
        c->pgnos = NULL;
}

void
capture_forget(struct capture *c)
{
        if (c->record != NULL)
                commit_forget(c->record);
        drop_request(c);
}

int
capture_undo(struct capture *c, struct err *e)
{
        int r = c->record != NULL ? commit_undo(c->record, e) : 0;

        drop_request(c);
        return r;
}

int
capture_publish(struct capture *c, struct err *e)
{
        bool has_record = c->record != NULL;

        if (has_record)
                commit_publish(c->record);
        drop_request(c);
        return image_is_dirty(&c->a->db->image) ? end_capture(c->a, has_record, c->old_page_size, e) : 0;
}

/* --- here or by a worker --- */

struct capture_job {
        struct work work;
        struct db_access access;
        bool is_synced;
        void (*then)(struct db *db);
        struct db_done done;
};

bool
capture_is_light(const struct db *db)
{
        /* What it grows by is work, too, also where nothing was written there. */
        uint64_t limit = ((uint64_t)db->image.page_count + DB_LIGHT_COMMIT_PAGES) * db->image.page_size;

        return db->image.uncommitted.n_pages <= DB_LIGHT_COMMIT_PAGES &&
               db->image.uncommitted_floor == IMAGE_NO_FLOOR && db->image.size_bytes <= limit;
}

static int
capture_as_worker(struct capture_job *job, struct err *e)
{
        struct db_access *a = &job->access;
        struct db *db = a->db;
        int r = capture_uncommitted(a, e);

        if (r == 0 && job->is_synced)
                r = sync_or_fail(a, db->last.lsn, e);
        if (r == 0)
                (void)flush_writeback(a); /* what does not go now goes later: it is in the log */
        access_lock(a);
        db->transaction.wants_sync = false;
        if (r == 0) {
                db->sync.replicable_txid = db->pos.txid;
                db->has_news = true;
                r = confirm_commit(db, job->then);
        }
        access_unlock(a);
        return r;
}

/* One that the application is told of: SQLite may leave its transaction as it is, for the next reader to roll back. */
void
capture_tell_failed(struct db_access *a, int r, const struct err *e)
{
        struct db *db = a->db;
        bool is_refused = r == E_FORMAT && db->transaction.is_unjournaled,
             was_refused = db->transaction.is_refused, is_told;
        char count[TROUBLE_COUNT_SIZE];

        access_lock(a);
        db->transaction.is_refused = is_refused;
        is_told = trouble_note(&db->failed, clock_boot_ms(db->env->clock), r, count);
        if (db->env->wants_housekeeping != NULL)
                db->env->wants_housekeeping(db->env->arg);
        access_unlock(a);
        if (!is_told || (is_refused && was_refused))
                return;
        log_event(
                LOG_ERROR, db->name, "%s: %s%s",
                is_refused
                        ? "what was written over it is refused (to have another file in its place, delete it first)"
                        : "commit failed",
                e->text, count);
}

static void
run_capture(struct work *w)
{
        struct capture_job *job = (struct capture_job *)w;
        struct err e = ERR_INIT;
        int r = capture_as_worker(job, &e);

        if (r < 0)
                capture_tell_failed(&job->access, r, &e);
        job->done.fn(job->done.arg, r);
        db_access_end(&job->access);
        free(job);
}

static int
start_capture_job(struct db_access *a, bool is_synced, void (*then)(struct db *), struct db_done done)
{
        struct capture_job *job = malloc(sizeof *job);
        int r = job == NULL ? -ENOMEM : db_access_pass(a, DB_BY_CAPTURE, &job->access);

        if (r < 0) {
                free(job);
                return r;
        }
        job->work = (struct work){ run_capture, NULL };
        job->is_synced = is_synced;
        job->then = then;
        job->done = done;
        workers_post(db_capture_workers(a->db), &job->work);
        return DB_PENDING;
}

/* Memory for committed pages is bounded: past it a commit waits until they are in the file. */
static bool
writeback_is_full(const struct db *db)
{
        return db->image.writeback.n_pages > DB_WRITEBACK_PAGES_MAX || db->image.writeback_error != 0;
}

int
capture_and_finish(struct db_access *a, bool is_synced, void (*then)(struct db *), struct db_done done)
{
        struct db *db = a->db;
        struct err e = ERR_INIT;
        int r;

        if (!capture_is_light(db) || db_remote_commit_of(db) != NULL)
                return start_capture_job(a, is_synced || writeback_is_full(db), then, done);
        r = capture_uncommitted(a, &e);
        if (r < 0) {
                capture_tell_failed(a, r, &e);
                return r;
        }
        db->transaction.wants_sync = false;
        if (is_synced || writeback_is_full(db))
                return sync_commit(a, then, done);
        return confirm_commit(db, then);
}

bool
db_has_unjournaled(struct db *db)
{
        bool has;

        db_lock(db);
        has = db->transaction.is_unjournaled && !db->journal.is_hot;
        pthread_mutex_unlock(&db->lock);
        return has;
}

bool
db_is_refused(struct db *db)
{
        bool is;

        db_lock(db);
        is = db->transaction.is_refused;
        pthread_mutex_unlock(&db->lock);
        return is;
}

static int
discard_refused(struct db_access *a, struct parked_call *c)
{
        struct db *db = a->db;

        (void)c;
        if (db->transaction.is_refused && !db->journal.is_hot) {
                db_discard_uncommitted(a);
                db->image.size_bytes = (uint64_t)db->image.page_count * db->image.page_size;
        }
        return 0;
}

static int
capture_unjournaled(struct db_access *a, struct parked_call *c)
{
        struct db *db = a->db;
        int r = 0;

        if (db->transaction.is_unjournaled && !db->journal.is_hot)
                r = capture_and_finish(a, db->transaction.wants_sync, NULL, c->done);
        if (r == DB_PENDING)
                free(c);
        return r;
}

/* Now, or when the database is to be had. */
static int
run_or_park(struct db *db, int (*run)(struct db_access *a, struct parked_call *c), struct db_done done)
{
        struct parked_call *c = malloc(sizeof *c);

        if (c == NULL)
                return -ENOMEM;
        *c = (struct parked_call){ .db = db, .done = done, .run = run };
        return parked_call_begin(c);
}

int
db_discard_refused(struct db *db, struct db_done done)
{
        return run_or_park(db, discard_refused, done);
}

int
db_capture_unjournaled(struct db *db, struct db_done done)
{
        return run_or_park(db, capture_unjournaled, done);
}
