#include "proxy/route.h"

#include <errno.h>
#include <string.h>

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

int
route_primary_address(const char *advertise_url, int port, char ret[ADDR_TEXT_SIZE])
{
        const char *host = strstr(advertise_url, "://");
        struct addr a;
        size_t n;

        host = host != NULL ? host + 3 : advertise_url;
        n = strcspn(host, "/?#");
        if (n > 0 && memchr(host, '@', n) != NULL)
                return -EINVAL;
        if (host[0] == '[') {
                const char *end = memchr(host, ']', n);

                if (end == NULL)
                        return -EINVAL;
                host++;
                n = (size_t)(end - host);
        } else {
                n = strcspn(host, ":/?#");
        }
        if (n == 0 || n >= sizeof a.host)
                return -EINVAL;
        memcpy(a.host, host, n);
        a.host[n] = '\0';
        a.port = port;
        addr_format(&a, ret);
        return 0;
}
