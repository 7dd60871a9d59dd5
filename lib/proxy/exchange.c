/* The other side of a request: the connection to the application, or to the primary's proxy, and what comes back. */
#include "proxy/exchange.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proxy/body.h"
#include "proxy/positions.h"
#include "proxy/reply.h"

#define NODE_WARN_MS 10000

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

/* Whether the application may be asked twice, as Go's net/http.Transport has it: by a method that is safe (a PUT or
 * DELETE that is sent again may undo what another client has done in between), without a body, and not where
 * always-forward says that it writes. */
static bool
is_replayable(const struct client *c)
{
        if (c->kind == ROUTE_WRITE)
                return false;
        switch (c->request.method) {
        case HTTP_GET:
        case HTTP_HEAD:
        case HTTP_OPTIONS:
        case HTTP_TRACE:
                return c->request.is_end;
        default:
                return false;
        }
}

static const char taken[] = "HTTP/1.1 102 Processing\r\n" REWRITE_TAKEN ": 1\r\n\r\n";

static void
send_request(struct client *c)
{
        struct proxy *p = c->proxy;
        struct request_rewrite how = { .target = &c->target,
                                       .client = c->is_peer ? NULL : c->peer,
                                       .default_host = c->to.address,
                                       .is_sent_on = c->is_to_primary };

        client_set_state(c, CLIENT_PASSING);
        c->moved_ms = loop_now_ms(p->loop);
        c->is_heard = false;
        reader_next(&c->response);
        c->response.is_body_less = c->request.method == HTTP_HEAD;
        p->scratch.n = 0;
        c->up_framing = rewrite_request(&p->scratch, &c->request, &how);
        if (p->scratch.is_cut) {
                text_release(&p->scratch);
                reply(c, 503, "", "Proxy error: out of memory: try again");
                return;
        }
        if (c->wants_moved && !c->is_to_primary && !c->is_all_read)
                client_send(c, taken, sizeof taken - 1);
        client_send_up(c, p->scratch.s, p->scratch.n);
        body_send_kept(c);
}

static void not_connected(struct client *c, int code, const struct err *e);

static void
connect(struct client *c)
{
        struct err e = ERR_INIT;
        int r;

        client_set_state(c, CLIENT_CONNECTING);
        c->retry_at_ms = 0;
        r = upstream_connect(c->proxy->pool, &c->to, PROXY_CONNECT_MS, c->up_handler, c, &c->up, &e);
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
        c->up = upstream_take(c->proxy->pool, to, max_idle_ms(c), c->up_handler, c);
        if (c->up != NULL)
                send_request(c);
        else
                connect(c);
}

/* The application may be about to start, the primary about to change. */
static bool
may_try_again(struct client *c)
{
        struct proxy *p = c->proxy;
        int64_t now = loop_now_ms(p->loop);

        if (p->is_draining || (p->is_leaving && !c->is_to_primary))
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
count_node_failure(struct proxy_stats *s, int code)
{
        if (code == -EPROTO)
                s->n_node_failures[PROXY_NODE_TLS]++;
        else if (code == -EACCES)
                s->n_node_failures[PROXY_NODE_TOKEN]++;
        else if (code != -EBUSY) /* that was not tried */
                s->n_node_failures[PROXY_NODE_OTHER]++;
}

/* For who runs the nodes: a client's 502 is not seen by him. One line stands for all that come within a while. */
static void
warn_of_node_failure(struct proxy *p, const struct err *e)
{
        int64_t now = loop_now_ms(p->loop);

        if (p->node_warned_ms != 0 && now - p->node_warned_ms < NODE_WARN_MS)
                return;
        p->node_warned_ms = now;
        log_warn("proxy: requests do not get to the primary: %s", e->text);
}

static void
not_connected(struct client *c, int code, const struct err *e)
{
        if (c->to.is_node)
                count_node_failure(&c->proxy->stats, code);
        if (is_passing(c, code) && may_try_again(c)) {
                c->proxy->stats.n_retries += code != -EBUSY;
                c->retry_at_ms = loop_now_ms(c->proxy->loop) + PROXY_RETRY_MS;
                return;
        }
        if (c->to.is_node && e != NULL && code != -ECANCELED)
                warn_of_node_failure(c->proxy, e);
        reply_printf(c, code == -ETIMEDOUT ? 504 : 502, "Proxy error: the %s cannot be reached (%s): %s",
                     who(c), e != NULL ? e->text : "no reason known", advice(c));
}

/* The connection ended before the response did. */
static void
exchange_lost(struct client *c)
{
        /* Who has said something has seen the request. */
        bool was_unseen = c->up != NULL && upstream_is_reused(c->up) && !c->is_heard;

        if (c->is_answered) {
                client_abort(c); /* a client must not take the part for the whole */
                return;
        }
        client_drop_up(c);
        if (was_unseen && is_replayable(c)) {
                c->proxy->stats.n_retries++;
                connect(c);
                return;
        }
        reply_printf(c, 502,
                     "Proxy error: the %s at %s closed the connection without %s answer: see its log",
                     who(c), c->to.address, c->is_heard ? "a whole" : "an");
}

/* --- the response --- */

static void
end_response(struct client *c)
{
        if (c->framing == FRAMING_CHUNKED)
                client_send(c, "0\r\n\r\n", 5);
        client_set_state(c, CLIENT_DONE);
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
        if (c->is_to_primary && head_find(&c->response.head, REWRITE_TAKEN, NULL) > 0)
                body_taken(c);
        else if (c->request.minor > 0)
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

/* The node that was taken for the primary says that it is not, and has done nothing. */
static void
moved(struct client *c)
{
        client_drop_up(c);
        if (c->is_taken || !may_try_again(c)) {
                reply(c, 503, "", "Proxy error: no primary available: try again");
                return;
        }
        c->proxy->stats.n_retries++;
        c->is_moved = true;
        client_set_state(c, CLIENT_ROUTE);
}

static void
have_head(struct client *c)
{
        char cookie[COOKIE_FIELD_SIZE], term[COOKIE_TERM_FIELD_SIZE];
        struct response_rewrite how = { .client_minor = c->request.minor,
                                        .is_head = c->request.method == HTTP_HEAD,
                                        .is_keep_alive = c->is_keep_alive && !c->proxy->is_retiring };

        if (c->response.status_code < 200) {
                pass_interim(c);
                return;
        }
        if (c->is_to_primary && c->response.status_code == 503 &&
            head_find(&c->response.head, REWRITE_MOVED, NULL) > 0) {
                moved(c);
                return;
        }
        body_taken(c);
        if (c->is_local_write && positions_cookies(c, cookie, term)) {
                how.cookies[0] = cookie;
                how.cookies[1] = term;
        }
        c->is_answered = true;
        send_head(c, &how);
        c->is_keep_alive = how.is_keep_alive;
        if (c->response.is_end && c->state == CLIENT_PASSING)
                end_response(c);
}

static void
parse_response(struct client *c, const uint8_t *data, size_t n)
{
        const struct upstream *up = c->up;

        /* Once it is another's, what is left here is of an answer that does not count. */
        while (n > 0 && c->state == CLIENT_PASSING && c->up == up) {
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

void
exchange_opened(struct client *c)
{
        send_request(c);
}

void
exchange_read(struct client *c, const uint8_t *data, size_t n)
{
        c->is_heard = true;
        parse_response(c, data, n);
}

void
exchange_ended(struct client *c)
{
        c->response.is_keep_alive = false;
        if (c->state == CLIENT_TUNNEL)
                client_end_tunnel(c);
        else if (c->is_answered && reader_eof(&c->response))
                end_response(c);
        else
                exchange_lost(c);
}

void
exchange_closed(struct client *c, int code, const struct err *e)
{
        if (c->state == CLIENT_CONNECTING) {
                c->up = NULL;
                not_connected(c, code, e);
        } else if (c->state == CLIENT_TUNNEL) {
                c->up = NULL;
                client_end_tunnel(c);
        } else {
                exchange_lost(c);
        }
}
