/* lib/proxy/proxy_internal.h - the inside of the proxy, and its bounds. All of it on the loop's thread but for what says
 * otherwise.
 *
 * Calls go down, and what a part below has to tell the ones above it leaves in the client's state:
 *
 *   proxy.c                          life, and what other threads tell
 *   node_guest.c                     connections of other nodes' proxies
 *   serve.c                          a client's connection: events come in here, and settle here
 *   deadline.c                       what is due
 *   request.c                        from the head of a request to where it goes
 *   exchange.c                       the other side: sent, received, lost
 *   reply.c  positions.c  body.c     answers of our own; cookies; bodies on their way
 *   client.c                         the state of it all, and what is sent
 *   upstream.c                       connections to applications and to other nodes */
#ifndef LITEFS_PROXY_PROXY_INTERNAL_H
#define LITEFS_PROXY_PROXY_INTERNAL_H

#include <stdatomic.h>

#include "base/text.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proxy/asks.h"
#include "proxy/gather.h"
#include "proxy/list.h"
#include "proxy/proxy.h"
#include "proxy/cookie.h"
#include "proxy/recent.h"
#include "proxy/rewrite.h"
#include "proxy/upstream.h"

#define PROXY_MAX_CLIENTS 2048u
#define PROXY_RESERVE 128u /* more, for health checks and other nodes */
#define PROXY_MAX_PEERS 2048u
/* What waits in one direction of one connection; a pair costs at most four times HIGH. */
#define PROXY_LOW (64u * 1024)
#define PROXY_HIGH (256u * 1024)
#define PROXY_MAX (1024u * 1024)

#define PROXY_TXID_MS 5000     /* to wait for a position */
#define PROXY_CONNECT_MS 10000 /* to one address */
#define PROXY_RETRY_MS 100     /* after a connection was refused, */
#define PROXY_REFUSED_MS 30000 /* for so long: the application may be about to start */
#define PROXY_STALL_MS \
        60000 /* a client that neither sends what it owes nor takes what is there is gone */
#define PROXY_LINGER_MS 2000 /* for the last words of a connection */
#define PROXY_ACTIVE_MS 2000 /* a client that has asked for something so lately */
#define PROXY_LAST_MS 300 /* gets so long to ask again, before a proxy that ends closes its connection */
/* Of a body that is on its way to another node, kept until that node's application gets it: it may turn out not to be the
 * primary. A client that has more waits for the word, or for so long where the node is too old to give one. */
#define PROXY_KEEP_BODY (256u * 1024)
#define PROXY_TAKEN_MS 1000
/* Longer than the other keeps it, so that it never sends a request into our closing. */
#define PROXY_PEER_IDLE_MS (2 * UPSTREAM_IDLE_MS)

extern const struct conn_limits proxy_conn_limits;

struct proxy {
        struct proxy_config config;
        struct loop *loop;
        struct listener *listener;
        int port;
        struct pool *pool;
        struct recent *recent; /* NULL: one database, by name */
        struct asks *asks;
        void (*ask)(void *arg, uint64_t nonce, const char *db_name); /* NULL: there is nobody to ask */
        void *ask_arg;
        struct list clients, waiters;
        struct crowd peers; /* connections of other nodes, by /proxy */
        struct gather gather;
        struct text scratch; /* for one head */
        char *path_buf;      /* of HEAD_MAX_BYTES */
        unsigned n_clients, n_peers, n_tunnels;
        unsigned n_holds;       /* writes for the application here wait */
        atomic_bool is_unwell;  /* the node says so; any thread */
        bool is_retiring;       /* connections end with the next answer */
        bool is_leaving;        /* the application here is about to go */
        bool is_draining;       /* nothing new is taken */
        atomic_bool is_open;    /* it listens, and does not drain */
        int64_t node_warned_ms; /* that the primary does not let us in; 0: never */
        struct proxy_stats stats;

        struct mail wake, primary_changed; /* any thread */
        atomic_bool is_wake_posted, is_change_posted, is_stream_new;
        atomic_uint n_waiting;

        atomic_bool is_stopped; /* any thread */
};

#endif
