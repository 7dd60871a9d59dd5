/* Whether this node may write: its role, its lease's deadline, and what holds writes up. */
#include <stdlib.h>

#include "store/store_internal.h"

int
store_may_commit(struct store *s)
{
        return authority_may_commit(&s->authority);
}

bool
store_is_primary(struct store *s)
{
        return atomic_load(&s->authority.is_primary);
}

void
store_stop_writes(struct store *s)
{
        authority_stop(&s->authority);
}

void
store_pause_writes(struct store *s, bool is_paused)
{
        authority_pause(&s->authority, is_paused);
}

void
store_set_gate(struct store *s, enum authority_gate gate)
{
        authority_set_gate(&s->authority, gate);
}

static int
is_committing(void *arg, struct db *db)
{
        (void)arg;
        return db_is_committing(db);
}

bool
store_is_quiet(struct store *s)
{
        return store_each(s, is_committing, NULL) == 0;
}

static int
pass_on(void *arg, struct db *db)
{
        (void)arg;
        db_pass_on(db);
        return 0;
}

void
store_set_handed_over(struct store *s, bool is_handed_over)
{
        if (is_handed_over)
                store_each(s, pass_on, NULL);
        authority_pass_on(&s->authority, is_handed_over);
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

        if (store_is_primary(s))
                return 0;
        lag = contact == 0 ? INT32_MAX : clock_boot_ms(s->config.clock) - contact;
        return lag > INT32_MAX ? INT32_MAX : lag;
}

static void
raise_to(atomic_uint_fast64_t *term, uint64_t to)
{
        uint64_t found = atomic_load(term);

        while (found < to && !atomic_compare_exchange_weak(term, &found, to))
                ;
}

void
store_set_confirmed_term(struct store *s, uint64_t term)
{
        raise_to(&s->known_term, term);
        raise_to(&s->confirmed_term, term);
}

uint64_t
store_confirmed_term(struct store *s)
{
        return atomic_load(&s->confirmed_term);
}

uint64_t
store_known_term(struct store *s)
{
        return atomic_load(&s->known_term);
}

void
store_set_role(struct store *s, bool is_primary, const struct lease_state *holder)
{
        pthread_mutex_lock(&s->role_lock);
        /* Who is the primary no more has to reckon with another one, whom what it has committed last may not have reached. */
        if (!is_primary && store_is_primary(s))
                raise_to(&s->known_term, store_confirmed_term(s) + 1);
        if (holder != NULL && is_primary)
                store_set_confirmed_term(s, holder->term);
        else if (holder != NULL)
                raise_to(&s->known_term, holder->term);
        if (holder != NULL)
                s->holder = *holder;
        s->holder.has_holder = holder != NULL && holder->has_holder;
        if (is_primary)
                authority_lead(&s->authority, holder != NULL ? holder->term : 0);
        else
                authority_follow(&s->authority);
        pthread_mutex_unlock(&s->role_lock);
        /* A primary finishes renames; of who is none, what is open now can be committed no more. */
        store_wants_tick(s);
}

bool
store_primary(struct store *s, struct lease_state *ret)
{
        bool is_known;

        pthread_mutex_lock(&s->role_lock);
        is_known = s->holder.has_holder && !store_is_primary(s);
        if (is_known)
                *ret = s->holder;
        pthread_mutex_unlock(&s->role_lock);
        return is_known;
}

/* --- what was committed and has waited to be confirmed --- */

struct confirmation {
        struct work work;
        struct store *s;
        uint64_t term;
};

static int
confirm(void *arg, struct db *db)
{
        db_confirm(db, *(uint64_t *)arg);
        return 0;
}

static void
run_confirm(struct work *w)
{
        struct confirmation *c = (struct confirmation *)w;

        store_each(c->s, confirm, &c->term);
        free(c);
}

/* What is asked for the databases' locks is a worker: the loop waits for none. */
void
store_confirm(struct store *s, uint64_t term)
{
        struct confirmation *c = malloc(sizeof *c);

        store_set_confirmed_term(s, term);
        if (c == NULL)
                return; /* each next commit is confirmed for itself */
        *c = (struct confirmation){ { run_confirm, NULL }, s, term };
        workers_post(s->config.workers, &c->work);
}
