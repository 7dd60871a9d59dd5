#include "proxy/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/pattern.h"

#define HEALTH_PATH "/litefs/health"

static bool
matches_any(const char *const *patterns, size_t n, struct slice path)
{
        for (size_t i = 0; i < n; i++)
                if (pattern_matches(patterns[i], path))
                        return true;
        return false;
}

enum route_kind
route_classify(const struct route_rules *rules, bool is_get_or_head, struct slice path, bool is_hop)
{
        if (matches_any(rules->passthrough, rules->n_passthrough, path))
                return ROUTE_PASSTHROUGH;
        if (is_get_or_head && path.n == strlen(HEALTH_PATH) && memcmp(path.p, HEALTH_PATH, path.n) == 0)
                return ROUTE_HEALTH;
        if (is_hop || !is_get_or_head ||
            matches_any(rules->always_forward, rules->n_always_forward, path))
                return ROUTE_WRITE;
        return ROUTE_READ;
}

enum route_action
route_decide(const struct route_rules *rules, enum route_kind kind, const struct route_view *view)
{
        switch (kind) {
        case ROUTE_READ:
                /* A position that the primary lacks is one that the cluster has lost: nothing will bring it. */
                return view->has_positions || view->is_primary ? ROUTE_TO_APPLICATION : ROUTE_WAIT_TXID;
        case ROUTE_WRITE:
                if (view->is_primary)
                        return ROUTE_TO_APPLICATION;
                /* Once is enough: two nodes that take each other for the primary would go on for ever. */
                if (!view->knows_primary || view->is_hop)
                        return ROUTE_WAIT_PRIMARY;
                return rules->is_fly_replay ? ROUTE_FLY_REPLAY : ROUTE_TO_PRIMARY;
        default:
                return ROUTE_TO_APPLICATION;
        }
}

/* The host and the port of "scheme://host:port/path"; 0: it has no port. */
static int
split_url(const char *url, struct addr *ret)
{
        const char *host = strstr(url, "://"), *port;
        size_t n;

        host = host != NULL ? host + 3 : url;
        n = strcspn(host, "/?#");
        if (n > 0 && memchr(host, '@', n) != NULL)
                return -EINVAL;
        port = host + n;
        if (host[0] == '[') {
                const char *end = memchr(host, ']', n);

                if (end == NULL)
                        return -EINVAL;
                host++;
                n = (size_t)(end - host);
        } else {
                n = strcspn(host, ":/?#");
        }
        if (n == 0 || n >= sizeof ret->host)
                return -EINVAL;
        memcpy(ret->host, host, n);
        ret->host[n] = '\0';
        host += n + (host[n] == ']');
        ret->port = host < port && host[0] == ':' ? atoi(host + 1) : 0;
        return 0;
}

int
route_primary(const char *advertise_url, int proxy_port, struct destination *ret)
{
        struct addr a;
        int r = split_url(advertise_url, &a);

        if (r < 0)
                return r;
        ret->is_node = strncasecmp(advertise_url, "https://", 8) == 0;
        if (!ret->is_node)
                a.port = proxy_port;
        if (a.port <= 0 || a.port > 65535)
                return -EINVAL;
        addr_format(&a, ret->address);
        return 0;
}
