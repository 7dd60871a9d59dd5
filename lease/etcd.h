/* lease/etcd.h - the lease as a key of etcd 3 that hangs on an etcd lease.
 *
 *   KEY             deleted with the holder's etcd lease; the other keys as in lease/kv_lease.h
 *
 * Spoken to by its JSON gateway (/v3, etcd 3.4 and later). All that depends on what is there is one
 * transaction. A call takes up to six requests and at most a quarter of the TTL (0.5 s to 5 s) in all; an
 * endpoint that does not answer in its share of that is left for the next one. Renewing is two requests: the
 * etcd lease, then the mark in KEY. */
#ifndef LITEFS_LEASE_ETCD_H
#define LITEFS_LEASE_ETCD_H

#include <stddef.h>

#include "lease/lease.h"

struct clock;

/* Borrowed for the call. NULL or "" is "not set". */
struct lease_etcd_options {
        char *const
                *endpoints; /* "http(s)://HOST:PORT", without a path; the first that works is kept to */
        size_t n_endpoints;
        const char *key;
        const char *hostname, *advertise_url; /* this node's, as its peers reach it */
        const char *ca, *cert, *cert_key;     /* PEM files */
        int64_t ttl_ms;            /* etcd counts seconds, 2 or more as its servers are usually set */
        const struct clock *clock; /* NULL: the machine's */
};

/* Asks nobody. E_CONFIG and -EINVAL with words, -ENOMEM. */
int lease_etcd_new(const struct lease_etcd_options *options, struct lease **ret, struct err *e);

#endif
