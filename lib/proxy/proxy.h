/* lib/proxy/proxy.h - the HTTP proxy before an application (docs/proxy.md): reads go to the application of this node,
 * writes to the primary's, and who has written reads what it wrote.
 *
 * It has a loop, and so a thread, of its own: what clients do to it never holds up replication.
 *
 * Order: proxy_new, proxy_start, proxy_drain, proxy_free. */
#ifndef LITEFS_PROXY_PROXY_H
#define LITEFS_PROXY_PROXY_H

#include "base/clock.h"
#include "base/err.h"
#include "proxy/route.h"
#include "store/store.h"

struct conn;
struct proxy;
struct tls_context;
struct token;

/* Strings are borrowed. Times of 0: none. */
struct proxy_config {
        struct store *store;
        const struct clock *clock;
        const char *listen_address;
        const char *target; /* "host:port" of the application */
        const char *db;     /* whose position cookies carry; "" or "*": all that a request wrote to */
        struct route_rules rules;
        bool is_debug; /* log each request */
        int64_t max_lag_ms;
        int64_t primary_redirect_ms; /* to wait for a primary */
        int64_t read_ms;             /* to receive a request */
        int64_t read_header_ms;      /* to receive its head */
        int64_t write_ms;            /* from its head on, until the response is sent */
        int64_t idle_ms;             /* between requests */
        /* Where nodes speak TLS, proxies reach each other through the nodes' ports. */
        bool is_tls; /* this node's does: who says at the proxy's port to be a proxy is none */
        struct tls_context *
                tls; /* of a client, for the proxy's thread alone; NULL: only http:// nodes are reached */
        struct token *token; /* that nodes ask for, or NULL */
};

int proxy_new(const struct proxy_config *config, struct proxy **ret, struct err *e);
/* Listens. */
int proxy_start(struct proxy *p, struct err *e);
int proxy_port(const struct proxy *p);
/* A connection to the node's port that begins with "GET /proxy ": another node's proxy, if it can prove it. On the loop
 * of @c, as a listener's accepted(). Until the loop has stopped @p has to be there. */
void proxy_accept_node(struct proxy *p, struct conn *c);
/* @db has committed here. Any thread, any lock. */
void proxy_committed(struct proxy *p, struct db *db);
/* A database shows a new position: who waits for that looks again. Any thread. */
void proxy_wake(struct proxy *p);
/* Whom to ask what the primary has of a database ("": only whether there is one), by numbers that grow: proxy_answered
 * gives the answer, if there is one, of what it is after the question; proxy_connected says that the one who is asked is
 * another now, or has sent all that it had. The former before proxy_start, the others from any thread. */
void proxy_set_asker(struct proxy *p, void (*ask)(void *arg, uint64_t nonce, const char *db_name),
                     void *arg);
void proxy_answered(struct proxy *p, uint64_t nonce, uint64_t term, uint64_t txid);
void proxy_connected(struct proxy *p);
/* The primary is another, or nobody: who waits looks again, and WebSockets that lead to who was it end. Any thread. */
void proxy_primary_changed(struct proxy *p);
/* False: the health that it reports is bad. Any thread. */
void proxy_set_well(struct proxy *p, bool is_well);
/* Ending, in this order. NULL is fine, and any thread but its own.
 *
 * proxy_retire: the health that it reports is bad, and connections end with the next answer.
 * proxy_hold: writes for the application here wait until proxy_release, and those that it has begun are waited for, at most
 * @timeout_ms. As often as one likes, also while nothing ends.
 * proxy_leave: the application is about to go. Requests go to the primary from now on, if it is another, else they are
 * refused; what the application has begun is waited for, at most @timeout_ms.
 * proxy_drain: takes no connection and no request any more and waits until those that are under way are answered, at most
 * @timeout_ms; then all is closed. Again is fine. */
void proxy_retire(struct proxy *p);
void proxy_hold(struct proxy *p, int64_t timeout_ms);
void proxy_release(struct proxy *p);
void proxy_leave(struct proxy *p, int64_t timeout_ms);
void proxy_drain(struct proxy *p, int64_t timeout_ms);
/* NULL is fine. */
void proxy_free(struct proxy *p);

/* Why the primary's node did not let our proxy in. */
enum proxy_node_failure {
        PROXY_NODE_TLS,   /* one of the certificates */
        PROXY_NODE_TOKEN, /* ours */
        PROXY_NODE_OTHER, /* it cannot be reached, or has no proxy */
        PROXY_N_NODE_FAILURES,
};

struct proxy_stats {
        uint64_t n_requests[ROUTE_N_KINDS];
        uint64_t n_forwarded; /* writes, to the primary */
        uint64_t n_replayed;  /* writes, by fly-replay */
        uint64_t n_txid_waits;
        uint64_t n_txid_timeouts;
        uint64_t n_retries; /* of a connection that was closed or refused, of a node that was not the primary */
        uint64_t n_bad_requests;                          /* answered here with 4xx, 501 or 505 */
        uint64_t n_bad_gateway, n_no_primary, n_timeouts; /* 502, 503, 504 */
        uint64_t n_refused_clients;                       /* over the limit of connections */
        uint64_t n_node_failures[PROXY_N_NODE_FAILURES];
        unsigned n_peers; /* connections from other nodes' proxies by the node's port, not among the clients */
        unsigned n_clients, n_tunnels, n_upstreams, n_idle_upstreams;
};
/* Any thread but its own. */
void proxy_get_stats(struct proxy *p, struct proxy_stats *ret);

#endif
