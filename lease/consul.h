/* lease/consul.h - the lease as a key that a Consul session locks, as LiteFS 0.5 keeps it.
 *
 *   KEY             locked by the holder's session, which deletes it when it ends; the other keys as in lease/kv_lease.h
 *
 * A call takes up to six requests and at most a quarter of the TTL (0.5 s to 5 s) in all. Renewing is two:
 * the session, then the mark in KEY, by a transaction that also checks that the session still locks it. */
#ifndef LITEFS_LEASE_CONSUL_H
#define LITEFS_LEASE_CONSUL_H

#include "lease/lease.h"

struct clock;

/* Borrowed for the call. NULL or "" is "not set". */
struct lease_consul_options {
        /* http(s)://[:TOKEN@]HOST[:PORT][/PREFIX]. With a prefix, keys and the session's node are under it. */
        const char *url;
        const char *key;
        const char *hostname, *advertise_url; /* this node's, as its peers reach it */
        const char *token;                    /* else the URL's password, else CONSUL_HTTP_TOKEN */
        /* PEM files; else CONSUL_CACERT, CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY. CONSUL_HTTP_SSL_VERIFY=false
         * counts, too. */
        const char *ca, *cert, *cert_key;
        int64_t ttl_ms;            /* Consul takes 10 s to a day */
        int64_t lock_delay_ms;     /* up to a minute */
        const struct clock *clock; /* NULL: the machine's */
};

/* Asks nobody. E_CONFIG and -EINVAL with words, -ENOMEM. */
int lease_consul_new(const struct lease_consul_options *options, struct lease **ret, struct err *e);

#endif
