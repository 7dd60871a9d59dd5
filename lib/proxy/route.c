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
route_classify(const struct route_rules *rules, bool is_get_or_head, struct slice path, bool is_sent_on)
{
        if (matches_any(rules->passthrough, rules->n_passthrough, path))
                return ROUTE_PASSTHROUGH;
        if (is_get_or_head && path.n == strlen(HEALTH_PATH) && memcmp(path.p, HEALTH_PATH, path.n) == 0)
                return ROUTE_HEALTH;
        if (is_sent_on || !is_get_or_head ||
            matches_any(rules->always_forward, rules->n_always_forward, path))
                return ROUTE_WRITE;
        return ROUTE_READ;
}

/* By another node. */
static enum route_action
send_on(const struct route_rules *rules, const struct route_view *view)
{
        /* Once is enough: two nodes that take each other for the primary would go on for ever. */
        if (!view->knows_primary || (view->is_sent_on && !view->wants_moved))
                return ROUTE_WAIT_PRIMARY;
        if (view->is_sent_on)
                return ROUTE_MOVED;
        return rules->is_fly_replay ? ROUTE_FLY_REPLAY : ROUTE_TO_PRIMARY;
}

enum route_action
route_decide(const struct route_rules *rules, enum route_kind kind, const struct route_view *view)
{
        if (view->is_leaving)
                return view->is_primary ? ROUTE_REFUSED : send_on(rules, view);
        switch (kind) {
        case ROUTE_READ:
                /* A position that the primary lacks is one that the cluster has lost: nothing will bring it. */
                return view->has_positions || view->is_primary ? ROUTE_TO_APPLICATION : ROUTE_WAIT_TXID;
        case ROUTE_WRITE:
                if (view->is_primary)
                        return view->is_held ? ROUTE_WAIT_PRIMARY : ROUTE_TO_APPLICATION;
                return send_on(rules, view);
        default:
                return ROUTE_TO_APPLICATION;
        }
}

int
route_primary(const char *advertise_url, int port, struct destination *ret)
{
        struct addr a;
        int r = addr_of_url(advertise_url, &a, NULL);

        if (r < 0)
                return r;
        ret->is_node = strncasecmp(advertise_url, "https://", 8) == 0;
        if (!ret->is_node)
                a.port = port;
        if (a.port <= 0 || a.port > 65535)
                return -EINVAL;
        addr_format(&a, ret->address);
        return 0;
}
