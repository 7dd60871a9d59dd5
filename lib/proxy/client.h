/* lib/proxy/client.h - one connection of a client, and the request on it: what all that is done for it shares. */
#ifndef LITEFS_PROXY_CLIENT_H
#define LITEFS_PROXY_CLIENT_H

#include "proxy/proxy_internal.h"

/* HEAD -> WAITING -> CONNECTING -> PASSING -> DONE -> HEAD ...  WAITING only for a position or for a primary,
 *    \       |        |    ^         |  |                      CONNECTING only without an idle connection
 *     \      |        v    |         |  +-> TUNNEL             ROUTE: where it goes is to be decided again
 *      \     |       ROUTE +---------+                         DONE: the answer has been sent
 *       +----+---> CLOSING <-- any                             CLOSING: said the last word */
enum client_state {
        CLIENT_HEAD,
        CLIENT_ROUTE,
        CLIENT_WAITING,
        CLIENT_CONNECTING,
        CLIENT_PASSING,
        CLIENT_DONE,
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
        bool was_served;           /* a request of it has been answered */

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
        bool is_sent_on;
        bool awaits_body; /* its head is there, and goes to the application with the first byte of its body */
        bool wants_moved; /* the node that it comes from wants to be told where it stands: REWRITE_MOVED */
        bool is_all_read; /* its end, too */
        bool is_keep_alive;
        enum framing up_framing;
        uint64_t commits_before; /* recent_now() at its begin */
        uint64_t waits_since;    /* asks_now() then; 0: it does not wait yet */
        int64_t begun_ms, head_ms, wait_until_ms, idle_since_ms;

        /* Its answer. */
        const struct upstream_handler *up_handler; /* who hears of up */
        struct upstream *up;
        struct reader response;
        struct destination to;
        bool is_to_primary;  /* it goes to another node's proxy */
        bool is_local_write; /* its answer carries a cookie */
        bool is_heard;       /* a byte has come */
        bool is_answered;    /* the head of the final response has gone to the client */
        bool is_up_paused;
        /* What the other node has been sent of the body, until it is_taken. */
        uint8_t *body;
        size_t n_body, body_capacity;
        bool is_moved;        /* the other node was not the primary */
        bool is_taken;        /* there is an application that has it: it is never sent again */
        int64_t body_full_ms; /* since then there is no room for more */
        enum framing framing;
        int64_t refused_since_ms, retry_at_ms;

        struct loop_timer *timer;
        int64_t timer_at_ms; /* 0: it does not run */
        /* To see who stalls. */
        uint64_t n_received, n_sent, last_moved;
        int64_t moved_ms;
};

void client_set_state(struct client *c, enum client_state state);
/* Who owes us its request, or asks for nothing, makes room for others; who waits for us does not. */
enum crowd_rank client_rank(const struct client *c);
/* Sends to the client, or to its upstream. */
void client_send(struct client *c, const void *data, size_t n);
void client_send_up(struct client *c, const void *data, size_t n);
/* The upstream, if there is one, is closed. */
void client_drop_up(struct client *c);
/* Closes both sides now. */
void client_abort(struct client *c);
/* What it was connected to for more than one answer has ended: so does it. */
void client_end_tunnel(struct client *c);

#endif
