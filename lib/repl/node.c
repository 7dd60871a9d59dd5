#include "repl/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/thread.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"

#define N_SENDERS 2

uint64_t
node_boot_id(const struct node *n)
{
        return n->boot_id;
}

int
node_port(const struct node *n)
{
        return n->port;
}

/* --- the role --- */

static void
role_changed(void *arg, bool is_primary, const struct lease_state *holder)
{
        struct node *n = arg;

        if (is_primary) {
                node_watch_lease(n, holder);
                node_begin_to_lead(n, holder);
                return;
        }
        store_set_role(n->config.store, false, holder);
        if (n->is_primary || n->is_taking_over)
                node_step_down(n);
        node_tell_role_changed(n);
}

static void
role_request(void *arg, enum role_request what, const struct lease_state *seen)
{
        node_lease_request(arg, what, seen);
}

static void
role_follow(void *arg, const struct lease_state *holder)
{
        node_follow(arg, holder);
}

static void
role_wake(void *arg, int64_t at_ms)
{
        struct node *n = arg;
        int64_t ms = at_ms - node_now_ms(n);

        loop_timer_start(n->role_timer, ms < 0 ? 0 : ms > 3600000 ? 3600000 : ms);
}

static int64_t
role_deadline(void *arg)
{
        return node_deadline_ms(arg);
}

static const struct role_ops role_ops = { role_request, role_follow, role_changed, role_wake,
                                          role_deadline };

static void
on_role_timer(void *arg)
{
        struct node *n = arg;

        role_timer(&n->role, node_now_ms(n));
}

static void
on_heartbeat(void *arg)
{
        struct node *n = arg;

        if (!n->is_primary)
                return;
        node_heartbeat(n);
        loop_timer_start(n->heartbeat, HEARTBEAT_MS);
}

static void
on_drain_timer(void *arg)
{
        node_end_drain(arg);
}

static void
on_drained(void *arg)
{
        struct node *n = arg;

        node_drained(n);
        node_lead_if_drained(n);
}

/* --- life --- */

static int
start_threads(struct node *n, struct err *e)
{
        struct applier_config config = { .workers = n->config.appliers,
                                         .store = n->config.store,
                                         .ops = n->config.apply_ops,
                                         .ops_arg = n->config.apply_arg,
                                         .applied = node_applied,
                                         .failed = node_failed,
                                         .invalid = node_invalid,
                                         .cut = node_cut,
                                         .drained = on_drained,
                                         .arg = n };
        int r;

        r = loop_new(&n->loop, e);
        if (r < 0)
                return r;
        r = workers_new(N_SENDERS, &n->senders);
        if (r == 0)
                r = workers_new(1, &n->lease_worker);
        if (r == 0)
                r = workers_new(1, &n->lease_watcher);
        config.loop = n->loop;
        if (r == 0)
                r = applier_new(&config, &n->applier);
        return r < 0 ? err_set(e, r, "start the node") : 0;
}

static int
make_timers(void *arg)
{
        struct node *n = arg;
        int r = loop_timer_new(n->loop, on_role_timer, n, &n->role_timer);

        if (r == 0)
                r = loop_timer_new(n->loop, on_drain_timer, n, &n->take_over);
        return r < 0 ? r : loop_timer_new(n->loop, on_heartbeat, n, &n->heartbeat);
}

int
node_open(const struct node_config *config, struct node **ret, struct err *e)
{
        struct node *n = calloc(1, sizeof *n);
        struct role_config role = { .ops = &role_ops,
                                    .arg = n,
                                    .hostname = config->hostname,
                                    .advertise_url = config->advertise_url,
                                    .is_candidate = config->is_candidate,
                                    .ttl_ms = config->lease->ttl_ms,
                                    .may_vanish = config->lease->may_vanish,
                                    .reconnect_ms = config->reconnect_ms };
        int r;

        if (n == NULL)
                return err_set(e, -ENOMEM, "start the node");
        n->config = *config;
        pthread_mutex_init(&n->commits.lock, NULL);
        pthread_mutex_init(&n->handover_lock, NULL);
        peers_init(&n->peers);
        pthread_mutex_init(&n->ready_lock, NULL);
        thread_cond_init(&n->ready_cond);
        if (getrandom(&n->boot_id, sizeof n->boot_id, 0) != sizeof n->boot_id ||
            getrandom(&role.random, sizeof role.random, 0) != sizeof role.random)
                r = err_set(e, -errno, "draw a boot id");
        else
                r = cluster_id_load(os_host(), config->data_dir, n->cluster_id, e);
        if (r == 0)
                r = term_file_load(os_host(), config->data_dir, &n->last_complete_term, e);
        if (r == 0)
                r = term_claims_load(os_host(), config->data_dir, &n->claims, e);
        if (r == 0)
                r = peers_load(&n->peers, os_host(), config->data_dir, e);
        if (r == 0)
                r = members_load(&n->members, os_host(), config->data_dir, e);
        role.last_complete_term = n->last_complete_term;
        config->lease->claim = node_claim_term;
        config->lease->claim_arg = n;
        n->env = *store_env(config->store);
        role_init(&n->role, &role);
        if (r == 0)
                r = start_threads(n, e);
        if (r == 0 && (r = loop_call(n->loop, make_timers, n)) < 0)
                err_set(e, r, "start the node");
        if (r < 0) {
                node_free(n);
                return r;
        }
        *ret = n;
        return 0;
}

struct loop *
node_loop(const struct node *n)
{
        return n->loop;
}

void
node_set_able(struct node *n, bool is_able)
{
        role_set_able(&n->role, node_now_ms(n), is_able);
        node_tell_candidacy(n);
}

struct start {
        struct node *n;
        const struct lease_state *held;
};

static int
begin_on_loop(void *arg)
{
        struct start *start = arg;
        struct node *n = start->n;

        if (start->held != NULL)
                role_go_on(&n->role, node_now_ms(n), start->held);
        else
                role_begin(&n->role, node_now_ms(n));
        return 0;
}

void
node_start(struct node *n, const struct lease_state *held)
{
        (void)loop_call(n->loop, begin_on_loop, &(struct start){ n, held });
}

static int
has_replicas(void *arg)
{
        return ((struct node *)arg)->replicas != NULL;
}

static int
is_leading(void *arg)
{
        return ((struct node *)arg)->is_primary;
}

static int
node_stop_on_loop(void *arg)
{
        struct node *n = arg;

        role_stop(&n->role);
        applier_clear(n->applier);
        node_follow(n, NULL);
        node_end_senders(n, FRAME_ERROR_SHUTDOWN, "the primary stops");
        return 0;
}

void
node_pause(struct node *n)
{
        node_set_ready(n); /* nobody waits any longer */
        (void)loop_call(n->loop, node_stop_on_loop, n);
        /* While the mount still answers: what is being applied goes through it. */
        workers_drain(n->config.appliers);
        workers_drain(n->lease_worker);
}

void
node_stop(struct node *n)
{
        bool is_holder;

        node_set_ready(n);
        pthread_mutex_lock(&n->ready_lock);
        is_holder = n->is_holder;
        pthread_mutex_unlock(&n->ready_lock);
        if (is_holder && n->config.lease->ttl_ms > 0 && loop_call(n->loop, has_replicas, n) > 0)
                node_hand_over_last(n);
        /* Nobody has taken it over: what is under way ends before all writes do. */
        if (loop_call(n->loop, is_leading, n) > 0)
                node_pause_writes(n, true);
        node_pause(n);
        n->config.lease->ops->release(n->config.lease); /* which ends the watch */
        workers_drain(n->lease_watcher);
}

void
node_free(struct node *n)
{
        if (n == NULL)
                return;
        if (n->loop != NULL)
                loop_stop(n->loop);
        listener_close(n->listener);
        workers_free(n->senders);
        node_wait_for_syncs(n);
        workers_free(n->lease_worker);
        workers_free(n->lease_watcher);
        if (n->config.appliers != NULL)
                workers_drain(n->config.appliers);
        applier_free(n->applier);
        loop_timer_free(n->role_timer);
        loop_timer_free(n->heartbeat);
        loop_timer_free(n->take_over);
        loop_free(n->loop);
        free(n->commits.dbs);
        pthread_mutex_destroy(&n->commits.lock);
        pthread_cond_destroy(&n->ready_cond);
        pthread_mutex_destroy(&n->handover_lock);
        peers_release(&n->peers);
        members_release(&n->members);
        pthread_mutex_destroy(&n->ready_lock);
        free(n);
}
