#include "cmd/litefs/make.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmd/litefs/config.h"
#include "http/prom.h"

/* Where it is not said: on Fly.io its own proxy is nearer to the client than the primary is to this node. */
static bool
is_fly_replay(const struct config *c)
{
        const char *app = getenv("FLY_APP_NAME");

        if (c->proxy.mode[0] != '\0')
                return strcmp(c->proxy.mode, "fly-replay") == 0;
        return app != NULL && app[0] != '\0';
}

int
make_proxy(const struct config *c, struct store *store, struct tls_context *tls, struct token *token,
           struct proxy **ret, struct err *e)
{
        struct proxy_config config = {
                .store = store,
                .clock = clock_host(),
                .listen_address = c->proxy.addr,
                .target = c->proxy.target,
                .db = c->proxy.db,
                .rules = { .passthrough = (const char *const *)c->proxy.passthrough.items,
                           .n_passthrough = c->proxy.passthrough.n,
                           .always_forward = (const char *const *)c->proxy.always_forward.items,
                           .n_always_forward = c->proxy.always_forward.n,
                           .is_fly_replay = is_fly_replay(c) },
                .is_debug = c->proxy.debug,
                .max_lag_ms = config_to_ms(c->proxy.max_lag_ns),
                .primary_redirect_ms = config_to_ms(c->proxy.primary_redirect_timeout_ns),
                .read_ms = config_to_ms(c->proxy.read_timeout_ns),
                .read_header_ms = config_to_ms(c->proxy.read_header_timeout_ns),
                .write_ms = config_to_ms(c->proxy.write_timeout_ns),
                .idle_ms = config_to_ms(c->proxy.idle_timeout_ns),
                .is_tls = c->http.tls.cert[0] != '\0',
                .tls = tls,
                .token = token,
        };

        *ret = NULL;
        if (c->proxy.target[0] == '\0') {
                log_info("no proxy target set, skipping proxy");
                return 0;
        }
        return proxy_new(&config, ret, e);
}

static void
add_one(struct prom *p, const char *name, const char *type, const char *help, uint64_t value)
{
        prom_family(p, name, type, help);
        prom_int(p, value, NULL);
}

static void
add_requests(struct prom *p, const struct proxy_stats *s)
{
        static const char *const kinds[ROUTE_N_KINDS] = { "passthrough", "health", "read", "write" };

        prom_family(p, "litefs_proxy_requests_total", "counter",
                    "Requests by what the proxy took them for.");
        for (int i = 0; i < ROUTE_N_KINDS; i++)
                prom_int(p, s->n_requests[i], PROM_LABELS("kind", kinds[i]));
        prom_family(p, "litefs_proxy_sent_to_primary_total", "counter",
                    "Writes that went to another node, by how they got there.");
        prom_int(p, s->n_forwarded, PROM_LABELS("by", "litefs"));
        prom_int(p, s->n_replayed, PROM_LABELS("by", "fly-replay"));
}

static void
add_proxy_errors(struct prom *p, const struct proxy_stats *s)
{
        prom_family(p, "litefs_proxy_errors_total", "counter",
                    "Requests that the proxy answered with an error of its own.");
        prom_int(p, s->n_bad_requests, PROM_LABELS("code", "4xx"));
        prom_int(p, s->n_bad_gateway, PROM_LABELS("code", "502"));
        prom_int(p, s->n_no_primary, PROM_LABELS("code", "503"));
        prom_int(p, s->n_timeouts, PROM_LABELS("code", "504"));
}

static void
add_node_failures(struct prom *p, const struct proxy_stats *s)
{
        static const char *const reasons[PROXY_N_NODE_FAILURES] = { "tls", "token", "other" };

        prom_family(p, "litefs_proxy_hop_failures_total", "counter",
                    "Connections to the primary's port, for its proxy, that did not come about.");
        for (int i = 0; i < PROXY_N_NODE_FAILURES; i++)
                prom_int(p, s->n_node_failures[i], PROM_LABELS("reason", reasons[i]));
}

void
proxy_add_metrics(struct proxy *proxy, struct text *t)
{
        struct prom p = { t, NULL };
        struct proxy_stats s;

        proxy_get_stats(proxy, &s);
        add_requests(&p, &s);
        add_proxy_errors(&p, &s);
        add_node_failures(&p, &s);
        add_one(&p, "litefs_proxy_txid_waits_total", "counter",
                "Reads that waited for a position of the client's cookie.", s.n_txid_waits);
        add_one(&p, "litefs_proxy_txid_timeouts_total", "counter", "Those that waited in vain.",
                s.n_txid_timeouts);
        add_one(&p, "litefs_proxy_retries_total", "counter",
                "Connections to the application or the primary that were tried again.", s.n_retries);
        add_one(&p, "litefs_proxy_refused_connections_total", "counter",
                "Clients over the limit of connections.", s.n_refused_clients);
        add_one(&p, "litefs_proxy_connections", "gauge", "Clients connected.", s.n_clients);
        add_one(&p, "litefs_proxy_node_connections", "gauge",
                "Connections of other nodes' proxies that came by the node's own port.", s.n_peers);
        add_one(&p, "litefs_proxy_tunnels", "gauge", "WebSockets open.", s.n_tunnels);
        prom_family(&p, "litefs_proxy_upstream_connections", "gauge",
                    "Connections to the application and to the primary.");
        prom_int(&p, s.n_idle_upstreams, PROM_LABELS("state", "idle"));
        prom_int(&p, s.n_upstreams - s.n_idle_upstreams, PROM_LABELS("state", "active"));
}
