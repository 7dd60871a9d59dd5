/* Commits in a WAL that applications write to without us (passed.h): those that an FSYNC waits for, and those that the
 * wal-index shows. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "db/parked.h"
#include "db/prepared.h"

/* The commit is captured, and no sync has asked for it: synchronous=NORMAL, so nobody has asked us before its application was
 * told. Where there is no wal-index, its sync may be about to come. */
static void
note_unsynced(struct db *db)
{
        if (db->passed.index_fd < 0) {
                db_count(db, DB_COUNT_UNCLEAR);
                return;
        }
        db_count(db, DB_COUNT_UNSYNCED);
        if (db->passed.was_told || db->passed.is_fast)
                return;
        db->passed.was_told = true;
        log_event(
                LOG_WARN, db->name,
                "an application commits without syncing (synchronous=NORMAL), while fuse.wal-passthrough is full: such "
                "commits are captured a moment later, without asking the lease first. Set synchronous=FULL, or "
                "fuse.wal-passthrough-databases: [\"%s=off\"]",
                db->name);
}

static int
capture_one(struct db_access *a, uint32_t commit, const struct passed_run *run, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (db_remote_commit_of(db) !=
            NULL) /* it waits for the network, and may be made elsewhere alone */
                return err_text(e, E_NOT_PRIMARY,
                                "the WAL was opened while this node was the primary: close it first");
        if (wal_verified_end(db->wal).n_frames > run->shown) {
                r = prepared_begin(a, commit, e);
                if (r == 0)
                        db_count(db, DB_COUNT_SYNCED);
                return r;
        }
        r = capture_frames(a, commit, NULL, e);
        if (r < 0)
                return r;
        access_lock(a);
        if (run->is_sync && run->shown == PASSED_SHOWS_ALL)
                db_count(db, DB_COUNT_SYNCED);
        else
                note_unsynced(db);
        access_unlock(a);
        return 0;
}

/* --- all that is there --- */

/* 1: the verified frames end a commit that is to be captured next. */
static int
find_passed_commit(struct db_access *a, struct passed_run *run, uint32_t *ret_commit)
{
        struct db *db = a->db;
        int r = wal_find_commit(db->wal, a->room, ret_commit);

        if (r > 0 && !run->is_sync && wal_verified_end(db->wal).n_frames > run->shown)
                r = 0;
        if (r > 0 && db->passed.prepared != NULL) {
                /* It goes on from the prepared one, so its writer knows of that. */
                r = wal_rewind_to_end(db->wal, &db->passed.prepared->end);
                if (r == 0)
                        r = prepared_publish(a);
                return r < 0 ? r : find_passed_commit(a, run, ret_commit);
        }
        return r;
}

/* Whether the verified frames begin where the next commit does. */
static int
begin_run(struct db_access *a, struct passed_run *run)
{
        struct db *db = a->db;
        int r = prepared_follow_chain(a);

        run->shown = passed_frames_shown(db);
        if (r == 0)
                r = prepared_settle(a, run->shown);
        if (r < 0)
                return r;
        if (db->passed.prepared == NULL) {
                wal_forget_uncaptured(db->wal);
                return 0;
        }
        if (!run->is_sync)
                return 0;
        r = prepared_find(a);
        return r < 0 ? r : r > 0 ? 0 : prepared_undo(a);
}

/* 0; 1: a large one is next, which is for a worker; negative: the one that is verified cannot be captured. */
static int
capture_all(struct db_access *a, struct passed_run *run, struct err *e)
{
        struct db *db = a->db;
        uint32_t commit;
        int r;

        access_lock(a);
        r = begin_run(a, run);
        while (r == 0 && (run->is_sync || db->passed.prepared == NULL) &&
               (run->is_sync || passed_frames_captured(db) < run->shown) &&
               (r = find_passed_commit(a, run, &commit)) > 0) {
                if (!run->is_worker && !capture_frames_are_light(db, commit)) {
                        access_unlock(a);
                        return 1;
                }
                access_unlock(a);
                r = capture_one(a, commit, run, e);
                access_lock(a);
                run->has_captured |= r == 0;
                if (db->passed.prepared != NULL)
                        break; /* behind it there is nothing whose writer waits for us */
        }
        if (r == 0 && db->passed.prepared == NULL)
                wal_forget_uncaptured(db->wal); /* it may be written over */
        access_unlock(a);
        return r;
}

/* --- not captured --- */

/* Frames that the wal-index shows, and that are no commits to us: whatever they are, the log is going to lack them. */
static void
check_all_is_captured(struct db *db, const struct passed_run *run)
{
        uint32_t shown = passed_frames_shown(db);

        if (run->shown == PASSED_SHOWS_ALL || run->shown <= passed_frames_captured(db) ||
            db->passed.prepared != NULL || shown != run->shown || wal_has_other_chain(db->wal) != 0)
                return;
        db_fail(db, "the wal-index shows frames of the WAL that do not verify");
}

/* Its application hears of an error, so nobody must find it in the WAL. -ESTALE: others see it already, by a wal-index that must
 * be made invalid. With the lock. */
static int
refuse(struct db *db, const struct passed_run *run, int r)
{
        bool is_seen = run->shown != PASSED_SHOWS_ALL && run->shown > passed_frames_captured(db);
        bool is_found = wal_verified_end(db->wal).n_frames > passed_frames_captured(db);

        if (r == -ENOTRECOVERABLE)
                db_fail(db, "frames that are committed were to be taken back");
        else if (wal_is_live(db->wal))
                capture_check_revoked(db, is_seen || !is_found ? wal_revoke_uncaptured(db->wal)
                                                               : wal_revoke_last(db->wal));
        return r == -ENOTRECOVERABLE ? -EIO : is_seen ? -ESTALE : r;
}

/* --- FSYNC --- */

/* FSYNC, once the log is durable. */
struct fsync_call {
        struct parked_call call;
        uint64_t number; /* of the prepared commit that it waits for */
        uint32_t n_replaced;
};

static int
confirm_fsync(struct db_access *a, struct parked_call *c)
{
        const struct fsync_call *fc = (const struct fsync_call *)c;

        return fc->n_replaced != a->db->n_replaced ? -EIO : prepared_confirm(a, fc->number);
}

/* What was captured becomes durable, and is confirmed. With the lock. */
static int
sync_captured(struct db_access *a, struct db_done done)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        struct fsync_call *fc;
        int r;

        if (p == NULL)
                return sync_commit(a, NULL, done);
        if (txlog_synced_lsn(db->log) >= p->lsn)
                return prepared_confirm(a, p->number);
        fc = malloc(sizeof *fc);
        if (fc == NULL)
                return -ENOMEM;
        *fc = (struct fsync_call){ .call = { .db = db, .done = done, .run = confirm_fsync },
                                   .number = p->number,
                                   .n_replaced = db->n_replaced };
        r = sync_log(a, p->lsn, (struct db_done){ parked_call_go_on, fc });
        if (r == DB_PENDING)
                return r;
        if (r == 0)
                r = prepared_confirm(a, fc->number);
        free(fc);
        return r;
}

/* With the lock. */
static int
end_fsync(struct db_access *a, const struct passed_run *run, int r, const struct err *e,
          struct db_done done)
{
        if (r == 0)
                return sync_captured(a, done);
        capture_tell_failed(a, r, e);
        return refuse(a->db, run, r);
}

/* --- by a worker --- */

struct passed_job {
        struct work work;
        struct db_access access;
        bool is_sync;
        struct db_done done;
};

static void
run_passed_capture(struct work *w)
{
        struct passed_job *job = (struct passed_job *)w;
        struct db_access *a = &job->access;
        struct passed_run run = { .is_sync = job->is_sync, .is_worker = true };
        struct err e = ERR_INIT;
        int r = capture_all(a, &run, &e);

        access_lock(a);
        if (job->is_sync)
                r = end_fsync(a, &run, r, &e, job->done);
        else if (r < 0)
                capture_tell_failed(a, r, &e);
        access_unlock(a);
        if (job->is_sync && r != DB_PENDING)
                job->done.fn(job->done.arg, r);
        db_access_end(a);
        free(job);
}

static int
post_passed_capture(struct db_access *a, bool is_sync, struct db_done done)
{
        struct passed_job *job = malloc(sizeof *job);
        int r = job == NULL ? -ENOMEM : db_access_pass(a, DB_BY_CAPTURE, &job->access);

        if (r < 0) {
                free(job);
                return r;
        }
        job->work = (struct work){ run_passed_capture, NULL };
        job->is_sync = is_sync;
        job->done = done;
        workers_post(a->db->env->workers, &job->work);
        return DB_PENDING;
}

/* --- for the calls of the mount --- */

int
passed_fsync(struct db_access *a, struct db_done done)
{
        struct passed_run run = { .is_sync = true };
        struct err e = ERR_INIT;
        int r = capture_all(a, &run, &e);

        return r == 1 ? post_passed_capture(a, true, done) : end_fsync(a, &run, r, &e, done);
}

int
passed_look(struct db_access *a, struct passed_run *run)
{
        struct db *db = a->db;
        struct err e = ERR_INIT;
        int r = capture_all(a, run, &e);

        if (r == 1) {
                r = post_passed_capture(a, false, (struct db_done){ 0 });
                return r == DB_PENDING ? E_BUSY : r;
        }
        if (r < 0)
                capture_tell_failed(a, r, &e);
        else
                check_all_is_captured(db, run);
        return r;
}

int
passed_before_call(struct db_access *a)
{
        struct passed_run run = { 0 };
        int r;

        if (!a->db->passed.is_on)
                return 0;
        r = passed_look(a, &run);
        return r == E_NOT_PRIMARY ? 0 : r; /* nobody's commits, and they were told so */
}

int
passed_catch_up(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        struct passed_run run = { .is_worker = true };
        struct wal_scan scan = wal_scan_rest();
        uint32_t ignored;
        int r;

        if (!db->passed.is_on)
                return 0;
        r = capture_all(a, &run, e);
        access_lock(a);
        if (r == 0)
                r = wal_scan_next(db->wal, &scan, a->room, &ignored);
        access_unlock(a);
        return r < 0 ? r : 0;
}
