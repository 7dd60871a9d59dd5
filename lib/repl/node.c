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
#define STOP_HANDOFF_MS 1000
#define DEMOTED_PAUSE_MS 2000

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

static int64_t
role_deadline(void *arg)
{
        struct node *n = arg;
        struct lease *l = n->config.lease;

        /* The replicas' streams stay until the one that the lease is offered to has heard of it. */
        return n->is_offering ? n->offer_deadline_ms : l->ops->deadline_ms(l);
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

/* --- handing over --- */

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

        n->offer_deadline_ms = role_deadline(n);
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
        struct err e = ERR_INIT;
        struct handoff h = { .n = n, .is_stopping = true, .e = &e };
        bool is_holder;

        node_set_ready(n); /* nobody waits any longer */
        pthread_mutex_lock(&n->ready_lock);
        is_holder = n->is_holder;
        pthread_mutex_unlock(&n->ready_lock);
        if (is_holder && n->config.lease->ttl_ms > 0 && loop_call(n->loop, has_replicas, n) > 0 &&
            hand_over(&h, STOP_HANDOFF_MS) < 0)
                log_info("no handoff: %s", e.text);
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
