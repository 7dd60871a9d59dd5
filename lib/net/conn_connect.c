/* One address of the host after the other, each with a socket of its own, until one answers. */
#include <errno.h>
#include <stdio.h>

#include "net/conn_state.h"

static void try_next(struct conn *c);

static void
fail_connect(struct conn *c, int code)
{
        char target[ADDR_TEXT_SIZE];

        addr_format(&c->target, target);
        err_set(&c->err, code, "connect to %s", target);
        conn_close_with(c, code);
}

static void
timed_out(uv_timer_t *timer)
{
        struct conn *c = conn_of_item(timer->data);

        if (c->state == CONN_HANDSHAKE)
                conn_fail(c, -ETIMEDOUT, "TLS handshake with");
        else
                fail_connect(c, -ETIMEDOUT);
}

static void
attempt_closed(uv_handle_t *handle)
{
        struct conn *c = conn_of_item(handle->data);

        c->has_tcp = false;
        if (c->state == CONN_CLOSING)
                conn_free_if_let_go(c);
        else
                try_next(c);
}

static void
connected(uv_connect_t *req, int status)
{
        struct conn *c = req->data;

        if (c->state == CONN_CLOSING)
                return;
        if (status < 0) {
                c->code = status; /* of the last address, should none answer */
                uv_close((uv_handle_t *)&c->tcp, attempt_closed);
                return;
        }
        conn_begin(c);
}

static void
try_next(struct conn *c)
{
        struct addrinfo *a = c->next;
        int r;

        if (a == NULL) {
                fail_connect(c, c->code);
                return;
        }
        c->next = a->ai_next;
        c->state = CONN_CONNECTING;
        c->connect.data = c;
        r = conn_open_tcp(c);
        if (r < 0) {
                fail_connect(c, r);
                return;
        }
        r = uv_tcp_connect(&c->connect, &c->tcp, a->ai_addr, connected);
        if (r < 0) {
                /* No such family on this machine, say: the next one may do. */
                c->code = r;
                uv_close((uv_handle_t *)&c->tcp, attempt_closed);
        }
}

static void resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addrs);

static int
look_up(struct conn *c, const char *host)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
        char port[8];
        int r;

        snprintf(port, sizeof port, "%d", c->target.port);
        c->lookup.data = c;
        r = uv_getaddrinfo(&c->loop->uv, &c->lookup, resolved, host, port, &hints);
        c->has_lookup = r == 0;
        return r;
}

static void
resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addrs)
{
        struct conn *c = req->data;
        char target[ADDR_TEXT_SIZE];

        c->has_lookup = false;
        c->addrs = c->next = addrs;
        if (c->state == CONN_CLOSING) {
                /* closed() may have been, or comes with the last handle. */
                if (!c->has_tcp && !c->has_timer)
                        conn_free(c);
                return;
        }
        if (status < 0 && !c->has_tried_loopback && addr_is_localhost(&c->target)) {
                c->has_tried_loopback = true;
                if (look_up(c, "127.0.0.1") == 0)
                        return;
        }
        if (status < 0) {
                addr_format(&c->target, target);
                err_text(&c->err, -EHOSTUNREACH, "connect to %s: %s", target, uv_strerror(status));
                conn_close_with(c, -EHOSTUNREACH);
                return;
        }
        c->code = -EHOSTUNREACH;
        try_next(c);
}

int
conn_connect(struct loop *l, struct tls_context *tls, const char *address, int64_t timeout_ms,
             const struct conn_limits *limits, const struct conn_handler *h, void *arg,
             struct conn **ret, struct err *e)
{
        struct addr target;
        struct tls *session = NULL;
        struct conn *c;
        int r;

        r = addr_parse(address, &target, e);
        if (r < 0)
                return r;
        if (tls != NULL)
                r = tls_new(tls, target.host[0] != '\0' ? target.host : "localhost", &session, e);
        if (r < 0)
                return err_prefix(e, "connect to %s", address), r;
        r = conn_new(l, limits, &c);
        if (r < 0) {
                tls_free(session);
                return err_set(e, r, "connect to %s", address);
        }
        c->tls = session;
        c->target = target;
        c->handler = h;
        c->arg = arg;
        r = look_up(c, target.host[0] != '\0' ? target.host : "localhost");
        if (r < 0) {
                /* Nobody was promised to hear of it. */
                c->handler = NULL;
                conn_close_with(c, r);
                return err_set(e, r, "connect to %s", address);
        }
        conn_start_timer(c, timeout_ms, timed_out);
        *ret = c;
        return 0;
}
