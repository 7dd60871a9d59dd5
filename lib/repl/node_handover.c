/* The lease to another node: handing over, giving up. Threads that wait, with steps of it on the loop. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "repl/node_internal.h"

#define STOP_HANDOFF_MS 1000
#define DEMOTED_PAUSE_MS 2000
#define HURRY_MS 20
#define QUIET_MS 2000
#define TAKEN_MS 1000 /* that the other node has to take the lease */
#define LOOK_MS 20

struct handoff {
        struct node *n;
        const char *hostname; /* NULL: anybody */
        uint64_t boot_id;     /* 0: anybody */
        struct frame_handoff frame;
        uint64_t term;               /* that is handed over */
        bool is_stopping;            /* this node does not go on, whatever comes of it */
        int64_t hurry_ms;            /* when they are asked again to sync */
        struct lease_state regained; /* when the offer could not be sent */
        struct err *e;
};

static bool
is_wanted_target(const struct handoff *h, const struct frame_hello *peer)
{
        return peer != NULL && (h->hostname == NULL || strcmp(peer->hostname, h->hostname) == 0) &&
               (h->boot_id == 0 || peer->boot_id == h->boot_id);
}

static struct replica *
find_target(struct handoff *h)
{
        for (struct replica *rp = h->n->replicas; rp != NULL; rp = rp->next) {
                const struct frame_hello *peer = rp->sender != NULL ? stream_sender_peer(rp->sender)
                                                                    : NULL;

                if (!is_wanted_target(h, peer) || stream_sender_candidacy(rp->sender) != CANDIDACY_YES)
                        continue;
                if (h->frame.boot_id != 0 ? peer->boot_id == h->frame.boot_id
                                          : stream_sender_is_durable(rp->sender))
                        return rp;
        }
        return NULL;
}

/* Those that could take the lease over but for the disk; not at each look, for it takes them a moment. */
static void
hurry_targets(struct handoff *h)
{
        int64_t now_ms = node_now_ms(h->n);

        if (now_ms < h->hurry_ms)
                return;
        h->hurry_ms = now_ms + HURRY_MS;
        for (struct replica *rp = h->n->replicas; rp != NULL; rp = rp->next)
                if (rp->sender != NULL && is_wanted_target(h, stream_sender_peer(rp->sender)) &&
                    stream_sender_candidacy(rp->sender) == CANDIDACY_YES &&
                    stream_sender_is_caught_up(rp->sender))
                        stream_sender_ask_sync(rp->sender);
}

/* Before writers have to wait: whether it can come to anything. */
static int
check_handoff(void *arg)
{
        struct handoff *h = arg;
        const char *barred = NULL;

        if (!h->n->is_primary)
                return err_text(h->e, E_NOT_PRIMARY, "this node is not the primary");
        if (h->n->config.lease->ttl_ms == 0)
                return err_text(h->e, -ENOTSUP, "a static lease stays where the configuration puts it");
        for (struct replica *rp = h->n->replicas; rp != NULL; rp = rp->next) {
                if (rp->sender == NULL || !is_wanted_target(h, stream_sender_peer(rp->sender)))
                        continue;
                if (stream_sender_candidacy(rp->sender) != CANDIDACY_NO)
                        return 0;
                barred = stream_sender_peer(rp->sender)->hostname;
        }
        if (barred == NULL)
                return err_text(h->e, E_NOT_FOUND, "no such replica is connected");
        return err_text(
                h->e, -EPERM,
                "%s is not a candidate: it cannot become the primary (lease.candidate is false there, or its mount does not "
                "answer); name another node, or none",
                barred);
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
                hurry_targets(h);
        if (rp == NULL)
                return err_text(h->e, E_NOT_FOUND, "no replica %s%s is connected and has everything",
                                h->hostname != NULL ? "called " : "",
                                h->hostname != NULL ? h->hostname : "");
        h->frame.boot_id = stream_sender_peer(rp->sender)->boot_id;
        h->term = h->n->held.term;
        return 0;
}

/* The other replicas are told when their streams end. */
static void
set_successor(struct node *n, const struct frame_hello *peer)
{
        struct frame_successor *s = &n->successor;

        s->boot_id = peer->boot_id;
        memcpy(s->hostname, peer->hostname, sizeof s->hostname);
        memcpy(s->advertise_url, peer->advertise_url, sizeof s->advertise_url);
}

static int
send_offer(void *arg)
{
        struct handoff *h = arg;
        struct replica *rp = find_target(h);

        if (rp == NULL)
                return -ENOTCONN;
        log_info("handing the lease over to %s", stream_sender_peer(rp->sender)->hostname);
        set_successor(h->n, stream_sender_peer(rp->sender));
        return stream_sender_handoff(rp->sender, &h->frame);
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

/* This node knows it before the lease says so: what waits for a primary need not wait longer. */
static void
follow_own_successor(struct node *n)
{
        struct lease_state holder = { .has_holder = true, .term = n->held.term };

        if (n->successor.boot_id == 0 || n->successor.advertise_url[0] == '\0')
                return;
        snprintf(holder.hostname, sizeof holder.hostname, "%s", n->successor.hostname);
        snprintf(holder.advertise_url, sizeof holder.advertise_url, "%s", n->successor.advertise_url);
        role_passed_on(&n->role, node_now_ms(n));
        store_set_role(n->config.store, false, &holder);
        node_tell_role_changed(n);
}

static int
demote_on_loop(void *arg)
{
        struct node *n = arg;

        n->is_offering = false;
        role_demote(&n->role, node_now_ms(n), DEMOTED_PAUSE_MS);
        follow_own_successor(n);
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

/* What was recorded as handed over is what it has acknowledged. */
static int
check_handoff_target(void *arg)
{
        struct handoff *h = arg;
        struct replica *rp = find_target(h);

        return rp != NULL && stream_sender_is_durable(rp->sender)
                       ? 0
                       : err_text(h->e, E_NOT_FOUND, "the replica does not have everything any more");
}

/* Those who were allowed to commit before the pause have been answered. */
static bool
wait_for_quiet(struct store *s, int64_t timeout_ms)
{
        struct timespec pause = { 0, 2000000 };

        for (int64_t waited = 0; !store_is_quiet(s); waited += 2) {
                if (waited >= timeout_ms)
                        return false;
                nanosleep(&pause, NULL);
        }
        return true;
}

static int
make_offer(struct lease *l, void *arg, struct err *e)
{
        return l->ops->offer(l, arg, e);
}

static int
take_back_lease(struct lease *l, void *arg, struct err *e)
{
        struct handoff *h = arg;
        int r;

        /* A term that nobody was there for but this node, which goes, would keep all others from the lease. */
        if (h->is_stopping) {
                l->ops->withdraw(l, h->frame.token, h->n->held.term);
                return 0;
        }
        r = l->ops->take_over(l, h->frame.token, h->n->held.term + 1, &h->regained, e);
        return r < 0 ? r : node_begin_term(h->n, h->regained.term, e);
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
        r = loop_call(n->loop, check_handoff_target, h);
        if (r < 0) {
                store_set_handed_over(n->config.store, false);
                return r;
        }
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
        if (r < 0 && node_lease_call(n, take_back_lease, h, NULL) == 0 && !h->is_stopping) {
                (void)loop_call(n->loop, regain_on_loop, h);
                err_prefix(h->e, "this node stays the primary");
        } else {
                (void)loop_call(n->loop, demote_on_loop, n);
        }
        return r;
}

static int
read_lease_anew(struct lease *l, void *arg, struct err *e)
{
        return l->ops->read(l, arg, e);
}

static int
withdraw_offer(struct lease *l, void *arg, struct err *e)
{
        struct handoff *h = arg;

        (void)e;
        l->ops->withdraw(l, h->frame.token, h->term);
        return 0;
}

/* An offer that nobody takes keeps everybody from the lease until it runs out. */
static int
wait_until_taken(struct handoff *h)
{
        struct node *n = h->n;
        struct timespec pause = { 0, LOOK_MS * 1000000 };
        struct lease_state now;

        for (int64_t waited = 0; waited < TAKEN_MS; waited += LOOK_MS) {
                if (node_lease_call(n, read_lease_anew, &now, NULL) == 0 &&
                    (!now.has_holder || now.term != h->term))
                        return 0;
                nanosleep(&pause, NULL);
        }
        (void)node_lease_call(n, withdraw_offer, h, NULL);
        log_warn(
                "the node that was offered the lease did not take it: it is released, for any candidate");
        return err_text(h->e, -ETIMEDOUT,
                        "the other node did not take the lease within %d ms, and it was released",
                        TAKEN_MS);
}

static void
hold_proxy_writes(struct node *n, bool is_held)
{
        if (n->config.hold_writes != NULL)
                n->config.hold_writes(n->config.arg, is_held);
}

/* A write that is being refused looks like one that is being made: then the target is waited for anew. */
static int
offer_when_ready(struct handoff *h, int64_t timeout_ms)
{
        int64_t end_ms = node_now_ms(h->n) + timeout_ms, left_ms;
        int r;

        do {
                left_ms = end_ms - node_now_ms(h->n);
                h->frame.boot_id = 0;
                r = wait_for_target(h, left_ms > 0 ? left_ms : 0);
                if (r == 0)
                        r = offer_lease(h);
        } while (r == E_NOT_FOUND && left_ms > 0);
        return r;
}

void
node_pause_writes(struct node *n, bool is_paused)
{
        if (n->config.pause_writes != NULL)
                n->config.pause_writes(n->config.arg, is_paused);
        else
                store_pause_writes(n->config.store, is_paused);
}

static int
hand_over(struct handoff *h, int64_t timeout_ms)
{
        int r = loop_call(h->n->loop, check_handoff, h);

        if (r < 0)
                return r;
        hold_proxy_writes(h->n, true);
        /* The writers' last commits are in the log now, and no new one is acknowledged. */
        node_pause_writes(h->n, true);
        r = offer_when_ready(h, timeout_ms);
        node_pause_writes(h->n, false);
        hold_proxy_writes(h->n, false);
        return r < 0 ? r : wait_until_taken(h);
}

/* One after the other: what an offer is based on, another one would change. */
static int
hand_over_in_turn(struct handoff *h, int64_t timeout_ms)
{
        int r;

        pthread_mutex_lock(&h->n->handover_lock);
        r = hand_over(h, timeout_ms);
        pthread_mutex_unlock(&h->n->handover_lock);
        return r;
}

int
node_handoff(struct node *n, const char *hostname, uint64_t boot_id, int64_t timeout_ms, struct err *e)
{
        struct handoff h = { .n = n, .hostname = hostname, .boot_id = boot_id, .e = e };

        return hand_over_in_turn(&h, timeout_ms);
}

static int
node_retire_on_loop(void *arg)
{
        struct node *n = arg;

        role_retire(&n->role);
        node_tell_candidacy(n);
        return n->is_primary;
}

void
node_leave(struct node *n)
{
        struct err e = ERR_INIT;

        if (loop_call(n->loop, node_retire_on_loop, n) <= 0 || n->config.lease->ttl_ms == 0)
                return;
        if (node_handoff(n, NULL, 0, STOP_HANDOFF_MS, &e) < 0)
                log_info("no handoff: %s", e.text);
}

void
node_hand_over_last(struct node *n)
{
        struct err e = ERR_INIT;
        struct handoff h = { .n = n, .is_stopping = true, .e = &e };

        if (hand_over_in_turn(&h, STOP_HANDOFF_MS) < 0)
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

        d->n->is_offering = false;
        role_demote(&d->n->role, node_now_ms(d->n), d->pause_ms);
        return 0;
}

static int
demote(struct node *n, int64_t pause_ms, struct err *e)
{
        struct demotion d = { n, pause_ms, e };
        int r = loop_call(n->loop, check_primary, &d);

        if (r < 0)
                return r;
        if (n->config.lease->ttl_ms == 0)
                return err_text(e, -ENOTSUP, "a static lease stays where the configuration puts it");
        hold_proxy_writes(n, true);
        node_pause_writes(n, true);
        (void)wait_for_quiet(n->config.store,
                             QUIET_MS); /* who is not answered by then hears that it is not known */
        (void)loop_call(n->loop, begin_offer, n); /* to whoever comes */
        (void)node_lease_call(n, release_lease, NULL, NULL);
        (void)loop_call(n->loop, finish_demotion, &d);
        node_pause_writes(n, false);
        hold_proxy_writes(n, false);
        return 0;
}

int
node_demote(struct node *n, int64_t pause_ms, struct err *e)
{
        int r;

        pthread_mutex_lock(&n->handover_lock);
        r = demote(n, pause_ms, e);
        pthread_mutex_unlock(&n->handover_lock);
        return r;
}
