/* The states of a database here:
 *
 *   IDLE --open--> TAKING --taken--> HELD --last close--> GIVING --> IDLE, or TAKING when somebody waits
 *                    |                |
 *                    +--failed: IDLE  +--lost: LOST --last close--> GIVING, or --open--> TAKING
 *
 * TAKING and GIVING are a job's, which waits for the primary without a lock. */
#include "http/remote_halts.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "db/forward.h"
#include "http/halt_client.h"
#include "repl/ticker.h"

#define N_THREADS 2
#define TICK_MS 500
#define TAKE_MS 10000 /* for lock and position */
#define RENEW_MS 2000 /* between renewals, and for each */
#define GIVE_MS 1000  /* for an answer; the lock runs out by itself */
#define SEND_MS 8000  /* in which nothing moves; longer than the primary waits for its readers */
#define RESEND_MS 100 /* after a connection broke */

enum state { IDLE, TAKING, HELD, LOST, GIVING };

struct waiter {
        struct waiter *next;
        struct db_done done;
};

struct remote_halt {
        struct remote_halt *next;
        struct remote_halts *all;
        struct db *db;
        struct db_forward forward;
        enum state state;
        unsigned n_users; /* those who wait are among them */
        struct waiter *waiters;
        char url[LEASE_URL_SIZE]; /* of the primary that gave it; changes in TAKING alone */
        int64_t id;
        int64_t renew_ms;
        bool is_renewing;
        atomic_llong until_ms;      /* it is ours until then; 0: it is not */
        struct halt_client *sender; /* of the thread that captures */
        struct work work, renewal;
};

struct remote_halts {
        struct remote_halts_config config;
        pthread_mutex_t
                lock; /* guards the list and what is in it; databases' locks may be taken by others first */
        struct remote_halt *list;
        bool is_stopped;
        struct workers *threads;
        struct ticker ticker;
};

static int64_t
now_ms(const struct remote_halts *rh)
{
        return clock_boot_ms(rh->config.clock);
}

static struct halt_target
target_of(const struct remote_halt *h)
{
        return (struct halt_target){ h->url, db_name(h->db), h->id };
}

/* --- transactions --- */

/* db_forward.may_commit. */
static int
may_commit(void *arg)
{
        struct remote_halt *h = arg;

        return now_ms(h->all) < atomic_load(&h->until_ms) && !store_is_primary(h->all->config.store)
                       ? 0
                       : E_NOT_PRIMARY;
}

/* With the lock. */
static void
lose_locked(struct remote_halt *h, const char *why)
{
        if (h->state != HELD)
                return;
        h->state = LOST;
        atomic_store(&h->until_ms, 0);
        db_set_forward(h->db, NULL);
        log_event(LOG_WARN, db_name(h->db),
                  "the halt lock is lost: %s. What is written here fails until it is taken again", why);
}

static void
lose(struct remote_halt *h, int64_t id, const char *why)
{
        pthread_mutex_lock(&h->all->lock);
        if (h->id == id)
                lose_locked(h, why);
        pthread_mutex_unlock(&h->all->lock);
}

static bool
is_answer(int r)
{
        return r == 0 || r == E_NOT_HELD || r == E_BUSY_DB || r == -ENOSPC;
}

/* Whether it is what it was when @id was drawn, and may be written by. */
static bool
is_still_held(struct remote_halt *h, int64_t id)
{
        bool is;

        pthread_mutex_lock(&h->all->lock);
        is = h->id == id && may_commit(h) == 0;
        pthread_mutex_unlock(&h->all->lock);
        return is;
}

/* With @url, LEASE_URL_SIZE bytes, as the memory for what may change meanwhile. */
static struct halt_target
copy_target(struct remote_halt *h, char *url)
{
        struct halt_target t;

        pthread_mutex_lock(&h->all->lock);
        memcpy(url, h->url, LEASE_URL_SIZE);
        t = (struct halt_target){ url, db_name(h->db), h->id };
        pthread_mutex_unlock(&h->all->lock);
        return t;
}

/* db_forward.send. A broken connection says nothing of what the primary has done, so the same is sent again, for as
 * long as the lock keeps others from writing: the primary knows its last transaction when it sees it. */
static int
send_transaction(void *arg, struct db *db, const struct received *rx, struct err *e)
{
        struct timespec pause = { 0, RESEND_MS * 1000000 };
        struct remote_halt *h = arg;
        const struct remote_halts_config *c = &h->all->config;
        char url[LEASE_URL_SIZE];
        struct halt_target t = copy_target(h, url);
        bool is_in_doubt = false;
        int r = h->sender != NULL ? 0 : halt_client_new(&c->client, &h->sender, e);

        if (r < 0)
                return r;
        while (r = halt_client_send(h->sender, &t, rx, SEND_MS, e), !is_answer(r)) {
                log_event(LOG_WARN, db_name(db), "send a transaction to the primary: %s", e->text);
                is_in_doubt = true;
                if (!is_still_held(h, t.id))
                        break;
                nanosleep(&pause, NULL);
        }
        if (r == 0 || (is_answer(r) && r != E_NOT_HELD))
                return r;
        lose(h, t.id,
             r == E_NOT_HELD ? "the primary has refused a transaction"
                             : "the primary cannot be reached");
        if (is_in_doubt)
                err_prefix(e, "the primary may have transaction %016llx, or not",
                           (unsigned long long)rx->record.max_txid);
        return r;
}

/* --- taking --- */

static bool
is_stopped(struct remote_halts *rh)
{
        bool is;

        pthread_mutex_lock(&rh->lock);
        is = rh->is_stopped;
        pthread_mutex_unlock(&rh->lock);
        return is;
}

/* Until this node has what the primary had when it stopped its writers. */
static int
wait_for_position(struct remote_halt *h, struct ltx_pos pos, int64_t deadline_ms, struct err *e)
{
        struct timespec pause = { 0, 1000000 };
        struct db_info info;

        for (;;) {
                db_get_info(h->db, &info);
                if (ltx_pos_equal(info.pos, pos))
                        return 0;
                if (info.pos.txid >= pos.txid)
                        return err_text(e, E_POS_MISMATCH,
                                        "this node has other transactions than the primary");
                if (is_stopped(h->all))
                        return err_text(e, -ECANCELED, "this node stops");
                if (now_ms(h->all) >= deadline_ms)
                        return err_text(e, -ETIMEDOUT,
                                        "this node does not have all that the primary has, after %d s",
                                        TAKE_MS / 1000);
                nanosleep(&pause, NULL);
        }
}

static int
acquire(struct remote_halt *h, struct halt_client *client, struct err *e)
{
        int64_t begin_ms = now_ms(h->all);
        struct halt_target t = target_of(h);
        struct halt_answer answer;
        int r = halt_client_acquire(client, &t, TAKE_MS + RENEW_MS, &answer, e);

        if (r == 0) {
                atomic_store(&h->until_ms, begin_ms + answer.ttl_ms);
                r = wait_for_position(h, answer.pos, begin_ms + TAKE_MS, e);
        }
        /* The wait may have used most of it up. */
        if (r == 0) {
                begin_ms = now_ms(h->all);
                r = halt_client_renew(client, &t, RENEW_MS, &answer, e);
        }
        if (r == 0) {
                atomic_store(&h->until_ms, begin_ms + answer.ttl_ms);
                return 0;
        }
        atomic_store(&h->until_ms, 0);
        (void)halt_client_release(client, &t, GIVE_MS, NULL);
        return r;
}

static int
take(struct remote_halt *h, struct err *e)
{
        const struct remote_halts_config *c = &h->all->config;
        struct halt_client *client = NULL;
        struct lease_state primary;
        uint64_t random;
        int64_t id;
        int r;

        if (store_is_primary(c->store))
                return err_text(e, E_BUSY_DB, "this node has just become the primary, try again");
        if (!store_primary(c->store, &primary))
                return err_text(e, E_NOT_PRIMARY, "no primary is known");
        if (getrandom(&random, sizeof random, 0) != sizeof random)
                return err_set(e, -errno, "draw a lock id");
        id = (int64_t)(random >> 1) | 1;
        pthread_mutex_lock(&h->all->lock);
        memcpy(h->url, primary.advertise_url, sizeof h->url);
        h->id = id;
        pthread_mutex_unlock(&h->all->lock);
        r = halt_client_new(&c->client, &client, e);
        if (r == 0)
                r = acquire(h, client, e);
        halt_client_free(client);
        return r;
}

static void
answer(struct waiter *list, int r)
{
        struct waiter *w;

        while ((w = list) != NULL) {
                list = w->next;
                w->done.fn(w->done.arg, r);
                free(w);
        }
}

static void start_giving(struct remote_halt *h);

/* With the lock: the waiters, whom to answer without it. */
static struct waiter *
take_waiters(struct remote_halt *h, bool is_failure)
{
        struct waiter *list = h->waiters;

        h->waiters = NULL;
        for (struct waiter *w = list; w != NULL && is_failure; w = w->next)
                h->n_users--;
        return list;
}

/* With the lock. */
static struct waiter *
end_taking(struct remote_halt *h, int r)
{
        struct waiter *list = take_waiters(h, r < 0);

        if (r < 0) {
                h->state = h->n_users > 0 ? LOST : IDLE;
        } else {
                h->state = HELD;
                h->renew_ms = now_ms(h->all) + RENEW_MS;
                db_set_forward(h->db, &h->forward);
                if (h->all->is_stopped)
                        start_giving(h);
        }
        return list;
}

static void
run_take(struct work *w)
{
        struct remote_halt *h = (struct remote_halt *)((char *)w - offsetof(struct remote_halt, work));
        struct remote_halts *rh = h->all;
        struct err e = ERR_INIT;
        struct waiter *list;
        int r = take(h, &e);

        if (r < 0)
                log_event(LOG_WARN, db_name(h->db), "cannot take the halt lock: %s", e.text);
        else
                log_event(LOG_INFO, db_name(h->db), "halt lock taken of %s", h->url);
        pthread_mutex_lock(&rh->lock);
        list = end_taking(h, r);
        pthread_mutex_unlock(&rh->lock);
        ticker_start(&rh->ticker);
        answer(list, r);
}

/* With the lock. */
static void
start_taking(struct remote_halt *h)
{
        h->state = TAKING;
        h->work = (struct work){ run_take, NULL };
        workers_post(h->all->threads, &h->work);
}

/* --- giving back --- */

static void
run_give(struct work *w)
{
        struct remote_halt *h = (struct remote_halt *)((char *)w - offsetof(struct remote_halt, work));
        const struct remote_halts_config *c = &h->all->config;
        struct halt_target t = target_of(h);
        struct halt_client *client;
        struct waiter *list = NULL;
        struct err e = ERR_INIT;
        int r = halt_client_new(&c->client, &client, &e);

        if (r == 0) {
                r = halt_client_release(client, &t, GIVE_MS, &e);
                halt_client_free(client);
        }
        if (r < 0)
                log_event(LOG_INFO, db_name(h->db),
                          "the halt lock was not given back, it will run out: %s", e.text);
        pthread_mutex_lock(&h->all->lock);
        h->state = IDLE;
        if (h->all->is_stopped)
                list = take_waiters(h, true);
        else if (h->waiters != NULL)
                start_taking(h);
        pthread_mutex_unlock(&h->all->lock);
        answer(list, -EIO);
}

/* With the lock. */
static void
start_giving(struct remote_halt *h)
{
        h->state = GIVING;
        atomic_store(&h->until_ms, 0);
        db_set_forward(h->db, NULL);
        h->work = (struct work){ run_give, NULL };
        workers_post(h->all->threads, &h->work);
}

/* --- keeping --- */

static void
end_renewal(struct remote_halt *h, int64_t id, int r, int64_t until_ms, const struct err *e)
{
        pthread_mutex_lock(&h->all->lock);
        h->is_renewing = false;
        if (h->state == HELD && h->id == id) {
                if (r == 0)
                        atomic_store(&h->until_ms, until_ms);
                else if (r == E_NOT_HELD)
                        lose_locked(h, e->text);
        }
        pthread_mutex_unlock(&h->all->lock);
}

static void
run_renew(struct work *w)
{
        struct remote_halt *h =
                (struct remote_halt *)((char *)w - offsetof(struct remote_halt, renewal));
        const struct remote_halts_config *c = &h->all->config;
        struct halt_client *client;
        struct halt_answer answer = { 0 };
        struct halt_target t;
        char url[LEASE_URL_SIZE];
        int64_t begin_ms = now_ms(h->all);
        struct err e = ERR_INIT;
        int r;

        t = copy_target(h, url);
        r = halt_client_new(&c->client, &client, &e);
        if (r == 0) {
                r = halt_client_renew(client, &t, RENEW_MS, &answer, &e);
                halt_client_free(client);
        }
        end_renewal(h, t.id, r, begin_ms + answer.ttl_ms, &e);
}

/* With the lock: whether it has to be looked at again. */
static bool
keep(struct remote_halt *h)
{
        struct remote_halts *rh = h->all;
        struct lease_state primary;

        if (h->state != HELD)
                return false;
        if (now_ms(rh) >= atomic_load(&h->until_ms))
                lose_locked(h, "the primary could not be reached to renew it");
        else if (store_is_primary(rh->config.store) || (store_primary(rh->config.store, &primary) &&
                                                        strcmp(primary.advertise_url, h->url) != 0))
                lose_locked(h, "the primary has changed");
        else if (!h->is_renewing && now_ms(rh) >= h->renew_ms) {
                h->renew_ms = now_ms(rh) + RENEW_MS;
                h->is_renewing = true;
                h->renewal = (struct work){ run_renew, NULL };
                workers_post(rh->threads, &h->renewal);
        }
        return h->state == HELD;
}

static bool
on_tick(void *arg)
{
        struct remote_halts *rh = arg;
        bool has_more = false;

        pthread_mutex_lock(&rh->lock);
        for (struct remote_halt *h = rh->list; h != NULL; h = h->next)
                has_more |= keep(h);
        pthread_mutex_unlock(&rh->lock);
        return has_more;
}

void
remote_halts_role_changed(struct remote_halts *rh)
{
        (void)on_tick(rh);
}

/* --- users --- */

/* With the lock. */
static struct remote_halt *
find_or_make(struct remote_halts *rh, struct db *db)
{
        struct remote_halt *h = rh->list;

        while (h != NULL && h->db != db)
                h = h->next;
        if (h != NULL)
                return h;
        h = calloc(1, sizeof *h);
        if (h == NULL)
                return NULL;
        *h = (struct remote_halt){ .next = rh->list, .all = rh, .db = db };
        h->forward = (struct db_forward){ h, may_commit, send_transaction };
        rh->list = h;
        return h;
}

static int
join(struct remote_halts *rh, struct db *db, struct waiter *w)
{
        struct remote_halt *h = rh->is_stopped ? NULL : find_or_make(rh, db);

        if (h == NULL)
                return rh->is_stopped ? -EIO : -ENOMEM;
        h->n_users++;
        if (h->state == HELD)
                return 0;
        w->next = h->waiters;
        h->waiters = w;
        if (h->state == IDLE || h->state == LOST)
                start_taking(h);
        return DB_PENDING;
}

int
remote_halts_open(struct remote_halts *rh, struct db *db, struct db_done done)
{
        struct waiter *w = malloc(sizeof *w);
        int r;

        if (w == NULL)
                return -ENOMEM;
        *w = (struct waiter){ NULL, done };
        pthread_mutex_lock(&rh->lock);
        r = join(rh, db, w);
        pthread_mutex_unlock(&rh->lock);
        if (r != DB_PENDING)
                free(w);
        return r;
}

void
remote_halts_close(struct remote_halts *rh, struct db *db)
{
        struct remote_halt *h;

        pthread_mutex_lock(&rh->lock);
        h = find_or_make(rh, db);
        if (h != NULL && h->n_users > 0) {
                h->n_users--;
                if (h->n_users == 0 && (h->state == HELD || h->state == LOST))
                        start_giving(h);
        }
        pthread_mutex_unlock(&rh->lock);
}

/* --- life --- */

int
remote_halts_new(const struct remote_halts_config *config, struct remote_halts **ret, struct err *e)
{
        struct remote_halts *rh = calloc(1, sizeof *rh);
        int r;

        if (rh == NULL)
                return err_set(e, -ENOMEM, "halt locks");
        rh->config = *config;
        pthread_mutex_init(&rh->lock, NULL);
        r = workers_new(N_THREADS, &rh->threads);
        if (r == 0)
                r = ticker_init(&rh->ticker, config->loop, TICK_MS, on_tick, rh);
        if (r < 0) {
                remote_halts_free(rh);
                return err_set(e, r, "halt locks");
        }
        *ret = rh;
        return 0;
}

void
remote_halts_stop(struct remote_halts *rh)
{
        if (rh == NULL)
                return;
        pthread_mutex_lock(&rh->lock);
        rh->is_stopped = true;
        for (struct remote_halt *h = rh->list; h != NULL; h = h->next)
                if (h->state == HELD)
                        start_giving(h);
        pthread_mutex_unlock(&rh->lock);
        workers_drain(rh->threads);
}

void
remote_halts_free(struct remote_halts *rh)
{
        if (rh == NULL)
                return;
        workers_free(rh->threads);
        ticker_release(&rh->ticker);
        while (rh->list != NULL) {
                struct remote_halt *h = rh->list;

                rh->list = h->next;
                answer(h->waiters, -EIO);
                halt_client_free(h->sender);
                free(h);
        }
        pthread_mutex_destroy(&rh->lock);
        free(rh);
}
