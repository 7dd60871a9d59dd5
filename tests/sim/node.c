#include "tests/sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/consul.h"

#define HANDOFF_MS 1000
#define POLL_MS 2
#define DEMOTED_PAUSE_MS 2000
#define RECONNECT_MS 1000
#define HEARTBEAT_MS 1000
#define DRAIN_MS 500

static struct node *
node_of(void *arg)
{
        return arg;
}

bool
node_may_commit(const struct node *n)
{
        return n->host.is_up && n->store_is_primary && !n->store_is_paused && stream_is_drained(n) &&
               host_now_ms(&n->host) < n->lease->ops->deadline_ms(n->lease);
}

/* --- the lease's thread --- */

/* As node_begin_term. */
static int
begin_term(struct node *n, uint64_t term)
{
        struct lease *l = n->lease;
        int r;

        n->whole_term = term;
        r = l->ops->put_last_term(l, term, NULL);
        if (r < 0)
                l->ops->release(l);
        return r;
}

/* As node_lease.c: not in a term that it knows nothing of, and then not without a word about the new one. */
static int
acquire(struct lease_job *job)
{
        struct node *n = job->node;
        struct lease *l = n->lease;
        uint64_t last;
        int r = l->ops->get_last_term(l, &last, NULL);

        if (r < 0 || last > n->whole_term)
                return r < 0 ? r : E_NOT_PRIMARY;
        r = job->what == ROLE_ACQUIRE ? l->ops->acquire(l, &job->state, NULL)
                                      : l->ops->take_over(l, job->token, &job->state, NULL);
        if (r < 0)
                return r;
        return begin_term(n, job->state.term);
}

static int
take_back(struct lease_job *job)
{
        struct lease *l = job->node->lease;
        int r = l->ops->take_over(l, job->token, &job->state, NULL);

        return r < 0 ? r : begin_term(job->node, job->state.term);
}

static int
call_role(struct lease_job *job)
{
        struct lease *l = job->node->lease;

        switch (job->what) {
        case ROLE_READ:
                return l->ops->read(l, &job->state, NULL);
        case ROLE_RENEW:
                return l->ops->renew(l, NULL);
        case ROLE_BREAK:
                return l->ops->break_stale(l, &job->seen, NULL);
        case ROLE_ACQUIRE:
        case ROLE_TAKE_OVER:
                return acquire(job);
        case ROLE_RELEASE:
                l->ops->release(l);
                return 0;
        }
        abort();
}

static int
call(struct lease_job *job)
{
        struct lease *l = job->node->lease;

        switch (job->call) {
        case CALL_ROLE:
                return call_role(job);
        case CALL_OFFER:
                return l->ops->offer(l, job->token, NULL);
        case CALL_TAKE_BACK:
                return take_back(job);
        case CALL_RELEASE:
                l->ops->release(l);
                return 0;
        case CALL_SAVE_TERM:
                if (job->node->host.is_up)
                        job->node->whole_term = job->term;
                return 0;
        }
        abort();
}

/* By mail, on the loop. */
static void
answer(void *arg, bool is_lost)
{
        static const char *const names[] = {
                "read", "acquire", "renew", "break", "take-over", "release"
        };
        struct lease_job *job = arg;
        struct node *n = job->node;

        if (!is_lost) {
                sim_trace(n->c->sim, &n->host, "%s: %d, holder %s term %llu", names[job->what],
                          job->result, job->state.hostname, (unsigned long long)job->state.term);
                if (job->result == 0 && (job->what == ROLE_ACQUIRE || job->what == ROLE_TAKE_OVER))
                        check_granted(n, &job->state, job->what == ROLE_TAKE_OVER ? job->token : "");
                role_answered(&n->role, host_now_ms(&n->host), job->result, &job->state);
        }
        free(job);
}

static void
work(void *arg)
{
        struct node *n = arg;
        struct lease_job *job;

        while ((job = n->jobs) != NULL) {
                n->jobs = job->next;
                if (n->jobs == NULL)
                        n->jobs_end = &n->jobs;
                job->result = call(job);
                job->is_done = true;
                if (job->call == CALL_ROLE ? !n->host.is_up : job->waiting == NULL)
                        free(job);
                else if (job->call == CALL_ROLE)
                        sim_post(n->c->sim, &n->host, 0, answer, job);
                else if (n->host.is_up)
                        fiber_wake(n->c->sim, job->waiting);
        }
        n->has_worker = false;
}

static void
begin_work(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (!is_lost)
                fiber_start(n->c->sim, &n->host, work, n);
}

static void
post_job(struct node *n, struct lease_job *job)
{
        job->node = n;
        job->next = NULL;
        *n->jobs_end = job;
        n->jobs_end = &job->next;
        if (n->has_worker)
                return;
        n->has_worker = true;
        sim_post(n->c->sim, &n->host, 0, begin_work, n);
}

/* In a fiber: does what *@job says and fills in the result. False: the host has died. */
static bool
lease_call(struct node *n, struct lease_job *job)
{
        struct lease_job *posted = malloc(sizeof *posted);
        bool is_alive;

        if (posted == NULL)
                abort();
        *posted = *job;
        posted->waiting = fiber_current(n->c->sim);
        post_job(n, posted);
        is_alive = fiber_wait(n->c->sim);
        if (!posted->is_done) { /* who does it frees it */
                posted->waiting = NULL;
                return false;
        }
        *job = *posted;
        free(posted);
        return is_alive;
}

/* --- the role's wishes --- */

static void
do_request(void *arg, enum role_request what, const struct lease_state *seen)
{
        struct node *n = arg;
        struct lease_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                abort();
        job->call = CALL_ROLE;
        job->what = what;
        job->seen = *seen;
        memcpy(job->token, n->offered, sizeof job->token);
        post_job(n, job);
}

/* What it had received is applied: from now on it commits. */
static void
lead_if_drained(struct node *n)
{
        if (!n->is_primary || n->leads || !stream_is_drained(n))
                return;
        n->leads = true;
        check_takes_over(n);
        sim_trace(n->c->sim, &n->host, "primary, term %llu, at %u", (unsigned long long)n->held.term,
                  n->log.n);
}

static void
take_over(struct node *n)
{
        if (!n->is_taking_over)
                return;
        n->is_taking_over = false;
        n->is_primary = n->store_is_primary = true;
        lead_if_drained(n);
}

static void
drain_no_more(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (!is_lost && n->is_taking_over && host_now_ms(&n->host) >= n->drain_end_ms)
                take_over(n);
}

static void
do_change(void *arg, bool is_primary, const struct lease_state *holder)
{
        struct node *n = arg;

        if (is_primary) {
                n->held = *holder;
                n->is_taking_over = true;
                n->drain_end_ms = host_now_ms(&n->host) + DRAIN_MS;
                sim_post(n->c->sim, &n->host, host_until_us(&n->host, n->drain_end_ms), drain_no_more,
                         n);
                node_applies_drained(n);
                return;
        }
        n->store_is_primary = n->leads = false;
        if (!n->is_primary && !n->is_taking_over)
                return;
        if (n->is_primary) {
                sim_trace(n->c->sim, &n->host, "no longer the primary");
                stream_end_all(n);
        }
        n->is_primary = n->is_taking_over = false;
}

static void
do_follow(void *arg, const struct lease_state *holder)
{
        stream_follow(arg, holder);
}

static void
on_wake(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (is_lost || !n->has_wake || host_now_ms(&n->host) < n->wake_ms)
                return;
        n->has_wake = false;
        role_timer(&n->role, host_now_ms(&n->host));
}

static void
do_wake(void *arg, int64_t at_ms)
{
        struct node *n = arg;
        int64_t now_ms = host_now_ms(&n->host);

        if (at_ms > now_ms + 3600000)
                at_ms = now_ms + 3600000;
        if (n->has_wake && n->wake_ms == at_ms)
                return;
        n->has_wake = true;
        n->wake_ms = at_ms;
        sim_post(n->c->sim, &n->host, host_until_us(&n->host, at_ms), on_wake, n);
}

static int64_t
get_deadline(void *arg)
{
        struct node *n = arg;

        return n->lease->ops->deadline_ms(n->lease);
}

static const struct role_ops role_ops = { do_request, do_follow, do_change, do_wake, get_deadline };

void
node_whole(struct node *n)
{
        struct lease_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                abort();
        job->call = CALL_SAVE_TERM;
        job->term = n->role.term;
        post_job(n, job);
}

void
node_applies_drained(struct node *n)
{
        if (!stream_is_drained(n))
                return;
        take_over(n);
        lead_if_drained(n);
}

void
node_offered(struct node *n, const char *token)
{
        snprintf(n->offered, sizeof n->offered, "%s", token);
        role_offered(&n->role, host_now_ms(&n->host));
}

/* --- handing over, in a fiber --- */

/* False: the host has died. *ret: who, or -1. */
static bool
wait_for_target(struct node *n, int *ret)
{
        *ret = -1;
        for (int waited = 0; n->is_primary && waited < HANDOFF_MS; waited += POLL_MS) {
                *ret = stream_find_target(n, -1);
                if (*ret >= 0)
                        return true;
                if (!fiber_sleep(n->c->sim, POLL_MS))
                        return false;
        }
        return true;
}

static void
make_offer(struct node *n, int target, const char *token)
{
        struct lease_job back = { .call = CALL_TAKE_BACK };
        struct cluster *c = n->c;

        memcpy(c->offered_token, token, sizeof c->offered_token);
        c->offered = txn_log_pos(&n->log);
        if (stream_offer(n, target, token) < 0) {
                memcpy(back.token, token, sizeof back.token);
                if (!lease_call(n, &back))
                        return;
                if (back.result == 0) {
                        check_granted(n, &back.state, token);
                        role_regained(&n->role, host_now_ms(&n->host), &back.state);
                        return;
                }
        }
        role_demote(&n->role, host_now_ms(&n->host), DEMOTED_PAUSE_MS);
}

/* False: the host has died. */
static bool
hand_over(struct node *n)
{
        struct lease_job offer = { .call = CALL_OFFER };
        int target;

        n->store_is_paused = true;
        if (!wait_for_target(n, &target))
                return false;
        if (target >= 0) {
                sim_trace(n->c->sim, &n->host, "hands over to node %d", target);
                if (!lease_call(n, &offer))
                        return false;
                if (offer.result == 0) {
                        n->c->n_handoffs++;
                        make_offer(n, target, offer.token);
                }
        }
        if (!n->host.is_up)
                return false;
        n->store_is_paused = false;
        return true;
}

static void
run_handoff(void *arg)
{
        struct node *n = arg;

        if (hand_over(n))
                n->is_handing_over = false;
}

void
node_handoff(struct node *n)
{
        if (!n->host.is_up || n->host.is_paused || n->is_handing_over || n->is_stopping)
                return;
        n->is_handing_over = true;
        fiber_start(n->c->sim, &n->host, run_handoff, n);
}

static void
end_process(void *arg, bool is_lost)
{
        if (!is_lost)
                node_crash(node_of(arg), false);
}

static void
run_stop(void *arg)
{
        struct node *n = arg;
        struct lease_job release = { .call = CALL_RELEASE };

        if (n->is_primary && !hand_over(n))
                return;
        n->store_is_paused = true;
        role_stop(&n->role);
        stream_drop_items(n);
        stream_follow(n, NULL);
        stream_end_all(n);
        if (lease_call(n, &release))
                sim_post(n->c->sim, &n->host, 0, end_process, n);
}

void
node_stop(struct node *n)
{
        if (!n->host.is_up || n->host.is_paused || n->is_handing_over || n->is_stopping)
                return;
        sim_trace(n->c->sim, &n->host, "stops");
        n->is_stopping = true;
        fiber_start(n->c->sim, &n->host, run_stop, n);
}

/* --- life --- */

static void
commit(void *arg, bool is_lost)
{
        struct node *n = arg;
        struct cluster *c = n->c;

        if (is_lost)
                return;
        if (node_may_commit(n) && !c->is_read_only && n->log.n < TXNS_MAX) {
                check_commit(n);
                txn_log_commit(&n->log, n->held.term, sim_random(c->sim));
                c->n_commits++;
                stream_committed(n);
        }
        sim_post(c->sim, &n->host, sim_between(c->sim, 1, 2 * c->commit_ms) * SIM_MS, commit, n);
}

static void
beat(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (is_lost)
                return;
        stream_heartbeat(n);
        sim_post(n->c->sim, &n->host, HEARTBEAT_MS * SIM_MS, beat, n);
}

static void
begin(void *arg, bool is_lost)
{
        struct node *n = arg;

        if (!is_lost)
                role_begin(&n->role, host_now_ms(&n->host));
}

static void
make_lease(struct node *n)
{
        struct lease_consul_options o = { .url = "http://consul",
                                          .key = "litefs/primary",
                                          .hostname = n->host.name,
                                          .advertise_url = n->url,
                                          .ttl_ms = n->c->ttl_ms,
                                          .lock_delay_ms = n->c->lock_delay_ms,
                                          .clock = &n->host.clock };

        n->c->net.client_host = &n->host;
        if (lease_consul_new(&o, &n->lease, NULL) < 0)
                abort();
}

void
node_boot(struct node *n)
{
        struct sim *s = n->c->sim;
        struct role_config role = { .ops = &role_ops,
                                    .arg = n,
                                    .hostname = n->host.name,
                                    .advertise_url = n->url,
                                    .is_candidate = n->is_candidate,
                                    .ttl_ms = n->c->ttl_ms,
                                    .reconnect_ms = RECONNECT_MS,
                                    .random = sim_random(s) };

        if (n->host.is_up)
                return;
        sim_trace(s, &n->host, "starts at %u", n->log.n);
        host_start(&n->host);
        n->has_wake = n->has_worker = n->has_applier = n->is_resyncing = n->leads = false;
        n->left_ms = 0;
        n->is_primary = n->is_taking_over = n->is_handing_over = n->is_stopping = false;
        n->store_is_primary = n->store_is_paused = false;
        n->offered[0] = '\0';
        n->jobs_end = &n->jobs;
        n->items_end = &n->items;
        make_lease(n);
        role_init(&n->role, &role);
        sim_post(s, &n->host, 0, begin, n);
        sim_post(s, &n->host, 0, commit, n);
        sim_post(s, &n->host, sim_between(s, 0, HEARTBEAT_MS) * SIM_MS, beat, n);
}

void
node_crash(struct node *n, bool is_silent)
{
        if (!n->host.is_up)
                return;
        sim_trace(n->c->sim, &n->host, is_silent ? "loses power" : "ends");
        host_kill(&n->host);
        stream_host_died(n, is_silent);
        node_free_life(n);
        if (is_silent) /* CLOCK_BOOTTIME begins anew */
                n->host.boot_offset_ms = sim_between(n->c->sim, 1000, 60000) - n->c->sim->now_us / 1000;
}

void
node_free_life(struct node *n)
{
        while (n->jobs != NULL) {
                struct lease_job *job = n->jobs;

                n->jobs = job->next;
                free(job);
        }
        stream_drop_items(n);
        free(n->running);
        n->running = NULL;
        if (n->lease != NULL)
                n->lease->ops->free(n->lease);
        n->lease = NULL;
}
