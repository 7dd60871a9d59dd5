#include "repl/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"
#include "store/sync_all.h"

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
        struct timespec until = monotonic_after_ms(timeout_ms);
        bool is;

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

bool
node_wait_primary(struct node *n, int64_t timeout_ms)
{
        return wait_flag(n, &n->is_holder, true, timeout_ms);
}

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

void
node_tell_role_changed(struct node *n)
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

void
node_tell_connected(struct node *n)
{
        for (unsigned i = 0; i < n->n_watchers; i++)
                if (n->watchers[i].connected != NULL)
                        n->watchers[i].connected(n->watchers[i].arg);
}

void
node_tell_pong(struct node *n, const struct frame_pong *p)
{
        for (unsigned i = 0; i < n->n_watchers; i++)
                if (n->watchers[i].answered != NULL)
                        n->watchers[i].answered(n->watchers[i].arg, p->nonce, n->role.term, p->pos);
}

static void
lead(struct node *n)
{
        n->is_taking_over = n->is_drained = false;
        n->is_primary = true;
        n->successor.boot_id = 0;
        node_members_lead(n);
        store_set_role(n->config.store, true, &n->held);
        log_info("primary lease acquired, advertising as %s, term=%llu", n->config.advertise_url,
                 (unsigned long long)n->held.term);
        node_tell_role_changed(n);
        set_flag(n, &n->is_holder, true);
        node_set_ready(n);
        loop_timer_start(n->heartbeat, 0);
}

/* --- what was applied becomes durable --- */

static void sync_ended(struct mail *m);

/* A worker. */
static void
report_sync(void *arg)
{
        struct node *n = arg;

        n->sync.mail = (struct mail){ sync_ended, NULL };
        (void)loop_post(n->loop, &n->sync.mail); /* fails when the loop has stopped: nobody waits then */
        pthread_mutex_lock(&n->ready_lock);
        n->sync.n_at_work--;
        pthread_cond_broadcast(&n->ready_cond);
        pthread_mutex_unlock(&n->ready_lock);
}

/* After the loop has stopped. */
static void
wait_for_syncs(struct node *n)
{
        pthread_mutex_lock(&n->ready_lock);
        while (n->sync.n_at_work > 0)
                pthread_cond_wait(&n->ready_cond, &n->ready_lock);
        pthread_mutex_unlock(&n->ready_lock);
}

static void
node_run_sync(struct work *w)
{
        struct node *n = (struct node *)((char *)w - offsetof(struct node, sync) -
                                         offsetof(struct node_sync, work));

        store_sync_applied(n->config.store, report_sync, n);
}

static void
begin_sync(struct node *n, uint64_t lead_term)
{
        n->sync.is_wanted = false;
        n->sync.lead_term = lead_term;
        n->sync.work = (struct work){ node_run_sync, NULL };
        n->sync.is_running = true;
        pthread_mutex_lock(&n->ready_lock);
        n->sync.n_at_work++;
        pthread_mutex_unlock(&n->ready_lock);
        workers_post(n->senders, &n->sync.work);
}

void
node_sync(struct node *n)
{
        if (n->sync.is_running)
                n->sync.is_wanted = true; /* this one may have begun too early */
        else
                begin_sync(n, 0);
}

/* What others acknowledged because this node has it must be on its disk before it is the one that says what is committed.
 * What still waits for a reader by then is synced a second after it is applied. */
static void
sync_to_lead(struct node *n)
{
        if (n->sync.is_running)
                n->sync.is_wanted = true;
        else if (store_has_unsynced(n->config.store))
                begin_sync(n, n->held.term);
        else
                lead(n);
}

static void
sync_ended(struct mail *m)
{
        struct node *n = (struct node *)((char *)m - offsetof(struct node, sync) -
                                         offsetof(struct node_sync, mail));

        n->sync.is_running = false;
        if (n->is_taking_over && n->is_drained && n->sync.lead_term == n->held.term)
                lead(n);
        else if (n->is_taking_over && n->is_drained)
                begin_sync(n, n->held.term);
        else if (n->sync.is_wanted)
                begin_sync(n, 0);
}

/* The last step but one: what was received is applied, or has had its time. */
static void
take_over_in_time(void *arg)
{
        struct node *n = arg;

        if (!n->is_taking_over || n->is_drained)
                return;
        loop_timer_cancel(n->take_over);
        n->is_drained = true;
        sync_to_lead(n);
}

/* At once, if there is nothing left to apply. What waits for a reader may take as long as the reader likes: until
 * it is applied, that database alone takes no writes (db_set_receiving). */
static void
finish_taking_over(struct node *n)
{
        if (n->is_taking_over && applier_is_empty(n->applier))
                take_over_in_time(n);
}

static void
step_down(struct node *n)
{
        bool was_primary = n->is_primary;

        n->is_taking_over = n->is_drained = n->is_primary = false;
        set_flag(n, &n->is_holder, false);
        if (was_primary) {
                log_info("this node is no longer the primary");
                node_end_senders(n, FRAME_ERROR_NOT_PRIMARY, "this node is no longer the primary");
        }
}

static void
role_changed(void *arg, bool is_primary, const struct lease_state *holder)
{
        struct node *n = arg;

        if (is_primary) {
                n->held = *holder;
                node_watch_lease(n, holder);
                n->is_taking_over = true;
                n->is_drained = false;
                loop_timer_start(n->take_over, DRAIN_MS);
                finish_taking_over(n);
                return;
        }
        store_set_role(n->config.store, false, holder);
        if (n->is_primary || n->is_taking_over)
                step_down(n);
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
                r = loop_timer_new(n->loop, take_over_in_time, n, &n->take_over);
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

void
node_watch(struct node *n, const struct node_watcher *w)
{
        if (n->n_watchers >= NODE_MAX_WATCHERS) {
                log_error("internal error: more than %d watch the node. Please report this line",
                          (int)NODE_MAX_WATCHERS);
                return;
        }
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
node_stop(struct node *n)
{
        bool is_holder;

        node_set_ready(n); /* nobody waits any longer */
        pthread_mutex_lock(&n->ready_lock);
        is_holder = n->is_holder;
        pthread_mutex_unlock(&n->ready_lock);
        if (is_holder && n->config.lease->ttl_ms > 0 && loop_call(n->loop, has_replicas, n) > 0)
                node_hand_over_last(n);
        (void)loop_call(n->loop, node_stop_on_loop, n);
        /* While the mount still answers: what is being applied goes through it. */
        workers_drain(n->config.appliers);
        workers_drain(n->lease_worker);
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
        wait_for_syncs(n);
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
