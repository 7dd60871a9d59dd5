/* lib/proxy/proxy_internal.h - what the parts of the proxy know of each other. All of it on the loop's thread but for
 * what says otherwise. */
#ifndef LITEFS_PROXY_PROXY_INTERNAL_H
#define LITEFS_PROXY_PROXY_INTERNAL_H

#include <stdatomic.h>

#include "base/text.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proxy/cork.h"
#include "proxy/list.h"
#include "proxy/proxy.h"
#include "proxy/cookie.h"
#include "proxy/recent.h"
#include "proxy/rewrite.h"
#include "proxy/upstream.h"

#define PROXY_MAX_CLIENTS 2048u
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
        struct list clients, waiters;
        struct cork cork;
        struct text scratch; /* for one head */
        char *path_buf;      /* of HEAD_MAX_BYTES */
        unsigned n_clients, n_peers, n_tunnels;
        bool is_draining;
        atomic_bool is_open;   /* it listens, and does not drain */
        int64_t hop_warned_ms; /* that the primary does not let us in; 0: never */
        struct proxy_stats stats;

        struct mail wake; /* any thread */
        atomic_bool is_wake_posted;
        atomic_uint n_waiting;

        bool is_stopped; /* the owner's */
};

/* HEAD -> WAITING -> CONNECTING -> PASSING -> HEAD ...       WAITING only for a position or for a primary,
 *    \       |           |        /  |                       CONNECTING only without an idle connection
 *     +------+---> CLOSING <-----+   +-> TUNNEL              CLOSING: said the last word */
enum client_state {
        CLIENT_HEAD,
        CLIENT_WAITING,
        CLIENT_CONNECTING,
        CLIENT_PASSING,
        CLIENT_TUNNEL,
        CLIENT_CLOSING,
};

struct client {
        struct list in_clients, in_waiters;
        struct proxy *proxy;
        struct conn *conn;
        enum client_state state;
        char peer[ADDR_TEXT_SIZE]; /* without port */
        bool is_peer;              /* another node's proxy, which has proved it */

        /* What has come and is not parsed yet: of a read under way, or kept. */
        const uint8_t *in;
        size_t n_in;
        uint8_t *kept;
        bool is_reading;

        /* The request. */
        struct reader request;
        struct request_target target;
        enum route_kind kind;
        bool has_begun; /* its first byte is there */
        bool is_hop;
        bool is_all_read; /* its end, too */
        bool is_keep_alive;
        enum framing up_framing;
        uint64_t commits_before; /* recent_now() at its begin */
        int64_t begun_ms, head_ms, wait_until_ms, idle_since_ms;

        /* Its answer. */
        struct upstream *up;
        struct reader response;
        struct destination to;
        bool is_to_primary;  /* it goes to another node's proxy */
        bool is_local_write; /* its answer carries a cookie */
        bool is_answered;    /* the head of the final response has gone to the client */
        bool is_up_paused;
        enum framing framing;
        int64_t refused_since_ms, retry_at_ms;

        struct loop_timer *timer;
        int64_t timer_at_ms; /* 0: it does not run */
        /* To see who stalls. */
        uint64_t n_received, n_sent, last_moved;
        int64_t moved_ms;
};

/* --- client.c --- */
/* Does not set a handler when there is no memory. */
void client_new(struct proxy *p, struct conn *c, bool is_peer);
/* After an event: sends what is corked, reads on, sets the timer. The last thing that its handlers do. */
void client_settle(struct client *c);
/* The response has been sent: on to the next request, or to the end. */
void client_finish(struct client *c);
/* Closes both sides now. */
void client_abort(struct client *c);
void client_set_state(struct client *c, enum client_state state);
void client_drain(struct client *c);
/* Sends to the client, or to its upstream. */
void client_send(struct client *c, const void *data, size_t n);
void client_send_up(struct client *c, const void *data, size_t n);

/* --- request.c: from the head of a request to where it goes --- */
void request_begin(struct client *c);
/* Decides anew for who waits. */
void request_route(struct client *c);
void request_body(void *arg, const uint8_t *data, size_t n);
/* Its end is there. */
void request_ended(struct client *c);

/* --- exchange.c: the other side --- */
void exchange_begin(struct client *c, const struct destination *to);
void exchange_retry(struct client *c);
/* The upstream, if there is one, is closed. */
void exchange_drop(struct client *c);
void response_body(void *arg, const uint8_t *data, size_t n);

/* --- reply.c: answers of the proxy's own --- */
/* @text is one line. Ends the connection when there is more of the request to come. */
void reply(struct client *c, int status, const char *extra_fields, const char *text);
void reply_printf(struct client *c, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* --- deadline.c --- */
/* Whatever is due for this client next; may leave an earlier time standing. */
void deadline_set(struct client *c);
void deadline_reached(void *arg);

/* --- positions.c --- */
/* Whether this node has what the request's cookie asks for. */
bool positions_reached(struct client *c);
/* The cookie of the answer to a write: false, there is none to set. */
bool positions_cookie(struct client *c, char ret[COOKIE_FIELD_SIZE]);

#endif
