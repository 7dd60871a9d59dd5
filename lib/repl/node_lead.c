/* From the lease to leading, and back. A node that has the lease first applies what it has received and makes that durable. */
#include <stddef.h>

#include "base/log.h"
#include "repl/node_internal.h"
#include "store/sync_all.h"

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
        node_set_holder(n, true);
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

void
node_wait_for_syncs(struct node *n)
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

/* --- taking over, and stepping down --- */

void
node_begin_to_lead(struct node *n, const struct lease_state *held)
{
        n->held = *held;
        n->is_taking_over = true;
        n->is_drained = false;
        loop_timer_start(n->take_over, DRAIN_MS);
        node_lead_if_drained(n);
}

void
node_end_drain(struct node *n)
{
        if (!n->is_taking_over || n->is_drained)
                return;
        loop_timer_cancel(n->take_over);
        n->is_drained = true;
        sync_to_lead(n);
}

void
node_lead_if_drained(struct node *n)
{
        if (n->is_taking_over && applier_is_empty(n->applier))
                node_end_drain(n);
}

void
node_step_down(struct node *n)
{
        bool was_primary = n->is_primary;

        n->is_taking_over = n->is_drained = n->is_primary = false;
        node_set_holder(n, false);
        if (was_primary) {
                log_info("this node is no longer the primary");
                node_end_senders(n, FRAME_ERROR_NOT_PRIMARY, "this node is no longer the primary");
        }
}
