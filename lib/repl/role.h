/* lib/repl/role.h - which part this node plays: a state machine without sockets, threads or clock.
 *
 *               +--------- no holder, may take it ----------+
 *               v                                           |
 *   START -> ACQUIRING -> PRIMARY -- lost, fenced --> WAITING <-> FOLLOWING
 *               |            |                             ^
 *               +- refused --+--- demoted, handed over ----+
 *
 * Each event comes with the time (CLOCK_BOOTTIME ms) and may call ops, which must not call back before they return.
 * At most one lease request is out at a time; its result is an event. */
#ifndef LITEFS_REPL_ROLE_H
#define LITEFS_REPL_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "lease/lease.h"

#define RECONNECT_MAX_MS 5000

enum role_state { ROLE_START, ROLE_WAITING, ROLE_FOLLOWING, ROLE_ACQUIRING, ROLE_PRIMARY, ROLE_STOPPED };

enum role_request { ROLE_READ, ROLE_ACQUIRE, ROLE_RENEW, ROLE_BREAK, ROLE_TAKE_OVER, ROLE_RELEASE };

struct role_ops {
        /* The result comes by role_answered. @seen: for ROLE_BREAK. */
        void (*request)(void *arg, enum role_request what, const struct lease_state *seen);
        /* Connect to @holder, leaving whom it followed before; NULL: nobody. */
        void (*follow)(void *arg, const struct lease_state *holder);
        /* @holder is this node when @is_primary, else who it knows to be (NULL: nobody). */
        void (*changed)(void *arg, bool is_primary, const struct lease_state *holder);
        /* Call role_timer at @at_ms; replaces what was asked for before. */
        void (*wake)(void *arg, int64_t at_ms);
        int64_t (*deadline_ms)(void *arg); /* the lease's */
};

struct role_config {
        const struct role_ops *ops;
        void *arg;
        const char *hostname, *advertise_url; /* borrowed */
        bool is_candidate;
        int64_t ttl_ms;       /* 0: a lease that does not run out */
        int64_t reconnect_ms; /* after the first failure; twice that after the next, up to RECONNECT_MAX_MS */
        uint64_t random;      /* for jitter */
};

struct role {
        struct role_config config;
        enum role_state state;
        struct lease_state holder; /* as last read; of this node when PRIMARY */
        bool has_request;
        enum role_request request;
        int64_t next_read_ms, next_renew_ms, next_connect_ms, no_acquire_until_ms;
        /* The holder's mark has been the same since then: see lease/lease.h. */
        uint64_t mark_renewal;
        char mark_session[LEASE_SESSION_SIZE];
        int64_t mark_since_ms;
        int64_t lower_since_ms; /* the holder's term is lower than one seen before; -1: and that was said */
        int64_t free_since_ms; /* this node could take the lease, for all it knows; 0: somebody holds it */
        unsigned n_failures;   /* to connect, in a row */
        bool is_connected, wants_take_over;
        bool owes_release; /* it has fenced itself, but the service may still have it as the holder */
        bool is_behind;    /* this node knows of positions that it does not have */
        uint64_t term;     /* the highest seen */
};

void role_init(struct role *r, const struct role_config *config);
void role_begin(struct role *r, int64_t now_ms);
void role_timer(struct role *r, int64_t now_ms);
/* @code: what the lease call returned, or for ACQUIRE and TAKE_OVER -ESTALE and E_CONFIG: this node's data is not what
 * the cluster goes on from, or not of the cluster. @state: of READ, ACQUIRE and TAKE_OVER when it was 0. */
void role_answered(struct role *r, int64_t now_ms, int code, const struct lease_state *state);
void role_connected(struct role *r, int64_t now_ms, uint64_t term);
/* The stream ended or could not be had. */
void role_disconnected(struct role *r, int64_t now_ms);
/* What the last primary is known to have and this node does not. */
void role_set_behind(struct role *r, bool is_behind);
/* The primary offers its lease to this node. */
void role_offered(struct role *r, int64_t now_ms);
/* Gives up being the primary, and does not take it again for @pause_ms. The caller has released or offered the
 * lease. */
void role_demote(struct role *r, int64_t now_ms, int64_t pause_ms);
/* The caller has taken the lease back that it had offered: this node leads in @state's term, a new one. */
void role_regained(struct role *r, int64_t now_ms, const struct lease_state *state);
void role_stop(struct role *r);

#endif
