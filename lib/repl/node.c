#include "repl/node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"
#include "repl/term_file.h"

#define N_SENDERS 2

int64_t
node_now_ms(const struct node *n)
{
        return clock_boot_ms(n->config.clock);
}

/* --- who waits for us --- */

static void
set_flag(struct node *n, bool *flag, bool value)
{
        pthread_mutex_lock(&n->ready_lock);
        *flag = value;
        pthread_cond_broadcast(&n->ready_cond);
        pthread_mutex_unlock(&n->ready_lock);
}

void
node_set_ready(struct node *n)
{
        set_flag(n, &n->is_ready, true);
}

static bool
wait_flag(struct node *n, const bool *flag, bool value, int64_t timeout_ms)
{
        struct timespec until;
        bool is;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        pthread_mutex_lock(&n->ready_lock);
        while (*flag != value && pthread_cond_timedwait(&n->ready_cond, &n->ready_lock, &until) == 0)
                ;
        is = *flag == value;
        pthread_mutex_unlock(&n->ready_lock);
        return is;
}

bool
node_wait_ready(struct node *n, int64_t timeout_ms)
{
        return wait_flag(n, &n->is_ready, true, timeout_ms);
}

uint64_t
node_id(const struct node *n)
{
        return n->node_id;
}

int
node_port(const struct node *n)
{
        return n->port;
}

/* --- the role --- */

struct role_job {
        struct work work;
        struct node *n;
        bool is_primary;
};

static void
run_role_job(struct work *w)
{
        struct role_job *job = (struct role_job *)w;

        if (job->n->config.role_changed != NULL)
                job->n->config.role_changed(job->n->config.arg, job->is_primary);
        free(job);
}

void
node_tell_role(struct node *n, bool is_primary)
{
        struct role_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                return;
        job->work.run = run_role_job;
        job->n = n;
        job->is_primary = is_primary;
        workers_post(n->config.appliers, &job->work);
}

static void
tell_watchers(struct node *n)
{
        for (unsigned i = 0; i < n->n_watchers; i++)
                if (n->watchers[i].role_changed != NULL)
                        n->watchers[i].role_changed(n->watchers[i].arg);
}

void
node_tell_shown(struct node *n, struct db *db)
{
        for (unsigned i = 0; i < n->n_watchers; i++)
                if (n->watchers[i].committed != NULL)
                        n->watchers[i].committed(n->watchers[i].arg, db);
}

static void
take_over(void *arg)
{
        struct node *n = arg;

        if (!n->is_taking_over)
                return;
        loop_timer_cancel(n->take_over);
        n->is_taking_over = false;
        n->is_primary = true;
        store_set_role(n->config.store, true, &n->held);
        log_info("primary lease acquired, advertising as %s, term=%llu", n->config.advertise_url,
                 (unsigned long long)n->held.term);
        node_tell_role(n, true);
        tell_watchers(n);
        set_flag(n, &n->is_holder, true);
        node_set_ready(n);
        loop_timer_start(n->heartbeat, 0);
}

/* At once, if there is nothing left to apply. What waits for a reader may take as long as the reader likes: until
 * it is applied, that database alone takes no writes (db_set_receiving). */
static void
finish_taking_over(struct node *n)
{
        if (n->is_taking_over && applier_is_empty(n->applier))
                take_over(n);
}

static void
step_down(struct node *n)
{
        bool was_primary = n->is_primary;

        n->is_taking_over = n->is_primary = false;
        set_flag(n, &n->is_holder, false);
        if (was_primary) {
                log_info("this node is no longer the primary");
                node_end_feeds(n, FRAME_ERROR_NOT_PRIMARY, "this node is no longer the primary");
                node_tell_role(n, false);
        }
}

static void
role_changed(void *arg, bool is_primary, const struct lease_state *holder)
{
        struct node *n = arg;

        if (is_primary) {
                n->held = *holder;
                n->is_taking_over = true;
                loop_timer_start(n->take_over, DRAIN_MS);
                finish_taking_over(n);
                return;
        }
        store_set_role(n->config.store, false, holder);
        if (n->is_primary || n->is_taking_over)
                step_down(n);
        tell_watchers(n);
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

int64_t
node_deadline_ms(const struct node *n)
{
        struct lease *l = n->config.lease;

        /* The replicas' streams stay until the one that the lease is offered to has heard of it. */
        return n->is_offering ? n->offer_deadline_ms : l->ops->deadline_ms(l);
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
on_drained(void *arg)
{
        struct node *n = arg;

        node_drained(n);
        finish_taking_over(n);
}

/* --- commits --- */

static void
send_commits(struct mail *m)
{
        struct node *n = (struct node *)((char *)m - offsetof(struct node, commits) -
                                         offsetof(struct commits, mail));

        node_send_commits(n);
}

void
node_committed(struct node *n, struct db *db)
{
        struct commits *cs = &n->commits;
        bool is_new = true;

        pthread_mutex_lock(&cs->lock);
        for (uint32_t i = 0; i < cs->n && is_new; i++)
                is_new = cs->dbs[i] != db;
        if (is_new && cs->n == cs->capacity) {
                uint32_t want = cs->capacity == 0 ? 64 : cs->capacity * 2;
                struct db **p = realloc(cs->dbs, want * sizeof(struct db *));

                if (p != NULL) {
                        cs->dbs = p;
                        cs->capacity = want;
                }
        }
        if (is_new && cs->n < cs->capacity) /* else it goes with the next one */
                cs->dbs[cs->n++] = db;
        if (!cs->is_posted) {
                cs->is_posted = true;
                cs->mail = (struct mail){ send_commits, NULL };
                if (loop_post(n->loop, &cs->mail) < 0)
                        cs->is_posted = false;
        }
        pthread_mutex_unlock(&cs->lock);
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
                r = loop_timer_new(n->loop, take_over, n, &n->take_over);
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
                                    .reconnect_ms = config->reconnect_ms };
        pthread_condattr_t attr;
        int r;

        if (n == NULL)
                return err_set(e, -ENOMEM, "start the node");
        n->config = *config;
        pthread_mutex_init(&n->commits.lock, NULL);
        pthread_mutex_init(&n->ready_lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&n->ready_cond, &attr);
        pthread_condattr_destroy(&attr);
        if (getrandom(&n->node_id, sizeof n->node_id, 0) != sizeof n->node_id ||
            getrandom(&role.random, sizeof role.random, 0) != sizeof role.random)
                r = err_set(e, -errno, "draw a node id");
        else
                r = cluster_id_load(os_host(), config->data_dir, n->cluster_id, e);
        if (r == 0)
                r = term_file_load(os_host(), config->data_dir, &n->whole_term, e);
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
node_watch(struct node *n, const struct node_watcher *w)
{
        assert(n->n_watchers < NODE_MAX_WATCHERS);
        n->watchers[n->n_watchers++] = *w;
}

static int
begin_on_loop(void *arg)
{
        struct node *n = arg;

        role_begin(&n->role, node_now_ms(n));
        return 0;
}

void
node_start(struct node *n)
{
        (void)loop_call(n->loop, begin_on_loop, n);
}

static int
has_replicas(void *arg)
{
        return ((struct node *)arg)->replicas != NULL;
}

static int
stop_on_loop(void *arg)
{
        struct node *n = arg;

        role_stop(&n->role);
        applier_clear(n->applier);
        node_follow(n, NULL);
        node_end_feeds(n, FRAME_ERROR_SHUTDOWN, "the primary stops");
        return 0;
}

void
node_stop(struct node *n)
{
        bool is_holder;

        node_set_ready(n); /* nobody waits any longer */
        pthread_mutex_lock(&n->ready_lock);
        is_holder = n->is_holder;
        pthread_mutex_unlock(&n->ready_lock);
        if (is_holder && n->config.lease->ttl_ms > 0 && loop_call(n->loop, has_replicas, n) > 0)
                node_hand_over_last(n);
        (void)loop_call(n->loop, stop_on_loop, n);
        /* While the mount still answers: what is being applied goes through it. */
        workers_drain(n->config.appliers);
        workers_drain(n->lease_worker);
        n->config.lease->ops->release(n->config.lease);
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
        workers_free(n->lease_worker);
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
        pthread_mutex_destroy(&n->ready_lock);
        free(n);
}
