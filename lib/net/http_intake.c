#include "net/http_intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/bridge.h"
#include "net/conn_internal.h"
#include "net/loop_internal.h"

#define STREAM_START "GET /stream "
#define HTTP2_START "PRI * HTTP/2" /* of the same length */
#define PROXY_START "GET /proxy "
#define START_LEN (sizeof STREAM_START - 1) /* no request is shorter */
#define UPGRADE_WAIT_MAX 4096               /* more is not waited for: who gets it will refuse it */
#define WAITING_MS 10000
#define WARN_MS 10000

struct http_waiting {
        struct loop_item item;
        struct http_intake *intake;
        struct http_waiting *prev, *next; /* oldest first */
        struct conn *conn;
        int64_t since_ms;
        /* Without TLS: */
        uv_poll_t poll;
        int fd; /* a duplicate of the connection's */
        /* With TLS: */
        uint8_t *head; /* what has come, NULL: nothing */
        size_t n_head;
};

enum wish { UNKNOWN, STREAM, PROXY, HTTP };

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
        if (conn_is_tls(w->conn)) {
                unlink_waiting(w);
                free(w->head);
                free(w);
                return;
        }
        if (uv_is_closing((uv_handle_t *)&w->poll))
                return;
        unlink_waiting(w);
        uv_close((uv_handle_t *)&w->poll, waiting_gone);
}

/* A certificate that is refused is news; one line for all that come within a while. */
static void
warn(struct http_intake *in, const struct err *e)
{
        int64_t now_ms = loop_now_ms(in->config.loop);

        if (in->warned_ms != 0 && now_ms - in->warned_ms < WARN_MS) {
                in->n_unwarned++;
                return;
        }
        log_warn("connection refused: %s", e->text);
        if (in->n_unwarned > 0)
                log_warn("%u more connections were refused since the last such message", in->n_unwarned);
        in->warned_ms = now_ms;
        in->n_unwarned = 0;
}

/* Only a replica of LiteFS 0.5 begins so, and it does not say who does not understand it. */
static void
warn_of_http2(struct http_waiting *w)
{
        struct err e = ERR_INIT;
        char peer[ADDR_TEXT_SIZE];

        conn_peer(w->conn, peer);
        err_text(
                &e, E_FORMAT,
                "%s speaks HTTP/2, by which LiteFS 0.5 follows its primary: a cluster is all of LiteFS or all of litefs, see "
                "migrating-from-litefs.md",
                peer);
        warn(w->intake, &e);
}

static void
waiting_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct http_waiting *w = arg;

        (void)c;
        if (code == -EPROTO)
                warn(w->intake, e);
        end_waiting(w);
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

static void read_tls(void *arg, struct conn *c, const uint8_t *data, size_t n);

static const struct conn_handler waiting_handler = { .closed = waiting_closed };
static const struct conn_handler tls_handler = { .read = read_tls, .closed = waiting_closed };
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
hand_to_server(struct http_waiting *w)
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
                in->config.http(in->config.arg, fd, (struct sockaddr *)&sa);
}

static void
give_away(struct http_waiting *w, void (*take)(void *arg, struct conn *c))
{
        struct http_intake *in = w->intake;
        struct conn *c = w->conn;

        uv_poll_stop(&w->poll);
        conn_set_handler(c, &gone_handler, NULL);
        end_waiting(w);
        take(in->config.arg, c);
        conn_read_start(c);
}

/* It wakes us when @n bytes are there. */
static int
wait_for_bytes(struct http_waiting *w, size_t n)
{
        int low = (int)n;

        return setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) < 0 ? -errno : 0;
}

static enum wish
judge_start(const struct http_intake *in, const void *bytes, size_t n)
{
        enum wish wish;

        if (n < START_LEN)
                return UNKNOWN;
        if (in->config.stream != NULL && memcmp(bytes, STREAM_START, sizeof STREAM_START - 1) == 0)
                wish = STREAM;
        else if (in->config.proxy != NULL && memcmp(bytes, PROXY_START, sizeof PROXY_START - 1) == 0)
                wish = PROXY;
        else
                return HTTP;
        return n >= UPGRADE_WAIT_MAX || memmem(bytes, n, "\r\n\r\n", 4) != NULL ? wish : UNKNOWN;
}

static void
on_first_bytes(uv_poll_t *poll, int status, int events)
{
        struct http_waiting *w = poll->data;
        char buf[UPGRADE_WAIT_MAX];
        enum wish wish;
        ssize_t n;

        n = status < 0 ? -1 : recv(w->fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && status == 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < (ssize_t)START_LEN) { /* it ended, or will not get there */
                drop_waiting(w);
                return;
        }
        wish = judge_start(w->intake, buf, (size_t)n);
        if (wish == UNKNOWN) {
                if ((events & UV_DISCONNECT) != 0 || wait_for_bytes(w, (size_t)n + 1) < 0)
                        drop_waiting(w);
                return;
        }
        (void)wait_for_bytes(w, 1);
        if (memcmp(buf, HTTP2_START, START_LEN) == 0)
                warn_of_http2(w);
        if (wish == STREAM)
                give_away(w, w->intake->config.stream);
        else if (wish == PROXY)
                give_away(w, w->intake->config.proxy);
        else
                hand_to_server(w);
}

/* --- with TLS --- */

/* All that has come, with @data at its end. */
static bool
append(struct http_waiting *w, const uint8_t *data, size_t n)
{
        uint8_t *grown = realloc(w->head, w->n_head + n);

        if (grown == NULL)
                return false;
        memcpy(grown + w->n_head, data, n);
        w->head = grown;
        w->n_head += n;
        return true;
}

static void
give_tls_to_http(struct http_waiting *w)
{
        struct http_intake *in = w->intake;
        struct conn *c = w->conn;
        struct sockaddr_storage sa;
        int fd;

        if (conn_address(c, &sa) < 0 || bridge_open(in->config.loop, c, w->head, w->n_head, &fd) < 0) {
                drop_waiting(w);
                return;
        }
        end_waiting(w);
        conn_set_rank(c, CROWD_KEPT); /* HTTP counts it from now on */
        in->config.http(in->config.arg, fd, (const struct sockaddr *)&sa);
}

static void
give_tls_away(struct http_waiting *w, void (*take)(void *arg, struct conn *c))
{
        struct http_intake *in = w->intake;
        struct conn *c = w->conn;
        uint8_t *head = w->head;
        size_t n = w->n_head;

        w->head = NULL;
        conn_set_handler(c, &gone_handler, NULL);
        end_waiting(w);
        take(in->config.arg, c);
        conn_give_back(c, head, n);
        free(head);
}

static void
read_tls(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct http_waiting *w = arg;
        enum wish wish;

        (void)c;
        if (!append(w, data, n)) {
                drop_waiting(w);
                return;
        }
        wish = judge_start(w->intake, w->head, w->n_head);
        if (wish == HTTP)
                give_tls_to_http(w);
        else if (wish == STREAM)
                give_tls_away(w, w->intake->config.stream);
        else if (wish == PROXY)
                give_tls_away(w, w->intake->config.proxy);
}

/* --- life --- */

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
        if (!conn_is_tls(c) && start_waiting(w) < 0) {
                free(w);
                return;
        }
        if (conn_is_tls(c)) {
                conn_set_handler(c, &tls_handler, w);
        } else {
                conn_set_handler(c, &waiting_handler, w);
                conn_read_stop(c);
        }
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
