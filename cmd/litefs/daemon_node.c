/* What a node is wired to: the stream and what it applies by, the API, the proxy, backups. */
#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon_internal.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/passing.h"
#include "cmd/litefs/port_owner.h"
#include "cmd/litefs/pulse.h"
#include "cmd/litefs/service.h"
#include "cmd/litefs/takeover.h"
#include "fuse/apply.h"
#include "fuse/session.h"
#include "http/api.h"
#include "http/prom.h"
#include "repl/node.h"

#define LEAD_MS 2000 /* for what was applied before the upgrade to be durable; as a rule nothing */

/* --- the cluster --- */

static int
begin_apply(void *arg, struct db *db, void **ret)
{
        struct apply *a = NULL;
        int r = apply_new(((struct daemon *)arg)->session, db, &a);

        *ret = a;
        return r;
}

static int
daemon_apply(void *handle, const struct received *rx, struct err *e)
{
        return apply_transaction(handle, rx, e);
}

static void
end_apply(void *handle)
{
        apply_free(handle);
}

static int
daemon_take_ownership(void *arg, struct db *db, const struct path_ownership *po, struct err *e)
{
        return session_take_ownership(((struct daemon *)arg)->session, db, po, e);
}

static int
reserve_apply(void *handle, struct err *e)
{
        return apply_reserve(handle, e);
}

static const struct apply_ops apply_ops = { begin_apply, daemon_apply, end_apply, daemon_take_ownership,
                                            reserve_apply };

static void
daemon_on_committed(void *arg, struct db *db)
{
        struct daemon *d = arg;

        node_committed(d->node, db);
        if (d->proxy != NULL)
                proxy_committed(d->proxy, db);
        backups_committed(d->backups, db);
}

/* --- the HTTP API --- */

static void
add_fuse_type(void *arg, const char *type, uint64_t n)
{
        char name[32];
        size_t i = 0;

        for (; type[i] != '\0' && i + 1 < sizeof name; i++)
                name[i] = (char)tolower((unsigned char)type[i]);
        name[i] = '\0';
        prom_int(arg, n, PROM_LABELS("type", name));
}

static void
add_fuse_errno(void *arg, const char *name, uint64_t n)
{
        prom_int(arg, n, PROM_LABELS("errno", name));
}

static void
add_metrics(void *arg, struct text *t)
{
        struct daemon *d = arg;
        struct prom p = { t, NULL };

        prom_family(&p, "litefs_fuse_requests_total", "counter", "File system requests by type.");
        session_each_request(d->session, add_fuse_type, &p);
        prom_family(&p, "litefs_fuse_errors_total", "counter",
                    "Errors that applications were told, by the name of the errno.");
        session_each_error(d->session, add_fuse_errno, &p);
        if (d->proxy != NULL)
                proxy_add_metrics(d->proxy, t);
        backups_add_metrics(d->backups, t);
}

static int
open_halting(struct daemon *d, struct err *e)
{
        struct halt_grants_config given = {
                .loop = node_loop(d->node),
                .store = d->store,
                .clock = clock_host(),
                .ops = &apply_ops,
                .ops_arg = d,
                .appliers = d->appliers,
        };
        struct halt_holder_config taken = {
                .loop = node_loop(d->node),
                .store = d->store,
                .clock = clock_host(),
                .client = { .boot_id = node_boot_id(d->node),
                            .token = d->token,
                            .peer_http = &d->peer_http },
        };

        return halting_open(&d->halting, &given, &taken, d->node, d->session, e);
}

static void
daemon_take_proxy_conn(void *arg, struct conn *c)
{
        struct daemon *d = arg;

        if (d->proxy != NULL)
                proxy_accept_node(d->proxy, c);
}

static bool
daemon_is_well(void *arg)
{
        return !pulse_is_silent(((struct daemon *)arg)->pulse);
}

static void
on_pulse_changed(void *arg, bool is_silent)
{
        struct daemon *d = arg;

        if (d->proxy != NULL)
                proxy_set_well(d->proxy, !is_silent);
}

static int
open_pulse(struct daemon *d, struct err *e)
{
        struct pulse_config config = { .session = d->session,
                                       .asker = d->asker,
                                       .node = d->node,
                                       .mount_dir = d->options->mount_dir,
                                       .changed = on_pulse_changed,
                                       .arg = d };

        return pulse_new(&config, &d->pulse, e);
}

static void
add_backups(void *arg, struct text *t)
{
        backups_add_json(((struct daemon *)arg)->backups, t);
}

static void
each_backup_trouble(void *arg, void (*fn)(void *fn_arg, const char *text), void *fn_arg)
{
        backups_each_trouble(((struct daemon *)arg)->backups, fn, fn_arg);
}

static int
sync_backups(void *arg, int64_t timeout_ms, struct err *e)
{
        return backups_sync(((struct daemon *)arg)->backups, timeout_ms, e);
}

static void
daemon_advise(void *arg, struct db *db, char buf[API_ADVICE_SIZE])
{
        passing_advise(((struct daemon *)arg)->options->config, db, buf);
}

static int
open_api(struct daemon *d, struct err *e)
{
        const struct config *c = d->options->config;
        struct api_config config = {
                .store = d->store,
                .node = d->node,
                .clock = clock_host(),
                .apply_ops = &apply_ops,
                .apply_arg = d,
                .appliers = d->appliers,
                .halt_grants = d->halting.given,
                .data_dir = d->options->data_dir,
                .hostname = c->lease.hostname,
                .advertise_url = config_has_own_address(c) ? c->lease.advertise_url : "",
                .is_candidate = c->lease.candidate,
                .is_loopback = access_is_loopback(c->http.addr),
                .max_lag_ms = c->proxy.max_lag_ns / 1000000,
                .demote_ms = c->lease.demote_delay_ns / 1000000,
                .token = d->token,
                .is_mutual = c->http.tls.client_ca[0] != '\0',
                .peer_http = &d->peer_http,
                .version = LITEFS_VERSION,
                .is_well = daemon_is_well,
                .advise = daemon_advise,
                .more_metrics = add_metrics,
                .add_backups = c->n_backups > 0 ? add_backups : NULL,
                .each_backup_trouble = c->n_backups > 0 ? each_backup_trouble : NULL,
                .sync_backups = c->n_backups > 0 ? sync_backups : NULL,
                .may_upgrade = daemon_may_upgrade,
                .upgrade = daemon_upgrade,
                .upgrade_error = daemon_upgrade_error,
                .take_proxy_conn = c->proxy.target[0] != '\0' ? daemon_take_proxy_conn : NULL,
                .arg = d,
        };

        daemon_note_refusal(d, takeover_error());
        return api_new(&config, &d->api, e);
}

/* --- the proxy --- */

static void
on_position_shown(void *arg, struct db *db)
{
        (void)db;
        proxy_wake(arg);
}

static void
daemon_on_primary_changed(void *arg)
{
        proxy_primary_changed(arg);
}

static void
on_primary_connected(void *arg)
{
        proxy_connected(arg);
}

static void
on_primary_answered(void *arg, uint64_t nonce, uint64_t term, struct ltx_pos pos)
{
        proxy_answered(arg, nonce, term, pos.txid);
}

static void
daemon_ask_primary(void *arg, uint64_t nonce, const char *db_name)
{
        node_ask(arg, nonce, db_name);
}

static int
open_proxy(struct daemon *d, struct err *e)
{
        struct node_watcher watcher = { .committed = on_position_shown,
                                        .role_changed = daemon_on_primary_changed,
                                        .connected = on_primary_connected,
                                        .answered = on_primary_answered };
        int r = make_proxy(d->options->config, d->store, d->tls_proxy, d->token, &d->proxy, e);

        if (r < 0 || d->proxy == NULL)
                return r;
        watcher.arg = d->proxy;
        proxy_set_asker(d->proxy, daemon_ask_primary, d->node);
        node_watch(d->node, &watcher);
        return 0;
}

/* --- backups --- */

static void
daemon_on_role_changed(void *arg)
{
        backups_role_changed(((struct daemon *)arg)->backups);
}

static int
open_backups(struct daemon *d, struct err *e)
{
        struct node_watcher watcher = { .role_changed = daemon_on_role_changed, .arg = d };
        int r = backups_open(d->options->config, d->store, d->options->data_dir, node_boot_id(d->node),
                             &d->backups, e);

        if (r == 0 && d->backups != NULL)
                node_watch(d->node, &watcher);
        return r;
}

static int
listen_http(struct daemon *d, struct err *e)
{
        const char *addr = d->options->config->http.addr;
        int r = node_listen(d->node, api_accepted, d->api, e);

        if (r < 0)
                return port_owner_explain("http.addr", addr, r, e);
        if (node_port(d->node) > 0)
                log_info("http server listening on: %s (port %d)", addr, node_port(d->node));
        return 0;
}

static void
daemon_pause_writes(void *arg, bool is_paused)
{
        session_pause_writes(((struct daemon *)arg)->session, is_paused);
}

/* The socket of the program before this one, where it is for the same address. */
static int
inherited_listener(const struct daemon *d)
{
        const struct takeover *t = d->options->takeover;

        if (t == NULL || strcmp(takeover_facts(t)->http_addr, d->options->config->http.addr) != 0)
                return 0;
        return takeover_facts(t)->http_fd;
}

/* Of a socket that listens already, so that whoever connects waits, and is told of no node without a part. */
static bool
listens_late(const struct daemon *d)
{
        return d->held.has_holder && inherited_listener(d) > 0;
}

void
daemon_listen_late(struct daemon *d)
{
        struct err e = ERR_INIT;

        if (!listens_late(d))
                return;
        (void)node_wait_primary(d->node, LEAD_MS);
        if (listen_http(d, &e) < 0)
                log_error("no API, and no replica can follow: %s; restart the node", e.text);
}

int
daemon_open_node(struct daemon *d, struct err *e)
{
        const struct config *c = d->options->config;
        struct node_config config = {
                .store = d->store,
                .lease = d->lease,
                .clock = clock_host(),
                .data_dir = d->options->data_dir,
                .listen_address = c->http.addr,
                .listen_fd = inherited_listener(d),
                .hostname = c->lease.hostname,
                .advertise_url = config_has_own_address(c) ? c->lease.advertise_url : "",
                .tls = d->tls,
                .tls_peer = d->tls_peer,
                .needs_tls = access_needs_tls(c),
                .token = d->token,
                .peer_http = &d->peer_http,
                .is_candidate = c->lease.candidate,
                .reconnect_ms = c->lease.reconnect_delay_ns / 1000000,
                .apply_ops = &apply_ops,
                .apply_arg = d,
                .appliers = d->appliers,
                .hold_writes = daemon_hold_writes,
                .pause_writes = daemon_pause_writes,
                .arg = d,
        };
        int r;

        d->peer_http = (struct http_client_options){ .ca = c->http.tls.ca,
                                                     .cert = c->http.tls.cert,
                                                     .cert_key = c->http.tls.key,
                                                     .is_tls_only = access_needs_tls(c) };
        r = node_open(&config, &d->node, e);

        if (r == 0)
                r = open_pulse(d, e);
        if (r == 0)
                r = service_new(&d->notifier, d->node, d->store, d->pulse, &d->service, e);
        if (r == 0)
                r = open_halting(d, e);
        if (r == 0)
                r = open_api(d, e);
        if (r == 0)
                r = open_proxy(d, e);
        if (r == 0)
                r = open_backups(d, e);
        if (r == 0 && !listens_late(d))
                r = listen_http(d, e);
        if (r == 0)
                store_set_listener(d->store, d, daemon_on_committed);
        return r;
}
