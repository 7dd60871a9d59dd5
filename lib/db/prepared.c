/* A commit that is prepared: see prepared.h. */
#include "db/prepared.h"

#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"

/* --- what the WAL and the wal-index say of it --- */

uint32_t
passed_frames_shown(const struct db *db)
{
        return db->passed.index_fd < 0 ? PASSED_SHOWS_ALL
                                       : wal_published_frames(db->wal, db->passed.index_fd);
}

uint32_t
passed_frames_captured(const struct db *db)
{
        struct wal_state ws;

        wal_get_state(db->wal, &ws);
        return ws.n_captured;
}

static void
end_prepared(struct db *db)
{
        free(db->passed.prepared);
        db->passed.prepared = NULL;
}

int
prepared_undo(struct db_access *a)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        struct err e = ERR_INIT;
        int r = 0;

        if (p->commit != NULL) {
                commit_move_to(p->commit, a);
                r = commit_undo(p->commit, &e);
        }
        db->passed.last_undone = p->number;
        end_prepared(db);
        wal_forget_uncaptured(db->wal);
        if (r < 0)
                db_fail(db, "a commit that its writer did not end is still in the log");
        return r < 0 ? -EIO : 0;
}

/* All of its frames are looked at, for who writes over them may be at the first ones yet. */
int
prepared_find(struct db_access *a)
{
        struct db *db = a->db;
        uint32_t commit;
        int r;

        wal_forget_uncaptured(db->wal);
        r = wal_find_commit(db->wal, a->room, &commit);
        return r < 0 ? r : wal_is_at(db->wal, &db->passed.prepared->end);
}

int
prepared_publish(struct db_access *a)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        struct err e = ERR_INIT;

        if (p->commit != NULL) {
                commit_move_to(p->commit, a);
                commit_publish(p->commit);
                db->last.is_unconfirmed = db->last.is_unconfirmed && !p->is_confirmed;
        }
        (void)wal_captured(db->wal, p->n_pages, db->pos.txid, db->last.lsn);
        if (txlog_synced_lsn(db->log) >= db->last.lsn)
                db->sync.replicable_txid = db->pos.txid;
        end_prepared(db);
        return verify_commit(a, &e);
}

int
prepared_publish_if_there(struct db_access *a)
{
        int r = prepared_find(a);

        return r < 0 ? r : r > 0 ? prepared_publish(a) : prepared_undo(a);
}

/* The wal-index shows a commit there: this one, or another whose frames reach as far, of which the last frame's checksum
 * tells. */
static int
publish_shown(struct db_access *a)
{
        struct db *db = a->db;
        const struct prepared *p = db->passed.prepared;

        if (!wal_file_has_end(db->env->os, wal_fd(db->wal), &p->end))
                return prepared_undo(a);
        return wal_is_at(db->wal, &p->end) ? prepared_publish(a) : prepared_publish_if_there(a);
}

int
prepared_settle(struct db_access *a, uint32_t shown)
{
        struct db *db = a->db;
        const struct prepared *p = db->passed.prepared;

        if (p == NULL)
                return 0;
        if (shown == PASSED_SHOWS_ALL) /* and while it is not confirmed, its writer waits for us */
                return p->is_confirmed ? prepared_publish_if_there(a) : 0;
        if (shown >= p->end.n_frames)
                return publish_shown(a);
        return shown > passed_frames_captured(db) ? prepared_undo(a) : 0;
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
        capture_frames_request(db, p->n_pages, &tx, &p->rq);
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

int
prepared_begin(struct db_access *a, uint32_t n_pages, struct err *e)
{
        struct db *db = a->db;
        struct prepared *p = calloc(1, sizeof *p);
        struct commit_facts facts;
        int r;

        if (p == NULL)
                return err_set(e, -ENOMEM, "commit");
        p->n_pages = n_pages;
        p->end = wal_verified_end(db->wal);
        r = append_prepared(a, p, e);
        if (r < 0) {
                free(p);
                return r;
        }
        access_lock(a);
        p->lsn = db->last.lsn;
        if (p->commit != NULL) {
                commit_look(p->commit, &facts);
                p->pos = facts.pos;
                p->lsn = facts.lsn;
                p->term = facts.term;
        }
        p->number = ++db->passed.n_prepared;
        db->passed.prepared = p;
        access_unlock(a);
        return 0;
}

/* --- its end --- */

/* The lease must hold still, or have been passed on to who has it, which nobody can. */
int
prepared_confirm(struct db_access *a, uint64_t number)
{
        struct db *db = a->db;
        struct prepared *p = db->passed.prepared;
        int r;

        if (db->passed.last_undone == number)
                return -EIO; /* by whoever came in between */
        if (p == NULL || p->number != number)
                return confirm_commit(db, NULL); /* it is published by now */
        if (p->commit == NULL || db->env->may_confirm == NULL ||
            db->env->may_confirm(db->env->arg, p->term, false) == 0) {
                p->is_confirmed = true;
                return 0;
        }
        r = prepared_find(a);
        if (r > 0)
                capture_check_revoked(db, wal_revoke_last(db->wal));
        (void)prepared_undo(a);
        db_meter_error(db->env, DB_ERROR_REFUSED);
        return -EIO;
}

int
prepared_follow_chain(struct db_access *a)
{
        struct db *db = a->db;
        int r = wal_has_other_chain(db->wal);

        if (r <= 0)
                return r;
        if (db->passed.prepared != NULL && (r = prepared_undo(a)) < 0)
                return r;
        r = wal_follow_other_chain(db->wal);
        if (r == -EBUSY) {
                db_fail(db, "the WAL has begun anew before all of it was in the database file");
                r = -EIO;
        }
        return r;
}

void
prepared_forget(struct db *db)
{
        struct prepared *p = db->passed.prepared;

        if (p != NULL && p->commit != NULL)
                commit_forget(p->commit);
        end_prepared(db);
}
