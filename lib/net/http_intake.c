#include "net/http_intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "net/loop_internal.h"

#define STREAM_START "GET /stream "
#define START_LEN (sizeof STREAM_START - 1) /* no request is shorter */
#define STREAM_HEAD_MAX 4096                /* more is not waited for: the stream will refuse it */
#define MAX_WAITING 512u
#define WAITING_MS 10000

struct http_waiting {
        struct loop_item item;
        struct http_intake *intake;
        struct http_waiting *prev, *next; /* oldest first */
        struct conn *conn;
        uv_poll_t poll;
        int fd; /* a duplicate of the connection's */
        int64_t since_ms;
};

static void
waiting_gone(uv_handle_t *handle)
{
        struct http_waiting *w = handle->data;

        if (w->fd >= 0)
                close(w->fd);
        free(w);
}

static void
unlink_waiting(struct http_waiting *w)
{
        struct http_intake *in = w->intake;

        *(w->prev != NULL ? &w->prev->next : &in->oldest) = w->next;
        *(w->next != NULL ? &w->next->prev : &in->newest) = w->prev;
        in->n--;
}

/* Frees it, and lets go of the connection. */
static void
end_waiting(struct http_waiting *w)
{
        if (uv_is_closing((uv_handle_t *)&w->poll))
                return;
        unlink_waiting(w);
        uv_close((uv_handle_t *)&w->poll, waiting_gone);
}

static void
waiting_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        (void)c;
        (void)code;
        (void)e;
        end_waiting(arg);
}

/* What the connection is closed with when it is libmicrohttpd's under another descriptor. */
static void
let_go(void *arg, struct conn *c, int code, const struct err *e)
{
        (void)arg;
        (void)c;
        (void)code;
        (void)e;
}

static const struct conn_handler waiting_handler = { .closed = waiting_closed };
static const struct conn_handler gone_handler = { .closed = let_go };

static void
drop_waiting(struct http_waiting *w)
{
        conn_set_handler(w->conn, &gone_handler, NULL);
        conn_close(w->conn);
        end_waiting(w);
}

static void
stop_waiting(struct loop_item *item)
{
        drop_waiting((struct http_waiting *)item);
}

static void
give_to_http(struct http_waiting *w)
{
        struct http_intake *in = w->intake;
        struct sockaddr_storage sa;
        socklen_t n = sizeof sa;
        int fd = w->fd;

        uv_poll_stop(&w->poll);
        w->fd = -1;
        drop_waiting(w);
        if (getpeername(fd, (struct sockaddr *)&sa, &n) < 0)
                close(fd);
        else
                in->config.http(in->config.arg, fd, (struct sockaddr *)&sa, n);
}

static void
give_to_stream(struct http_waiting *w)
{
        struct http_intake *in = w->intake;
        struct conn *c = w->conn;

        uv_poll_stop(&w->poll);
        conn_set_handler(c, &gone_handler, NULL);
        end_waiting(w);
        in->config.stream(in->config.arg, c);
        conn_read_start(c);
}

/* It wakes us when @n bytes are there. */
static int
wait_for_bytes(struct http_waiting *w, size_t n)
{
        int low = (int)n;

        return setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) < 0 ? -errno : 0;
}

static void
on_first_bytes(uv_poll_t *poll, int status, int events)
{
        struct http_waiting *w = poll->data;
        char buf[STREAM_HEAD_MAX];
        bool is_stream, is_whole;
        ssize_t n;

        n = status < 0 ? -1 : recv(w->fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && status == 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < (ssize_t)START_LEN) { /* it ended, or will not get there */
                drop_waiting(w);
                return;
        }
        is_stream = w->intake->config.stream != NULL && memcmp(buf, STREAM_START, START_LEN) == 0;
        is_whole = n == (ssize_t)sizeof buf || memmem(buf, (size_t)n, "\r\n\r\n", 4) != NULL;
        if (is_stream && !is_whole) {
                if ((events & UV_DISCONNECT) != 0 || wait_for_bytes(w, (size_t)n + 1) < 0)
                        drop_waiting(w);
                return;
        }
        (void)wait_for_bytes(w, 1);
        if (is_stream)
                give_to_stream(w);
        else
                give_to_http(w);
}

static int
start_waiting(struct http_waiting *w)
{
        int r;

        w->fd = conn_dup(w->conn);
        if (w->fd < 0)
                return w->fd;
        r = wait_for_bytes(w, START_LEN);
        if (r == 0)
                r = uv_poll_init(&w->intake->config.loop->uv, &w->poll, w->fd);
        if (r < 0) {
                close(w->fd);
                return r;
        }
        w->poll.data = &w->item;
        uv_poll_start(&w->poll, UV_READABLE | UV_DISCONNECT, on_first_bytes);
        return 0;
}

void
http_intake_accept(struct http_intake *in, struct conn *c)
{
        struct http_waiting *w = calloc(1, sizeof *w);

        if (w == NULL)
                return;
        w->item.stop = stop_waiting;
        w->intake = in;
        w->conn = c;
        w->since_ms = loop_now_ms(in->config.loop);
        if (start_waiting(w) < 0) {
                free(w);
                return;
        }
        conn_set_handler(c, &waiting_handler, w);
        conn_read_stop(c);
        if (in->n >= MAX_WAITING)
                drop_waiting(in->oldest);
        w->prev = in->newest;
        *(in->newest != NULL ? &in->newest->next : &in->oldest) = w;
        in->newest = w;
        in->n++;
}

void
http_intake_tick(struct http_intake *in)
{
        int64_t now_ms = loop_now_ms(in->config.loop);

        while (in->oldest != NULL && now_ms - in->oldest->since_ms > WAITING_MS)
                drop_waiting(in->oldest);
}

void
http_intake_stop(struct http_intake *in)
{
        while (in->oldest != NULL)
                drop_waiting(in->oldest);
}
