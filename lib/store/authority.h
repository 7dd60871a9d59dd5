/* lib/store/authority.h - whether this node may commit, and whether it may say that something is committed.
 *
 * Asked by lib/db through its environment: db/commit.c, env->may_commit (store_env.c), and here.
 *
 * A commit asks twice. Before its record enters the log: authority_may_commit, with the term that it is made in. Before its
 * application is told: authority_may_confirm, with that term; for in between the disk may have stood still, and the lease
 * been lost, and even regained after another node led. Where the lease was passed on, what the other node had when it was
 * offered is confirmed, and nothing else.
 *
 * A pause refuses new commits. It is a barrier once no database is committing (store_is_quiet): who was allowed to commit
 * before it has been answered then. The gate comes before a planned one: it refuses nothing, and has those who come wait.
 *
 * Any thread, never waits. */
#ifndef LITEFS_STORE_AUTHORITY_H
#define LITEFS_STORE_AUTHORITY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "lease/lease.h"

enum authority_gate {
        AUTHORITY_OPEN,
        AUTHORITY_CLOSING, /* no rollback journal is begun */
        AUTHORITY_CLOSED,  /* nor is anything written to a WAL */
};

struct authority {
        const struct clock *clock;
        struct lease *lease;
        atomic_bool is_primary;
        atomic_bool is_stopped;
        atomic_int n_pauses;
        _Atomic enum authority_gate gate;
        atomic_uint_fast64_t term;           /* in which this node leads or has led last */
        atomic_uint_fast64_t passed_on_term; /* that ended by passing the lease on; 0: none */
};

void authority_init(struct authority *a, const struct clock *clock, struct lease *lease);
void authority_lead(struct authority *a, uint64_t term);
void authority_follow(struct authority *a);
/* For good. */
void authority_stop(struct authority *a);
/* Each true needs its false. */
void authority_pause(struct authority *a, bool is_paused);
void authority_set_gate(struct authority *a, enum authority_gate gate);
/* 0, or E_BUSY: ask again when the gate has moved. */
int authority_may_enter(struct authority *a, bool is_wal);
/* The lease is about to be offered to a node that has all that is here; or that came to nothing. */
void authority_pass_on(struct authority *a, bool is_passed_on);

uint64_t authority_term(struct authority *a);
/* 0, E_NOT_PRIMARY or E_FENCED. */
int authority_may_commit(struct authority *a);
/* 0 or E_UNCONFIRMED: the transaction may not be the cluster's. @term as authority_term said before authority_may_commit said
 * yes; @is_passed_on: it was here when authority_pass_on was called. */
int authority_may_confirm(struct authority *a, uint64_t term, bool is_passed_on);

#endif
