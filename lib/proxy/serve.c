/* One connection of a client: events come in here, and when one is dealt with, all is settled here. */
#include "proxy/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/body.h"
#include "proxy/deadline.h"
#include "proxy/exchange.h"
#include "proxy/reply.h"
#include "proxy/request.h"

/* Closes when the client has all that was sent. */
static void
close_politely(struct client *c)
{
        gather_flush(&c->proxy->gather);
        client_set_state(c, CLIENT_CLOSING);
        client_drop_up(c);
        conn_finish(c->conn, PROXY_LINGER_MS);
}

/* --- requests, one after the other --- */

static void
expect_request(struct client *c)
{
        reader_next(&c->request);
        reader_next(&c->response);
        c->has_begun = c->is_all_read = c->is_answered = c->is_local_write = c->is_sent_on = false;
        c->refused_since_ms = c->retry_at_ms = 0;
        body_taken(c);
        c->is_taken = false;
        c->idle_since_ms = loop_now_ms(c->proxy->loop);
        c->was_served = true;
        c->awaits_body = false;
        client_set_state(c, CLIENT_HEAD);
}

/* The answer has been sent: on to the next request, or to the end. */
static void
finish_request(struct client *c)
{
        if (c->up != NULL && c->is_all_read && c->response.is_keep_alive) {
                upstream_put(c->up);
                c->up = NULL;
        }
        client_drop_up(c);
        if (!c->is_all_read || !c->is_keep_alive || c->proxy->is_retiring)
                close_politely(c);
        else
                expect_request(c);
}

static bool
wants_input(const struct client *c)
{
        return c->state == CLIENT_HEAD ||
               (c->state == CLIENT_PASSING && !c->is_all_read && !body_must_wait(c));
}

static void
begin_request(struct client *c)
{
        if (c->has_begun)
                return;
        c->has_begun = true;
        c->begun_ms = loop_now_ms(c->proxy->loop);
}

static void
parse_received(struct client *c)
{
        enum reader_event event;
        size_t used;

        if (c->awaits_body) {
                c->awaits_body = false;
                conn_set_rank(c->conn, CROWD_HELD);
                request_go_on(c);
                return;
        }
        begin_request(c);
        used = reader_feed(&c->request, c->in, c->n_in, &event);
        c->in += used;
        c->n_in -= used;
        if (event == READER_HEAD)
                request_begin(c);
        else if (event == READER_END)
                body_ended(c);
        else if (event == READER_FAILED && c->is_answered)
                client_abort(c);
        else if (event == READER_FAILED)
                reply_printf(c, c->request.status, "Bad request: %s", c->request.reason);
}

/* A loop, not a recursion: a client may send any number of requests at once, which are served one by one. */
static void
serve_go_on(struct client *c)
{
        for (;;) {
                if (c->state == CLIENT_ROUTE)
                        request_route_again(c);
                else if (c->state == CLIENT_DONE)
                        finish_request(c);
                else if (c->n_in > 0 && wants_input(c))
                        parse_received(c);
                else
                        break;
        }
}

/* What cannot be parsed yet is kept, and nothing more is read meanwhile: at most one read's bytes. */
static void
keep_rest(struct client *c)
{
        if (c->n_in == 0 || c->state == CLIENT_CLOSING) {
                free(c->kept);
                c->kept = NULL;
                c->n_in = 0;
                return;
        }
        if (c->kept != NULL) {
                memmove(c->kept, c->in, c->n_in);
        } else {
                c->kept = malloc(c->n_in);
                if (c->kept == NULL) {
                        c->n_in = 0;
                        client_abort(c);
                        return;
                }
                memcpy(c->kept, c->in, c->n_in);
        }
        c->in = c->kept;
}

static void
read_on(struct client *c)
{
        bool is_wanted = c->n_in == 0 &&
                         (c->up == NULL || conn_queued_bytes(upstream_conn(c->up)) <= PROXY_HIGH);

        if (is_wanted == c->is_reading || c->state == CLIENT_CLOSING)
                return;
        c->is_reading = is_wanted;
        if (is_wanted)
                conn_read_start(c->conn);
        else
                conn_read_stop(c->conn);
}

/* A response is read no faster than the client takes it. */
static void
hold_upstream(struct client *c)
{
        if (c->up == NULL || c->is_up_paused || conn_queued_bytes(c->conn) <= PROXY_HIGH)
                return;
        c->is_up_paused = true;
        conn_read_stop(upstream_conn(c->up));
}

void
serve_settle(struct client *c)
{
        serve_go_on(c);
        keep_rest(c);
        gather_flush(&c->proxy->gather);
        hold_upstream(c);
        read_on(c);
        deadline_set(c);
}

/* --- events of the client --- */

static void
client_on_read(void *arg, struct conn *conn, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        c->n_received += n;
        if (c->state == CLIENT_PASSING)
                conn_set_rank(conn, client_rank(c));
        if (c->state == CLIENT_TUNNEL) {
                client_send_up(c, data, n);
        } else {
                c->in = data;
                c->n_in = n;
        }
        serve_settle(c);
}

static void
client_on_writable(void *arg, struct conn *conn)
{
        struct client *c = arg;

        (void)conn;
        if (c->is_up_paused && c->up != NULL) {
                c->is_up_paused = false;
                conn_read_start(upstream_conn(c->up));
        }
}

static void
client_on_closed(void *arg, struct conn *conn, int code, const struct err *e)
{
        struct client *c = arg;
        struct proxy *p = c->proxy;

        (void)code;
        (void)e;
        gather_forget(&p->gather, conn);
        if (c->state == CLIENT_TUNNEL && c->up != NULL) {
                upstream_finish(c->up, PROXY_LINGER_MS); /* its last words are in the queue */
                c->up = NULL;
        }
        client_set_state(c, CLIENT_CLOSING);
        client_drop_up(c);
        list_remove(&c->in_clients);
        loop_timer_free(c->timer);
        reader_release(&c->request);
        reader_release(&c->response);
        free(c->kept);
        free(c->body);
        *(c->is_peer ? &p->n_peers : &p->n_clients) -= 1;
        free(c);
}

static const struct conn_handler conn_handler = { .read = client_on_read,
                                                  .writable = client_on_writable,
                                                  .closed = client_on_closed };

/* --- events of its upstream, and of its timer --- */

static void
on_up_opened(void *arg)
{
        exchange_opened(arg);
        serve_settle(arg);
}

static void
on_up_read(void *arg, const uint8_t *data, size_t n)
{
        exchange_read(arg, data, n);
        serve_settle(arg);
}

static void
on_up_ended(void *arg)
{
        exchange_ended(arg);
        serve_settle(arg);
}

static void
on_up_writable(void *arg)
{
        serve_settle(arg);
}

static void
on_up_closed(void *arg, int code, const struct err *e)
{
        exchange_closed(arg, code, e);
        serve_settle(arg);
}

static const struct upstream_handler upstream_handler = { on_up_opened, on_up_read, on_up_ended,
                                                          on_up_writable, on_up_closed };

static void
client_on_timer(void *arg)
{
        deadline_reached(arg);
        serve_settle(arg);
}

/* --- begin and end --- */

/* "1.2.3.4:567" without the port; an IPv4 address in IPv6's clothes as such. */
static void
set_peer(struct client *c)
{
        char text[ADDR_TEXT_SIZE];
        struct addr a;

        conn_peer(c->conn, text);
        if (addr_parse(text, &a, NULL) < 0)
                snprintf(c->peer, sizeof c->peer, "unknown");
        else
                snprintf(c->peer, sizeof c->peer, "%s",
                         strncmp(a.host, "::ffff:", 7) == 0 && strchr(a.host, '.') != NULL ? a.host + 7
                                                                                           : a.host);
}

void
serve_client(struct proxy *p, struct conn *conn, bool is_peer)
{
        struct client *c = calloc(1, sizeof *c);

        if (c == NULL)
                return;
        if (loop_timer_new(p->loop, client_on_timer, c, &c->timer) < 0) {
                free(c);
                return;
        }
        c->proxy = p;
        c->conn = conn;
        c->is_peer = is_peer;
        c->up_handler = &upstream_handler;
        c->is_reading = true;
        c->idle_since_ms = loop_now_ms(p->loop);
        list_init(&c->in_waiters);
        list_init(&c->in_clients);
        list_push(&p->clients, &c->in_clients);
        reader_init(&c->request, HTTP_REQUEST, body_to_upstream, c);
        reader_init(&c->response, HTTP_RESPONSE, body_to_client, c);
        set_peer(c);
        *(is_peer ? &p->n_peers : &p->n_clients) += 1;
        conn_set_handler(conn, &conn_handler, c);
        deadline_set(c);
}

void
serve_drain(struct client *c, bool is_last)
{
        int64_t idle_ms = loop_now_ms(c->proxy->loop) - c->idle_since_ms;

        if (c->state == CLIENT_TUNNEL)
                client_abort(c);
        else if (c->state == CLIENT_HEAD && (is_last || (!c->has_begun && idle_ms > PROXY_ACTIVE_MS)))
                client_abort(c);
        else if (c->state == CLIENT_WAITING && is_last)
                reply(c, 503, "", "Proxy error: this node is stopping: try again");
        serve_settle(c);
}
