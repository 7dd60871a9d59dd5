#include "net/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn_internal.h"
#include "net/conn_state.h"

#define DEFAULT_LOW (256u * 1024)
#define DEFAULT_HIGH (1024u * 1024)
#define DEFAULT_MAX (8u * 1024 * 1024)
#define KEEPALIVE_S 15
#define UNSENT_MAX (256 * 1024)
#define HANDSHAKE_MS 10000
#define ALERT_MS 1000 /* that a peer has to read why its TLS is refused */

void
conn_free(struct conn *c)
{
        uv_freeaddrinfo(c->addrs);
        tls_free(c->tls);
        free(c);
}

struct conn *
conn_of_item(struct loop_item *item)
{
        return (struct conn *)item;
}

void
conn_free_if_let_go(struct conn *c)
{
        if (c->has_tcp || c->has_timer)
                return;
        if (c->handler != NULL && c->handler->closed != NULL)
                c->handler->closed(c->arg, c, c->code, c->code < 0 ? &c->err : NULL);
        c->handler = NULL;
        if (c->gone != NULL)
                c->gone(c->gone_arg);
        c->gone = NULL;
        if (!c->has_lookup)
                conn_free(c);
}

static void
tcp_closed(uv_handle_t *handle)
{
        struct conn *c = conn_of_item(handle->data);

        c->has_tcp = false;
        conn_free_if_let_go(c);
}

static void
conn_timer_closed(uv_handle_t *handle)
{
        struct conn *c = conn_of_item(handle->data);

        c->has_timer = false;
        conn_free_if_let_go(c);
}

void
conn_close_with(struct conn *c, int code)
{
        if (c->state == CONN_CLOSING)
                return;
        crowd_leave(&c->guest);
        if (code == 0 || code == -ECANCELED)
                conn_tls_say_end(c);
        c->state = CONN_CLOSING;
        c->code = code;
        if (c->has_lookup)
                (void)uv_cancel((uv_req_t *)&c->lookup);
        if (c->has_tcp && !uv_is_closing((uv_handle_t *)&c->tcp))
                uv_close((uv_handle_t *)&c->tcp, tcp_closed);
        uv_close((uv_handle_t *)&c->timer, conn_timer_closed);
}

void
conn_fail(struct conn *c, int code, const char *what)
{
        char peer[ADDR_TEXT_SIZE];

        if (c->state == CONN_CLOSING)
                return;
        if (c->end_code < 0) { /* the first reason counts */
                conn_close_with(c, c->end_code);
                return;
        }
        conn_name_peer(c, peer);
        err_set(&c->err, code, "%s %s", what, peer);
        conn_close_with(c, code);
}

void
conn_start_timer(struct conn *c, int64_t ms, uv_timer_cb timed_out)
{
        uv_update_time(&c->loop->uv);
        uv_timer_start(&c->timer, timed_out, (uint64_t)(ms > 0 ? ms : 0), 0);
}

static void
conn_stop(struct loop_item *item)
{
        struct conn *c = conn_of_item(item);

        if (c->state == CONN_CLOSING)
                return;
        err_text(&c->err, -ECANCELED, "the event loop stops");
        conn_close_with(c, -ECANCELED);
}

int
conn_open_tcp(struct conn *c)
{
        int r = uv_tcp_init(&c->loop->uv, &c->tcp);

        if (r < 0)
                return r;
        c->tcp.data = &c->item;
        c->has_tcp = true;
        return 0;
}

static void
sent(void *arg, int status)
{
        struct conn *c = arg;

        if (status < 0)
                conn_fail(c, status, "write to"); /* no news when it is closing */
        if (c->state == CONN_OPEN && conn_queue_has_drained(&c->queue) && c->handler != NULL &&
            c->handler->writable != NULL)
                c->handler->writable(c->arg, c);
}

static size_t
or_default(size_t v, size_t otherwise)
{
        return v > 0 ? v : otherwise;
}

static void
set_limits(struct conn_limits *to, const struct conn_limits *from)
{
        if (from != NULL)
                *to = *from;
        to->low = or_default(to->low, DEFAULT_LOW);
        to->high = or_default(to->high, DEFAULT_HIGH);
        to->max = or_default(to->max, DEFAULT_MAX);
}

int
conn_new(struct loop *l, const struct conn_limits *limits, struct conn **ret)
{
        struct conn *c;

        if (l->is_stopping)
                return -ESHUTDOWN;
        c = calloc(1, sizeof *c);
        if (c == NULL)
                return -ENOMEM;
        c->item.stop = conn_stop;
        c->loop = l;
        c->queue.stream = (uv_stream_t *)&c->tcp;
        c->queue.sent = sent;
        c->queue.arg = c;
        set_limits(&c->queue.limits, limits);
        uv_timer_init(&l->uv, &c->timer); /* cannot fail */
        c->timer.data = &c->item;
        c->has_timer = true;
        *ret = c;
        return 0;
}

void
conn_set_options(struct conn *c)
{
        const int unsent = UNSENT_MAX;
        int fd;

        /* They only make it better; a socket that refuses them works. Frames are written whole, so waiting
         * to fill packets gains nothing; keepalive finds a peer that has gone without a word; and what the kernel has not
         * sent yet, of which it would take megabytes, is what a frame that should go first has to wait for on a slow link. */
        (void)uv_tcp_nodelay(&c->tcp, 1);
        (void)uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
        if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
                (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

static void
conn_peer_ended(struct conn *c)
{
        uv_read_stop((uv_stream_t *)&c->tcp);
        c->is_ended = true;
        if (c->state == CONN_FINISHING) {
                if (c->is_sent)
                        conn_close_with(c, c->end_code);
        } else if (c->handler->ended != NULL) {
                c->handler->ended(c->arg, c);
        } else {
                conn_close_with(c, 0);
        }
}

static void
conn_give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
        struct conn *c = conn_of_item(handle->data);

        (void)suggested;
        *ret = uv_buf_init((char *)c->loop->read_buf, sizeof c->loop->read_buf);
}

static void
conn_deliver(struct conn *c, const uint8_t *data, size_t n)
{
        if (n > 0 && c->state == CONN_OPEN && c->handler->read != NULL)
                c->handler->read(c->arg, c, data, n);
}

static void begin_finish(struct conn *c, int64_t timeout_ms);

/* Closes with @e, but not before the peer could read the alert that says so. */
static void
refuse_tls(struct conn *c, int code, const struct err *e)
{
        char peer[ADDR_TEXT_SIZE];

        if (c->state != CONN_HANDSHAKE && c->state != CONN_OPEN)
                return;
        conn_name_peer(c, peer);
        err_text(&c->err, code, "TLS with %s: %s", peer, e->text);
        c->end_code = code;
        begin_finish(c, ALERT_MS);
}

static void
handshake_done(struct conn *c)
{
        uv_timer_stop(&c->timer);
        c->state = CONN_OPEN;
        if (c->target.port != 0 && c->handler->opened != NULL)
                c->handler->opened(c->arg, c);
}

static void
conn_read_tls(struct conn *c, const uint8_t *data, size_t n)
{
        struct err e = ERR_INIT;
        size_t n_plain;
        int r, sent_r;

        if (c->state != CONN_HANDSHAKE && c->state != CONN_OPEN)
                return; /* finishing: nobody wants it */
        r = tls_input(c->tls, data, n, c->loop->plain_buf, &n_plain, &e);
        sent_r = conn_tls_flush(c);
        if (sent_r < 0) {
                conn_fail(c, sent_r, "write to");
                return;
        }
        if (c->state == CONN_HANDSHAKE && tls_is_open(c->tls))
                handshake_done(c);
        conn_deliver(c, c->loop->plain_buf, n_plain);
        if (r < 0)
                refuse_tls(c, r, &e);
        else if (c->state == CONN_OPEN && !c->is_ended && tls_is_ended(c->tls))
                conn_peer_ended(c);
}

static void
conn_have_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct conn *c = conn_of_item(stream->data);

        if (n == UV_EOF && c->tls != NULL && c->state != CONN_FINISHING)
                conn_fail(c, -ECONNRESET, c->state == CONN_OPEN ? "read from" : "TLS handshake with");
        else if (n == UV_EOF)
                conn_peer_ended(c);
        else if (n < 0)
                conn_fail(c, (int)n, "read from");
        else if (n > 0 && c->tls != NULL)
                conn_read_tls(c, (const uint8_t *)buf->base, (size_t)n);
        else if (n > 0)
                conn_deliver(c, (const uint8_t *)buf->base, (size_t)n);
}

void
conn_read_start(struct conn *c)
{
        int r;

        if ((c->state != CONN_OPEN && c->state != CONN_FINISHING && c->state != CONN_HANDSHAKE) ||
            c->is_ended)
                return;
        r = uv_read_start((uv_stream_t *)&c->tcp, conn_give_buffer, conn_have_read);
        if (r < 0 && r != UV_EALREADY)
                conn_fail(c, r, "read from");
}

void
conn_read_stop(struct conn *c)
{
        if (c->state == CONN_OPEN)
                uv_read_stop((uv_stream_t *)&c->tcp);
}

int
conn_dup(const struct conn *c)
{
        uv_os_fd_t fd;
        int r = uv_fileno((const uv_handle_t *)&c->tcp, &fd);

        if (r < 0)
                return r;
        r = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return r < 0 ? -errno : r;
}

bool
conn_has_handler(const struct conn *c)
{
        return c->handler != NULL;
}

void
conn_set_handler(struct conn *c, const struct conn_handler *h, void *arg)
{
        bool is_first = c->handler == NULL;

        c->handler = h;
        c->arg = arg;
        if (is_first)
                conn_read_start(c);
}

static size_t
count_bytes(const struct iovec *iov, int n_iov)
{
        size_t n = 0;

        for (int i = 0; i < n_iov; i++)
                n += iov[i].iov_len;
        return n;
}

int
conn_writev(struct conn *c, const struct iovec *iov, int n_iov)
{
        size_t n = count_bytes(iov, n_iov), size = n;
        struct conn_piece *p;
        int r;

        if (n_iov > CONN_WRITE_PARTS)
                return -EINVAL;
        if (c->state != CONN_OPEN)
                return -ENOTCONN;
        if (n == 0)
                return c->queue.is_over_high;
        if (c->tls != NULL)
                size = tls_encrypted_max(n, n_iov);
        /* Before anything goes out: half a write that then finds no memory would break the stream. */
        r = conn_queue_take(&c->queue, size, &p);
        if (r < 0)
                return r;
        r = c->tls != NULL ? conn_tls_send(c, p, iov, n_iov)
                           : conn_queue_send_parts(&c->queue, p, iov, n_iov);
        if (r < 0)
                conn_fail(c, r, "write to");
        return r;
}

int
conn_write(struct conn *c, const void *buf, size_t n)
{
        struct iovec iov = { .iov_base = (void *)buf, .iov_len = n };

        return conn_writev(c, &iov, 1);
}

size_t
conn_queued_bytes(const struct conn *c)
{
        return c->queue.n_bytes;
}

/* A peer that has ended with TLS may be gone before it hears that we do: nothing is lost by that. */
static void
fail_end(struct conn *c, int code)
{
        if (c->tls != NULL && c->is_ended)
                conn_close_with(c, c->end_code);
        else
                conn_fail(c, code, "write to");
}

static void
end_sent(uv_shutdown_t *req, int status)
{
        struct conn *c = req->data;

        if (c->state == CONN_CLOSING)
                return;
        c->is_sent = true;
        if (status < 0)
                fail_end(c, status);
        else if (c->is_ended)
                conn_close_with(c, c->end_code);
}

static void
finish_timed_out(uv_timer_t *timer)
{
        conn_fail(conn_of_item(timer->data), -ETIMEDOUT, "wait for the end of");
}

/* Sends our end behind what is queued, and waits for the peer's. */
static void
begin_finish(struct conn *c, int64_t timeout_ms)
{
        int r;

        c->state = CONN_FINISHING;
        conn_set_rank(c, CROWD_IDLE);
        c->shutdown.data = c;
        r = uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, end_sent);
        if (r < 0) {
                conn_fail(c, r, "write to");
                return;
        }
        conn_start_timer(c, timeout_ms, finish_timed_out);
        conn_read_start(c);
}

bool
conn_is_tls(const struct conn *c)
{
        return c->tls != NULL;
}

void
conn_give_back(struct conn *c, const void *data, size_t n)
{
        conn_deliver(c, data, n);
}

void
conn_set_limits(struct conn *c, const struct conn_limits *limits)
{
        c->queue.limits = *limits;
}

/* --- the end --- */

void
conn_finish(struct conn *c, int64_t timeout_ms)
{
        int r;

        if (c->state != CONN_OPEN) {
                if (c->state != CONN_FINISHING)
                        conn_close(c);
                return;
        }
        if (c->tls != NULL) {
                r = conn_tls_end(c);
                if (r < 0) {
                        fail_end(c, r);
                        return;
                }
        }
        begin_finish(c, timeout_ms);
}

void
conn_close(struct conn *c)
{
        conn_close_with(c, 0);
}

static void
begin_handshake(struct conn *c)
{
        int r;

        c->state = CONN_HANDSHAKE;
        conn_set_options(c);
        tls_begin(c->tls);
        r = conn_tls_flush(c);
        if (r < 0)
                conn_fail(c, r, "write to");
        else
                conn_read_start(c);
}

void
conn_begin(struct conn *c)
{
        if (c->tls != NULL) {
                begin_handshake(c);
                return;
        }
        uv_timer_stop(&c->timer);
        c->state = CONN_OPEN;
        conn_set_options(c);
        if (c->handler->opened != NULL)
                c->handler->opened(c->arg, c);
        if (c->state == CONN_OPEN)
                conn_read_start(c);
}

static void
handshake_timed_out(uv_timer_t *timer)
{
        conn_fail(conn_of_item(timer->data), -ETIMEDOUT, "TLS handshake with");
}

int
conn_accept(struct loop *l, uv_stream_t *server, const struct conn_limits *limits,
            struct tls_context *tls, void (*gone)(void *arg), void *gone_arg, struct conn **ret)
{
        struct tls *session = NULL;
        struct conn *c;
        int r = tls != NULL ? tls_new(tls, NULL, &session, NULL) : 0;

        if (r < 0)
                return r;
        r = conn_new(l, limits, &c);
        if (r < 0) {
                tls_free(session);
                return r;
        }
        c->tls = session;
        r = conn_open_tcp(c);
        if (r == 0)
                r = uv_accept(server, (uv_stream_t *)&c->tcp);
        if (r < 0) {
                conn_close_with(c, r);
                return r;
        }
        c->state = c->tls != NULL ? CONN_HANDSHAKE : CONN_OPEN;
        if (c->tls != NULL)
                conn_start_timer(c, HANDSHAKE_MS, handshake_timed_out);
        c->gone = gone;
        c->gone_arg = gone_arg;
        conn_set_options(c);
        *ret = c;
        return 0;
}

static void
evicted(struct crowd_guest *g)
{
        conn_close((struct conn *)((char *)g - offsetof(struct conn, guest)));
}

int
conn_join(struct conn *c, struct crowd *crowd)
{
        struct sockaddr_storage sa;
        int r = conn_address(c, &sa);

        if (r < 0)
                return r; /* it has gone again */
        c->guest.evict = evicted;
        return crowd_enter(crowd, &c->guest, (struct sockaddr *)&sa, loop_now_ms(c->loop));
}

void
conn_set_rank(struct conn *c, enum crowd_rank rank)
{
        crowd_set_rank(&c->guest, rank, loop_now_ms(c->loop));
}

bool
conn_is_extra(const struct conn *c)
{
        return c->guest.is_extra;
}
