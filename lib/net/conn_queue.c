#include "net/conn_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
conn_queue_take(struct conn_queue *q, size_t size, struct conn_piece **ret)
{
        struct conn_piece *p;

        if (size > q->limits.max || q->n_bytes + sizeof *p + size > q->limits.max)
                return -ENOBUFS;
        p = malloc(sizeof *p + size);
        if (p == NULL)
                return -ENOMEM;
        p->queue = q;
        p->size = size;
        *ret = p;
        return 0;
}

bool
conn_queue_has_drained(struct conn_queue *q)
{
        if (!q->is_over_high || q->n_bytes > q->limits.low)
                return false;
        q->is_over_high = false;
        return true;
}

ssize_t
conn_queue_try(struct conn_queue *q, const struct iovec *iov, int n_iov)
{
        uv_buf_t bufs[CONN_WRITE_PARTS];
        int r;

        for (int i = 0; i < n_iov; i++)
                bufs[i] = uv_buf_init(iov[i].iov_base, (unsigned)iov[i].iov_len);
        r = uv_try_write(q->stream, bufs, (unsigned)n_iov);
        return r == UV_EAGAIN ? 0 : r;
}

static void
queue_piece_sent(uv_write_t *req, int status)
{
        struct conn_piece *p = (struct conn_piece *)req;
        struct conn_queue *q = p->queue;

        q->n_bytes -= p->cost;
        free(p);
        q->sent(q->arg, status);
}

/* Queues @p, of which the bytes from @from to @to are to go out, and which has room for @size. */
static int
enqueue(struct conn_queue *q, struct conn_piece *p, size_t from, size_t to, size_t size)
{
        uv_buf_t buf = uv_buf_init((char *)p->bytes + from, (unsigned)(to - from));
        int r;

        p->cost = sizeof *p + size;
        r = uv_write(&p->req, q->stream, &buf, 1, queue_piece_sent);
        if (r < 0) {
                free(p);
                return r;
        }
        q->n_bytes += p->cost;
        q->is_over_high = q->is_over_high || q->n_bytes > q->limits.high;
        return q->is_over_high;
}

/* Copies all but the first @skip bytes into the queue. */
static int
enqueue_copy(struct conn_queue *q, struct conn_piece *p, const struct iovec *iov, int n_iov, size_t skip)
{
        size_t n = 0;

        for (int i = 0; i < n_iov; i++) {
                size_t from = skip < iov[i].iov_len ? skip : iov[i].iov_len;

                memcpy(p->bytes + n, (const uint8_t *)iov[i].iov_base + from, iov[i].iov_len - from);
                n += iov[i].iov_len - from;
                skip -= from;
        }
        return enqueue(q, p, 0, n, n);
}

int
conn_queue_send(struct conn_queue *q, struct conn_piece *p, size_t n)
{
        struct iovec iov = { p->bytes, n };
        ssize_t r = q->n_bytes == 0 ? conn_queue_try(q, &iov, 1) : 0;

        if (r == (ssize_t)n || r < 0) {
                free(p);
                return r < 0 ? (int)r : q->is_over_high;
        }
        return enqueue(q, p, (size_t)r, n, p->size);
}

int
conn_queue_send_parts(struct conn_queue *q, struct conn_piece *p, const struct iovec *iov, int n_iov)
{
        ssize_t r = q->n_bytes == 0 ? conn_queue_try(q, iov, n_iov) : 0;

        if (r == (ssize_t)p->size || r < 0) {
                free(p);
                return r < 0 ? (int)r : q->is_over_high;
        }
        return enqueue_copy(q, p, iov, n_iov, (size_t)r);
}
