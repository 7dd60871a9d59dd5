#include "repl/halt_grants.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "db/remote_commit.h"
#include "repl/ticker.h"

#define TICK_MS 250
#define ASKING_MS 1000 /* a node that waits and has not asked again for so long has gone */
#define SETTLE_MS 500  /* a transaction that waits for readers, likewise */

struct halt {
        struct halt *next;
        struct halt_grants *all;
        struct db *db;
        struct halt_key key;
        void *handle;      /* of the apply ops */
        int64_t until_ms;  /* ends then, unless its node asks for it */
        bool is_held;      /* else its node still waits for it */
        bool is_busy;      /* a thread works on it */
        bool is_over;      /* to be ended by whoever sees it idle */
        int64_t settle_ms; /* when readers are no longer to be kept out; 0: they are not */
        uint64_t last_txid;
        struct work work; /* that ends it */
};

struct halt_grants {
        struct halt_grants_config config;
        pthread_mutex_t
                lock; /* guards the list and all in it but what a busy one's thread has; above db's lock */
        struct halt *list;
        bool is_stopped, is_paused;
        struct ticker ticker;
};

static int64_t
grants_now_ms(const struct halt_grants *h)
{
        return clock_boot_ms(h->config.clock);
}

static bool
is_key(const struct halt *halt, struct halt_key key)
{
        return halt->key.boot_id == key.boot_id && halt->key.id == key.id;
}

/* With the lock. */
static struct halt *
find_halt(struct halt_grants *h, const struct db *db)
{
        struct halt *halt = h->list;

        while (halt != NULL && halt->db != db)
                halt = halt->next;
        return halt;
}

/* NULL: E_NOT_FOUND. */
static struct db *
find_halted_db(struct halt_grants *h, const char *name, struct err *e)
{
        struct db *db = store_find(h->config.store, name);

        if (db != NULL && db_exists(db))
                return db;
        err_text(e, E_NOT_FOUND, "database not found: \"%s\"", name);
        return NULL;
}

/* --- on an applier --- */

static void
end_halt(struct halt *halt)
{
        if (halt->is_held)
                db_set_halted(halt->db, false);
        if (halt->handle != NULL)
                halt->all->config.ops->end(halt->handle);
        free(halt);
}

static void
run_end(struct work *w)
{
        end_halt((struct halt *)((char *)w - offsetof(struct halt, work)));
}

static int
call_end(void *arg)
{
        end_halt(arg);
        return 0;
}

struct attempt {
        struct halt *halt;
        struct received *rx;
        struct err *e;
};

static int
reserve_attempt(void *arg)
{
        struct attempt *at = arg;
        struct halt *halt = at->halt;
        const struct halt_grants_config *c = &halt->all->config;
        int r = 0;

        if (halt->handle == NULL)
                r = c->ops->begin(c->ops_arg, halt->db, &halt->handle);
        return r < 0 ? err_set(at->e, r, "halt %s", db_name(halt->db))
                     : c->ops->reserve(halt->handle, at->e);
}

/* The log has it when apply returns 0: what is left is to let readers in again, and to keep out the writers of the
 * journal mode that it may have brought. */
static int
apply_attempt(void *arg)
{
        struct attempt *at = arg;
        const struct apply_ops *ops = at->halt->all->config.ops;
        int r = ops->apply(at->halt->handle, at->rx, at->e);

        if (r != -EAGAIN)
                (void)ops->reserve(at->halt->handle, NULL);
        return r;
}

/* --- ends --- */

/* With the lock: takes those that are over off the list. */
static struct halt *
take_ended(struct halt_grants *h)
{
        struct halt **p = &h->list, *taken = NULL;

        while (*p != NULL) {
                struct halt *halt = *p;

                if (!halt->is_busy && (halt->is_over || grants_now_ms(h) >= halt->until_ms)) {
                        *p = halt->next;
                        halt->next = taken;
                        taken = halt;
                } else {
                        p = &halt->next;
                }
        }
        return taken;
}

static void
run_settle(struct work *w)
{
        struct halt *halt = (struct halt *)((char *)w - offsetof(struct halt, work));
        struct halt_grants *h = halt->all;

        (void)h->config.ops->reserve(halt->handle, NULL);
        pthread_mutex_lock(&h->lock);
        halt->is_busy = false;
        pthread_mutex_unlock(&h->lock);
}

/* Whoever waited for readers with a transaction, and has not come back, must not keep them out. With the lock. */
static void
settle_idle(struct halt_grants *h)
{
        for (struct halt *halt = h->list; halt != NULL; halt = halt->next) {
                if (halt->is_busy || halt->settle_ms == 0 || grants_now_ms(h) < halt->settle_ms)
                        continue;
                halt->settle_ms = 0;
                halt->is_busy = true;
                halt->work = (struct work){ run_settle, NULL };
                workers_post(h->config.appliers, &halt->work);
        }
}

static bool
grants_on_tick(void *arg)
{
        struct halt_grants *h = arg;
        struct halt *taken, *halt;
        bool has_more;

        pthread_mutex_lock(&h->lock);
        taken = take_ended(h);
        settle_idle(h);
        has_more = h->list != NULL;
        pthread_mutex_unlock(&h->lock);
        while ((halt = taken) != NULL) {
                taken = halt->next;
                if (halt->is_held)
                        log_event(LOG_WARN, db_name(halt->db), "halt lock of node %016llx ended: %s",
                                  (unsigned long long)halt->key.boot_id,
                                  halt->is_over ? "this node is no longer the primary"
                                                : "it was not renewed");
                halt->work = (struct work){ run_end, NULL };
                workers_post(h->config.appliers, &halt->work);
        }
        return has_more;
}

void
halt_grants_role_changed(struct halt_grants *h)
{
        if (store_is_primary(h->config.store))
                return;
        pthread_mutex_lock(&h->lock);
        for (struct halt *halt = h->list; halt != NULL; halt = halt->next)
                halt->is_over = true;
        pthread_mutex_unlock(&h->lock);
        (void)grants_on_tick(h);
}

/* --- one request --- */

/* With the lock. The halt that @key has, or is to have: *@ret, busy with this thread. */
static int
claim(struct halt_grants *h, struct db *db, struct halt_key key, struct halt **ret, struct err *e)
{
        struct halt *halt = find_halt(h, db);

        if (h->is_stopped)
                return err_text(e, E_NOT_PRIMARY, "this node stops");
        if (h->is_paused && halt == NULL)
                return err_text(e, -EAGAIN, "another program is about to take this node over");
        if (halt != NULL && !is_key(halt, key))
                return err_text(e, -EAGAIN, "node %016llx has the halt lock of %s",
                                (unsigned long long)halt->key.boot_id, db_name(db));
        if (halt != NULL && (halt->is_busy || halt->is_over))
                return err_text(e, -EAGAIN, "the halt lock of %s is in use", db_name(db));
        if (halt == NULL) {
                halt = calloc(1, sizeof *halt);
                if (halt == NULL)
                        return err_set(e, -ENOMEM, "halt %s", db_name(db));
                *halt = (struct halt){ .next = h->list, .all = h, .db = db, .key = key };
                h->list = halt;
        }
        halt->is_busy = true;
        *ret = halt;
        return 0;
}

/* With the lock, after claim and an attempt. */
static void
settle_claim(struct halt_grants *h, struct halt *halt, int r)
{
        halt->is_busy = false;
        if (r == 0) {
                halt->is_held = true;
                halt->until_ms = grants_now_ms(h) + HALT_TTL_MS;
                db_set_halted(halt->db, true);
        } else if (r == -EAGAIN) {
                halt->until_ms = grants_now_ms(h) + ASKING_MS;
        } else {
                halt->is_over = true;
        }
}

int
halt_grants_grant(struct halt_grants *h, const char *name, struct halt_key key, struct halt_grant *ret,
                  struct err *e)
{
        struct attempt at = { .e = e };
        struct db_info info;
        struct db *db;
        int r = store_may_commit(h->config.store);

        if (r < 0)
                return err_set(e, r, "halt %s", name);
        db = find_halted_db(h, name, e);
        if (db == NULL)
                return E_NOT_FOUND;
        pthread_mutex_lock(&h->lock);
        at.halt = find_halt(h, db);
        if (at.halt != NULL && is_key(at.halt, key) && at.halt->is_held && !at.halt->is_over)
                at.halt->until_ms = grants_now_ms(h) + HALT_TTL_MS; /* also while it is busy */
        else if ((r = claim(h, db, key, &at.halt, e)) == 0) {
                pthread_mutex_unlock(&h->lock);
                r = workers_call(h->config.appliers, reserve_attempt, &at);
                pthread_mutex_lock(&h->lock);
                settle_claim(h, at.halt, r);
        }
        pthread_mutex_unlock(&h->lock);
        ticker_start(&h->ticker);
        if (r < 0)
                return r;
        db_get_info(db, &info);
        *ret = (struct halt_grant){ info.pos, HALT_TTL_MS };
        return 0;
}

/* With the lock: the halt that @key holds, or E_NOT_HELD. */
static int
find_held(struct halt_grants *h, struct db *db, struct halt_key key, struct halt **ret, struct err *e)
{
        struct halt *halt = find_halt(h, db);

        if (halt == NULL || !halt->is_held || !is_key(halt, key) || halt->is_over ||
            grants_now_ms(h) >= halt->until_ms)
                return err_text(e, E_NOT_HELD,
                                "the halt lock of %s is not held by this node and id: it was never "
                                "taken, has run out, or ended with a change of the primary",
                                db_name(db));
        *ret = halt;
        return 0;
}

int
halt_grants_check(struct halt_grants *h, const char *name, struct halt_key key, struct err *e)
{
        struct halt *halt;
        struct db *db = find_halted_db(h, name, e);
        int r = 0;

        if (db == NULL)
                return E_NOT_FOUND;
        pthread_mutex_lock(&h->lock);
        r = find_held(h, db, key, &halt, e);
        pthread_mutex_unlock(&h->lock);
        return r;
}

/* 1: it is the one that was committed last. */
static int
check_transaction(const struct halt_grants *h, struct halt *halt, struct received *rx, struct err *e)
{
        struct db_info info;
        int r;

        db_get_info(halt->db, &info);
        if (halt->last_txid != 0 && rx->record.max_txid == halt->last_txid &&
            info.pos.txid == halt->last_txid && info.pos.checksum == rx->record.post_apply_checksum)
                return 1;
        if (rx->record.commit == 0 || rx->record.min_txid != rx->record.max_txid ||
            rx->record.min_txid == 1 || rx->record.page_size != info.page_size)
                return err_text(e, -ENOTSUP,
                                "a node with a halt lock can change a database, not delete it or give "
                                "it another page size");
        r = db_follows(halt->db, rx, e);
        if (r != E_FORMAT)
                return r;
        r = received_fill(rx, info.page_count, store_env(h->config.store), e);
        return r < 0 ? r : db_follows(halt->db, rx, e);
}

int
halt_grants_apply(struct halt_grants *h, const char *name, struct halt_key key, struct received *rx,
                  struct err *e)
{
        struct attempt at = { .rx = rx, .e = e };
        struct db *db = find_halted_db(h, name, e);
        int r = 0;

        if (db == NULL)
                return E_NOT_FOUND;
        pthread_mutex_lock(&h->lock);
        r = find_held(h, db, key, &at.halt, e);
        if (r == 0 && at.halt->is_busy)
                r = err_text(e, -EAGAIN, "the halt lock of %s is in use", name);
        if (r == 0)
                at.halt->is_busy = true;
        pthread_mutex_unlock(&h->lock);
        if (r < 0)
                return r;
        r = check_transaction(h, at.halt, rx, e);
        if (r == 0) {
                rx->is_local = true; /* as one of ours: it needs the lease, and is made durable */
                r = workers_call(h->config.appliers, apply_attempt, &at);
                if (r == 0)
                        at.halt->last_txid = rx->record.max_txid;
        }
        if (r >= 0 && (r = db_may_confirm(db)) < 0)
                err_set(e, r, "transaction %016llx of %s", (unsigned long long)rx->record.max_txid,
                        name);
        pthread_mutex_lock(&h->lock);
        at.halt->settle_ms = r == -EAGAIN ? grants_now_ms(h) + SETTLE_MS : 0;
        at.halt->is_busy = false;
        pthread_mutex_unlock(&h->lock);
        return r < 0 ? r : 0;
}

int
halt_grants_release(struct halt_grants *h, const char *name, struct halt_key key, struct err *e)
{
        struct halt **p, *halt = NULL;
        struct db *db = find_halted_db(h, name, e);
        int r = 0;

        if (db == NULL)
                return E_NOT_FOUND;
        pthread_mutex_lock(&h->lock);
        for (p = &h->list; *p != NULL && (*p)->db != db; p = &(*p)->next)
                ;
        if (*p != NULL && is_key(*p, key) && (*p)->is_busy) {
                r = err_text(e, -EAGAIN, "the halt lock of %s is in use", name);
        } else if (*p != NULL && is_key(*p, key)) {
                halt = *p;
                *p = halt->next;
        }
        pthread_mutex_unlock(&h->lock);
        if (halt != NULL)
                (void)workers_call(h->config.appliers, call_end, halt);
        return r;
}

/* --- an upgrade --- */

/* With the lock. */
static int
check_none_locked(const struct halt_grants *h, struct err *e)
{
        if (h->list == NULL)
                return 0;
        return err_text(e, -EBUSY,
                        "node %016llx has the halt lock of %s: let what writes there under it end first",
                        (unsigned long long)h->list->key.boot_id, db_name(h->list->db));
}

int
halt_grants_check_none(struct halt_grants *h, struct err *e)
{
        int r;

        pthread_mutex_lock(&h->lock);
        r = check_none_locked(h, e);
        pthread_mutex_unlock(&h->lock);
        return r;
}

int
halt_grants_pause(struct halt_grants *h, struct err *e)
{
        int r;

        pthread_mutex_lock(&h->lock);
        r = check_none_locked(h, e);
        h->is_paused = r == 0;
        pthread_mutex_unlock(&h->lock);
        return r;
}

void
halt_grants_go_on(struct halt_grants *h)
{
        pthread_mutex_lock(&h->lock);
        h->is_paused = false;
        pthread_mutex_unlock(&h->lock);
}

/* --- life --- */

int
halt_grants_new(const struct halt_grants_config *config, struct halt_grants **ret, struct err *e)
{
        struct halt_grants *h = calloc(1, sizeof *h);
        int r;

        if (h == NULL)
                return err_set(e, -ENOMEM, "halt locks");
        h->config = *config;
        pthread_mutex_init(&h->lock, NULL);
        r = ticker_init(&h->ticker, config->loop, TICK_MS, grants_on_tick, h);
        if (r < 0) {
                halt_grants_free(h);
                return err_set(e, r, "halt locks");
        }
        *ret = h;
        return 0;
}

void
halt_grants_stop(struct halt_grants *h)
{
        struct timespec pause = { 0, 2000000 };
        struct halt *taken, *halt;
        bool is_busy = h != NULL;

        while (is_busy) {
                pthread_mutex_lock(&h->lock);
                h->is_stopped = true;
                for (halt = h->list; halt != NULL; halt = halt->next)
                        halt->is_over = true;
                taken = take_ended(h);
                is_busy = h->list != NULL; /* with one attempt, that does not wait */
                pthread_mutex_unlock(&h->lock);
                while ((halt = taken) != NULL) {
                        taken = halt->next;
                        (void)workers_call(h->config.appliers, call_end, halt);
                }
                if (is_busy)
                        nanosleep(&pause, NULL);
        }
}

void
halt_grants_free(struct halt_grants *h)
{
        if (h == NULL)
                return;
        ticker_release(&h->ticker);
        pthread_mutex_destroy(&h->lock);
        free(h);
}
