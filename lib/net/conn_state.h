/* lib/net/conn_state.h - what a connection consists of; for conn*.c only. conn_connect.c and conn_move.c call conn.c; that calls
 * conn_queue.c, conn_tls.c and conn_peer.c, which call nothing back.
 *
 * RESOLVING --> CONNECTING --> HANDSHAKE --> OPEN --> FINISHING
 *     |           |  ^  |          |          |           |
 *     |           +--+  |          |          |           |       CONNECTING: one address after the other
 *     +-----------------+----------+----------+-----------+--> CLOSING --> closed(), freed
 *
 * resolved() and try_next() lead to CONNECTING, conn_begin() to HANDSHAKE with TLS and else to OPEN (conn_accept
 * and conn_adopt begin there), conn_read_tls() from the one to the other, begin_finish() to FINISHING, conn_close_with()
 * from anywhere to CLOSING. The struct is freed when uv has let go of both handles and of the look-up, which cannot
 * be called back once its thread has begun. */
#ifndef LITEFS_NET_CONN_STATE_H
#define LITEFS_NET_CONN_STATE_H

#include "net/conn_queue.h"
#include "net/crowd.h"
#include "net/loop_internal.h"

enum conn_state {
        CONN_RESOLVING,
        CONN_CONNECTING,
        CONN_HANDSHAKE,
        CONN_OPEN,
        CONN_FINISHING,
        CONN_CLOSING
};

struct conn {
        struct loop_item item;
        struct loop *loop;
        enum conn_state state;
        const struct conn_handler *handler; /* NULL: accepted, not yet taken */
        void *arg;
        uv_tcp_t tcp;
        struct conn_queue queue; /* into tcp */
        uv_timer_t timer;        /* the deadline of connecting, then of finishing */
        bool has_tcp;            /* tcp is open: between addresses it is not */
        bool has_timer;
        bool has_lookup; /* the look-up has not returned */
        bool has_tried_loopback;
        bool is_ended; /* the peer's end has come */
        bool is_sent;  /* so has ours gone */
        uv_getaddrinfo_t lookup;
        uv_connect_t connect;
        uv_shutdown_t shutdown;
        struct addrinfo *addrs; /* of the look-up, to free */
        struct addrinfo *next;  /* to try */
        struct addr target;     /* of conn_connect, for words */
        struct tls *tls;        /* NULL: none */
        int code;               /* why it closes */
        int end_code;           /* why it finishes: what it closes with then */
        struct err err;
        void (*gone)(void *arg);
        void *gone_arg;
        struct crowd_guest guest; /* of those of its listener, or of whoever took it */
};

/* With its timer, but no socket yet. @limits may be NULL. */
int conn_new(struct loop *l, const struct conn_limits *limits, struct conn **ret);
struct conn *conn_of_item(struct loop_item *item);
int conn_open_tcp(struct conn *c);
void conn_start_timer(struct conn *c, int64_t ms, uv_timer_cb timed_out);
/* The socket is connected: the handshake begins, or it is open. */
void conn_begin(struct conn *c);

/* Closes for the reason @code; what it says is in c->err already. Once only: the first reason counts. */
void conn_close_with(struct conn *c, int code);
/* The same with "@what PEER" for words. */
void conn_fail(struct conn *c, int code, const char *what);
/* What its socket is set to, once it has one. */
void conn_set_options(struct conn *c);

/* To call when uv has let go of a handle of it that is closed. */
void conn_free_if_let_go(struct conn *c);
void conn_free(struct conn *c);

/* --- conn_peer.c --- */

/* Its peer for words, also when that has gone. */
void conn_name_peer(const struct conn *c, char ret[ADDR_TEXT_SIZE]);

/* --- conn_tls.c: what is sent where it has TLS --- */

/* What the session has to say by itself. */
int conn_tls_flush(struct conn *c);
/* Sends the bytes of @iov in @p, which it takes. As conn_queue_send. */
int conn_tls_send(struct conn *c, struct conn_piece *p, const struct iovec *iov, int n_iov);
/* Queues our end. */
int conn_tls_end(struct conn *c);
/* Says our end as far as it goes at once: a peer that does not hear of it takes the end for a broken connection. */
void conn_tls_say_end(struct conn *c);

#endif
