#include "db/forward.h"

#include <errno.h>

#include "db/db_internal.h"

void
db_set_forward(struct db *db, const struct db_forward *f)
{
        atomic_store(&db->forward, f);
}

void
db_set_halted(struct db *db, bool is_halted)
{
        atomic_store(&db->is_halted, is_halted);
}

const struct db_forward *
db_forward_of(const struct db *db)
{
        return atomic_load(&db->forward);
}

struct workers *
db_capture_workers(const struct db *db)
{
        return db_forward_of(db) != NULL && db->env->forwarders != NULL ? db->env->forwarders
                                                                        : db->env->workers;
}

int
db_may_commit_as(struct db *db, const struct db_forward *to)
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
        return db_may_commit_as(db, db_forward_of(db));
}

/* --- one transaction on its way --- */

static int
write_both(struct byte_sink *sink, const void *buf, size_t n)
{
        struct forwarding *f = (struct forwarding *)sink;
        int r = spool_write(&f->rx.ltx, buf, n, f->rx.ltx.size_bytes);

        return r < 0 ? r : f->log->write(f->log, buf, n);
}

struct byte_sink *
forwarding_begin(struct forwarding *f, struct db *db, struct byte_sink *log)
{
        f->tee.write = write_both;
        f->log = log;
        f->has_begun = true;
        received_init(&f->rx, db->env);
        return &f->tee;
}

int
forwarding_send(struct forwarding *f, struct db *db, const struct txlog_record *record, struct err *e)
{
        f->rx.record = *record;
        f->rx.record.size_bytes = f->rx.ltx.size_bytes;
        return f->to->send(f->to->arg, db, &f->rx, e);
}

void
forwarding_end(struct forwarding *f)
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

        pthread_mutex_lock(&db->lock);
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

        pthread_mutex_lock(&db->lock);
        is = db->journal.is_active;
        pthread_mutex_unlock(&db->lock);
        return is;
}

int
db_abandon(struct db *db)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->state == DB_FAILED ? -EIO : db->state != DB_READY ? -EAGAIN : 0;
        if (r == 0)
                db_abandon_open(db);
        pthread_mutex_unlock(&db->lock);
        return r;
}
