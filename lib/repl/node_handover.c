/* The lease to another node: handing over, giving up. Threads that wait, with steps of it on the loop. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "repl/node_internal.h"

#define STOP_HANDOFF_MS 1000
#define DEMOTED_PAUSE_MS 2000

struct handoff {
        struct node *n;
        const char *hostname; /* NULL: anybody */
        uint64_t node_id;     /* 0: anybody */
        struct frame_handoff frame;
        bool is_stopping;            /* this node does not go on, whatever comes of it */
        struct lease_state regained; /* when the offer could not be sent */
        struct err *e;
};

static bool
is_wanted(const struct handoff *h, const struct frame_hello *peer)
{
        return peer != NULL && (h->hostname == NULL || strcmp(peer->hostname, h->hostname) == 0) &&
               (h->node_id == 0 || peer->node_id == h->node_id);
}

static struct replica *
find_target(struct handoff *h)
{
        for (struct replica *rp = h->n->replicas; rp != NULL; rp = rp->next) {
                const struct frame_hello *peer = rp->feed != NULL ? feed_peer(rp->feed) : NULL;

                if (!is_wanted(h, peer))
                        continue;
                if (h->frame.node_id != 0 ? peer->node_id == h->frame.node_id
                                          : feed_is_caught_up(rp->feed))
                        return rp;
        }
        return NULL;
}

/* Before writers have to wait: whether it can come to anything. */
static int
check_handoff(void *arg)
{
        struct handoff *h = arg;

        if (!h->n->is_primary)
                return err_text(h->e, E_NOT_PRIMARY, "this node is not the primary");
        if (h->n->config.lease->ttl_ms == 0)
                return err_text(h->e, -ENOTSUP, "a static lease stays where the configuration puts it");
        for (struct replica *rp = h->n->replicas; rp != NULL; rp = rp->next)
                if (rp->feed != NULL && is_wanted(h, feed_peer(rp->feed)))
                        return 0;
        return err_text(h->e, E_NOT_FOUND, "no such replica is connected");
}

static int
choose_target(void *arg)
{
        struct handoff *h = arg;
        struct replica *rp;

        if (!h->n->is_primary)
                return err_text(h->e, E_NOT_PRIMARY, "this node is not the primary");
        rp = find_target(h);
        if (rp == NULL)
                return err_text(h->e, E_NOT_FOUND, "no replica %s%s is connected and has everything",
                                h->hostname != NULL ? "called " : "",
                                h->hostname != NULL ? h->hostname : "");
        h->frame.node_id = feed_peer(rp->feed)->node_id;
        return 0;
}

static int
send_offer(void *arg)
{
        struct handoff *h = arg;
        struct replica *rp = find_target(h);

        if (rp == NULL)
                return -ENOTCONN;
        log_info("handing the lease over to %s", feed_peer(rp->feed)->hostname);
        return feed_handoff(rp->feed, &h->frame);
}

/* From here on the lease's deadline no longer says whether this node leads: it passes with the offer. */
static int
begin_offer(void *arg)
{
        struct node *n = arg;

        n->offer_deadline_ms = node_deadline_ms(n);
        n->is_offering = true;
        return 0;
}

/* Nothing was offered; whether the lease is still ours, its deadline says again. */
static int
give_up_offer(void *arg)
{
        struct node *n = arg;

        n->is_offering = false;
        role_timer(&n->role, node_now_ms(n));
        return 0;
}

static int
demote_on_loop(void *arg)
{
        struct node *n = arg;

        n->is_offering = false;
        role_demote(&n->role, node_now_ms(n), DEMOTED_PAUSE_MS);
        return 0;
}

/* A replica that is connected gets a moment to acknowledge the last transactions. */
static int
wait_for_target(struct handoff *h, int64_t timeout_ms)
{
        struct timespec pause = { 0, 2000000 };
        int r;

        for (int64_t waited = 0;; waited += 2) {
                r = loop_call(h->n->loop, choose_target, h);
                if (r != E_NOT_FOUND || waited >= timeout_ms)
                        return r;
                nanosleep(&pause, NULL);
        }
}

static int
make_offer(struct lease *l, void *arg, struct err *e)
{
        return l->ops->offer(l, arg, e);
}

static int
take_back(struct lease *l, void *arg, struct err *e)
{
        struct handoff *h = arg;
        int r = l->ops->take_over(l, h->frame.token, &h->regained, e);

        /* A term that nobody was there for but this node, which goes, would keep all others from the lease. */
        return r < 0 || h->is_stopping ? r : node_begin_term(h->n, h->regained.term, e);
}

static int
regain_on_loop(void *arg)
{
        struct handoff *h = arg;

        h->n->is_offering = false;
        role_regained(&h->n->role, node_now_ms(h->n), &h->regained);
        return 0;
}

/* Writes are paused, and the target has everything. */
static int
offer_lease(struct handoff *h)
{
        struct node *n = h->n;
        int r;

        store_set_handed_over(n->config.store, true);
        (void)loop_call(n->loop, begin_offer, n);
        r = node_lease_call(n, make_offer, h->frame.token, h->e);
        if (r < 0) {
                store_set_handed_over(n->config.store, false);
                (void)loop_call(n->loop, give_up_offer, n);
                return r;
        }
        r = loop_call(n->loop, send_offer, h);
        if (r < 0)
                err_set(h->e, r, "the replica is gone");
        if (r < 0 && node_lease_call(n, take_back, h, NULL) == 0 && !h->is_stopping) {
                (void)loop_call(n->loop, regain_on_loop, h);
                err_prefix(h->e, "this node stays the primary");
        } else {
                (void)loop_call(n->loop, demote_on_loop, n);
        }
        return r;
}

static int
hand_over(struct handoff *h, int64_t timeout_ms)
{
        struct store *store = h->n->config.store;
        int r = loop_call(h->n->loop, check_handoff, h);

        if (r < 0)
                return r;
        /* The writers' last commits are in the log now, and no new one is acknowledged. */
        store_pause_writes(store, true);
        r = wait_for_target(h, timeout_ms);
        if (r == 0)
                r = offer_lease(h);
        store_pause_writes(store, false);
        return r;
}

int
node_handoff(struct node *n, const char *hostname, uint64_t node_id, int64_t timeout_ms, struct err *e)
{
        struct handoff h = { .n = n, .hostname = hostname, .node_id = node_id, .e = e };

        return hand_over(&h, timeout_ms);
}

void
node_hand_over_last(struct node *n)
{
        struct err e = ERR_INIT;
        struct handoff h = { .n = n, .is_stopping = true, .e = &e };

        if (hand_over(&h, STOP_HANDOFF_MS) < 0)
                log_info("no handoff: %s", e.text);
}

struct demotion {
        struct node *n;
        int64_t pause_ms;
        struct err *e;
};

static int
check_primary(void *arg)
{
        struct demotion *d = arg;

        return d->n->is_primary ? 0 : err_text(d->e, E_NOT_PRIMARY, "this node is not the primary");
}

static int
release_lease(struct lease *l, void *arg, struct err *e)
{
        (void)arg;
        (void)e;
        l->ops->release(l);
        return 0;
}

static int
finish_demotion(void *arg)
{
        struct demotion *d = arg;

        role_demote(&d->n->role, node_now_ms(d->n), d->pause_ms);
        return 0;
}

int
node_demote(struct node *n, int64_t pause_ms, struct err *e)
{
        struct demotion d = { n, pause_ms, e };
        int r = loop_call(n->loop, check_primary, &d);

        if (r < 0)
                return r;
        if (n->config.lease->ttl_ms == 0)
                return err_text(e, -ENOTSUP, "a static lease stays where the configuration puts it");
        store_pause_writes(n->config.store, true);
        (void)node_lease_call(n, release_lease, NULL, NULL);
        (void)loop_call(n->loop, finish_demotion, &d);
        store_pause_writes(n->config.store, false);
        return 0;
}
