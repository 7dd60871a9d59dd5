/* From the head of a request to where it goes. */
#include <stdio.h>

#include "base/log.h"
#include "proxy/pattern.h"
#include "proxy/proxy_internal.h"

#define HEALTH_LAG_TEXT "Replication lag exceeded"

static bool
is_get_or_head(const struct client *c)
{
        return c->request.method == HTTP_GET || c->request.method == HTTP_HEAD;
}

static void
reply_health(struct client *c)
{
        int64_t max_lag_ms = c->proxy->config.max_lag_ms;

        if (max_lag_ms > 0 && store_lag_ms(c->proxy->config.store) > max_lag_ms)
                reply(c, 503, "", HEALTH_LAG_TEXT);
        else
                reply(c, 200, "", "OK");
}

static bool
is_field_text(const char *s)
{
        if (*s == '\0')
                return false;
        for (; *s != '\0'; s++)
                if ((unsigned char)*s <= ' ' || *s == 0x7f)
                        return false;
        return true;
}

/* Fly.io's proxy takes the request, which it has kept, to the machine that is named. */
static void
reply_fly_replay(struct client *c, const struct lease_state *primary)
{
        char field[LEASE_HOSTNAME_SIZE + 40];

        if (!is_field_text(primary->hostname)) {
                reply(c, 503, "", "Proxy error: the primary has no usable name: set its lease.hostname");
                return;
        }
        snprintf(field, sizeof field, "fly-replay: instance=%s\r\n", primary->hostname);
        c->proxy->stats.n_replayed++;
        reply(c, 200, field, NULL);
}

static void
send_to_primary(struct client *c, const struct lease_state *primary)
{
        struct destination to;

        if (route_primary(primary->advertise_url, c->proxy->port, &to) < 0) {
                reply_printf(
                        c, 503,
                        "Proxy error: no primary available at \"%s\": set lease.advertise-url on %s",
                        primary->advertise_url, primary->hostname);
                return;
        }
        c->is_to_primary = true;
        if (c->refused_since_ms == 0)
                c->proxy->stats.n_forwarded++;
        exchange_begin(c, &to);
}

static void
send_to_application(struct client *c)
{
        struct destination to = { .is_node = false };

        snprintf(to.address, sizeof to.address, "%s", c->proxy->config.target);
        exchange_begin(c, &to);
}

/* Whether this node is the primary now. One that was stopped for a while learns late that its lease has run out, and one
 * that hands over stays it by name for a moment longer: both may lack what the client has written elsewhere since. */
static bool
leads(const struct client *c)
{
        struct store *store = c->proxy->config.store;
        int r = store_may_commit(store);

        return r == 0 || (c->kind == ROUTE_WRITE && r != E_FENCED && store_is_primary(store));
}

static enum route_action
decide(struct client *c, struct lease_state *ret_primary)
{
        struct proxy *p = c->proxy;
        struct route_view view = { .is_hop = c->is_hop };

        view.is_primary = leads(c);
        if (c->kind == ROUTE_WRITE && !view.is_primary)
                view.knows_primary = store_primary(p->config.store, ret_primary);
        if (c->kind == ROUTE_READ && !view.is_primary)
                view.has_positions = positions_reached(c);
        return route_decide(&p->config.rules, c->kind, &view);
}

static bool
is_wait(enum route_action action)
{
        return action == ROUTE_WAIT_TXID || action == ROUTE_WAIT_PRIMARY;
}

static void
begin_to_wait(struct client *c)
{
        struct proxy *p = c->proxy;

        client_set_state(c, CLIENT_WAITING);
        list_push(&p->waiters, &c->in_waiters);
        atomic_fetch_add(&p->n_waiting, 1);
}

void
request_route(struct client *c)
{
        struct lease_state primary;
        enum route_action action = decide(c, &primary);

        if (is_wait(action) && c->state != CLIENT_WAITING) {
                if (action == ROUTE_WAIT_TXID)
                        c->proxy->stats.n_txid_waits++;
                begin_to_wait(c);
                action = decide(c, &primary); /* it may have come before we were seen to wait */
        }
        if (is_wait(action))
                return;
        if (c->proxy->config.is_debug)
                log_info("proxy: %s %.*s from %s: %s",
                         http_method_str((enum http_method)c->request.method),
                         (int)(c->target.path.n < 256 ? c->target.path.n : 256), c->target.path.p,
                         c->peer,
                         action == ROUTE_TO_APPLICATION ? "to the application" : "to the primary");
        c->is_to_primary = false;
        switch (action) {
        case ROUTE_TO_PRIMARY:
                send_to_primary(c, &primary);
                break;
        case ROUTE_FLY_REPLAY:
                reply_fly_replay(c, &primary);
                break;
        default:
                c->is_local_write = c->kind == ROUTE_WRITE;
                send_to_application(c);
        }
}

static void
classify(struct client *c)
{
        struct proxy *p = c->proxy;
        struct slice path = pattern_path(c->target.path, p->path_buf);

        /* At the proxy's own port anybody can say so: it is believed where nodes have no other way to. */
        c->is_hop = c->is_peer ||
                    (!p->config.is_tls && head_find(&c->request.head, REWRITE_HOP, NULL) > 0);
        c->kind = route_classify(&p->config.rules, is_get_or_head(c), path, c->is_hop);
        p->stats.n_requests[c->kind]++;
}

void
request_begin(struct client *c)
{
        struct proxy *p = c->proxy;
        const char *reason = NULL;
        int status;

        c->head_ms = loop_now_ms(p->loop);
        c->is_all_read = c->request.is_end;
        c->is_keep_alive = c->request.is_keep_alive;
        status = rewrite_check(&c->request, &c->target, &reason);
        if (status != 0) {
                reply_printf(c, status, "Bad request: %s", reason);
                return;
        }
        classify(c);
        if (c->kind == ROUTE_HEALTH) {
                reply_health(c);
                return;
        }
        if (c->kind == ROUTE_WRITE && p->recent != NULL)
                c->commits_before = recent_now(p->recent);
        c->wait_until_ms = c->head_ms +
                           (c->kind == ROUTE_READ ? PROXY_TXID_MS : p->config.primary_redirect_ms);
        request_route(c);
}

static void
send_chunk(struct client *c, void (*send)(struct client *, const void *, size_t), const uint8_t *data,
           size_t n)
{
        char size[20];

        send(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n));
        send(c, data, n);
        send(c, "\r\n", 2);
}

void
request_body(void *arg, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        if (c->up_framing == FRAMING_CHUNKED)
                send_chunk(c, client_send_up, data, n);
        else
                client_send_up(c, data, n);
}

void
request_ended(struct client *c)
{
        c->is_all_read = true;
        if (c->up_framing == FRAMING_CHUNKED)
                client_send_up(c, "0\r\n\r\n", 5);
}

void
response_body(void *arg, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        if (c->framing == FRAMING_CHUNKED)
                send_chunk(c, client_send, data, n);
        else if (c->framing != FRAMING_NONE)
                client_send(c, data, n);
}
