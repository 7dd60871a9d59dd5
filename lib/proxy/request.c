/* From the head of a request to where it goes. */
#include "proxy/request.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proxy/exchange.h"
#include "proxy/pattern.h"
#include "proxy/positions.h"
#include "proxy/reply.h"

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

        if (c->proxy->is_retiring)
                reply(c, 503, "", "Stopping");
        else if (atomic_load(&c->proxy->is_unwell))
                reply(c, 503, "", "The mount does not answer");
        else if (max_lag_ms > 0 && store_lag_ms(c->proxy->config.store) > max_lag_ms)
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
        if (c->proxy->config.is_tls && !to.is_node) {
                reply_printf(
                        c, 503,
                        "Proxy error: the primary at \"%s\" is not at https://, and this node has http.tls: "
                        "nothing is sent there in clear",
                        primary->advertise_url);
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
        struct route_view view = { .is_sent_on = c->is_sent_on,
                                   .wants_moved = c->wants_moved,
                                   .is_held = p->n_holds > 0,
                                   .is_leaving = p->is_leaving };

        view.is_primary = leads(c);
        if ((c->kind == ROUTE_WRITE || p->is_leaving) && !view.is_primary)
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
        c->waits_since = asks_now(p->asks);
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
        case ROUTE_MOVED:
                reply_moved(c);
                break;
        case ROUTE_REFUSED:
                reply(c, 503, "",
                      "Proxy error: this node is stopping, and no other has taken its place: try again");
                break;
        default:
                c->is_local_write = c->kind == ROUTE_WRITE;
                send_to_application(c);
        }
}

bool
request_is_where_it_belongs(struct client *c)
{
        struct lease_state primary;
        struct destination to;

        if (c->kind != ROUTE_WRITE)
                return true;
        switch (decide(c, &primary)) {
        case ROUTE_TO_APPLICATION:
                return !c->is_to_primary;
        case ROUTE_TO_PRIMARY:
                return c->is_to_primary &&
                       route_primary(primary.advertise_url, c->proxy->port, &to) == 0 &&
                       to.is_node == c->to.is_node && strcmp(to.address, c->to.address) == 0;
        default:
                return false;
        }
}

void
request_route_again(struct client *c)
{
        bool was_moved = c->is_moved;

        c->is_moved = false;
        if (was_moved && request_is_where_it_belongs(c)) { /* as far as this node knows by now */
                client_set_state(c, CLIENT_CONNECTING);
                c->retry_at_ms = loop_now_ms(c->proxy->loop) + PROXY_RETRY_MS;
        } else {
                request_route(c);
        }
}

static void
classify(struct client *c)
{
        struct proxy *p = c->proxy;
        struct slice path = pattern_path(c->target.path, p->path_buf), version = { NULL, 0 };
        bool says_so = head_find(&c->request.head, REWRITE_SENT_ON, &version) > 0;

        /* At the proxy's own port anybody can say so: it is believed where nodes have no other way to. */
        c->is_sent_on = c->is_peer || (!p->config.is_tls && says_so);
        c->wants_moved = c->is_sent_on && says_so && !slice_is(version, "1");
        c->kind = route_classify(&p->config.rules, is_get_or_head(c), path, c->is_sent_on);
        p->stats.n_requests[c->kind]++;
}

void
request_go_on(struct client *c)
{
        const struct proxy_config *config = &c->proxy->config;

        c->wait_until_ms = loop_now_ms(c->proxy->loop) +
                           (c->kind == ROUTE_READ ? PROXY_TXID_MS : config->primary_redirect_ms);
        if (!conn_is_extra(c->conn) || c->is_sent_on) {
                request_route(c);
                return;
        }
        c->is_keep_alive = false;
        reply(c, 503, "", "Proxy error: all connections to this proxy are in use: try again");
}

void
request_begin(struct client *c)
{
        struct proxy *p = c->proxy;
        const char *reason = NULL;
        int status;

        c->head_ms = loop_now_ms(p->loop);
        c->waits_since = 0;
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
        /* The application is not made to wait for a body that may never come, nor to keep a connection for it. */
        if (!c->request.is_end && head_find(&c->request.head, "expect", NULL) == 0)
                c->awaits_body = true;
        else
                request_go_on(c);
}
