/* Whether an application may be told that its transaction is committed: the lease is asked once more, when the work is done
 * (store/authority.c). A prepared commit is confirmed by itself: prepared_confirm. */
#include "db/db_internal.h"

static int
may_confirm_locked(struct db *db)
{
        if (!db->last.is_unconfirmed || db->env->may_confirm == NULL)
                return 0;
        return db->env->may_confirm(db->env->arg, db->last.term,
                                    db->pos.txid <= atomic_load(&db->passed_on_txid));
}

int
db_may_confirm(struct db *db)
{
        int r;

        db_lock(db);
        r = may_confirm_locked(db);
        pthread_mutex_unlock(&db->lock);
        return r;
}

void
db_confirm(struct db *db, uint64_t term)
{
        db_lock(db);
        if (db->last.term <= term)
                db->last.is_unconfirmed = false;
        pthread_mutex_unlock(&db->lock);
}

void
db_pass_on(struct db *db)
{
        /* One that is not shown yet was sent to nobody. */
        atomic_store(&db->passed_on_txid, db_get_shown(db).pos.txid);
}

int
confirm_commit(struct db *db, void (*then)(struct db *db))
{
        int r = may_confirm_locked(db);

        if (then != NULL && r == 0)
                then(db);
        else if (then != NULL)
                db_leave_empty_journal(db);
        return r;
}
