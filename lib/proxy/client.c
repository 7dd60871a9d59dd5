/* One connection of a client: what comes in, what goes out, and when. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/proxy_internal.h"

void
client_set_state(struct client *c, enum client_state state)
{
        struct proxy *p = c->proxy;

        if (c->state == CLIENT_TUNNEL)
                p->n_tunnels--;
        if (state == CLIENT_TUNNEL)
                p->n_tunnels++;
        if (state != CLIENT_WAITING && !list_is_empty(&c->in_waiters)) {
                list_remove(&c->in_waiters);
                atomic_fetch_sub(&p->n_waiting, 1);
        }
        c->state = state;
}

void
client_send(struct client *c, const void *data, size_t n)
{
        if (c->state == CLIENT_CLOSING)
                return;
        c->n_sent += n;
        cork_write(&c->proxy->cork, c->conn, data, n);
}

void
client_send_up(struct client *c, const void *data, size_t n)
{
        if (c->up != NULL)
                cork_write(&c->proxy->cork, upstream_conn(c->up), data, n);
}

void
client_abort(struct client *c)
{
        cork_forget(&c->proxy->cork, c->conn);
        client_set_state(c, CLIENT_CLOSING);
        exchange_drop(c);
        conn_close(c->conn);
}

/* Closes when the client has all that was sent. */
static void
close_politely(struct client *c)
{
        cork_flush(&c->proxy->cork);
        client_set_state(c, CLIENT_CLOSING);
        exchange_drop(c);
        conn_finish(c->conn, PROXY_LINGER_MS);
}

/* --- requests, one after the other --- */

static void
expect_request(struct client *c)
{
        reader_next(&c->request);
        reader_next(&c->response);
        c->has_begun = c->is_all_read = c->is_answered = c->is_local_write = c->is_hop = false;
        c->refused_since_ms = c->retry_at_ms = 0;
        c->idle_since_ms = loop_now_ms(c->proxy->loop);
        client_set_state(c, CLIENT_HEAD);
}

void
client_finish(struct client *c)
{
        bool is_tunnel = c->state == CLIENT_TUNNEL;

        if (c->up != NULL && !is_tunnel && c->is_all_read && c->response.is_keep_alive) {
                upstream_put(c->up);
                c->up = NULL;
        }
        exchange_drop(c);
        if (is_tunnel || !c->is_all_read || !c->is_keep_alive || c->proxy->is_draining)
                close_politely(c);
        else
                expect_request(c);
}

static bool
wants_input(const struct client *c)
{
        return c->state == CLIENT_HEAD || (c->state == CLIENT_PASSING && !c->is_all_read);
}

static void
begin(struct client *c)
{
        if (c->has_begun)
                return;
        c->has_begun = true;
        c->begun_ms = loop_now_ms(c->proxy->loop);
}

/* A loop, not a recursion: a client may send any number of requests at once, which are served one by one. */
static void
parse(struct client *c)
{
        while (c->n_in > 0 && wants_input(c)) {
                enum reader_event event;
                size_t used;

                begin(c);
                used = reader_feed(&c->request, c->in, c->n_in, &event);
                c->in += used;
                c->n_in -= used;
                if (event == READER_HEAD)
                        request_begin(c);
                else if (event == READER_END)
                        request_ended(c);
                else if (event == READER_FAILED && c->is_answered)
                        client_abort(c);
                else if (event == READER_FAILED)
                        reply_printf(c, c->request.status, "Bad request: %s", c->request.reason);
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
client_settle(struct client *c)
{
        parse(c);
        keep_rest(c);
        cork_flush(&c->proxy->cork);
        hold_upstream(c);
        read_on(c);
        deadline_set(c);
}

/* --- events --- */

static void
on_read(void *arg, struct conn *conn, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        (void)conn;
        c->n_received += n;
        if (c->state == CLIENT_TUNNEL) {
                client_send_up(c, data, n);
        } else {
                c->in = data;
                c->n_in = n;
        }
        client_settle(c);
}

static void
on_writable(void *arg, struct conn *conn)
{
        struct client *c = arg;

        (void)conn;
        if (c->is_up_paused && c->up != NULL) {
                c->is_up_paused = false;
                conn_read_start(upstream_conn(c->up));
        }
}

static void
on_closed(void *arg, struct conn *conn, int code, const struct err *e)
{
        struct client *c = arg;
        struct proxy *p = c->proxy;

        (void)code;
        (void)e;
        cork_forget(&p->cork, conn);
        if (c->state == CLIENT_TUNNEL && c->up != NULL) {
                upstream_finish(c->up, PROXY_LINGER_MS); /* its last words are in the queue */
                c->up = NULL;
        }
        client_set_state(c, CLIENT_CLOSING);
        exchange_drop(c);
        list_remove(&c->in_clients);
        loop_timer_free(c->timer);
        reader_release(&c->request);
        reader_release(&c->response);
        free(c->kept);
        *(c->is_peer ? &p->n_peers : &p->n_clients) -= 1;
        free(c);
}

static const struct conn_handler conn_handler = { .read = on_read,
                                                  .writable = on_writable,
                                                  .closed = on_closed };

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
client_new(struct proxy *p, struct conn *conn, bool is_peer)
{
        struct client *c = calloc(1, sizeof *c);

        if (c == NULL)
                return;
        if (loop_timer_new(p->loop, deadline_reached, c, &c->timer) < 0) {
                free(c);
                return;
        }
        c->proxy = p;
        c->conn = conn;
        c->is_peer = is_peer;
        c->is_reading = true;
        c->idle_since_ms = loop_now_ms(p->loop);
        list_init(&c->in_waiters);
        list_init(&c->in_clients);
        list_push(&p->clients, &c->in_clients);
        reader_init(&c->request, HTTP_REQUEST, request_body, c);
        reader_init(&c->response, HTTP_RESPONSE, response_body, c);
        set_peer(c);
        *(is_peer ? &p->n_peers : &p->n_clients) += 1;
        conn_set_handler(conn, &conn_handler, c);
        deadline_set(c);
}

void
client_drain(struct client *c)
{
        if (c->state == CLIENT_HEAD || c->state == CLIENT_TUNNEL)
                client_abort(c);
}
