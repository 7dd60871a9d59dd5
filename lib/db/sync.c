/* Making commits durable without holding anybody up: one fdatasync of the log at a time for a database, by
 * whichever thread took it on; who comes while it runs and is covered by it is answered by its end.
 *
 * An application that syncs after each commit (WAL with synchronous=FULL) is going to ask for it again:
 * sync_expected begins the fdatasync while the answer to the commit's write is still on its way. */
#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"

struct sync_waiter {
        struct sync_waiter *next;
        bool is_commit;              /* an application is told that its transaction is committed */
        uint32_t n_replaced;         /* the database's, when it was */
        void (*then)(struct db *db); /* for one that is */
        struct db_done done;
        uint64_t begin_ns;
        int result;
};

struct sync_job {
        struct work work;
        struct db *db;
        uint64_t lsn;
        uint64_t txid; /* the database's position when the job was made: durable once it ended well */
        struct sync_waiter *waiters; /* guarded by the database's lock, newest first */
};

int
sync_now(struct db *db, uint64_t lsn, struct err *e)
{
        struct db_meters *m = db->env->meters;
        uint64_t begin_ns;
        int r;

        if (txlog_synced_lsn(db->log) >= lsn)
                return 0;
        begin_ns = histogram_now_ns();
        r = txlog_sync(db->log, lsn, e);
        if (r < 0)
                db_meter_error(db->env, DB_ERROR_SYNC);
        else if (m != NULL)
                histogram_add(&m->sync, histogram_now_ns() - begin_ns);
        return r;
}

int
sync_or_fail(struct db_access *a, uint64_t lsn, struct err *e)
{
        int r = sync_now(a->db, lsn, e);

        if (r < 0) {
                access_lock(a);
                db_fail(a->db, "the log cannot be synced");
                access_unlock(a);
        }
        return r;
}

static void
answer_sync(const struct db *db, struct sync_waiter *list)
{
        struct db_meters *m = db->env->meters;
        uint64_t now_ns = histogram_now_ns();

        while (list != NULL) {
                struct sync_waiter *w = list;

                list = w->next;
                if (m != NULL)
                        histogram_add(&m->sync_wait, now_ns - w->begin_ns);
                w->done.fn(w->done.arg, w->result);
                free(w);
        }
}

static void
fail_all(struct sync_waiter *list)
{
        for (; list != NULL; list = list->next)
                list->result = -EIO;
}

/* With the lock: what a sync that ended well makes possible. */
static void
finish_sync(struct db *db, struct sync_waiter *waiters)
{
        db->has_news = true; /* it may be sent now: see db_replicable_txid */
        for (struct sync_waiter *w = waiters; w != NULL; w = w->next)
                if (w->is_commit && w->n_replaced != db->n_replaced)
                        w->result = E_UNCONFIRMED;
                else if (w->is_commit)
                        w->result = confirm_commit(db, w->then);
}

static void
run_sync_job(struct work *work)
{
        struct sync_job *job = (struct sync_job *)work;
        struct db *db = job->db;
        struct sync_waiter *waiters;
        struct err e = ERR_INIT;
        int r;

        r = sync_now(db, job->lsn, &e);
        if (r == 0)
                (void)flush_if_free(db);
        db_lock(db);
        if (db->sync.job == job)
                db->sync.job = NULL;
        waiters = job->waiters;
        if (r < 0) {
                db_fail(db, e.text);
                fail_all(waiters);
        } else {
                if (job->txid > db->sync.replicable_txid)
                        db->sync.replicable_txid = job->txid;
                finish_sync(db, waiters);
        }
        db_show(db);
        pthread_mutex_unlock(&db->lock);
        answer_sync(db, waiters);
        free(job);
        /* After the answer: only the commits to come need it, and they need it soon. */
        if (r == 0 && txlog_wants_space(db->log))
                (void)txlog_make_space(db->log);
        db_lock(db);
        db->sync.n_jobs--;
        db_show(db);
        pthread_mutex_unlock(&db->lock);
}

static struct sync_job *
start_sync_job(struct db *db, uint64_t lsn)
{
        struct sync_job *job = malloc(sizeof *job);

        if (job == NULL)
                return NULL;
        *job = (struct sync_job){
                { run_sync_job, NULL }, db, lsn, lsn == db->last.lsn ? db->pos.txid : 0, NULL
        };
        db->sync.job = job;
        db->sync.n_jobs++;
        return job;
}

/* DB_PENDING, or 0: the log is that durable already. */
static int
wait_for_log(struct db_access *a, uint64_t lsn, const struct sync_waiter *waiter)
{
        struct db *db = a->db;
        struct sync_job *job = db->sync.job;
        struct sync_waiter *w;
        bool is_new;

        if (txlog_synced_lsn(db->log) >= lsn) {
                (void)flush_writeback(a);
                return 0;
        }
        w = malloc(sizeof *w);
        if (w == NULL)
                return -ENOMEM;
        is_new = job == NULL || job->lsn < lsn;
        if (is_new)
                job = start_sync_job(db, lsn);
        if (job == NULL) {
                free(w);
                return -ENOMEM;
        }
        *w = *waiter;
        w->next = job->waiters;
        w->begin_ns = histogram_now_ns();
        job->waiters = w;
        if (is_new)
                workers_post_here(db->env->workers, &job->work);
        return DB_PENDING;
}

int
sync_log(struct db_access *a, uint64_t lsn, struct db_done done)
{
        struct sync_waiter w = { .done = done };

        return wait_for_log(a, lsn, &w);
}

int
sync_commit(struct db_access *a, void (*then)(struct db *db), struct db_done done)
{
        struct sync_waiter w = {
                .is_commit = true, .n_replaced = a->db->n_replaced, .then = then, .done = done
        };
        int r = wait_for_log(a, a->db->last.lsn, &w);

        return r == 0 ? confirm_commit(a->db, then) : r;
}

void
sync_expected(struct db *db)
{
        struct sync_job *job;

        if (db->sync.job != NULL || txlog_synced_lsn(db->log) >= db->last.lsn)
                return;
        job = start_sync_job(db, db->last.lsn);
        if (job != NULL)
                workers_post_here(db->env->workers, &job->work);
}

int
db_sync_applied(struct db *db, struct err *e)
{
        struct ltx_pos pos;
        uint64_t lsn;
        int r;

        db_lock(db);
        lsn = db->last.lsn;
        pos = db->pos;
        db->sync.has_unsynced = false; /* but for what comes from now on */
        db->sync.n_jobs++;             /* the log stays the one that @lsn is of: see replace.c */
        db_show(db);
        pthread_mutex_unlock(&db->lock);
        r = sync_now(db, lsn, e);
        db_lock(db);
        db->sync.n_jobs--;
        if (r < 0)
                db_fail(db, "the log cannot be synced");
        else
                db->sync.pos = pos;
        db_show(db);
        pthread_mutex_unlock(&db->lock);
        return r;
}
