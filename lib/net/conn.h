/* lib/net/conn.h - a TCP connection, with TLS or without.
 *
 * Made by conn_connect or by a listener; each then hears read() any number of times and closed() exactly once,
 * last, after which the connection is freed. No function here calls a handler before it returns.
 *
 * Backpressure, out: what does not go out at once is copied and queued. conn_write returns 1 once more than
 * `high` bytes are queued: stop, until writable() says that they are `low` or fewer. Past `max` nothing is
 * taken: a peer that does not read costs so much and no more. In: conn_read_stop, and the peer's own queue
 * fills.
 *
 * With TLS it is the same to its handler: an accepted one reads once the handshake is over (10 s), the end is the
 * peer's word that it sends no more, and an end without it is -ECONNRESET.
 *
 * All of it on the loop's thread. */
#ifndef LITEFS_NET_CONN_H
#define LITEFS_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "net/addr.h"
#include "net/crowd.h"

#define CONN_WRITE_PARTS 8 /* of one conn_writev */

struct loop;
struct conn;
struct tls_context;

/* Functions that are NULL are not called. */
struct conn_handler {
        /* A connection by conn_connect is there: write. */
        void (*opened)(void *arg, struct conn *c);
        /* @data is gone when it returns. */
        void (*read)(void *arg, struct conn *c, const uint8_t *data, size_t n);
        /* The peer will send no more but may still read. NULL: the connection is closed, with code 0. */
        void (*ended)(void *arg, struct conn *c);
        void (*writable)(void *arg, struct conn *c);
        /* @code is 0 when either side closed in order, else a negative errno and @e says what happened;
         * -ECANCELED: the loop stops. */
        void (*closed)(void *arg, struct conn *c, int code, const struct err *e);
};

/* Bytes; 0 takes the default. */
struct conn_limits {
        size_t low;  /* 256 KiB */
        size_t high; /* 1 MiB */
        size_t max;  /* 8 MiB */
};

/* Looks the host of @address up and tries its addresses in turn until one answers, all within @timeout_ms,
 * which passing is -ETIMEDOUT. @limits may be NULL. 0: opened() or closed() will come. With TLS, unless @tls is NULL:
 * opened() comes when the other side has proved to be that host. -EPROTO: it has not, or does not want us. */
int conn_connect(struct loop *l, struct tls_context *tls, const char *address, int64_t timeout_ms,
                 const struct conn_limits *limits, const struct conn_handler *h, void *arg,
                 struct conn **ret, struct err *e);
/* Who is told from now on; an accepted connection begins to read with it. @h is borrowed. */
void conn_set_handler(struct conn *c, const struct conn_handler *h, void *arg);

/* Sends the bytes in order, all or nothing. 0; 1: taken, but stop now; -ENOBUFS: over the maximum;
 * -ENOTCONN: not open, or no more; -ENOMEM; another errno: the connection broke, closed() will come. */
int conn_write(struct conn *c, const void *buf, size_t n);
int conn_writev(struct conn *c, const struct iovec *iov, int n_iov);
/* What is queued, with what each piece costs to keep. */
size_t conn_queued_bytes(const struct conn *c);

/* No read() until conn_read_start. What a read() under way was given is still the handler's to use or keep. */
void conn_read_stop(struct conn *c);
void conn_read_start(struct conn *c);

/* Sends what is queued, then the end; what comes in meanwhile is dropped, so that a peer which still sends
 * gets to read our last words. Closes when the peer has ended too, or at @timeout_ms with -ETIMEDOUT. */
void conn_finish(struct conn *c, int64_t timeout_ms);
/* Closes now; what is queued is dropped. Again is fine, until closed(). */
void conn_close(struct conn *c);

/* How much it would be missed where there are too many, as crowd.h says; a listener takes it in as NEW. The same rank again
 * says that something was heard of it. */
void conn_set_rank(struct conn *c, enum crowd_rank rank);
/* It is one of the reserve: only what cannot wait is to be done for it. */
bool conn_is_extra(const struct conn *c);
/* One that no listener has taken in: @crowd, which outlives it, may close it. As crowd_enter. */
int conn_join(struct conn *c, struct crowd *crowd);

/* The other end as text, "" when there is none. */
void conn_peer(const struct conn *c, char ret[ADDR_TEXT_SIZE]);

#endif
