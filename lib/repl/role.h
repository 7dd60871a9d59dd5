/* lib/repl/role.h - which part this node plays: a state machine without sockets, threads or clock.
 *
 *               +--------- no holder, may take it ----------+
 *               v                                           |
 *   START -> ACQUIRING -> PRIMARY -- lost, fenced --> WAITING <-> FOLLOWING
 *               |            |                             ^
 *               +- refused --+--- demoted, handed over ----+
 *
 * A lease that is free is not taken before its last holder must have stopped (lease/lease.h): has_stopped() in role_read.c
 * has the ways to know. A primary that loses its lease before its time stops to commit at once, and tries for REGAIN_MS to
 * have it back before it tells its replicas, for its word lets them take it.
 *
 * Each event comes with the time (CLOCK_BOOTTIME ms) and may call ops, which must not call back before they return.
 * At most one lease request is out at a time; its result is an event. */
#ifndef LITEFS_REPL_ROLE_H
#define LITEFS_REPL_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "lease/lease.h"

#define RECONNECT_MAX_MS 5000

enum role_state { ROLE_START, ROLE_WAITING, ROLE_FOLLOWING, ROLE_ACQUIRING, ROLE_PRIMARY, ROLE_STOPPED };

enum role_request {
        ROLE_READ,
        ROLE_ACQUIRE,
        ROLE_RENEW,
        ROLE_BREAK,
        ROLE_TAKE_OVER,
        ROLE_RELEASE,
        ROLE_RAISE, /* tell the service of last_complete_term */
};

struct role_ops {
        /* The result comes by role_answered. @seen: the lease as it was read, for BREAK, ACQUIRE and RAISE. */
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
        int64_t ttl_ms; /* 0: a lease that does not run out */
        int64_t reconnect_ms; /* at most, after the first failure; twice that after the next, up to RECONNECT_MAX_MS */
        bool may_vanish;             /* the lease, as in lease/lease.h */
        uint64_t random;             /* for jitter */
        uint64_t last_complete_term; /* the last term that this node has all the data of; 0: none */
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
        bool is_twin; /* the holder goes by this node's name and address, and is alive: it is another node */
        int64_t lower_since_ms; /* the holder's term is lower than one seen before; -1: and that was said */
        struct lease_state seen; /* nobody had it, as last read */
        int64_t unmoved_since_ms; /* it was read to be so first, and nothing has moved since; 0: somebody has it */
        int64_t last_ttl_ms; /* of the holder of last_ttl_term */
        uint64_t last_ttl_term;
        uint64_t word_term;   /* its holder has said that it has stopped */
        int64_t own_until_ms; /* a deadline that this node had when it lost its lease; 0: it has none */
        int64_t regain_until_ms; /* it tries to have it back; 0: it does not */
        int64_t free_since_ms; /* this node could take the lease, for all it knows; 0: somebody holds it */
        struct backoff dials; /* connections that failed, or ended before all was there */
        struct backoff reads, changes, renewals; /* requests to the service that failed, in a row */
        int64_t no_change_until_ms; /* a change of the lease has failed: none is tried before */
        bool is_connected, wants_take_over;
        bool owes_release; /* it has fenced itself, but the service may still have it as the holder */
        int64_t passing_until_ms; /* the lease is about to be another's */
        bool is_behind;           /* this node knows of positions that it does not have */
        bool is_unable; /* to serve a primary's applications: it neither leads nor takes the lease */
        uint64_t term;  /* the highest seen */
        uint64_t last_complete_term;
};

void role_init(struct role *r, const struct role_config *config);
/* Once; does nothing after role_stop. */
void role_begin(struct role *r, int64_t now_ms);
/* Instead of role_begin: this node holds the lease as @state says, if its deadline has not passed meanwhile. */
void role_go_on(struct role *r, int64_t now_ms, const struct lease_state *state);
void role_timer(struct role *r, int64_t now_ms);
/* @code: what the lease call returned, or for ACQUIRE and TAKE_OVER -ESTALE and E_CONFIG: this node's data is not what
 * the cluster goes on from, or not of the cluster. @state: of READ, ACQUIRE and TAKE_OVER when it was 0. */
void role_answered(struct role *r, int64_t now_ms, int code, const struct lease_state *state);
void role_connected(struct role *r, int64_t now_ms, uint64_t term);
/* The stream ended or could not be had. */
void role_disconnected(struct role *r, int64_t now_ms);
/* What the last primary is known to have and this node does not. */
void role_set_behind(struct role *r, bool is_behind);
/* False: a primary gives its lease up, and the node is no candidate until true. A lease that does not run out stays where
 * it is. */
void role_set_able(struct role *r, int64_t now_ms, bool is_able);
/* It may lead, and can. */
bool role_is_candidate(const struct role *r);
/* This node has all the data of @term. */
void role_set_complete(struct role *r, uint64_t term);
/* The holder of @term has said on its stream that it commits no more; what it committed has come before. */
void role_told_stopped(struct role *r, int64_t now_ms, uint64_t term);
/* The watch has seen the lease of @term lost. */
void role_lost(struct role *r, int64_t now_ms, uint64_t term);
/* A replica of this primary has been in @term, a later one. */
void role_outranked(struct role *r, int64_t now_ms, uint64_t term);
/* How long until this node knows that the last holder must have stopped; 0: it does not wait for that. */
int64_t role_stop_wait_ms(const struct role *r, int64_t now_ms);
/* The primary offers its lease to this node. */
void role_offered(struct role *r, int64_t now_ms);
/* Gives up being the primary, and does not take it again for @pause_ms. The caller has released or offered the
 * lease. */
void role_demote(struct role *r, int64_t now_ms, int64_t pause_ms);
/* The caller has taken the lease back that it had offered: this node leads in @state's term, a new one. */
void role_regained(struct role *r, int64_t now_ms, const struct lease_state *state);
/* The primary that this node follows passes the lease to a third one: it is looked for at once, and often. */
void role_passed_on(struct role *r, int64_t now_ms);
/* It leads no more once it has ceased to. */
void role_retire(struct role *r);
void role_stop(struct role *r);

#endif
