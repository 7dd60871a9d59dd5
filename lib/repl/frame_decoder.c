#include "repl/frame_decoder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN 1024
#define BUF_MAX (FRAME_DATA_OVERHEAD + FRAME_DATA_MAX) /* the longest frame */

_Static_assert(FRAME_POSITIONS_SIZE <= BUF_MAX && FRAME_SMALL_SIZE <= BUF_MAX, "DATA is the longest");

struct frame_decoder {
        uint8_t *buf; /* the frame that began in an earlier slice, as far as it has come */
        size_t n;
        size_t capacity;
        bool is_whole; /* buf holds a frame that was returned: it goes at the next call */
        bool is_failed;
        uint64_t offset; /* in the stream, of the frame that comes next */
        struct err err;
};

int
frame_decoder_new(struct frame_decoder **ret)
{
        struct frame_decoder *d = calloc(1, sizeof *d);

        if (d == NULL)
                return -ENOMEM;
        *ret = d;
        return 0;
}

void
frame_decoder_free(struct frame_decoder *d)
{
        if (d == NULL)
                return;
        free(d->buf);
        free(d);
}

static int
frame_decoder_fail(struct frame_decoder *d, int code, struct err *e)
{
        d->is_failed = true;
        d->err.code = code;
        (void)err_prefix(&d->err, "stream offset %" PRIu64, d->offset);
        if (e != NULL)
                *e = d->err;
        return code;
}

/* Makes room for @n more bytes, no more than twice what is there: a length that a peer announces is not yet a
 * reason to allocate it. */
static int
frame_decoder_reserve(struct frame_decoder *d, size_t n)
{
        size_t capacity = d->capacity > 0 ? d->capacity : BUF_MIN;
        uint8_t *buf;

        if (d->n + n <= d->capacity)
                return 0;
        while (capacity < d->n + n)
                capacity *= 2;
        if (capacity > BUF_MAX)
                capacity = BUF_MAX;
        buf = realloc(d->buf, capacity);
        if (buf == NULL)
                return err_set(&d->err, -ENOMEM, "frame");
        d->buf = buf;
        d->capacity = capacity;
        return 0;
}

/* Moves bytes off the slice until @want are gathered: 1, or 0 when the slice ends before. */
static int
gather_frame(struct frame_decoder *d, const uint8_t **bytes, size_t *n, size_t want)
{
        size_t more = want - d->n < *n ? want - d->n : *n;
        int r = frame_decoder_reserve(d, more);

        if (r < 0)
                return r;
        if (more > 0)
                memcpy(d->buf + d->n, *bytes, more);
        d->n += more;
        *bytes += more;
        *n -= more;
        return d->n == want;
}

static int
parse_frame(struct frame_decoder *d, uint8_t type, const uint8_t *payload, size_t n, struct frame *ret,
            struct err *e)
{
        int r = frame_parse(type, payload, n, ret, &d->err);

        if (r < 0)
                return frame_decoder_fail(d, r, e);
        d->offset += FRAME_HEADER_SIZE + n;
        return 1;
}

/* Goes on with a frame whose beginning was in an earlier slice. */
static int
next_gathered(struct frame_decoder *d, const uint8_t **bytes, size_t *n, struct frame *ret,
              struct err *e)
{
        uint8_t type;
        size_t size;
        int r = 1;

        if (d->n < FRAME_HEADER_SIZE)
                r = gather_frame(d, bytes, n, FRAME_HEADER_SIZE);
        if (r > 0) {
                r = frame_header_parse(d->buf, &type, &size, &d->err);
                if (r == 0)
                        r = gather_frame(d, bytes, n, FRAME_HEADER_SIZE + size);
        }
        if (r < 0)
                return frame_decoder_fail(d, r, e);
        if (r == 0)
                return 0;
        d->is_whole = true;
        return parse_frame(d, type, d->buf + FRAME_HEADER_SIZE, size, ret, e);
}

/* The frame that the slice begins with, without a copy if it is all there. */
static int
next_in_slice(struct frame_decoder *d, const uint8_t **bytes, size_t *n, struct frame *ret,
              struct err *e)
{
        const uint8_t *frame = *bytes;
        uint8_t type;
        size_t size;
        int r;

        if (*n < FRAME_HEADER_SIZE)
                return next_gathered(d, bytes, n, ret, e);
        r = frame_header_parse(frame, &type, &size, &d->err);
        if (r < 0)
                return frame_decoder_fail(d, r, e);
        if (*n - FRAME_HEADER_SIZE < size)
                return next_gathered(d, bytes, n, ret, e);
        *bytes += FRAME_HEADER_SIZE + size;
        *n -= FRAME_HEADER_SIZE + size;
        return parse_frame(d, type, frame + FRAME_HEADER_SIZE, size, ret, e);
}

int
frame_decoder_next(struct frame_decoder *d, const uint8_t **bytes, size_t *n, struct frame *ret,
                   struct err *e)
{
        if (d->is_failed) {
                if (e != NULL)
                        *e = d->err;
                return d->err.code;
        }
        if (d->is_whole) {
                d->is_whole = false;
                d->n = 0;
        }
        if (d->n > 0)
                return next_gathered(d, bytes, n, ret, e);
        return *n > 0 ? next_in_slice(d, bytes, n, ret, e) : 0;
}

int
frame_decoder_each(struct frame_decoder *d, const uint8_t *bytes, size_t n,
                   int (*fn)(void *arg, struct frame *frame, struct err *e), void *arg, struct err *e)
{
        struct frame frame;
        int r;

        while ((r = frame_decoder_next(d, &bytes, &n, &frame, e)) > 0) {
                r = fn(arg, &frame, e);
                if (r < 0)
                        return r;
        }
        return r;
}

int
frame_decoder_finish(const struct frame_decoder *d, struct err *e)
{
        if (d->is_failed) {
                if (e != NULL)
                        *e = d->err;
                return d->err.code;
        }
        if (d->n > 0 && !d->is_whole)
                return err_set(e, E_FORMAT,
                               "stream offset %" PRIu64 ": the stream ends in a frame, after %zu bytes",
                               d->offset, d->n);
        return 0;
}
