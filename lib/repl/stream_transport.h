/* lib/repl/stream_transport.h - what a session of the stream sends by: a connection, or a test's wire.
 *
 * Results of writev are conn.h's: 0, 1 (taken, but stop until the owner calls the session's writable), or a
 * negative errno. The thread of the session only. */
#ifndef LITEFS_REPL_STREAM_TRANSPORT_H
#define LITEFS_REPL_STREAM_TRANSPORT_H

#include <stdint.h>
#include <sys/uio.h>

struct stream_transport;

struct stream_transport_ops {
        int (*writev)(struct stream_transport *l, const struct iovec *iov, int n);
        void (*read_stop)(struct stream_transport *l);
        void (*read_start)(struct stream_transport *l);
        /* Sends what is queued, then ends. */
        void (*finish)(struct stream_transport *l);
};

struct stream_transport {
        const struct stream_transport_ops *ops;
};

static inline int
stream_transport_write(struct stream_transport *l, const void *buf, size_t n)
{
        struct iovec iov = { (void *)(uintptr_t)buf, n };

        return l->ops->writev(l, &iov, 1);
}

struct frame;

/* As writev. Small frames alone: those of FRAME_SMALL_SIZE. */
int stream_transport_send(struct stream_transport *l, const struct frame *frame);

#endif
