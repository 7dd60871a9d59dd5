/* The states of a database here:
 *
 *   IDLE --open--> TAKING --taken--> HELD --last close--> GIVING --> IDLE, or TAKING when somebody waits
 *                    |                |
 *                    +--failed: IDLE  +--lost: LOST --last close--> GIVING, or --open--> TAKING
 *
 * TAKING and GIVING are a job's, which waits for the primary without a lock. */
#include "http/halt_holder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "http/halt_holder_internal.h"

#define N_THREADS 2
#define TICK_MS 500

static void
answer_waiters(struct waiter *list, int r)
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
take_halt_waiters(struct remote_halt *h, bool is_failure)
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
        struct waiter *list = take_halt_waiters(h, r < 0);

        if (r < 0) {
                h->state = h->n_users > 0 ? LOST : IDLE;
        } else {
                h->state = HELD;
                h->renew_ms = halt_holder_now_ms(h->all) + RENEW_MS;
                db_set_remote_commit(h->db, &h->remote_commit);
                if (h->all->is_stopped)
                        start_giving(h);
        }
        return list;
}

static void
run_take(struct work *w)
{
        struct remote_halt *h = (struct remote_halt *)((char *)w - offsetof(struct remote_halt, work));
        struct halt_holder *rh = h->all;
        struct err e = ERR_INIT;
        struct waiter *list;
        int r = remote_halt_take(h, &e);

        if (r < 0)
                log_event(LOG_WARN, db_name(h->db), "cannot take the halt lock: %s", e.text);
        else
                log_event(LOG_INFO, db_name(h->db), "halt lock taken of %s", h->url);
        pthread_mutex_lock(&rh->lock);
        list = end_taking(h, r);
        pthread_mutex_unlock(&rh->lock);
        ticker_start(&rh->ticker);
        answer_waiters(list, r);
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
        const struct halt_holder_config *c = &h->all->config;
        struct halt_target t = remote_halt_own_target(h);
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
                list = take_halt_waiters(h, true);
        else if (h->waiters != NULL)
                start_taking(h);
        pthread_mutex_unlock(&h->all->lock);
        answer_waiters(list, -EIO);
}

/* With the lock. */
static void
start_giving(struct remote_halt *h)
{
        h->state = GIVING;
        atomic_store(&h->until_ms, 0);
        db_set_remote_commit(h->db, NULL);
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
                        remote_halt_lose(h, e->text);
        }
        pthread_mutex_unlock(&h->all->lock);
}

static void
run_renew(struct work *w)
{
        struct remote_halt *h =
                (struct remote_halt *)((char *)w - offsetof(struct remote_halt, renewal));
        const struct halt_holder_config *c = &h->all->config;
        struct halt_client *client;
        struct halt_answer answer = { 0 };
        struct halt_target t;
        char url[LEASE_URL_SIZE];
        int64_t begin_ms = halt_holder_now_ms(h->all);
        struct err e = ERR_INIT;
        int r;

        t = remote_halt_target(h, url);
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
        struct halt_holder *rh = h->all;
        struct lease_state primary;

        if (h->state != HELD)
                return false;
        if (halt_holder_now_ms(rh) >= atomic_load(&h->until_ms))
                remote_halt_lose(h, "the primary could not be reached to renew it");
        else if (store_is_primary(rh->config.store) || (store_primary(rh->config.store, &primary) &&
                                                        strcmp(primary.advertise_url, h->url) != 0))
                remote_halt_lose(h, "the primary has changed");
        else if (!h->is_renewing && halt_holder_now_ms(rh) >= h->renew_ms) {
                h->renew_ms = halt_holder_now_ms(rh) + RENEW_MS;
                h->is_renewing = true;
                h->renewal = (struct work){ run_renew, NULL };
                workers_post(rh->threads, &h->renewal);
        }
        return h->state == HELD;
}

static bool
holder_on_tick(void *arg)
{
        struct halt_holder *rh = arg;
        bool has_more = false;

        pthread_mutex_lock(&rh->lock);
        for (struct remote_halt *h = rh->list; h != NULL; h = h->next)
                has_more |= keep(h);
        pthread_mutex_unlock(&rh->lock);
        return has_more;
}

void
halt_holder_role_changed(struct halt_holder *rh)
{
        (void)holder_on_tick(rh);
}

/* --- users --- */

/* With the lock. */
static struct remote_halt *
find_or_make(struct halt_holder *rh, struct db *db)
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
        h->remote_commit = (struct db_remote_commit){ h, remote_halt_may_commit, remote_halt_send };
        rh->list = h;
        return h;
}

static int
join_halt(struct halt_holder *rh, struct db *db, struct waiter *w)
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
halt_holder_open(struct halt_holder *rh, struct db *db, struct db_done done)
{
        struct waiter *w = malloc(sizeof *w);
        int r;

        if (w == NULL)
                return -ENOMEM;
        *w = (struct waiter){ NULL, done };
        pthread_mutex_lock(&rh->lock);
        r = join_halt(rh, db, w);
        pthread_mutex_unlock(&rh->lock);
        if (r != DB_PENDING)
                free(w);
        return r;
}

void
halt_holder_close(struct halt_holder *rh, struct db *db)
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
halt_holder_new(const struct halt_holder_config *config, struct halt_holder **ret, struct err *e)
{
        struct halt_holder *rh = calloc(1, sizeof *rh);
        int r;

        if (rh == NULL)
                return err_set(e, -ENOMEM, "halt locks");
        rh->config = *config;
        pthread_mutex_init(&rh->lock, NULL);
        r = workers_new(N_THREADS, &rh->threads);
        if (r == 0)
                r = ticker_init(&rh->ticker, config->loop, TICK_MS, holder_on_tick, rh);
        if (r < 0) {
                halt_holder_free(rh);
                return err_set(e, r, "halt locks");
        }
        *ret = rh;
        return 0;
}

void
halt_holder_stop(struct halt_holder *rh)
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
halt_holder_free(struct halt_holder *rh)
{
        if (rh == NULL)
                return;
        workers_free(rh->threads);
        ticker_release(&rh->ticker);
        while (rh->list != NULL) {
                struct remote_halt *h = rh->list;

                rh->list = h->next;
                answer_waiters(h->waiters, -EIO);
                halt_client_free(h->sender);
                free(h);
        }
        pthread_mutex_destroy(&rh->lock);
        free(rh);
}
