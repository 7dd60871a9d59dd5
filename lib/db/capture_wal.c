/* Commits of WAL mode: a write that completes a transaction in the WAL (wal/write.c) is the commit, and is answered once
 * the transaction is in the log. A large one is a worker's. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"

/* --- one transaction --- */

static const uint8_t *
get_frame_page(const struct commit_request *rq, uint32_t i, uint8_t *room, int *ret_error)
{
        return wal_transaction_page(rq->arg, i, room, ret_error);
}

void
capture_frames_request(struct db *db, uint32_t commit, const struct wal_transaction *tx,
                       struct commit_request *ret)
{
        *ret = (struct commit_request){ .page_size = db->image.page_size,
                                        .commit = commit,
                                        .pgnos = tx->pgnos,
                                        .n_pgnos = tx->n_pgnos,
                                        .get = get_frame_page,
                                        .arg = tx,
                                        .wal_offset = tx->offset,
                                        .wal_size = tx->size,
                                        .wal_salt1 = tx->salt1,
                                        .wal_salt2 = tx->salt2 };
}

static int
commit_frames(struct db_access *a, uint32_t commit, const struct wal_transaction *tx, struct err *e)
{
        struct db *db = a->db;
        struct commit_request rq;
        int r;

        capture_frames_request(db, commit, tx, &rq);
        access_lock(a);
        r = wal_transaction_reserve(db->wal, tx);
        access_unlock(a);
        if (r < 0)
                return err_set(e, r, "remember the transaction's frames");
        return commit_transaction(a, &rq, e);
}

int
capture_frames(struct db_access *a, uint32_t commit, const uint8_t *last_page, struct err *e)
{
        struct db *db = a->db;
        struct wal_transaction tx = { 0 };
        int r = wal_transaction_begin(db->wal, commit, db->applying.rx == NULL, last_page, &tx, e);

        if (r == 0)
                r = commit_frames(a, commit, &tx, e);
        wal_transaction_end(&tx);
        if (r < 0)
                return r;
        access_lock(a);
        if (wal_captured(db->wal, commit, db->pos.txid, db->last.lsn))
                sync_expected(db);
        access_unlock(a);
        return verify_commit(a, e);
}

void
capture_check_revoked(struct db *db, int result)
{
        if (result == -ENOTRECOVERABLE)
                db_fail(db, "a commit that could not be captured cannot be taken back");
}

/* --- here or by a worker --- */

struct frame_job {
        struct work work;
        struct db_access access;
        uint32_t commit;
        struct db_done done;
};

/* A worker's capture; then the frames behind it, if the same write brought more. */
static void
run_frame_capture(struct work *w)
{
        struct frame_job *job = (struct frame_job *)w;
        struct db_access *a = &job->access;
        struct wal_scan rest = wal_scan_rest();
        struct db *db = a->db;
        struct err e = ERR_INIT;
        int r = capture_frames(a, job->commit, NULL, &e);

        access_lock(a);
        if (r < 0) {
                capture_tell_failed(a, r, &e);
                capture_check_revoked(db, wal_revoke_last(db->wal));
        } else {
                habit_committed(db);
                r = capture_scanned(a, &rest, job->done);
                if (r == 0)
                        r = confirm_commit(db, NULL);
        }
        access_unlock(a);
        if (r != DB_PENDING)
                job->done.fn(job->done.arg, r);
        db_access_end(a);
        free(job);
}

static int
post_frame_capture(struct db_access *a, uint32_t commit, struct db_done done)
{
        struct frame_job *job = malloc(sizeof *job);
        int r = job == NULL ? -ENOMEM : db_access_pass(a, DB_BY_CAPTURE, &job->access);

        if (r < 0) {
                free(job);
                return r;
        }
        job->work = (struct work){ run_frame_capture, NULL };
        job->commit = commit;
        job->done = done;
        workers_post(db_capture_workers(a->db), &job->work);
        return DB_PENDING;
}

static int
capture_frames_here(struct db_access *a, uint32_t commit, const uint8_t *last_page)
{
        struct err e = ERR_INIT;
        int r = capture_frames(a, commit, last_page, &e);

        if (r < 0)
                capture_tell_failed(a, r, &e);
        else
                habit_committed(a->db);
        return r;
}

bool
capture_frames_are_light(const struct db *db, uint32_t commit)
{
        /* Pages that it grows by are work, too, though it may have no frames for them. */
        uint64_t work = (uint64_t)wal_n_uncaptured(db->wal) +
                        (commit > db->image.page_count ? (uint64_t)commit - db->image.page_count : 0);

        return work <= DB_LIGHT_COMMIT_PAGES;
}

int
capture_scanned(struct db_access *a, struct wal_scan *scan, struct db_done done)
{
        struct db *db = a->db;
        uint32_t commit;
        int r;

        while ((r = wal_scan_next(db->wal, scan, a->room, &commit)) > 0) {
                r = capture_frames_are_light(db, commit) && db_remote_commit_of(db) == NULL
                            ? capture_frames_here(a, commit, scan->last_page)
                            : post_frame_capture(a, commit, done);
                if (r != 0)
                        break;
        }
        if (r < 0)
                capture_check_revoked(db, wal_revoke_scan(db->wal, scan));
        return r;
}

static int
capture_wal_write(struct db_access *a, const uint8_t *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db *db = a->db;
        struct wal_scan scan;
        int r = db_may_commit(db);

        if (r == 0)
                r = db_may_enter(db, true);
        if (r == 0)
                r = wal_write(db->wal, buf, n, off, &scan);
        if (r == -ENOTRECOVERABLE) {
                db_fail(db, "frames that are committed were to be taken back");
                return -EIO;
        }
        return r < 0 ? r : capture_scanned(a, &scan, done);
}

int
db_wal_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_access a;
        uint64_t txid;
        int r;

        if (n == 0)
                return 0;
        r = db_access_begin(db, DB_BY_CALL, &a, NULL);
        if (r == 0 && db->passed.is_on)
                r = -EIO; /* the kernel has it elsewhere */
        if (r < 0) {
                db_access_end(&a);
                return r;
        }
        db_count(db, DB_COUNT_WAL_WRITES);
        txid = db->pos.txid;
        r = capture_wal_write(&a, buf, n, off, done);
        if (r == 0 && db->pos.txid != txid)
                r = confirm_commit(db, NULL);
        db_access_end(&a);
        return r;
}
