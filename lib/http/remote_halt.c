#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "http/halt_holder_internal.h"

#define TAKE_MS 10000 /* for lock and position */
#define SEND_MS 8000  /* in which nothing moves; longer than the primary waits for its readers */
#define RESEND_MS 100 /* after a connection broke */

struct halt_target
remote_halt_own_target(const struct remote_halt *h)
{
        return (struct halt_target){ h->url, db_name(h->db), h->id };
}

/* --- its transactions --- */

int
remote_halt_may_commit(void *arg)
{
        struct remote_halt *h = arg;

        return halt_holder_now_ms(h->all) < atomic_load(&h->until_ms) &&
                               !store_is_primary(h->all->config.store)
                       ? 0
                       : E_NOT_PRIMARY;
}

void
remote_halt_lose(struct remote_halt *h, const char *why)
{
        if (h->state != HELD)
                return;
        h->state = LOST;
        atomic_store(&h->until_ms, 0);
        db_set_remote_commit(h->db, NULL);
        log_event(LOG_WARN, db_name(h->db),
                  "the halt lock is lost: %s. What is written here fails until it is taken again", why);
}

static void
lose(struct remote_halt *h, int64_t id, const char *why)
{
        pthread_mutex_lock(&h->all->lock);
        if (h->id == id)
                remote_halt_lose(h, why);
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
        is = h->id == id && remote_halt_may_commit(h) == 0;
        pthread_mutex_unlock(&h->all->lock);
        return is;
}

struct halt_target
remote_halt_target(struct remote_halt *h, char *url)
{
        struct halt_target t;

        pthread_mutex_lock(&h->all->lock);
        memcpy(url, h->url, LEASE_URL_SIZE);
        t = (struct halt_target){ url, db_name(h->db), h->id };
        pthread_mutex_unlock(&h->all->lock);
        return t;
}

/* A broken connection says nothing of what the primary has done, so the same is sent again, for as
 * long as the lock keeps others from writing: the primary knows its last transaction when it sees it. */
int
remote_halt_send(void *arg, struct db *db, const struct received *rx, struct err *e)
{
        struct timespec pause = { 0, RESEND_MS * 1000000 };
        struct remote_halt *h = arg;
        const struct halt_holder_config *c = &h->all->config;
        char url[LEASE_URL_SIZE];
        struct halt_target t = remote_halt_target(h, url);
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
is_stopped(struct halt_holder *rh)
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
                if (halt_holder_now_ms(h->all) >= deadline_ms)
                        return err_text(e, -ETIMEDOUT,
                                        "this node does not have all that the primary has, after %d s",
                                        TAKE_MS / 1000);
                nanosleep(&pause, NULL);
        }
}

static int
acquire_halt(struct remote_halt *h, struct halt_client *client, struct err *e)
{
        int64_t begin_ms = halt_holder_now_ms(h->all);
        struct halt_target t = remote_halt_own_target(h);
        struct halt_answer answer;
        int r = halt_client_acquire(client, &t, TAKE_MS + RENEW_MS, &answer, e);

        if (r == 0) {
                atomic_store(&h->until_ms, begin_ms + answer.ttl_ms);
                r = wait_for_position(h, answer.pos, begin_ms + TAKE_MS, e);
        }
        /* The wait may have used most of it up. */
        if (r == 0) {
                begin_ms = halt_holder_now_ms(h->all);
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

int
remote_halt_take(struct remote_halt *h, struct err *e)
{
        const struct halt_holder_config *c = &h->all->config;
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
                r = acquire_halt(h, client, e);
        halt_client_free(client);
        return r;
}
