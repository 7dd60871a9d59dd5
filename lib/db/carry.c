#include "db/carry.h"

#include <pthread.h>

#include "db/db_internal.h"
#include "db/image/carry.h"

static void
db_carry_out_locked(struct db *db, struct parcel *p)
{
        bool is_dirty = image_is_dirty(&db->image) || db->transaction.is_unjournaled ||
                        db->journal.is_active;

        parcel_put(p, db->pos.txid);
        parcel_put(p, db->pos.checksum);
        parcel_put(p, db->last.is_unconfirmed);
        parcel_put(p, db->last.term);
        parcel_put(p, db->passed.is_on);
        parcel_put(p, db->passed.is_fast);
        parcel_put(p, db->passed.was_told);
        parcel_put(p, db->journal.exists);
        parcel_put(p, db->journal.is_active);
        parcel_put(p, db->journal.is_hot);
        spool_carry_out(&db->journal.content, p);
        parcel_put(p, is_dirty);
        if (!is_dirty)
                return;
        parcel_put(p, db->transaction.is_unjournaled);
        parcel_put(p, db->transaction.is_refused);
        parcel_put(p, db->transaction.wants_sync);
        parcel_put(p, db->image.size_bytes);
        parcel_put(p, db->image.uncommitted_floor);
        overlay_carry_out(&db->image.uncommitted, p);
}

void
db_carry_out(struct db *db, struct parcel *p)
{
        db_lock(db);
        db_carry_out_locked(db, p);
        pthread_mutex_unlock(&db->lock);
}

void
db_leave(struct db *db)
{
        db_lock(db);
        db->is_handed_on = true;
        pthread_mutex_unlock(&db->lock);
}

static int
db_carry_in_open_transaction(struct db *db, struct parcel_reader *r)
{
        db->transaction.is_unjournaled = parcel_get_flag(r);
        db->transaction.is_refused = parcel_get_flag(r);
        db->transaction.wants_sync = parcel_get_flag(r);
        db->image.size_bytes = parcel_get(r);
        db->image.uncommitted_floor = parcel_get(r);
        return overlay_carry_in(&db->image.uncommitted, r);
}

/* All behind the position. */
static void
skip_open_transaction(struct parcel_reader *r)
{
        for (int i = 0; i < 8; i++)
                (void)parcel_get(r); /* of the last commit, of the WAL, and of the journal */
        spool_carry_skip(r);
        if (!parcel_get_flag(r))
                return;
        for (int i = 0; i < 5; i++)
                (void)parcel_get(r);
        overlay_carry_skip(r);
}

void
db_carry_skip(struct parcel_reader *r)
{
        (void)parcel_get(r);
        (void)parcel_get(r);
        skip_open_transaction(r);
}

int
db_carry_in(struct db *db, struct parcel_reader *r, struct err *e)
{
        struct ltx_pos pos;
        struct db_access a;
        int error = db_access_begin(db, DB_BY_CALL, &a, e);

        if (error < 0)
                return error;
        pos.txid = parcel_get(r);
        pos.checksum = parcel_get(r);
        if (r->error == 0 && (pos.txid != db->pos.txid || pos.checksum != db->pos.checksum)) {
                err_text(e, E_CHECKSUM, "database %s is at %016llx now, and was handed over at %016llx",
                         db->name, (unsigned long long)db->pos.txid, (unsigned long long)pos.txid);
                db_access_end(&a);
                skip_open_transaction(r);
                return E_CHECKSUM;
        }
        db->last.is_unconfirmed = parcel_get_flag(r); /* its application may not have been told yet */
        db->last.term = parcel_get(r);
        db->passed.is_on = parcel_get_flag(r);
        db->passed.is_fast = parcel_get_flag(r);
        db->passed.was_told = parcel_get_flag(r);
        db->journal.exists = parcel_get_flag(r);
        db->journal.is_active = parcel_get_flag(r);
        db->journal.is_hot = parcel_get_flag(r);
        error = spool_carry_in(&db->journal.content, r);
        if (error == 0 && parcel_get_flag(r))
                error = db_carry_in_open_transaction(db, r);
        db_access_end(&a);
        return error < 0 ? err_set(e, error, "go on with database %s", db->name) : 0;
}
