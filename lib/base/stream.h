/* lib/base/stream.h - the two ends of a byte stream, as seams between codecs and storage.
 *
 * A codec writes to a `struct byte_sink` and reads from a `struct byte_src` and never learns whether
 * that is a buffer, a file or a socket. Implementations embed the struct as their first member. */
#ifndef LITEFS_BASE_STREAM_H
#define LITEFS_BASE_STREAM_H

#include <stddef.h>
#include <sys/types.h>

struct byte_sink {
        /* Takes all @n bytes: 0, else a negative errno, and then the stream is broken. */
        int (*write)(struct byte_sink *sink, const void *buf, size_t n);
};

struct byte_src {
        /* Reads at most @n bytes: the count, 0 at the end, else a negative errno or domain code. */
        ssize_t (*read)(struct byte_src *src, void *buf, size_t n);
};

/* Reads until @n bytes or the end of the stream: the count, which is < @n only at the end. */
static inline ssize_t
byte_src_read_all(struct byte_src *src, void *buf, size_t n)
{
        size_t done = 0;

        while (done < n) {
                ssize_t r = src->read(src, (char *)buf + done, n - done);

                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                done += (size_t)r;
        }
        return (ssize_t)done;
}

#endif
