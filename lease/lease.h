/* lease/lease.h - who may write: one node at a time, the holder of the lease.
 *
 * A backend embeds `struct lease` first. Calls wait for the network, each with a deadline of its own, so
 * they belong on one worker at a time (the role's), but for watch(); deadline_ms() alone is immediate, safe from any
 * thread, and asked at each commit.
 *
 * Fencing: a holder may commit until *start of its last successful request* + TTL - a margin, by its own
 * CLOCK_BOOTTIME, whatever the service believes. So nobody takes over before the last holder must have stopped:
 *
 *   - it has released the lease, which the service shows (lease_state.is_released);
 *   - each renewal leaves a mark that everybody can read (lease_state.renewal), written after the request that the
 *     deadline counts from. A candidate that has read the same mark for the holder's whole TTL, by its own clock, may
 *     break the session, which the service keeps for longer; breaking compares the mark once more, in the service;
 *   - the lease is gone without a release, for the service may end a session before its time, or lose the key. Then the
 *     holder may have renewed it up to that moment, and a candidate waits for the holder's TTL from the answer that first
 *     showed it gone. acquire() fails if anything has changed since the state that it is given was read.
 *
 * That a candidate no longer hears of the holder is not enough: the service may still do.
 *
 * Terms rise with every change of holder and stay through its renewals. The service keeps the last one, in the
 * transaction by which it is acquired. They are also later than the service's own counter (Consul: its index, etcd: its
 * revision) at that moment, never a clock. */
#ifndef LITEFS_LEASE_LEASE_H
#define LITEFS_LEASE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define LEASE_HOSTNAME_SIZE 256
#define LEASE_URL_SIZE 1024
#define LEASE_SESSION_SIZE 128
#define LEASE_KEY_SIZE 512
#define LEASE_CLUSTER_ID_SIZE 21 /* "LFSC" and 16 hex digits */

struct lease;

#define LEASE_TERM_MAX ((uint64_t)1 << 62)

/* The lease as the service tells it. */
struct lease_state {
        bool has_holder;
        uint64_t term;                      /* of the holder */
        char hostname[LEASE_HOSTNAME_SIZE]; /* the holder, as its peers reach it */
        char advertise_url[LEASE_URL_SIZE];
        char session[LEASE_SESSION_SIZE]; /* what the holder holds it by, in the service */
        uint64_t renewal;                 /* changes with each renewal of the holder's */
        int64_t ttl_ms; /* the holder's, which may not be this node's; 0: it leaves no marks (LiteFS 0.5) */
        /* When nobody holds it; what an acquisition is bound to. */
        uint64_t index;           /* the service's counter as it answered */
        uint64_t key_index;       /* of the key that a holder has; 0: it is not there */
        uint64_t last_term;       /* the last that began; 0: the service knows of none */
        uint64_t last_term_index; /* of the key that says so; 0: it is not there */
        uint64_t released_index; /* of the key that says whether its holder has released it; 0: it is not there */
        bool is_raised;          /* it was told so by raise_term(): there may have been later ones */
        bool is_released; /* the holder of the last term has given it up, and commits no more */
};

/* The lease as a process holds it, for the next program of the same process, which has its configuration. The times are those of
 * this machine since it was booted. */
struct lease_hold {
        char type[16], key[LEASE_KEY_SIZE], hostname[LEASE_HOSTNAME_SIZE], advertise_url[LEASE_URL_SIZE];
        char session[LEASE_SESSION_SIZE]; /* "": it holds none */
        uint64_t term, renewals;
        int64_t ttl_ms;      /* that its renewals ask for */
        int64_t deadline_ms; /* as lease_ops.deadline_ms */
        /* What could not be ended yet, or was lost; "": nothing. */
        char leftover[LEASE_SESSION_SIZE];
        uint64_t leftover_term;
        int fd; /* that has to stay open for the session to live; -1: none */
};

struct lease_ops {
        /* 0, also when nobody holds the lease. */
        int (*read)(struct lease *l, struct lease_state *ret, struct err *e);
        /* 0: this node holds the lease now, in *@ret.term, which is @min_term or later and later than the last.
         * E_NOT_PRIMARY: the lease is not free as it was @seen, or this node may not take it (yet). Also for a holder that
         * was restarted with the same name: no session is inherited. */
        int (*acquire)(struct lease *l, const struct lease_state *seen, uint64_t min_term,
                       struct lease_state *ret, struct err *e);
        /* 0: the deadline has moved. E_NOT_PRIMARY: lost for good. Anything else: not known, try again;
         * the deadline stands. */
        int (*renew)(struct lease *l, struct err *e);
        /* Gives it up: nobody holds it, without a delay for the next. The deadline passes at once, before
         * the request is sent; so the last commit must have been answered. */
        void (*release)(struct lease *l);
        /* Ends the lease of a holder that has fenced itself, only if it is still as @seen, not renewed
         * either; it is then as if the holder had released it. E_NOT_PRIMARY: it is not, read it again.
         * -ENOTSUP, also for a holder without a ttl_ms. */
        int (*break_stale)(struct lease *l, const struct lease_state *seen, struct err *e);
        /* Handing over: the holder's deadline passes at once and *@token is what the next holder takes it
         * over by, within the TTL. This node holds it no longer; when the other does not come, it may take
         * its own offer over. An error: nothing was offered, as after renew(). -ENOTSUP. */
        int (*offer)(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e);
        /* The offerer's: as release() of the lease that was offered in @term, if nobody has taken it over yet. */
        void (*withdraw)(struct lease *l, const char *token, uint64_t term);
        /* 0: this node holds what was offered, in a new term (see acquire) and by a session of its own.
         * E_NOT_PRIMARY: it is no longer there to be taken. */
        int (*take_over)(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
                         struct err *e);
        /* By which session the last term was acquired: *@ret is "" when the service does not say. */
        int (*get_heir)(struct lease *l, char ret[LEASE_SESSION_SIZE], struct err *e);
        /* The cluster's id in the service: *@ret is "" when there is none. */
        int (*get_cluster_id)(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e);
        /* Sets it if there is none; *@ret is the one there is then. -ENOTSUP: the service keeps none. */
        int (*put_cluster_id)(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE],
                              struct err *e);
        /* Tells a service that has lost it what the last term was: only if the last term there is still as @seen, and
         * nobody holds the lease. E_NOT_PRIMARY: it is not. E_NOT_FOUND: there is nothing where the lease has to be, which
         * may be the wrong place; somebody has to see to it. */
        int (*raise_term)(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e);
        /* Waits for the loss of the lease that this node holds by @held.session. The only call that has a thread of its
         * own, beside the others. 0: it was still held a moment ago, ask again. E_NOT_PRIMARY: it was lost, and its deadline
         * has passed now. -ECANCELED: this node has given it up. -ENOTSUP. All else says nothing about the lease. */
        int (*watch)(struct lease *l, const struct lease_state *held, struct err *e);
        /* This object holds the lease no longer, without a word to the service: who is given *@ret does, whose fd is the
         * caller's. No other call is under way but watch(), which ends. NULL, as the next: the lease needs none of it. */
        void (*hand_on)(struct lease *l, struct lease_hold *ret);
        /* Of an object that holds nothing: it holds the lease as @hold says, whose fd it takes over, perhaps beyond the
         * deadline; *@ret describes it. E_NOT_PRIMARY: @hold has none. E_CONFIG: it is another lease, or
         * another node's, or has another TTL. */
        int (*take_on)(struct lease *l, const struct lease_hold *hold, struct lease_state *ret,
                       struct err *e);
        /* CLOCK_BOOTTIME ms up to which this node is proved to hold the lease; INT64_MIN: it does not. */
        int64_t (*deadline_ms)(struct lease *l);
        /* Does not release. */
        void (*free)(struct lease *l);
};

struct lease {
        const struct lease_ops *ops;
        const char *type;      /* "static", "consul", "etcd", "file", "object" */
        int64_t ttl_ms;        /* 0: it does not run out */
        int64_t lock_delay_ms; /* how long nobody gets it after its holder was lost */
        /* All of it is one object, of whose removal its holder does not hear at once: that nothing is there does not say that
         * nobody has held it. */
        bool may_vanish;
        const char *key; /* where the service has it, for messages; NULL: nowhere */
        /* Before the service is asked for @term, by @session; an error: it is not. NULL: nobody wants to know. */
        int (*claim)(void *arg, uint64_t term, const char *session, struct err *e);
        void *claim_arg;
};

/* The node that the configuration names is the primary, for ever: this one when @is_primary, else the one
 * at @hostname and @advertise_url (both copied). */
int lease_static_new(bool is_primary, const char *hostname, const char *advertise_url,
                     struct lease **ret);

#endif
