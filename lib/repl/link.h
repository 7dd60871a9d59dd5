/* lib/repl/link.h - what a session of the stream sends by: a connection, or a test's wire.
 *
 * Results of writev are conn.h's: 0, 1 (taken, but stop until the owner calls the session's writable), or a
 * negative errno. The thread of the session only. */
#ifndef LITEFS_REPL_LINK_H
#define LITEFS_REPL_LINK_H

#include <stdint.h>
#include <sys/uio.h>

struct link;

struct link_ops {
        int (*writev)(struct link *l, const struct iovec *iov, int n);
        void (*read_stop)(struct link *l);
        void (*read_start)(struct link *l);
        /* Sends what is queued, then ends. */
        void (*finish)(struct link *l);
};

struct link {
        const struct link_ops *ops;
};

static inline int
link_write(struct link *l, const void *buf, size_t n)
{
        struct iovec iov = { (void *)(uintptr_t)buf, n };

        return l->ops->writev(l, &iov, 1);
}

struct frame;

/* As writev. Small frames alone: those of FRAME_SMALL_SIZE. */
int link_send(struct link *l, const struct frame *frame);

#endif
