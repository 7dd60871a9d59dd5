#include "net/bridge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "net/loop_internal.h"

#define FINISH_MS 2000

static const struct conn_limits limits = { .low = (size_t)32 * 1024,
                                           .high = (size_t)128 * 1024,
                                           .max = (size_t)512 * 1024 };

struct bridge {
        struct loop_item item;
        struct loop *loop;
        struct conn *conn; /* NULL once closed */
        uv_pipe_t pipe;    /* our end of the pair */
        bool is_pipe_gone;
        uv_shutdown_t shutdown;
        unsigned n_queued; /* writes to the pipe that have not gone out */
};

struct piece {
        uv_write_t req;
        struct bridge *bridge;
        uint8_t bytes[];
};

static void
bridge_free_if_let_go(struct bridge *b)
{
        if (b->is_pipe_gone && b->conn == NULL)
                free(b);
}

static void
pipe_closed(uv_handle_t *handle)
{
        struct bridge *b = handle->data;

        b->is_pipe_gone = true;
        bridge_free_if_let_go(b);
}

static void
close_pipe(struct bridge *b)
{
        if (!uv_is_closing((uv_handle_t *)&b->pipe))
                uv_close((uv_handle_t *)&b->pipe, pipe_closed);
}

static void
bridge_stop(struct loop_item *item)
{
        close_pipe((struct bridge *)item);
}

/* The library has closed its end, or neither side can go on. */
static void
bridge_end(struct bridge *b)
{
        close_pipe(b);
        if (b->conn != NULL)
                conn_finish(b->conn, FINISH_MS);
}

/* --- to the library --- */

static void
bridge_piece_sent(uv_write_t *req, int status)
{
        struct piece *p = (struct piece *)req;
        struct bridge *b = p->bridge;

        free(p);
        b->n_queued--;
        if (status < 0)
                bridge_end(b);
        else if (b->n_queued == 0 && b->conn != NULL)
                conn_read_start(b->conn);
}

static int
queue(struct bridge *b, const uint8_t *data, size_t n)
{
        struct piece *p = malloc(sizeof *p + n);
        uv_buf_t buf;
        int r;

        if (p == NULL)
                return -ENOMEM;
        p->bridge = b;
        memcpy(p->bytes, data, n);
        buf = uv_buf_init((char *)p->bytes, (unsigned)n);
        r = uv_write(&p->req, (uv_stream_t *)&b->pipe, &buf, 1, bridge_piece_sent);
        if (r < 0) {
                free(p);
                return r;
        }
        b->n_queued++;
        conn_read_stop(b->conn);
        return 0;
}

static int
bridge_give(struct bridge *b, const uint8_t *data, size_t n)
{
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)n);
        int r = 0;

        if (n == 0)
                return 0;
        if (b->n_queued == 0)
                r = uv_try_write((uv_stream_t *)&b->pipe, &buf, 1);
        if (r < 0 && r != UV_EAGAIN)
                return r;
        r = r > 0 ? r : 0;
        return (size_t)r == n ? 0 : queue(b, data + r, n - (size_t)r);
}

static void
bridge_on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct bridge *b = arg;

        (void)c;
        if (!uv_is_closing((uv_handle_t *)&b->pipe) && bridge_give(b, data, n) < 0)
                bridge_end(b);
}

static void
end_given(uv_shutdown_t *req, int status)
{
        (void)req;
        (void)status;
}

static void
bridge_on_ended(void *arg, struct conn *c)
{
        struct bridge *b = arg;

        (void)c;
        if (uv_is_closing((uv_handle_t *)&b->pipe) ||
            uv_shutdown(&b->shutdown, (uv_stream_t *)&b->pipe, end_given) < 0)
                bridge_end(b);
}

/* --- to the peer --- */

static void
bridge_give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
        struct bridge *b = handle->data;

        (void)suggested;
        *ret = uv_buf_init((char *)b->loop->read_buf, sizeof b->loop->read_buf);
}

static void
bridge_have_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct bridge *b = stream->data;
        int r = n > 0 && b->conn != NULL ? conn_write(b->conn, buf->base, (size_t)n) : 0;

        if (n < 0 || r < 0)
                bridge_end(b);
        else if (r > 0)
                uv_read_stop(stream);
}

static void
bridge_on_writable(void *arg, struct conn *c)
{
        struct bridge *b = arg;

        (void)c;
        if (!uv_is_closing((uv_handle_t *)&b->pipe))
                (void)uv_read_start((uv_stream_t *)&b->pipe, bridge_give_buffer, bridge_have_read);
}

static void
bridge_on_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct bridge *b = arg;

        (void)c;
        (void)code;
        (void)e;
        b->conn = NULL;
        close_pipe(b);
        bridge_free_if_let_go(b);
}

static const struct conn_handler handler = { .read = bridge_on_read,
                                             .ended = bridge_on_ended,
                                             .writable = bridge_on_writable,
                                             .closed = bridge_on_closed };

/* --- life --- */

static int
open_pipe(struct bridge *b, int fd)
{
        int r;

        uv_pipe_init(&b->loop->uv, &b->pipe, 0); /* cannot fail */
        b->pipe.data = &b->item;
        r = uv_pipe_open(&b->pipe, fd);
        if (r < 0)
                close(fd);
        return r < 0 ? r : uv_read_start((uv_stream_t *)&b->pipe, bridge_give_buffer, bridge_have_read);
}

int
bridge_open(struct loop *l, struct conn *c, const void *first, size_t n, int *ret_fd)
{
        struct bridge *b = calloc(1, sizeof *b);
        int fds[2], r;

        if (b == NULL)
                return -ENOMEM;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
                r = -errno;
                free(b);
                return r;
        }
        b->item.stop = bridge_stop;
        b->loop = l;
        b->conn = c;
        r = open_pipe(b, fds[0]);
        if (r == 0)
                r = bridge_give(b, first, n);
        if (r < 0) {
                b->conn = NULL;
                close_pipe(b);
                close(fds[1]);
                return r;
        }
        conn_set_limits(c, &limits);
        conn_set_handler(c, &handler, b);
        *ret_fd = fds[1];
        return 0;
}
