#include "cmd/litefs/daemon_internal.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/workers.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/ending.h"
#include "cmd/litefs/guard.h"
#include "fuse/apply.h"
#include "fuse/carry.h"
#include "fuse/session.h"
#include "cmd/litefs/halting.h"
#include "cmd/litefs/joining.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/mount_point.h"
#include "cmd/litefs/notifier.h"
#include "cmd/litefs/passing.h"
#include "cmd/litefs/port_owner.h"
#include "cmd/litefs/pulse.h"
#include "cmd/litefs/service.h"
#include "cmd/litefs/takeover.h"
#include "http/api.h"
#include "http/prom.h"
#include "net/http_client.h"
#include "repl/node.h"
#include "store/carry.h"
#include "store/leftovers.h"
#include "store/scrub.h"
#include "store/store.h"

#define N_WORKERS 4
#define N_VISITORS 4
#define N_APPLIERS 4
#define N_REMOTE_COMMITTERS 4

/* Databases, log segments and open files of applications take a descriptor each. */
static void
raise_file_limit(void)
{
        struct rlimit rl;

        if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
                rl.rlim_cur = rl.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &rl);
        }
}

static int
open_store(struct daemon *d, struct err *e)
{
        const struct daemon_options *o = d->options;
        struct store_config config = {
                .is_ending = &d->is_ending,
                .os = os_host(),
                .clock = clock_host(),
                .workers = d->workers,
                .remote_committers = d->remote_committers,
                .data_dir = o->data_dir,
                .is_compressed = o->is_compressed,
                .is_strict = o->is_strict,
                .takes_wal_tail = d->lease->ttl_ms == 0, /* static: no other node leads */
                .is_resumed = o->takeover != NULL,
                .lock_fd = o->takeover != NULL ? takeover_facts(o->takeover)->lock_fd : 0,
                .keeps_log = o->config->data.history_ns > 0,
                .retention_ms = o->retention_ms,
                .retention_interval_ms = o->retention_interval_ms,
        };

        int r = store_open(&config, d->lease, &d->store, e);

        if (r == 0 && o->takeover != NULL)
                r = store_carry_in(d->store, takeover_parcel(o->takeover),
                                   !takeover_has_way_back(o->takeover), e);
        return r;
}

/* The lease of the program before this one. If it has run out meanwhile nothing is committed by it, and the node finds out as
 * soon as it starts. */
static void
take_lease_on(struct daemon *d)
{
        const struct takeover_facts *facts = takeover_facts(d->options->takeover);
        const struct lease_hold *hold = &facts->hold;
        struct err e = ERR_INIT;
        int r = E_CONFIG;

        if (d->lease->ops->take_on != NULL && hold->type[0] != '\0')
                r = d->lease->ops->take_on(d->lease, hold, &d->held, &e);
        if (r == E_CONFIG && hold->fd >= 0)
                close(hold->fd);
        if (r == 0 && facts->leads)
                store_set_role(d->store, true, &d->held);
        else if (r < 0 && hold->session[0] != '\0')
                log_error("the lease that this node holds is left to run out: %s", e.text);
}

/* A static lease is decided before anybody can look. */
static void
settle_files(struct daemon *d)
{
        struct lease_state holder;

        if (d->options->takeover != NULL)
                take_lease_on(d);
        if (d->lease->ttl_ms == 0 && d->lease->ops->acquire(d->lease, NULL, 0, &holder, NULL) == 0)
                store_set_role(d->store, true, &holder);
        if (d->options->takeover == NULL)
                leftovers_settle(d->store);
}

static enum wal_passthrough
daemon_wal_passthrough(void *arg, const char *db_name)
{
        return passing_of(((struct daemon *)arg)->options->config, db_name);
}

/* Once is enough: `litefs doctor` and `litefs status` say it of each. */
static void
daemon_look_at(void *arg, struct db *db)
{
        struct daemon *d = arg;
        char text[PASSING_ADVICE_SIZE];

        if (d->has_advised || passing_of(d->options->config, db_name(db)) != WAL_PASSTHROUGH_OFF)
                return;
        passing_advise(d->options->config, db, text);
        d->has_advised = text[0] != '\0';
        if (d->has_advised)
                log_info("%s", text);
}

static int
mount_store(struct daemon *d, struct err *e)
{
        const struct daemon_options *o = d->options;
        struct session_config config = {
                .mount_dir = o->mount_dir,
                .store = d->store,
                .workers = d->workers,
                .visitors = d->visitors,
                .tellers = d->tellers,
                .asker = d->asker,
                .appliers = d->appliers,
                .live = guard_nodes(d->guard),
                .carried = o->takeover != NULL ? takeover_parcel(o->takeover) : NULL,
                .is_allow_other = o->is_allow_other,
                .is_debug = o->is_fuse_debug,
                .is_wal_passed = passing_any(o->config),
                .wal_passthrough = daemon_wal_passthrough,
                .look_at = daemon_look_at,
                .arg = d,
        };
        /* The store is open, so that no other litefs has the data directory. */
        int r = o->takeover != NULL ? 0
                                    : mount_point_prepare(o->mount_dir, o->data_dir, o->skip_unmount,
                                                          o->moves_aside, e);

        return r < 0 ? r : session_mount(&config, &d->session, e);
}

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

/* A node that is taken over serves: nothing that a start waits for, or fails for, ends it. */
static bool
survives_errors(const struct daemon *d)
{
        return d->options->takeover != NULL || !d->options->config->exit_on_error;
}

/* After the node knows its part, before the application runs: it is waited for. */
static int
start_proxy(struct daemon *d, struct err *e)
{
        const struct config *c = d->options->config;
        int r;

        if (d->proxy == NULL)
                return 0;
        r = proxy_start(d->proxy, e);
        if (r < 0)
                port_owner_explain("proxy.addr", c->proxy.addr, r, e);
        if (r == 0)
                log_info("proxy server listening on: %s (port %d)", c->proxy.addr, proxy_port(d->proxy));
        else if (survives_errors(d))
                log_error("no proxy: %s", e->text);
        return r < 0 && survives_errors(d) ? 0 : r;
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
        int r = node_listen(d->node, api_accepted, d->api, e);

        return r < 0 ? port_owner_explain("http.addr", d->options->config->http.addr, r, e) : 0;
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

static int
open_node(struct daemon *d, struct err *e)
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
        if (r == 0)
                r = listen_http(d, e);
        if (r == 0) {
                store_set_listener(d->store, d, daemon_on_committed);
                if (node_port(d->node) > 0)
                        log_info("http server listening on: %s (port %d)", c->http.addr,
                                 node_port(d->node));
        }
        return r;
}

struct starter {
        struct daemon *daemon;
        int result;
        struct err e;
};

static int
join_cluster(struct daemon *d, struct err *e)
{
        const struct config *c = d->options->config;
        int r = d->options->takeover != NULL ? 0 : joining_wait(c, d->node, d->api, &d->is_stopping, e);

        if (r < 0 && survives_errors(d)) {
                log_error("%s", e->text);
                return 0;
        }
        return r;
}

/* What follows the mount may use the mount, so it cannot run on the thread that answers it. */
static void *
start_rest(void *arg)
{
        struct starter *st = arg;
        const struct daemon_options *o = st->daemon->options;

        guard_arm(st->daemon->guard, o->mount_dir, session_connection(st->daemon->session));
        if (o->takeover != NULL) {
                takeover_end(o->takeover);
                session_begin_carried(st->daemon->session);
        }
        node_start(st->daemon->node, st->daemon->held.has_holder ? &st->daemon->held : NULL);
        pulse_start(st->daemon->pulse);
        st->result = join_cluster(st->daemon, &st->e);
        if (st->result == 0)
                service_mounted(st->daemon->service, o->config->skip_sync);
        if (st->result == 0)
                st->result = start_proxy(st->daemon, &st->e);
        if (st->result == 0 && o->on_mounted != NULL)
                st->result = o->on_mounted(o->arg, &st->e);
        if (st->result < 0)
                daemon_stop();
        atomic_store(&st->daemon->has_joined, true);
        return NULL;
}

static int
serve(struct daemon *d, struct err *e)
{
        struct starter st = { .daemon = d };
        pthread_t starter;
        int r;

        if (d->options->takeover != NULL)
                takeover_commit(d->options->takeover);
        daemon_serves(d);
        r = scrub_new(d->store, &d->scrub);
        if (r < 0)
                log_warn("databases are not verified: %s", strerror(-r));
        d->keeper = make_keeper(d->options->config, d->store);
        r = -pthread_create(&starter, NULL, start_rest, &st);
        if (r < 0)
                daemon_stop();
        else
                log_info(d->options->takeover != NULL ? "litefs goes on with the mount at: %s"
                                                      : "litefs mounted to: %s",
                         d->options->mount_dir);
        r = session_run(d->session, e);
        /* Also when it was unmounted from outside, or the connection broke. */
        daemon_join_signals(d);
        pthread_join(starter, NULL);
        if (r == 0 && st.result < 0) {
                *e = st.e;
                r = st.result;
        }
        if (r == 0 && d->upgrade_error.code < 0) {
                *e = d->upgrade_error;
                r = e->code;
        }
        return r;
}

static void
release_access(struct daemon *d)
{
        token_free(d->token);
        tls_context_free(d->tls);
        tls_context_free(d->tls_peer);
        tls_context_free(d->tls_proxy);
}

/* From one program to the next nobody else says so: the manager's patience begins anew at both ends. */
static void
notify_alive(struct daemon *d)
{
        if (d->notifier.watchdog_ms > 0 && (d->is_handed_over || d->options->takeover != NULL))
                (void)notifier_send(&d->notifier, "WATCHDOG=1");
}

static void
tear_down(struct daemon *d)
{
        scrub_free(d->scrub);
        keeper_free(d->keeper);
        workers_drain(d->remote_committers);
        workers_drain(d->workers);
        if (d->store != NULL)
                store_stop_housekeeping(d->store); /* it calls into the mount */
        halting_stop_own(&d->halting);
        api_stop(d->api);
        service_stop(d->service);
        halting_stop(&d->halting);
        pulse_stop(d->pulse);
        node_free(d->node);
        if (d->store != NULL)
                store_set_listener(d->store, NULL, NULL); /* closing may still sync commits */
        service_free(d->service);
        proxy_free(d->proxy); /* the node tells it of positions */
        backups_free(d->backups);
        api_free(d->api);
        halting_release(&d->halting);
        release_access(d);
        if (d->is_handed_over)
                guard_leave(d->guard);
        else
                guard_stop(d->guard);
        session_free(d->session);
        pulse_free(d->pulse);
        store_close(d->store);
        if (d->lease != NULL)
                d->lease->ops->free(d->lease);
        workers_free(d->appliers);
        workers_free(d->visitors);
        workers_free(d->tellers);
        workers_free(d->asker);
        workers_free(d->remote_committers);
        workers_free(d->workers);
        notify_alive(d);
        notifier_close(&d->notifier);
}

/* That it cannot be told is no reason not to run. */
static void
open_notifier(struct daemon *d)
{
        struct err e = ERR_INIT;

        if (notifier_open(&d->notifier, &e) < 0)
                log_warn("%s: the service manager is told nothing", e.text);
        notify_alive(d);
}

/* The application is not to outlive its node, nor to meet the next one. */
static void
daemon_end_by_force(void *arg)
{
        struct daemon *d = arg;

        if (d->options->on_forced_end != NULL)
                d->options->on_forced_end(d->options->arg);
}

/* The guard is forked before there are threads; from then on a signal ends the node, however long its start takes. */
static int
start_watching(struct daemon *d, struct err *e)
{
        char dbs_dir[PATH_MAX];
        int r;

        snprintf(dbs_dir, sizeof dbs_dir, "%s/dbs", d->options->data_dir);
        r = guard_start(&(struct guarded){ d->options->mount_dir, dbs_dir }, &d->guard);
        if (r < 0)
                return err_set(e, r, "start the process that guards the mount");
        r = d->options->on_guarded(d->options->arg, e);
        if (r < 0)
                return r;
        r = ending_new(daemon_end_by_force, d, &d->ending);
        return r < 0 ? err_set(e, r, "start the thread that bounds the end")
                     : daemon_await_signals(d, e);
}

static int
start_workers(struct daemon *d, struct err *e)
{
        int r = workers_new(N_WORKERS, &d->workers);

        if (r == 0)
                r = workers_new_for_mount(N_APPLIERS, &d->appliers);
        if (r == 0)
                r = workers_new_for_mount(N_VISITORS, &d->visitors);
        if (r == 0)
                r = workers_new_for_mount(1, &d->tellers);
        if (r == 0)
                r = workers_new_for_mount(1, &d->asker);
        if (r == 0)
                r = workers_new(N_REMOTE_COMMITTERS, &d->remote_committers);
        return r < 0 ? err_set(e, r, "start worker threads") : 0;
}

static int
mount_and_serve(struct daemon *d, struct err *e)
{
        int r;

        settle_files(d);
        r = mount_store(d, e);
        if (r == 0)
                r = open_node(d, e);
        return r == 0 ? serve(d, e) : r;
}

int
daemon_run(const struct daemon_options *options, struct err *e)
{
        struct daemon d = { .options = options };
        int r;

        raise_file_limit();
        open_notifier(&d);
        r = access_open_token(options->config, &d.token, e);
        if (r == 0)
                r = make_tls(options->config, &d.tls, &d.tls_peer, &d.tls_proxy, e);
        if (r < 0) {
                release_access(&d);
                return r;
        }
        access_warn(options->config);
        r = start_watching(&d, e);
        if (r < 0)
                return r;
        r = start_workers(&d, e);
        if (r == 0)
                r = make_lease(options->config, options->takeover == NULL, &d.lease, e);
        if (r == 0)
                r = open_store(&d, e);
        /* One that is to stop ends a mount that it takes over as it does its own. */
        if (r == 0 && (!atomic_load(&d.is_stopping) || options->takeover != NULL))
                r = mount_and_serve(&d, e);
        if (d.phase == STARTING)
                daemon_join_signals(&d);
        tear_down(&d);
        ending_free(d.ending);
        return r;
}
