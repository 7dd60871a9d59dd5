/* lib/net/conn_queue.h - what a connection has yet to send; for conn*.c only.
 *
 * A write that cannot be had whole is refused whole: take the room for it, then send. What the socket does not take
 * at once is kept in that room, up to the limits of conn.h.
 *
 * All of it on the loop's thread. */
#ifndef LITEFS_NET_CONN_QUEUE_H
#define LITEFS_NET_CONN_QUEUE_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "net/conn.h"

struct conn_queue {
        uv_stream_t *stream;
        struct conn_limits limits;
        size_t n_bytes; /* with what each piece costs to keep */
        bool is_over_high;
        void (*sent)(void *arg, int status); /* of each piece that had to wait */
        void *arg;
};

/* A piece of the queue, or room for one. */
struct conn_piece {
        uv_write_t req;
        struct conn_queue *queue;
        size_t size, cost;
        uint8_t bytes[];
};

/* Room for @size bytes: to free(), or to send. -ENOBUFS: over the maximum; -ENOMEM. */
int conn_queue_take(struct conn_queue *q, size_t size, struct conn_piece **ret);
/* Sends the first @n bytes of @p, which it takes. 0; 1: taken, but more than `high` waits; another errno: the connection
 * broke. */
int conn_queue_send(struct conn_queue *q, struct conn_piece *p, size_t n);
/* The same with the bytes of @iov, for all of which @p has just the room. */
int conn_queue_send_parts(struct conn_queue *q, struct conn_piece *p, const struct iovec *iov,
                          int n_iov);
/* As much as the socket takes now: a count, or the errno that broke the connection. Only when nothing waits. */
ssize_t conn_queue_try(struct conn_queue *q, const struct iovec *iov, int n_iov);
/* Whether `low` or less waits again after it had been more than `high`; said once. */
bool conn_queue_has_drained(struct conn_queue *q);

#endif
