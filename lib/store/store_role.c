/* Whether this node may write: its role, its lease's deadline, and what holds writes up. */
#include "store/store_internal.h"

int
store_may_commit(struct store *s)
{
        if (atomic_load(&s->is_stopped) || atomic_load(&s->n_pauses) > 0 || !atomic_load(&s->is_primary))
                return E_NOT_PRIMARY;
        return clock_boot_ms(s->config.clock) < s->lease->ops->deadline_ms(s->lease) ? 0 : E_FENCED;
}

int
store_may_confirm(struct store *s)
{
        bool is_held = clock_boot_ms(s->config.clock) < s->lease->ops->deadline_ms(s->lease);

        return is_held || atomic_load(&s->is_handed_over) ? 0 : E_UNCONFIRMED;
}

bool
store_is_primary(struct store *s)
{
        return atomic_load(&s->is_primary);
}

void
store_stop_writes(struct store *s)
{
        atomic_store(&s->is_stopped, true);
}

void
store_pause_writes(struct store *s, bool is_paused)
{
        atomic_fetch_add(&s->n_pauses, is_paused ? 1 : -1);
}

void
store_set_handed_over(struct store *s, bool is_handed_over)
{
        atomic_store(&s->is_handed_over, is_handed_over);
}

void
store_set_contact(struct store *s, int64_t boot_ms)
{
        atomic_store(&s->contact_ms, boot_ms);
}

int64_t
store_lag_ms(struct store *s)
{
        int64_t contact = atomic_load(&s->contact_ms), lag;

        if (atomic_load(&s->is_primary))
                return 0;
        lag = contact == 0 ? INT32_MAX : clock_boot_ms(s->config.clock) - contact;
        return lag > INT32_MAX ? INT32_MAX : lag;
}

void
store_set_role(struct store *s, bool is_primary, const struct lease_state *holder)
{
        pthread_mutex_lock(&s->role_lock);
        if (holder != NULL)
                s->holder = *holder;
        s->holder.has_holder = holder != NULL && holder->has_holder;
        atomic_store(&s->is_primary, is_primary);
        if (is_primary)
                atomic_store(&s->is_handed_over, false);
        pthread_mutex_unlock(&s->role_lock);
}

bool
store_primary(struct store *s, struct lease_state *ret)
{
        bool is_known;

        pthread_mutex_lock(&s->role_lock);
        is_known = s->holder.has_holder && !atomic_load(&s->is_primary);
        if (is_known)
                *ret = s->holder;
        pthread_mutex_unlock(&s->role_lock);
        return is_known;
}
