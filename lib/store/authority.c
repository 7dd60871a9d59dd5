#include "store/authority.h"

#include "base/err.h"

void
authority_init(struct authority *a, const struct clock *clock, struct lease *lease)
{
        *a = (struct authority){ .clock = clock, .lease = lease };
}

static bool
is_lease_held(struct authority *a)
{
        return clock_boot_ms(a->clock) < a->lease->ops->deadline_ms(a->lease);
}

void
authority_lead(struct authority *a, uint64_t term)
{
        atomic_store(&a->term, term);
        atomic_store(&a->is_primary, true);
}

void
authority_follow(struct authority *a)
{
        atomic_store(&a->is_primary, false);
}

void
authority_stop(struct authority *a)
{
        atomic_store(&a->is_stopped, true);
}

void
authority_pause(struct authority *a, bool is_paused)
{
        atomic_fetch_add(&a->n_pauses, is_paused ? 1 : -1);
}

void
authority_set_gate(struct authority *a, enum authority_gate gate)
{
        atomic_store(&a->gate, gate);
}

int
authority_may_enter(struct authority *a, bool is_wal)
{
        enum authority_gate gate = atomic_load(&a->gate);

        return gate == AUTHORITY_CLOSED || (gate == AUTHORITY_CLOSING && !is_wal) ? E_BUSY : 0;
}

void
authority_pass_on(struct authority *a, bool is_passed_on)
{
        atomic_store(&a->passed_on_term, is_passed_on ? atomic_load(&a->term) : 0);
}

uint64_t
authority_term(struct authority *a)
{
        return atomic_load(&a->term);
}

int
authority_may_commit(struct authority *a)
{
        if (atomic_load(&a->is_stopped) || atomic_load(&a->n_pauses) > 0 || !atomic_load(&a->is_primary))
                return E_NOT_PRIMARY;
        return is_lease_held(a) ? 0 : E_FENCED;
}

int
authority_may_confirm(struct authority *a, uint64_t term, bool is_passed_on)
{
        if (atomic_load(&a->is_primary) && atomic_load(&a->term) == term && is_lease_held(a))
                return 0;
        return is_passed_on && atomic_load(&a->passed_on_term) == term ? 0 : E_UNCONFIRMED;
}
