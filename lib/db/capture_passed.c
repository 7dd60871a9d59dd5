/* Commits in a WAL that applications write to without us: see passed.h. */
#include "db/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "db/parked.h"

#define SHOWS_ALL UINT32_MAX /* there is no wal-index: whoever reads the WAL goes by its frames */

/* A commit whose record is in the log, and which nobody knows of yet. */
struct prepared {
        struct commit *commit; /* NULL: no page has changed, so there is no record */
        struct commit_request rq;
        struct wal_end end;
        uint32_t n_pages;
        uint64_t lsn, term;
        uint64_t number;
        bool is_confirmed; /* the application was told, or is about to be */
};

/* --- what was prepared; with the lock --- */

static uint32_t
published_frames(const struct db *db)
{
        return db->passed.index_fd < 0 ? SHOWS_ALL : wal_published_frames(db->wal, db->passed.index_fd);
}

static uint32_t
n_captured(const struct db *db)
{
        struct wal_state ws;

        wal_get_state(db->wal, &ws);
        return ws.n_captured;
}

static void
forget_prepared(struct db *db)
{
        free(db->passed.prepared);
        db->passed.prepared = NULL;
}

static int
undo_prepared(struct db_access *a)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        struct err e = ERR_INIT;
        int r = 0;

        if (p->commit != NULL) {
                commit_move_to(p->commit, a);
                r = commit_undo(p->commit, &e);
        }
        forget_prepared(db);
        wal_forget_uncaptured(db->wal);
        if (r < 0)
                db_fail(db, "a commit that its writer did not end is still in the log");
        return r < 0 ? -EIO : 0;
}

/* The verified frames end where it ends: 1; 0: its frames are not there any more. All of them are looked at, for who writes over
 * them may be at the first ones yet. */
static int
find_prepared(struct db_access *a)
{
        struct db *db = a->db;
        uint32_t commit;
        int r;

        wal_forget_uncaptured(db->wal);
        r = wal_find_commit(db->wal, a->room, &commit);
        return r < 0 ? r : wal_is_at(db->wal, &db->passed.prepared->end);
}

static int
publish_found(struct db_access *a)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        struct err e = ERR_INIT;

        if (p->commit != NULL) {
                commit_move_to(p->commit, a);
                commit_publish(p->commit);
                db->is_unconfirmed = db->is_unconfirmed && !p->is_confirmed;
        }
        (void)wal_captured(db->wal, p->n_pages, db->pos.txid, db->last_lsn);
        if (txlog_synced_lsn(db->log) >= db->last_lsn)
                db->replicable_txid = db->pos.txid;
        forget_prepared(db);
        return verify_commit(a, &e);
}

static int
publish_if_there(struct db_access *a)
{
        int r = find_prepared(a);

        return r < 0 ? r : r > 0 ? publish_found(a) : undo_prepared(a);
}

/* The wal-index shows a commit there: this one, or another whose frames reach as far, of which the last frame's checksum
 * tells. */
static int
publish_shown(struct db_access *a)
{
        struct db *db = a->db;
        const struct prepared *p = db->passed.prepared;

        if (!wal_file_has_end(db->env->os, wal_fd(db->wal), &p->end))
                return undo_prepared(a);
        return wal_is_at(db->wal, &p->end) ? publish_found(a) : publish_if_there(a);
}

/* What the wal-index says of it, up to @shown frames. */
static int
settle(struct db_access *a, uint32_t shown)
{
        struct db *db = a->db;
        const struct prepared *p = db->passed.prepared;

        if (p == NULL)
                return 0;
        if (shown == SHOWS_ALL) /* and while it is not confirmed, its writer waits for us */
                return p->is_confirmed ? publish_if_there(a) : 0;
        if (shown >= p->end.n_frames)
                return publish_shown(a);
        return shown > n_captured(db) ? undo_prepared(a) : 0;
}

/* --- one commit, whose frames were verified last --- */

static int
append_prepared(struct db_access *a, struct prepared *p, struct err *e)
{
        struct db *db = a->db;
        struct wal_transaction tx = { 0 };
        int r = wal_transaction_begin(db->wal, p->n_pages, true, NULL, &tx, e);

        if (r < 0)
                return r;
        wal_request(db, p->n_pages, &tx, &p->rq);
        access_lock(a);
        r = wal_transaction_reserve(db->wal, &tx);
        access_unlock(a);
        if (r < 0)
                err_set(e, r, "remember the transaction's frames");
        else
                r = commit_append(a, &p->rq, &p->commit, e);
        wal_transaction_end(&tx);
        p->rq.pgnos = NULL;
        p->rq.n_pgnos = 0;
        p->rq.arg = NULL;
        return r;
}

static int
prepare_commit(struct db_access *a, uint32_t commit, struct err *e)
{
        struct db *db = a->db;
        struct prepared *p = calloc(1, sizeof *p);
        struct commit_facts facts;
        int r;

        if (p == NULL)
                return err_set(e, -ENOMEM, "commit");
        p->n_pages = commit;
        p->end = wal_verified_end(db->wal);
        r = append_prepared(a, p, e);
        if (r < 0) {
                free(p);
                return r;
        }
        access_lock(a);
        p->lsn = db->last_lsn;
        if (p->commit != NULL) {
                commit_look(p->commit, &facts);
                p->lsn = facts.lsn;
                p->term = facts.term;
        }
        p->number = ++db->passed.n_prepared;
        db->passed.prepared = p;
        access_unlock(a);
        return 0;
}

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

struct run {
        uint32_t shown; /* frames that the wal-index shows */
        bool is_sync;   /* frames behind those, too: their writer waits for us */
        bool is_worker;
        bool has_captured;
};

static int
capture_one(struct db_access *a, uint32_t commit, const struct run *run, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (db_remote_commit_of(db) !=
            NULL) /* it waits for the network, and may be made elsewhere alone */
                return err_text(e, E_NOT_PRIMARY,
                                "the WAL was opened while this node was the primary: close it first");
        if (wal_verified_end(db->wal).n_frames > run->shown) {
                r = prepare_commit(a, commit, e);
                if (r == 0)
                        db_count(db, DB_COUNT_SYNCED);
                return r;
        }
        r = capture_frames(a, commit, NULL, e);
        if (r < 0)
                return r;
        access_lock(a);
        if (run->is_sync && run->shown == SHOWS_ALL)
                db_count(db, DB_COUNT_SYNCED);
        else
                note_unsynced(db);
        access_unlock(a);
        return 0;
}

/* --- all that is there --- */

/* A chain that has begun anew: what was prepared in the one before is nobody's. */
static int
follow_chain(struct db_access *a)
{
        struct db *db = a->db;
        int r = wal_has_other_chain(db->wal);

        if (r <= 0)
                return r;
        if (db->passed.prepared != NULL && (r = undo_prepared(a)) < 0)
                return r;
        r = wal_follow_other_chain(db->wal);
        if (r == -EBUSY) {
                db_fail(db, "the WAL has begun anew before all of it was in the database file");
                r = -EIO;
        }
        return r;
}

/* 1: the verified frames end a commit that is to be captured next. */
static int
find_passed_commit(struct db_access *a, struct run *run, uint32_t *ret_commit)
{
        struct db *db = a->db;
        int r = wal_find_commit(db->wal, a->room, ret_commit);

        if (r > 0 && !run->is_sync && wal_verified_end(db->wal).n_frames > run->shown)
                r = 0;
        if (r > 0 && db->passed.prepared != NULL) {
                /* It goes on from the prepared one, so its writer knows of that. */
                r = wal_rewind_to_end(db->wal, &db->passed.prepared->end);
                if (r == 0)
                        r = publish_found(a);
                return r < 0 ? r : find_passed_commit(a, run, ret_commit);
        }
        return r;
}

/* Whether the verified frames begin where the next commit does. */
static int
begin_run(struct db_access *a, struct run *run)
{
        struct db *db = a->db;
        int r = follow_chain(a);

        run->shown = published_frames(db);
        if (r == 0)
                r = settle(a, run->shown);
        if (r < 0)
                return r;
        if (db->passed.prepared == NULL) {
                wal_forget_uncaptured(db->wal);
                return 0;
        }
        if (!run->is_sync)
                return 0;
        r = find_prepared(a);
        return r < 0 ? r : r > 0 ? 0 : undo_prepared(a);
}

/* 0; 1: a large one is next, which is for a worker; negative: the one that is verified cannot be captured. */
static int
capture_all(struct db_access *a, struct run *run, struct err *e)
{
        struct db *db = a->db;
        uint32_t commit;
        int r;

        access_lock(a);
        r = begin_run(a, run);
        while (r == 0 && (run->is_sync || db->passed.prepared == NULL) &&
               (run->is_sync || n_captured(db) < run->shown) &&
               (r = find_passed_commit(a, run, &commit)) > 0) {
                if (!run->is_worker && !wal_is_light_commit(db, commit)) {
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
check_all_is_captured(struct db *db, const struct run *run)
{
        uint32_t shown = published_frames(db);

        if (run->shown == SHOWS_ALL || run->shown <= n_captured(db) || db->passed.prepared != NULL ||
            shown != run->shown || wal_has_other_chain(db->wal) != 0)
                return;
        db_fail(db, "the wal-index shows frames of the WAL that do not verify");
}

/* Its application hears of an error, so nobody must find it in the WAL. -ESTALE: others see it already, by a wal-index that must
 * be made invalid. With the lock. */
static int
refuse(struct db *db, const struct run *run, int r)
{
        bool is_seen = run->shown != SHOWS_ALL && run->shown > n_captured(db);
        bool is_found = wal_verified_end(db->wal).n_frames > n_captured(db);

        if (r == -ENOTRECOVERABLE)
                db_fail(db, "frames that are committed were to be taken back");
        else if (wal_is_live(db->wal))
                capture_check_revoked(db, is_seen || !is_found ? wal_revoke_uncaptured(db->wal)
                                                               : wal_revoke_last(db->wal));
        return r == -ENOTRECOVERABLE ? -EIO : is_seen ? -ESTALE : r;
}

/* --- FSYNC --- */

/* The disk has it. The lease must hold still, or have been passed on to who has it, which nobody can. With the lock. */
static int
confirm_prepared(struct db_access *a, uint64_t number)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        int r;

        if (p == NULL || p->number != number)
                return confirm_commit(db, NULL); /* it is published by now */
        if (p->commit == NULL || db->env->may_confirm == NULL ||
            db->env->may_confirm(db->env->arg, p->term, false) == 0) {
                p->is_confirmed = true;
                return 0;
        }
        r = find_prepared(a);
        if (r > 0)
                capture_check_revoked(db, wal_revoke_last(db->wal));
        (void)undo_prepared(a);
        db_meter_error(db->env, DB_ERROR_REFUSED);
        return -EIO;
}

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

        return fc->n_replaced != a->db->n_replaced ? -EIO : confirm_prepared(a, fc->number);
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
                return confirm_prepared(a, p->number);
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
                r = confirm_prepared(a, fc->number);
        free(fc);
        return r;
}

/* With the lock. */
static int
end_fsync(struct db_access *a, const struct run *run, int r, const struct err *e, struct db_done done)
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
        struct run run = { .is_sync = job->is_sync, .is_worker = true };
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
        struct run run = { .is_sync = true };
        struct err e = ERR_INIT;
        int r = capture_all(a, &run, &e);

        return r == 1 ? post_passed_capture(a, true, done) : end_fsync(a, &run, r, &e, done);
}

static int
look(struct db_access *a, struct run *run)
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
        struct run run = { 0 };
        int r;

        if (!a->db->passed.is_on)
                return 0;
        r = look(a, &run);
        return r == E_NOT_PRIMARY ? 0 : r; /* nobody's commits, and they were told so */
}

int
passed_catch_up(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        struct run run = { .is_worker = true };
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

bool
passed_is_in_the_way(const struct db *db, enum db_actor who)
{
        return db->passed.prepared != NULL && who != DB_BY_CALL && who != DB_BY_SYNC &&
               who != DB_BY_CAPTURE && who != DB_BY_HOUSEKEEPING && who != DB_BY_CLOSING;
}

/* --- passed.h --- */

int
db_wal_look(struct db *db, struct db_look *ret)
{
        struct run run = { 0 };
        struct db_access a;
        bool was_prepared;
        int r;

        *ret = (struct db_look){ 0 };
        r = db_access_begin(db, DB_BY_CALL, &a, NULL);
        if (r < 0)
                return r;
        was_prepared = db->passed.prepared != NULL;
        if (db->passed.is_on)
                r = look(&a, &run);
        ret->is_prepared = r != E_BUSY && db->passed.prepared != NULL;
        ret->is_moving = run.has_captured || was_prepared != ret->is_prepared;
        db_access_end(&a);
        if (was_prepared && !ret->is_prepared && r != E_BUSY)
                access_tell_free(db);
        return r;
}

void
passed_before_apply(struct db *db)
{
        struct db_look ignored;
        bool is_on;

        pthread_mutex_lock(&db->lock);
        is_on = db->passed.is_on;
        pthread_mutex_unlock(&db->lock);
        if (is_on)
                (void)db_wal_look(db, &ignored);
}

void
db_wal_decide(struct db *db)
{
        struct db_access a;

        if (db_access_begin(db, DB_BY_CALL, &a, NULL) < 0)
                return;
        if (db->passed.prepared != NULL && follow_chain(&a) == 0 && db->passed.prepared != NULL)
                (void)publish_if_there(&a);
        db_access_end(&a);
        access_tell_free(db);
}

/* For recovery, which takes nothing from a WAL that we have written. */
static int
leave_mark(struct db *db)
{
        char path[PATH_MAX];
        int fd, r = db_path(db, "passed", path, sizeof path);

        if (r < 0)
                return r;
        fd = os_open(db->env->os, "wal:passed", path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        os_close(db->env->os, "wal:passed", fd);
        return fd < 0 ? fd : 0;
}

int
db_wal_pass_through(struct db *db, enum wal_passthrough how)
{
        bool is_passed = how != WAL_PASSTHROUGH_OFF;
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0 && !is_passed)
                r = passed_before_call(&a);
        if (r == 0 && !is_passed && db->passed.prepared != NULL)
                r = publish_if_there(&a); /* nobody has it open who could */
        if (r == 0 && !is_passed && db->passed.is_on)
                passed_end(&a);
        if (r == 0 && is_passed && !db->passed.is_on)
                r = leave_mark(db);
        if (r == 0 && is_passed) {
                db->passed.is_on = true;
                db->passed.is_fast = how == WAL_PASSTHROUGH_FAST;
        }
        db_access_end(&a);
        return r;
}

int
db_wal_dup(struct db *db)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = wal_dup(db->wal);
        pthread_mutex_unlock(&db->lock);
        return r;
}

void
db_wal_set_index(struct db *db, int fd)
{
        struct db_look ignored;

        (void)db_wal_look(db, &ignored); /* while it can be read */
        pthread_mutex_lock(&db->lock);
        pthread_mutex_lock(&db->shown.lock);
        os_close(db->env->os, "wal:index", db->passed.index_fd);
        db->passed.index_fd = db->shown.index_fd = fd;
        pthread_mutex_unlock(&db->shown.lock);
        pthread_mutex_unlock(&db->lock);
        if (fd < 0)
                (void)db_wal_look(db, &ignored); /* whoever comes next goes by the frames */
}

void
passed_show(const struct db *db, struct db_shown *ret)
{
        const struct prepared *p = db->passed.prepared;
        struct commit_facts facts;

        ret->is_prepared = p != NULL && p->commit != NULL;
        if (!ret->is_prepared)
                return;
        commit_look(p->commit, &facts);
        ret->prepared_pos = facts.pos;
        ret->prepared_end = p->end;
        ret->index_fd = db->passed.index_fd;
        ret->wal_fd = wal_fd(db->wal);
}

struct ltx_pos
passed_shown_pos(const struct db *db, const struct db_shown *shown)
{
        const struct os *os = db->env->os;

        return shown->is_prepared && shown->index_fd >= 0 &&
                               wal_index_shows(os, shown->index_fd, &shown->prepared_end) &&
                               wal_file_has_end(os, shown->wal_fd, &shown->prepared_end)
                       ? shown->prepared_pos
                       : shown->info.pos;
}

void
passed_end(struct db_access *a)
{
        struct db *db = a->db;

        if (db->passed.prepared != NULL)
                (void)undo_prepared(a);
        if (db->passed.is_on)
                db_remove_file(db, "passed");
        db->passed.is_on = db->passed.was_told = false;
}

void
passed_release(struct db *db)
{
        struct prepared *p = db->passed.prepared;

        if (p != NULL && p->commit != NULL)
                commit_forget(p->commit);
        forget_prepared(db);
        os_close(db->env->os, "wal:index", db->passed.index_fd);
        db->passed.index_fd = -1;
}
