/* The other side of a request: the connection to the application, or to the primary's proxy, and what comes back. */
#include "proxy/proxy_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define HOP_WARN_MS 10000

static const struct upstream_handler upstream_handler;

void
exchange_drop(struct client *c)
{
        struct upstream *u = c->up;

        c->up = NULL;
        c->is_up_paused = false;
        if (u == NULL)
                return;
        cork_forget(&c->proxy->cork, upstream_conn(u));
        upstream_drop(u);
}

static const char *
who(const struct client *c)
{
        return c->is_to_primary ? "primary's proxy" : "application";
}

static const char *
advice(const struct client *c)
{
        if (c->to.is_node)
                return "see the log of this node, and http.tls, http.token and proxy.target on both";
        return c->is_to_primary ? "it must run there with the same port in proxy.addr, and be reachable"
                                : "see that it runs and that proxy.target is its address";
}

/* Sent twice it does the same as sent once, and we still have all of it. */
static bool
is_replayable(const struct client *c)
{
        switch (c->request.method) {
        case HTTP_GET:
        case HTTP_HEAD:
        case HTTP_OPTIONS:
        case HTTP_PUT:
        case HTTP_DELETE:
                return c->request.is_end;
        default:
                return false;
        }
}

static void
send_request(struct client *c)
{
        struct proxy *p = c->proxy;
        struct request_rewrite how = { .target = &c->target,
                                       .client = c->is_peer ? NULL : c->peer,
                                       .default_host = c->to.address,
                                       .is_hop = c->is_to_primary };

        client_set_state(c, CLIENT_PASSING);
        c->moved_ms = loop_now_ms(p->loop);
        reader_next(&c->response);
        c->response.is_body_less = c->request.method == HTTP_HEAD;
        p->scratch.n = 0;
        c->up_framing = rewrite_request(&p->scratch, &c->request, &how);
        if (p->scratch.is_cut) {
                text_release(&p->scratch);
                reply(c, 503, "", "Proxy error: out of memory: try again");
                return;
        }
        client_send_up(c, p->scratch.s, p->scratch.n);
}

static void not_connected(struct client *c, int code, const struct err *e);

static void
connect(struct client *c)
{
        struct err e = ERR_INIT;
        int r;

        client_set_state(c, CLIENT_CONNECTING);
        c->retry_at_ms = 0;
        r = upstream_connect(c->proxy->pool, &c->to, PROXY_CONNECT_MS, &upstream_handler, c, &c->up, &e);
        if (r < 0) {
                c->up = NULL;
                not_connected(c, r, &e);
        }
}

/* How long a connection may have been idle that is used again. */
static int64_t
max_idle_ms(const struct client *c)
{
        if (is_replayable(c))
                return UPSTREAM_IDLE_MS;
        return c->to.is_node ? UPSTREAM_NODE_FRESH_MS : UPSTREAM_FRESH_MS;
}

void
exchange_begin(struct client *c, const struct destination *to)
{
        c->to = *to;
        c->up = upstream_take(c->proxy->pool, to, max_idle_ms(c), &upstream_handler, c);
        if (c->up != NULL)
                send_request(c);
        else
                connect(c);
}

void
exchange_retry(struct client *c)
{
        if (c->is_to_primary)
                request_route(c); /* which may be another by now */
        else
                connect(c);
}

/* The application may be about to start, the primary about to change. */
static bool
may_try_again(struct client *c)
{
        struct proxy *p = c->proxy;
        int64_t now = loop_now_ms(p->loop);

        if (p->is_draining)
                return false;
        if (c->refused_since_ms == 0)
                c->refused_since_ms = now;
        return now - c->refused_since_ms <
               (c->is_to_primary ? p->config.primary_redirect_ms : PROXY_REFUSED_MS);
}

/* Nothing of the request has been sent yet. Another node's port is there while its proxy begins or ends, so that it may
 * also break. */
static bool
is_passing(const struct client *c, int code)
{
        if (code == -ECONNREFUSED || !c->to.is_node)
                return code == -ECONNREFUSED;
        return code == -EBUSY || code == -EAGAIN || code == -ECONNRESET || code == -EPIPE;
}

static void
count_hop_failure(struct proxy_stats *s, int code)
{
        if (code == -EPROTO)
                s->n_hop_failures[PROXY_HOP_TLS]++;
        else if (code == -EACCES)
                s->n_hop_failures[PROXY_HOP_TOKEN]++;
        else if (code != -EBUSY) /* that was not tried */
                s->n_hop_failures[PROXY_HOP_OTHER]++;
}

/* For who runs the nodes: a client's 502 is not seen by him. One line stands for all that come within a while. */
static void
warn_of_hop_failure(struct proxy *p, const struct err *e)
{
        int64_t now = loop_now_ms(p->loop);

        if (p->hop_warned_ms != 0 && now - p->hop_warned_ms < HOP_WARN_MS)
                return;
        p->hop_warned_ms = now;
        log_warn("proxy: requests do not get to the primary: %s", e->text);
}

static void
not_connected(struct client *c, int code, const struct err *e)
{
        if (c->to.is_node)
                count_hop_failure(&c->proxy->stats, code);
        if (is_passing(c, code) && may_try_again(c)) {
                c->proxy->stats.n_retries += code != -EBUSY;
                c->retry_at_ms = loop_now_ms(c->proxy->loop) + PROXY_RETRY_MS;
                return;
        }
        if (c->to.is_node && e != NULL && code != -ECANCELED)
                warn_of_hop_failure(c->proxy, e);
        reply_printf(c, code == -ETIMEDOUT ? 504 : 502, "Proxy error: the %s cannot be reached (%s): %s",
                     who(c), e != NULL ? e->text : "no reason known", advice(c));
}

/* The connection ended before the response did. */
static void
lost(struct client *c)
{
        bool was_reused = c->up != NULL && upstream_is_reused(c->up);

        if (c->is_answered) {
                client_abort(c); /* a client must not take the part for the whole */
                return;
        }
        exchange_drop(c);
        if (was_reused && is_replayable(c)) {
                c->proxy->stats.n_retries++;
                connect(c);
                return;
        }
        reply_printf(c, 502,
                     "Proxy error: the %s at %s closed the connection without an answer: see its log",
                     who(c), c->to.address);
}

/* --- the response --- */

static void
end_response(struct client *c)
{
        if (c->framing == FRAMING_CHUNKED)
                client_send(c, "0\r\n\r\n", 5);
        client_finish(c);
}

static void
send_head(struct client *c, struct response_rewrite *how)
{
        struct proxy *p = c->proxy;

        p->scratch.n = 0;
        c->framing = rewrite_response(&p->scratch, &c->response, how);
        if (p->scratch.is_cut) {
                text_release(&p->scratch);
                client_abort(c);
                return;
        }
        client_send(c, p->scratch.s, p->scratch.n);
}

static void
bad_response(struct client *c, const char *what)
{
        if (c->is_answered)
                client_abort(c);
        else
                reply_printf(c, 502, "Proxy error: the %s at %s answered badly (%s): see its log",
                             who(c), c->to.address, what);
}

/* 100 Continue and the like: the client waits for it, and another response follows. */
static void
pass_interim(struct client *c)
{
        struct response_rewrite how = { .client_minor = c->request.minor, .is_keep_alive = true };

        if (c->response.status_code == 101 && !c->request.is_upgrade) {
                bad_response(c, "101 where nothing was to be upgraded");
                return;
        }
        if (c->request.minor > 0)
                send_head(c, &how);
        if (c->response.status_code == 101) {
                c->is_answered = true;
                client_set_state(c, CLIENT_TUNNEL);
                client_send_up(c, c->in, c->n_in); /* what the client could not wait to say */
                c->n_in = 0;
                return;
        }
        reader_next(&c->response);
        c->response.is_body_less = c->request.method == HTTP_HEAD;
}

static void
have_head(struct client *c)
{
        char cookie[COOKIE_FIELD_SIZE];
        struct response_rewrite how = { .client_minor = c->request.minor,
                                        .is_head = c->request.method == HTTP_HEAD,
                                        .is_keep_alive = c->is_keep_alive && !c->proxy->is_draining };

        if (c->response.status_code < 200) {
                pass_interim(c);
                return;
        }
        if (c->is_local_write && positions_cookie(c, cookie))
                how.cookie = cookie;
        c->is_answered = true;
        send_head(c, &how);
        c->is_keep_alive = how.is_keep_alive;
        if (c->response.is_end && c->state == CLIENT_PASSING)
                end_response(c);
}

static void
parse_response(struct client *c, const uint8_t *data, size_t n)
{
        while (n > 0 && c->state == CLIENT_PASSING && c->up != NULL) {
                enum reader_event event;
                size_t used = reader_feed(&c->response, data, n, &event);

                data += used;
                n -= used;
                /* More than was asked for: whatever it is, the next request must not take it for its answer. */
                if (n > 0 && c->response.is_end && c->response.status_code >= 200)
                        c->response.is_keep_alive = false;
                if (event == READER_FAILED)
                        bad_response(c, c->response.reason);
                else if (event == READER_HEAD)
                        have_head(c);
                else if (event == READER_END)
                        end_response(c);
        }
        if (c->state == CLIENT_TUNNEL && n > 0)
                client_send(c, data, n);
}

/* --- events --- */

static void
on_opened(void *arg)
{
        struct client *c = arg;

        send_request(c);
        client_settle(c);
}

static void
on_read(void *arg, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        parse_response(c, data, n);
        client_settle(c);
}

static void
on_ended(void *arg)
{
        struct client *c = arg;

        c->response.is_keep_alive = false;
        if (c->state == CLIENT_TUNNEL)
                client_finish(c);
        else if (c->is_answered && reader_eof(&c->response))
                end_response(c);
        else
                lost(c);
        client_settle(c);
}

static void
on_writable(void *arg)
{
        client_settle(arg);
}

static void
on_closed(void *arg, int code, const struct err *e)
{
        struct client *c = arg;

        if (c->state == CLIENT_CONNECTING) {
                c->up = NULL;
                not_connected(c, code, e);
        } else if (c->state == CLIENT_TUNNEL) {
                c->up = NULL;
                client_finish(c);
        } else {
                lost(c);
        }
        client_settle(c);
}

static const struct upstream_handler upstream_handler = { on_opened, on_read, on_ended, on_writable,
                                                          on_closed };
