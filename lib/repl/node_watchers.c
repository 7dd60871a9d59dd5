/* Who is told of what happens to the node, and who waits for it. */
#include "base/log.h"
#include "base/monotonic.h"
#include "repl/node_internal.h"

/* --- watchers: on the loop's thread --- */

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

/* --- who waits: any thread --- */

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

void
node_set_holder(struct node *n, bool is_holder)
{
        set_flag(n, &n->is_holder, is_holder);
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
