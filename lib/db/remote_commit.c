#include "db/remote_commit.h"

#include <errno.h>

#include "db/db_internal.h"

void
db_set_remote_commit(struct db *db, const struct db_remote_commit *f)
{
        atomic_store(&db->remote_commit, f);
}

void
db_set_halted(struct db *db, bool is_halted)
{
        atomic_store(&db->is_halted, is_halted);
}

void
db_set_receiving(struct db *db, bool is_receiving)
{
        atomic_store(&db->applying.is_receiving, is_receiving);
}

bool
db_is_receiving(struct db *db)
{
        return atomic_load(&db->applying.is_receiving);
}

const struct db_remote_commit *
db_remote_commit_of(const struct db *db)
{
        return atomic_load(&db->remote_commit);
}

struct workers *
db_capture_workers(const struct db *db)
{
        return db_remote_commit_of(db) != NULL && db->env->remote_committers != NULL
                       ? db->env->remote_committers
                       : db->env->workers;
}

int
db_may_commit_as(struct db *db, const struct db_remote_commit *to)
{
        if (to != NULL) /* what is being received then is what we have made */
                return to->may_commit(to->arg);
        if (db_is_receiving(db))
                return E_NOT_PRIMARY;
        return atomic_load(&db->is_halted) ? E_BUSY_DB : db->env->may_commit(db->env->arg);
}

int
db_may_commit(struct db *db)
{
        return db_may_commit_as(db, db_remote_commit_of(db));
}

int
db_may_enter(struct db *db, bool is_wal)
{
        return db->env->may_enter == NULL ? 0 : db->env->may_enter(db->env->arg, is_wal);
}

/* --- one transaction on its way --- */

static int
write_remote_copy(struct byte_sink *sink, const void *buf, size_t n)
{
        struct remote_transaction *f = (struct remote_transaction *)sink;

        return spool_write(&f->rx.ltx, buf, n, f->rx.ltx.size_bytes);
}

struct byte_sink *
remote_transaction_begin(struct remote_transaction *f, struct db *db)
{
        f->sink.write = write_remote_copy;
        f->has_begun = true;
        received_init(&f->rx, db->env);
        return &f->sink;
}

int
remote_transaction_send(struct remote_transaction *f, struct db *db, const struct txlog_record *record,
                        struct err *e)
{
        f->rx.record = *record;
        f->rx.record.size_bytes = f->rx.ltx.size_bytes;
        return f->to->send(f->to->arg, db, &f->rx, e);
}

void
remote_transaction_end(struct remote_transaction *f)
{
        if (f->has_begun)
                received_release(&f->rx);
        f->has_begun = false;
}

/* --- what comes back by the stream --- */

static bool
is_in_log(struct db *db, const struct txlog_record *want)
{
        struct txlog_reader *reader;
        struct txlog_record record;
        struct byte_src *src;
        bool is = false;

        if (txlog_reader_open(db->log, want->max_txid - 1, &reader, NULL) < 0)
                return false;
        if (txlog_reader_next(reader, &record, &src, NULL) > 0)
                is = record.min_txid == want->min_txid && record.max_txid == want->max_txid &&
                     record.post_apply_checksum == want->post_apply_checksum;
        txlog_reader_close(reader);
        return is;
}

bool
db_has_transaction(struct db *db, const struct received *rx)
{
        struct ltx_pos pos;

        db_lock(db);
        pos = db->pos;
        pthread_mutex_unlock(&db->lock);
        if (rx->record.min_txid == 1 || rx->record.max_txid > pos.txid)
                return false;
        if (rx->record.max_txid == pos.txid)
                return rx->record.post_apply_checksum == pos.checksum;
        return is_in_log(db, &rx->record);
}

/* --- dead writers --- */

bool
db_journal_is_active(struct db *db)
{
        bool is;

        db_lock(db);
        is = db->journal.is_active;
        pthread_mutex_unlock(&db->lock);
        return is;
}

bool
db_has_refused(struct db *db)
{
        bool has;

        db_lock(db);
        has = (db->journal.is_active || db->transaction.is_unjournaled) && db_may_commit(db) < 0;
        pthread_mutex_unlock(&db->lock);
        return has;
}

int
db_abandon(struct db *db)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                db_abandon_uncommitted(&a);
        db_access_end(&a);
        return r == E_BUSY ? -EAGAIN : r;
}
