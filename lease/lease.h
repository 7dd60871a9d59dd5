/* lease/lease.h - who may write: one node at a time, the holder of the lease.
 *
 * A backend embeds `struct lease` first. Calls may wait for the network, each with a deadline of its own,
 * so they belong on a worker; lease_holds alone is immediate, safe from any thread, and asked at each
 * commit. */
#ifndef LITEFS_LEASE_LEASE_H
#define LITEFS_LEASE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct lease;

/* The node that writes, as its peers reach it. Strings live as long as the lease. */
struct lease_holder {
        const char *hostname;
        const char *advertise_url;
};

struct lease_ops {
        /* 0: this node holds the lease now. E_NOT_PRIMARY: another does, or this one may not. */
        int (*acquire)(struct lease *l, struct err *e);
        /* Whether the lease is proved to hold at @boot_ms (clock_boot_ms). */
        bool (*holds)(struct lease *l, int64_t boot_ms);
        /* 0, or E_NOT_FOUND when nobody (known) holds it. */
        int (*holder)(struct lease *l, struct lease_holder *ret, struct err *e);
        void (*release)(struct lease *l);
        void (*free)(struct lease *l);
};

struct lease {
        const struct lease_ops *ops;
};

/* The node that the configuration names is the primary, for ever: this one when @is_primary, else the one
 * at @hostname and @advertise_url (both copied). */
int lease_static_new(bool is_primary, const char *hostname, const char *advertise_url,
                     struct lease **ret);

#endif
