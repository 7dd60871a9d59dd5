/* What is told of a database to those who must not wait for it: the loop, which every connection and the lease hang on, and
 * whoever looks. */
#include <assert.h>
#include <string.h>

#include "base/thread.h"
#include "db/db_internal.h"
#include "db/prepared.h"

void
db_lock(struct db *db)
{
        thread_will_wait("the lock of a database");
        pthread_mutex_lock(&db->lock);
}

/* What waits to be published, which its writer does without us. With the lock. */
static void
look_at_prepared(const struct db *db, struct db_shown *ret)
{
        const struct prepared *p = db->passed.prepared;

        ret->is_prepared = p != NULL && p->commit != NULL;
        if (!ret->is_prepared)
                return;
        ret->prepared_pos = p->pos;
        ret->prepared_end = p->end;
        ret->index_fd = db->passed.index_fd;
        ret->wal_fd = wal_fd(db->wal);
}

/* With the lock. */
static void
look_at_db(struct db *db, struct db_shown *ret)
{
        bool is_held_back = db->sync.job != NULL || db->use.state != DB_READY;

        ret->info = (struct db_info){
                .pos = db->applying.is_pos_held ? db->applying.held_pos : db->pos,
                .timestamp_ms = db->timestamp_ms,
                .page_size = db->image.page_size,
                .page_count = db->image.page_count,
                .is_wal = db->is_wal,
                .is_failed = db->use.state == DB_FAILED,
                .base_txid = db->base.txid,
                .apply_lag_ms = db->applying.lag_ms,
        };
        ret->pos = db->pos;
        ret->is_durable = db->log == NULL || txlog_synced_lsn(db->log) >= db->last.lsn;
        ret->durable_pos = ret->is_durable ? db->pos : db->sync.pos;
        ret->replicable_txid = is_held_back ? db->sync.replicable_txid : db->pos.txid;
        ret->has_unsynced = db->sync.has_unsynced;
        ret->exists = db->image.fd >= 0 || db->rest.is_closed;
        ret->is_busy = db->use.state == DB_EXCLUSIVE;
        look_at_prepared(db, ret);
        ret->is_unanswered = db->sync.n_jobs > 0 || db->passed.prepared != NULL ||
                             (db->applying.is_pos_held && db->applying.is_local);
}

void
db_show(struct db *db)
{
        struct db_shown now;

        look_at_db(db, &now);
        pthread_mutex_lock(&db->shown.lock);
        db->shown.info = now.info;
        db->shown.pos = now.pos;
        db->shown.durable_pos = now.durable_pos;
        db->shown.replicable_txid = now.replicable_txid;
        db->shown.is_durable = now.is_durable;
        db->shown.has_unsynced = now.has_unsynced;
        db->shown.exists = now.exists;
        db->shown.is_busy = now.is_busy;
        db->shown.is_unanswered = now.is_unanswered;
        db->shown.is_prepared = now.is_prepared;
        if (now.is_prepared) {
                db->shown.prepared_pos = now.prepared_pos;
                db->shown.prepared_end = now.prepared_end;
                db->shown.index_fd = now.index_fd;
                db->shown.wal_fd = now.wal_fd;
        }
        pthread_mutex_unlock(&db->shown.lock);
        if (db->has_news && db->env->committed != NULL)
                db->env->committed(db->env->arg, db);
        db->has_news = false;
}

#ifdef LITEFS_INVARIANTS
/* Nobody has changed the database without showing it. What is durable may be more by now. */
static void
check_shown(struct db *db)
{
        struct db_shown now;

        if (pthread_mutex_trylock(&db->lock) != 0)
                return;
        look_at_db(db, &now);
        pthread_mutex_lock(&db->shown.lock);
        assert(now.info.pos.txid == db->shown.info.pos.txid);
        assert(now.info.pos.checksum == db->shown.info.pos.checksum);
        assert(now.pos.txid == db->shown.pos.txid);
        assert(now.pos.checksum == db->shown.pos.checksum);
        assert(now.info.page_size == db->shown.info.page_size);
        assert(now.info.page_count == db->shown.info.page_count);
        assert(now.info.is_wal == db->shown.info.is_wal);
        assert(now.info.is_failed == db->shown.info.is_failed);
        assert(now.info.base_txid == db->shown.info.base_txid);
        assert(now.replicable_txid == db->shown.replicable_txid);
        assert(now.has_unsynced == db->shown.has_unsynced);
        assert(now.exists == db->shown.exists);
        assert(now.is_busy == db->shown.is_busy);
        assert(now.is_unanswered == db->shown.is_unanswered);
        assert(!db->has_news);
        pthread_mutex_unlock(&db->shown.lock);
        pthread_mutex_unlock(&db->lock);
}
#else
static void
check_shown(struct db *db)
{
        (void)db;
}
#endif

/* That of a prepared commit from the moment on at which the wal-index shows it. With the lock of @shown. */
static struct ltx_pos
position_shown(const struct db *db, const struct db_shown *shown)
{
        const struct os *os = db->env->os;

        return shown->is_prepared && shown->index_fd >= 0 &&
                               wal_index_shows(os, shown->index_fd, &shown->prepared_end) &&
                               wal_file_has_end(os, shown->wal_fd, &shown->prepared_end)
                       ? shown->prepared_pos
                       : shown->info.pos;
}

struct db_shown
db_get_shown(struct db *db)
{
        struct db_shown now;

        check_shown(db);
        pthread_mutex_lock(&db->shown.lock);
        now = db->shown;
        now.info.pos = position_shown(db, &now);
        pthread_mutex_unlock(&db->shown.lock);
        return now;
}

void
db_get_info(struct db *db, struct db_info *ret)
{
        *ret = db_get_shown(db).info;
}

bool
db_exists(struct db *db)
{
        return db_get_shown(db).exists;
}

bool
db_looks_busy(struct db *db)
{
        return db_get_shown(db).is_busy;
}

/* In this order: who ends its work has shown by then what is left to be answered. */
bool
db_is_committing(struct db *db)
{
        return atomic_load(&db->use.n_at_work) > 0 || db_get_shown(db).is_unanswered;
}

bool
db_has_unsynced(struct db *db)
{
        return db_get_shown(db).has_unsynced;
}

uint64_t
db_replicable_txid(struct db *db)
{
        return db_get_shown(db).replicable_txid;
}

struct ltx_pos
db_durable_pos(struct db *db, bool *ret_has_all)
{
        struct db_shown now = db_get_shown(db);

        *ret_has_all = now.is_durable;
        return now.durable_pos;
}

/* --- what is counted --- */

void
db_count(struct db *db, enum db_counter what)
{
        db_count_many(db, what, 1);
}

void
db_count_many(struct db *db, enum db_counter what, uint64_t n)
{
        atomic_fetch_add_explicit(&db->counters[what], n, memory_order_relaxed);
}

uint64_t
db_counter(struct db *db, enum db_counter what)
{
        return atomic_load_explicit(&db->counters[what], memory_order_relaxed);
}
