/* One transaction: the record of its pages (record.c), whether it may be made, and what of the database moves with it. */
#include "db/record.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"

struct commit {
        struct db_access *a;
        struct db *db;
        const struct received *rx; /* the record came from elsewhere; NULL: it is made here */
        struct record record;
        struct record_context cx;
        struct err refusal;
        struct remote_transaction remote; /* to whom it goes first */
        uint64_t term;                    /* that it may be committed in */
        uint64_t begin_ns;
};

static bool
is_commit_ours(const struct commit *c)
{
        return c->rx == NULL || c->rx->is_local;
}

/* --- whether it may be made --- */

static int
ask_authority(const struct commit *c, struct err *e)
{
        const struct db_remote_commit *to = c->remote.to;
        int r;

        if (c->db->is_recovering)
                r = 0;
        else if (c->rx != NULL)
                r = c->rx->is_local ? c->db->env->may_commit(c->db->env->arg) : 0;
        else if (to != NULL && c->a->n_locks > 0)
                r = E_NOT_PRIMARY; /* nobody may wait for the network with the lock: remote_commit.h */
        else if (to != NULL && c->record.rq->is_snapshot)
                return err_text(e, -ENOTSUP, "only the primary can change the page size");
        else
                r = db_may_commit_as(c->db, to);
        return r < 0 ? err_set(e, r, "commit") : 0;
}

/* Asked last, when the work is done: the lease must hold now, not when it began. */
static int
ask_last(struct commit *c, struct err *e)
{
        const struct db_env *env = c->db->env;
        int r;

        c->term = is_commit_ours(c) && env->term != NULL ? env->term(env->arg) : 0;
        r = ask_authority(c, e);
        if (r == 0 && c->remote.to != NULL)
                r = remote_transaction_send(&c->remote, c->db, &c->record.record, e);
        return r;
}

/* --- into the log --- */

static void
fill_context(struct commit *c)
{
        struct db *db = c->db;

        c->cx = (struct record_context){ .log = db->log,
                                         .pos = db->pos,
                                         .node_id = db->env->node_id,
                                         .timestamp_ms = clock_wall_ms(db->env->clock),
                                         .room = c->a->room };
        if (c->rx != NULL) {
                c->cx.given = &c->rx->ltx;
                c->cx.record = c->rx->record;
                return;
        }
        if (ask_authority(c, &c->refusal) < 0)
                c->cx.refusal = &c->refusal;
        if (c->remote.to != NULL)
                c->cx.copy = remote_transaction_begin(&c->remote, db);
}

static int
write_commit_record(struct commit *c, const struct commit_request *rq, struct err *e)
{
        int r;

        c->record.rq = rq;
        fill_context(c);
        r = record_begin(&c->record, &c->db->recorder, rq, &c->cx, e);
        if (r < 0)
                return r;
        access_lock(c->a);
        r = record_reserve(&c->record, e);
        access_unlock(c->a);
        return r < 0 ? r : record_write(&c->record, e);
}

/* 1: it is in the log, and nothing else has moved; 0: nothing had changed; <0. */
static int
append_record(struct commit *c, struct db_access *a, const struct commit_request *rq, struct err *e)
{
        int r = access_check(a, e);

        *c = (struct commit){ .a = a, .db = a->db, .rx = a->db->applying.rx };
        c->record.rc = &c->db->recorder;
        if (r == 0 && c->db->passed.prepared != NULL)
                r = err_text(e, -EBUSY, "a transaction before it is not published yet");
        if (r < 0)
                return r;
        c->begin_ns = histogram_now_ns();
        if (c->rx == NULL)
                c->remote.to = db_remote_commit_of(c->db);
        r = write_commit_record(c, rq, e);
        if (r <= 0)
                return r;
        r = ask_last(c, e);
        if (r == 0)
                r = record_append(&c->record, e);
        return r < 0 ? r : 1;
}

/* --- and what moves with it --- */

/* With the database's lock: what is said of it once that is given back. */
static bool
end_trouble(struct db *db, char ret_count[TROUBLE_COUNT_SIZE])
{
        bool is_worth_it = db->failed.n_failures > 1; /* of one, all was said */

        (void)trouble_end(&db->failed, clock_boot_ms(db->env->clock), ret_count);
        db->index_repairs = (struct trouble){ 0 };
        return is_worth_it;
}

static void
move_state(struct commit *c)
{
        const struct txlog_record *record = &c->record.record;
        bool is_ours = is_commit_ours(c), is_over;
        char count[TROUBLE_COUNT_SIZE];
        struct db *db = c->db;

        access_lock(c->a);
        if (record_move(&c->record) < 0)
                db_fail(db, "its checksums are not those of the transaction that was just logged");
        db->pos = (struct ltx_pos){ record->max_txid, record->post_apply_checksum };
        db->last.lsn = c->record.lsn;
        db->timestamp_ms = record->timestamp_ms;
        /* What the primary has committed for us, it has confirmed. */
        db->last.is_unconfirmed = is_ours && c->remote.to == NULL;
        db->last.term = c->term;
        is_over = is_ours && end_trouble(db, count); /* what is refused here is so while others commit */
        db->applying.lag_ms = is_ours ? 0 : clock_wall_ms(db->env->clock) - record->timestamp_ms;
        db->has_news = true;
        if (record->commit == 0 || c->record.rq->mark.hides_past ||
            (c->rx != NULL && c->rx->mark.hides_past))
                atomic_fetch_add(&db->past_version, 1);
        access_unlock(c->a);
        if (is_over)
                log_event(LOG_INFO, db->name, "commits are made again, after %s", count);
        db_count(db, is_ours ? DB_COUNT_COMMITS : DB_COUNT_APPLIED);
        if (!is_ours && c->rx->record.min_txid == 1)
                db_count(db, DB_COUNT_RECEIVED_SNAPSHOTS);
}

static void
count_error(const struct commit *c, int r)
{
        const struct db_env *env = c->db->env;

        if (r == E_NOT_PRIMARY || r == E_FENCED)
                db_meter_error(env, DB_ERROR_REFUSED);
        else if (is_commit_ours(c))
                db_meter_error(env, DB_ERROR_COMMIT);
        else if (r == E_CHECKSUM)
                db_meter_error(env, DB_ERROR_CHECKSUM);
        else
                db_meter_error(env, DB_ERROR_APPLY);
}

/* A rollback counts as nothing, and another node's transaction took its time there. */
static void
measure_commit(const struct commit *c, int r)
{
        struct db_meters *m = c->db->env->meters;

        if (r < 0)
                count_error(c, r);
        else if (r > 0 && m != NULL && c->rx == NULL)
                histogram_add(&m->commit, histogram_now_ns() - c->begin_ns);
}

static void
release_commit(struct commit *c)
{
        record_end(&c->record);
        remote_transaction_end(&c->remote);
}

int
commit_transaction(struct db_access *a, const struct commit_request *rq, struct err *e)
{
        struct commit c;
        int r = append_record(&c, a, rq, e);

        if (r > 0)
                move_state(&c);
        measure_commit(&c, r);
        release_commit(&c);
        return r;
}

/* --- in two steps --- */

void
commit_forget(struct commit *c)
{
        release_commit(c);
        free(c);
}

int
commit_append(struct db_access *a, const struct commit_request *rq, struct commit **ret, struct err *e)
{
        struct commit *c = malloc(sizeof *c);
        int r;

        if (c == NULL)
                return err_set(e, -ENOMEM, "commit");
        r = append_record(c, a, rq, e);
        if (r > 0) {
                *ret = c;
                return r;
        }
        measure_commit(c, r);
        commit_forget(c);
        return r;
}

void
commit_look(const struct commit *c, struct commit_facts *ret)
{
        const struct txlog_record *record = &c->record.record;

        *ret = (struct commit_facts){ .pos = { record->max_txid, record->post_apply_checksum },
                                      .lsn = c->record.lsn,
                                      .term = c->term };
}

void
commit_move_to(struct commit *c, struct db_access *a)
{
        c->a = a;
}

void
commit_publish(struct commit *c)
{
        move_state(c);
        measure_commit(c, 1);
        commit_forget(c);
}

int
commit_undo(struct commit *c, struct err *e)
{
        int r = record_undo(&c->record, e);

        commit_forget(c);
        return r;
}
