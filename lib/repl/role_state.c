/* The states of the role machine, and what each move between them does. When one is made: role.c and role_read.c. */
#include <stddef.h>

#include "base/log.h"
#include "repl/role_internal.h"

#define PASSING_READ_MS 50   /* while the lease is about to be another's, it is looked at so often */
#define STATIC_READ_MS 60000 /* nothing changes there */
#define REGAIN_MS 300

void
role_set_state(struct role *r, enum role_state state)
{
        static const char *const names[] = { "start",     "waiting", "following",
                                             "acquiring", "primary", "stopped" };

        if (r->state == state)
                return;
        log_debug("role: %s -> %s, term %llu", names[r->state], names[state],
                  (unsigned long long)r->term);
        r->state = state;
}

int64_t
role_read_interval(const struct role *r, int64_t now_ms)
{
        int64_t ms = r->config.ttl_ms / 10;

        if (r->config.ttl_ms == 0)
                return STATIC_READ_MS;
        if (now_ms < r->passing_until_ms)
                return PASSING_READ_MS;
        return ms > READ_MAX_MS ? READ_MAX_MS : ms < RETRY_MS ? RETRY_MS : ms;
}

void
role_ask(struct role *r, enum role_request what)
{
        if (r->has_request || r->state == ROLE_STOPPED)
                return;
        r->has_request = true;
        r->request = what;
        r->config.ops->request(r->config.arg, what,
                               what == ROLE_ACQUIRE || what == ROLE_RAISE ? &r->seen : &r->holder);
}

void
role_stop_following(struct role *r)
{
        if (r->state != ROLE_FOLLOWING)
                return;
        r->is_connected = false;
        role_set_state(r, ROLE_WAITING);
        r->config.ops->follow(r->config.arg, NULL);
}

void
role_leave_primary(struct role *r, int64_t now_ms)
{
        r->holder.has_holder = false;
        r->word_term = r->term; /* of the own term, for it is the last */
        r->own_until_ms = r->regain_until_ms = 0;
        role_set_state(r, ROLE_WAITING);
        r->next_read_ms = now_ms;
        r->config.ops->changed(r->config.arg, false, NULL);
}

void
role_give_up_regaining(struct role *r, int64_t now_ms)
{
        if (r->regain_until_ms != 0)
                role_leave_primary(r, now_ms);
}

void
role_lose_primary(struct role *r, int64_t now_ms)
{
        r->owes_release = true;
        if (!r->config.is_candidate || now_ms >= r->own_until_ms) {
                role_leave_primary(r, now_ms);
                return;
        }
        r->holder.has_holder = false;
        r->regain_until_ms = now_ms + REGAIN_MS;
        r->unmoved_since_ms = 0;
        role_set_state(r, ROLE_WAITING);
        r->next_read_ms = now_ms;
}

void
role_become_primary(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        role_stop_following(r);
        role_give_up_regaining(r, now_ms); /* the old term has ended for its replicas */
        r->unmoved_since_ms = 0;
        r->own_until_ms = r->config.ops->deadline_ms(r->config.arg);
        r->last_ttl_ms = r->config.ttl_ms;
        r->last_ttl_term = r->last_complete_term = s->term;
        r->holder = *s;
        r->term = s->term;
        r->is_behind = false;
        r->owes_release = false;
        r->free_since_ms = 0;
        backoff_reset(&r->renewals);
        r->next_renew_ms = r->config.ttl_ms > 0 ? now_ms + r->config.ttl_ms / 4 : INT64_MAX;
        role_set_state(r, ROLE_PRIMARY);
        r->config.ops->changed(r->config.arg, true, s);
}
