/* lib/repl/role_internal.h - the inside of the role machine, for role*.c only.
 *
 *   role.c        timers, and the events
 *   role_read.c   what follows from the lease as it was read
 *   role_state.c  the states, and what each move between them does
 *
 * They call each other downwards. */
#ifndef LITEFS_REPL_ROLE_INTERNAL_H
#define LITEFS_REPL_ROLE_INTERNAL_H

#include "repl/role.h"

#define READ_MAX_MS 1000 /* how often the lease is looked at, at the least */
#define RETRY_MS 100

static inline int64_t
role_earlier(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

static inline int64_t
role_later(int64_t a, int64_t b)
{
        return a > b ? a : b;
}

/* --- role_state.c --- */
/* How often the lease is looked at now. */
int64_t role_read_interval(const struct role *r, int64_t now_ms);
/* Unless a request is out. */
void role_ask(struct role *r, enum role_request what);
void role_set_state(struct role *r, enum role_state state);
void role_become_primary(struct role *r, int64_t now_ms, const struct lease_state *s);
/* From here on others may take the lease. */
void role_leave_primary(struct role *r, int64_t now_ms);
/* Before its time; nothing is committed any more, and nobody else has it yet while own_until_ms has not passed. The session
 * may still be there, with the key or without it. */
void role_lose_primary(struct role *r, int64_t now_ms);
void role_stop_following(struct role *r);
/* Of a primary that has lost its lease a moment ago. */
void role_give_up_regaining(struct role *r, int64_t now_ms);

/* --- role_read.c --- */
void role_on_holder(struct role *r, int64_t now_ms, const struct lease_state *s);
void role_on_nobody(struct role *r, int64_t now_ms, const struct lease_state *s);

#endif
