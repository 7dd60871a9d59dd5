/* lease/lease.h - who may write: one node at a time, the holder of the lease.
 *
 * A backend embeds `struct lease` first. Calls wait for the network, each with a deadline of its own, so
 * they belong on one worker at a time (the role's); lease_deadline_ms alone is immediate, safe from any
 * thread, and asked at each commit.
 *
 * Fencing: a holder may commit until *start of its last successful request* + TTL - a margin, by its own
 * CLOCK_BOOTTIME, whatever the service believes. Each renewal leaves a mark that everybody can read
 * (lease_state.renewal), written after the request that the deadline counts from. So a candidate that has
 * read the same mark for the holder's whole TTL (lease_state.ttl_ms), by its own clock, knows that nobody
 * writes, and may break a session which the service keeps for longer (Consul: up to 2 x TTL); breaking
 * compares the mark once more, in the service. That a candidate no longer hears of the holder is not
 * enough: the service may still do.
 *
 * Terms rise with every change of holder and stay through its renewals. They are the service's own counter
 * at the moment when the holder took the lease (Consul: the key's ModifyIndex, etcd: its mod revision),
 * never a clock. */
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

/* The lease as the service tells it. */
struct lease_state {
        bool has_holder;
        uint64_t term;                      /* of the holder */
        char hostname[LEASE_HOSTNAME_SIZE]; /* the holder, as its peers reach it */
        char advertise_url[LEASE_URL_SIZE];
        char session[LEASE_SESSION_SIZE]; /* what the holder holds it by, in the service */
        uint64_t renewal;                 /* changes with each renewal of the holder's */
        int64_t ttl_ms; /* the holder's, which may not be this node's; 0: it leaves no marks (LiteFS 0.5) */
};

struct lease_ops {
        /* 0, also when nobody holds the lease. */
        int (*read)(struct lease *l, struct lease_state *ret, struct err *e);
        /* 0: this node holds the lease now, in *@ret.term. E_NOT_PRIMARY: another does, or this one may
         * not. Also for a holder that was restarted with the same name: no session is inherited. */
        int (*acquire)(struct lease *l, struct lease_state *ret, struct err *e);
        /* 0: the deadline has moved. E_NOT_PRIMARY: lost for good. Anything else: not known, try again;
         * the deadline stands. */
        int (*renew)(struct lease *l, struct err *e);
        /* Gives it up: nobody holds it, without a delay for the next. The deadline passes at once, before
         * the request is sent. */
        void (*release)(struct lease *l);
        /* Ends the lease of a holder that has fenced itself, only if it is still as @seen, not renewed
         * either; anybody can acquire it then, without a delay. E_NOT_PRIMARY: it is not, read it again.
         * -ENOTSUP, also for a holder without a ttl_ms. */
        int (*break_stale)(struct lease *l, const struct lease_state *seen, struct err *e);
        /* Handing over: the holder's deadline passes at once and *@token is what the next holder takes it
         * over by, within the TTL. This node holds it no longer; when the other does not come, it may take
         * its own offer over. An error: nothing was offered, as after renew(). -ENOTSUP. */
        int (*offer)(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e);
        /* 0: this node holds what was offered, in a new term and by a session of its own. E_NOT_PRIMARY:
         * it is no longer there to be taken. */
        int (*take_over)(struct lease *l, const char *token, struct lease_state *ret, struct err *e);
        /* The cluster's id in the service: *@ret is "" when there is none. */
        int (*get_cluster_id)(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e);
        /* Sets it if there is none; *@ret is the one there is then. -ENOTSUP: the service keeps none. */
        int (*put_cluster_id)(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE],
                              struct err *e);
        /* The last term that began, kept for those who were not there: 0 when there is none. A node that has not
         * been part of that term may lack what was written in it. */
        int (*get_last_term)(struct lease *l, uint64_t *ret, struct err *e);
        /* The holder's, as it begins its term: a term never follows a later one. E_NOT_PRIMARY: it is no longer the
         * holder. */
        int (*put_last_term)(struct lease *l, uint64_t term, struct err *e);
        /* CLOCK_BOOTTIME ms up to which this node is proved to hold the lease; INT64_MIN: it does not. */
        int64_t (*deadline_ms)(struct lease *l);
        /* Does not release. */
        void (*free)(struct lease *l);
};

struct lease {
        const struct lease_ops *ops;
        const char *type;      /* "static", "consul", "etcd" */
        int64_t ttl_ms;        /* 0: it does not run out */
        int64_t lock_delay_ms; /* how long nobody gets it after its holder was lost */
        const char *key;       /* where the service has it, for messages; NULL: nowhere */
};

/* The node that the configuration names is the primary, for ever: this one when @is_primary, else the one
 * at @hostname and @advertise_url (both copied). */
int lease_static_new(bool is_primary, const char *hostname, const char *advertise_url,
                     struct lease **ret);

#endif
