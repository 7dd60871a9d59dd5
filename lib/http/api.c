/* Which request is answered by whom, and who may ask. */
#include "http/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/workers.h"
#include "http/api_internal.h"
#include "http/origin.h"

enum method { GET = 1, POST = 2, DELETE = 4 };

/* clang-format off */
static const struct route {
        const char *path;
        unsigned methods;
        bool is_guarded; /* changes something or gives the data away: needs the token */
        bool is_health;  /* answered whatever else there is to do */
        void (*fn)(struct api *a, struct http_call *call);
} routes[] = {
        { "/", GET, false, false, api_page },
        { "/info", GET, false, false, api_info },
        { "/healthz", GET, false, true, api_healthz },
        { "/readyz", GET, false, true, api_readyz },
        { "/db", GET, false, false, api_databases },
        { "/cluster", GET, false, false, api_cluster },
        { "/findings", GET, false, false, api_findings },
        { "/recent", GET, false, false, api_recent },
        { "/metrics", GET, false, false, api_metrics },
        { "/events", GET, false, false, api_events },
        { "/debug/vars", GET, false, false, api_debug_vars },
        { "/positions", GET, false, false, api_positions },
        { "/transactions", GET, true, false, api_transactions },
        { "/export", GET, true, false, api_export },
        { "/import", POST, true, false, api_import },
        { "/restore", POST, true, false, api_restore },
        { "/backup", GET, false, false, api_backup },
        { "/backup/sync", POST, true, false, api_backup_sync },
        { "/handoff", POST, true, false, api_handoff },
        { "/promote", POST, true, false, api_promote },
        { "/demote", POST, true, false, api_demote },
        { "/upgrade", POST, true, false, api_upgrade },
        { "/halt", POST | DELETE, true, false, api_halt },
        { "/tx", POST, true, false, api_tx },
};
/* clang-format on */

/* --- requests --- */

static unsigned
method_of(const struct http_call *call)
{
        const char *m = http_call_method(call);

        if (strcmp(m, "GET") == 0 || strcmp(m, "HEAD") == 0)
                return GET;
        if (strcmp(m, "POST") == 0)
                return POST;
        return strcmp(m, "DELETE") == 0 ? DELETE : 0;
}

static const struct route *
find_route(const char *path)
{
        for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
                if (strcmp(routes[i].path, path) == 0)
                        return &routes[i];
        return NULL;
}

static bool
is_allowed(const struct api *a, const struct http_call *call)
{
        return token_matches(a->config.token, http_call_header(call, "Authorization"));
}

/* Whether the client has shown that it is one of ours; where there is nothing to show, nobody has. */
static bool
is_proved(const struct api *a, const struct http_call *call)
{
        char token[TOKEN_SIZE];

        token_get(a->config.token, token);
        return a->config.is_mutual || (token[0] != '\0' && is_allowed(a, call));
}

/* Also where a token is needed: a browser shows a client certificate by itself, whoever's page asks. */
static const char *
refuse_foreign(const struct api *a, const struct http_call *call)
{
        struct origin_headers h = { http_call_header(call, "Host"), http_call_header(call, "Origin"),
                                    http_call_header(call, "Sec-Fetch-Site") };
        struct origin_names names = { a->config.hostname, a->config.advertise_url,
                                      a->config.is_loopback };

        return origin_refuse(&h, &names);
}

static void
api_on_request(void *arg, struct http_call *call)
{
        struct api *a = arg;
        const struct route *route = find_route(http_call_path(call));
        static const char full[] = "all connections to this address are in use: try again\n";
        const char *foreign;
        bool is_known = is_proved(a, call);

        if (is_known)
                http_call_trust(call, true);
        if (http_call_is_extra(call) && !is_known && (route == NULL || !route->is_health)) {
                http_call_add_header(call, "Retry-After", "1");
                http_call_add_header(call, "Connection", "close");
                http_call_reply(call, 503, API_TEXT, full, sizeof full - 1);
        } else if (route == NULL && strcmp(http_call_path(call), "/stream") == 0) {
                http_call_add_header(call, "Upgrade", "litefs-stream/1");
                api_reply_error(call, 426, "/stream is opened by a GET with Upgrade: litefs-stream/1");
        } else if (route == NULL) {
                api_reply_error(call, 404, "404 page not found");
        } else if ((route->methods & method_of(call)) == 0) {
                http_call_add_header(call, "Allow",
                                     route->methods == GET    ? "GET, HEAD"
                                     : route->methods == POST ? "POST"
                                                              : "POST, DELETE");
                api_reply_error(call, 405, "method not allowed");
        } else if (route->is_guarded && (foreign = refuse_foreign(a, call)) != NULL) {
                api_reply_error(
                        call, 403,
                        "a web page of another site, or under a name that is not this node's, may not ask "
                        "this (%s: %.200s)",
                        foreign, http_call_header(call, foreign));
        } else if (route->is_guarded && !is_allowed(a, call)) {
                http_call_add_header(call, "WWW-Authenticate", "Bearer realm=\"litefs\"");
                api_reply_error(call, 401,
                                "this needs the header Authorization: Bearer TOKEN (http.token)");
        } else {
                if (route->is_guarded && !is_known)
                        http_call_trust(call, false);
                route->fn(a, call);
        }
}

/* --- life --- */

void
api_accepted(void *arg, struct conn *c)
{
        http_server_accept(((struct api *)arg)->server, c);
}

static void
on_stream(void *arg, struct conn *c)
{
        node_accept(((struct api *)arg)->config.node, c);
}

static void
on_proxy(void *arg, struct conn *c)
{
        struct api *a = arg;

        a->config.take_proxy_conn(a->config.arg, c);
}

static void
api_on_committed(void *arg, struct db *db)
{
        struct api *a = arg;

        recorder_committed(a->recorder);
        events_committed(a->events, db);
}

static void
api_on_role_changed(void *arg)
{
        struct api *a = arg;

        recorder_role_changed(a->recorder);
        events_role_changed(a->events);
}

static void
api_on_member(void *arg, const char *hostname, const char *url, bool is_gone)
{
        struct api *a = arg;

        recorder_member(a->recorder, hostname, url, is_gone);
        events_member(a->events, hostname, url, is_gone);
}

static void
stop_jobs(struct api *a)
{
        recorder_stop(a->recorder);
        events_stop(a->events);
}

int
api_new(const struct api_config *config, struct api **ret, struct err *e)
{
        struct api *a = calloc(1, sizeof *a);
        struct http_server_config server = {
                .loop = node_loop(config->node),
                .stream = on_stream,
                .proxy = config->take_proxy_conn != NULL ? on_proxy : NULL,
                .request = api_on_request,
                .arg = a,
        };
        struct node_watcher watcher = { .committed = api_on_committed,
                                        .role_changed = api_on_role_changed,
                                        .member = api_on_member,
                                        .arg = a };
        int r;

        if (a == NULL)
                return err_set(e, -ENOMEM, "start the HTTP API");
        a->config = *config;
        r = workers_new(1, &a->event_worker);
        if (r == 0)
                r = events_new(a, a->event_worker, &a->events);
        if (r == 0)
                r = recorder_new(a, a->event_worker, &a->recorder);
        if (r == 0)
                r = primary_view_new("/cluster", &a->cluster);
        if (r == 0)
                r = primary_view_new("/recent", &a->recent_of_primary);
        if (r < 0)
                err_set(e, r, "start the HTTP API");
        else
                r = http_server_new(&server, &a->server, e);
        if (r < 0) {
                if (a->recorder != NULL)
                        stop_jobs(a);
                api_free(a);
                return r;
        }
        node_watch(config->node, &watcher);
        *ret = a;
        return 0;
}

void
api_stop(struct api *a)
{
        if (a == NULL || a->is_stopped)
                return;
        a->is_stopped = true;
        http_server_stop(a->server);
        stop_jobs(a);
}

void
api_free(struct api *a)
{
        if (a == NULL)
                return;
        http_server_free(a->server);
        events_free(a->events);
        recorder_free(a->recorder);
        workers_free(a->event_worker);
        primary_view_free(a->cluster);
        primary_view_free(a->recent_of_primary);
        free(a);
}
