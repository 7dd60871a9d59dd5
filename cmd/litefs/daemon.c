#include "cmd/litefs/daemon.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/workers.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/guard.h"
#include "fuse/apply.h"
#include "fuse/session.h"
#include "cmd/litefs/halting.h"
#include "cmd/litefs/make_lease.h"
#include "cmd/litefs/make_proxy.h"
#include "cmd/litefs/make_tls.h"
#include "cmd/litefs/notifier.h"
#include "cmd/litefs/service.h"
#include "http/api.h"
#include "http/prom.h"
#include "repl/node.h"
#include "store/leftovers.h"
#include "store/scrub.h"
#include "store/store.h"

#define N_WORKERS 4
#define N_APPLIERS 4
#define N_FORWARDERS 4
#define DRAIN_MS 5000
#define PROXY_DRAIN_MS 2000 /* for requests that are under way: a hand-over waits so long */
#define READY_MS 10000      /* an application is started after that, ready or not */

struct daemon {
        const struct daemon_options *options;
        struct workers *workers;
        struct lease *lease;
        struct store *store;
        struct session *session;
        struct workers *appliers;
        struct workers *forwarders; /* commits under halt locks, which wait for the primary */
        struct node *node;
        struct notifier notifier;
        struct service *service;
        struct token *token;
        struct tls_context *tls, *tls_peer, *tls_proxy;
        struct api *api;
        struct scrub *scrub;
        struct guard *guard;
        struct proxy *proxy; /* NULL: none is asked for */
        struct halting halting;
        pthread_t signal_thread;
};

static void
signal_set(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGUSR1);
}

void
daemon_block_signals(void)
{
        sigset_t set;

        signal_set(&set);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
}

void
daemon_stop(void)
{
        kill(getpid(), SIGTERM);
}

/* SIGUSR1 logs the request counts; SIGINT and SIGTERM end the node. */
static void *
wait_for_signals(void *arg)
{
        struct daemon *d = arg;
        sigset_t set;
        int sig;

        signal_set(&set);
        for (;;) {
                if (sigwait(&set, &sig) != 0)
                        continue;
                if (sig != SIGUSR1)
                        break;
                session_log_requests(d->session);
        }
        proxy_drain(d->proxy, PROXY_DRAIN_MS); /* while the application is there to answer */
        if (d->options->on_signal != NULL)
                d->options->on_signal(d->options->arg, sig);
        log_info("signal received, litefs shutting down");
        service_stopping(d->service);
        halting_stop_own(&d->halting);
        api_stop(d->api);
        halting_stop(&d->halting);
        node_stop(d->node);
        session_stop(d->session, DRAIN_MS);
        return NULL;
}

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
                .os = os_host(),
                .clock = clock_host(),
                .workers = d->workers,
                .forwarders = d->forwarders,
                .data_dir = o->data_dir,
                .is_compressed = o->is_compressed,
                .is_strict = o->is_strict,
                .retention_ms = o->retention_ms,
                .retention_interval_ms = o->retention_interval_ms,
        };

        return store_open(&config, d->lease, &d->store, e);
}

/* A static lease is decided before anybody can look. */
static void
settle_files(struct daemon *d)
{
        struct lease_state holder;

        if (d->lease->ttl_ms == 0 && d->lease->ops->acquire(d->lease, &holder, NULL) == 0)
                store_set_role(d->store, true, &holder);
        leftovers_settle(d->store);
}

static int
mount_store(struct daemon *d, struct err *e)
{
        const struct daemon_options *o = d->options;
        struct session_config config = {
                .mount_dir = o->mount_dir,
                .store = d->store,
                .workers = d->workers,
                .appliers = d->appliers,
                .is_allow_other = o->is_allow_other,
                .is_debug = o->is_fuse_debug,
                .skip_unmount = o->skip_unmount,
        };

        return session_mount(&config, &d->session, e);
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
apply(void *handle, const struct received *rx, struct err *e)
{
        return apply_transaction(handle, rx, e);
}

static void
end_apply(void *handle)
{
        apply_free(handle);
}

static int
reserve_apply(void *handle, struct err *e)
{
        return apply_reserve(handle, e);
}

static const struct apply_ops apply_ops = { begin_apply, apply, end_apply, reserve_apply };

static void
on_role_changed(void *arg, bool is_primary)
{
        (void)is_primary;
        session_role_changed(((struct daemon *)arg)->session);
}

static void
on_committed(void *arg, struct db *db)
{
        struct daemon *d = arg;

        node_committed(d->node, db);
        if (d->proxy != NULL)
                proxy_committed(d->proxy, db);
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
}

static int
open_halting(struct daemon *d, struct err *e)
{
        const struct config *c = d->options->config;
        struct halts_config given = {
                .loop = node_loop(d->node),
                .store = d->store,
                .clock = clock_host(),
                .ops = &apply_ops,
                .ops_arg = d,
                .appliers = d->appliers,
        };
        struct remote_halts_config taken = {
                .loop = node_loop(d->node),
                .store = d->store,
                .clock = clock_host(),
                .client = { .node_id = node_id(d->node),
                            .token = d->token,
                            .tls_ca = c->http.tls.ca,
                            .tls_cert = c->http.tls.cert,
                            .tls_key = c->http.tls.key },
        };

        return halting_open(&d->halting, &given, &taken, d->node, d->session, e);
}

static void
on_proxy_hop(void *arg, struct conn *c)
{
        struct daemon *d = arg;

        if (d->proxy != NULL)
                proxy_accept_hop(d->proxy, c);
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
                .halts = d->halting.given,
                .data_dir = d->options->data_dir,
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .is_candidate = c->lease.candidate,
                .is_loopback = access_is_loopback(c->http.addr),
                .max_lag_ms = c->proxy.max_lag_ns / 1000000,
                .demote_ms = c->lease.demote_delay_ns / 1000000,
                .token = d->token,
                .tls_ca = c->http.tls.ca,
                .tls_cert = c->http.tls.cert,
                .tls_key = c->http.tls.key,
                .version = LITEFS_VERSION[0] != '\0' ? LITEFS_VERSION : LITEFS_COMMIT,
                .more_metrics = add_metrics,
                .proxy_hop = c->proxy.target[0] != '\0' ? on_proxy_hop : NULL,
                .arg = d,
        };

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
on_primary_changed(void *arg)
{
        proxy_wake(arg);
}

static int
open_proxy(struct daemon *d, struct err *e)
{
        struct node_watcher watcher = { .committed = on_position_shown,
                                        .role_changed = on_primary_changed };
        int r = make_proxy(d->options->config, d->store, d->tls_proxy, d->token, &d->proxy, e);

        if (r < 0 || d->proxy == NULL)
                return r;
        watcher.arg = d->proxy;
        node_watch(d->node, &watcher);
        return 0;
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
        if (r == 0)
                log_info("proxy server listening on: %s (port %d)", c->proxy.addr, proxy_port(d->proxy));
        else if (!c->exit_on_error)
                log_error("no proxy: %s", e->text);
        return r < 0 && !c->exit_on_error ? 0 : r;
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
                .hostname = c->lease.hostname,
                .advertise_url = c->lease.advertise_url,
                .tls = d->tls,
                .tls_peer = d->tls_peer,
                .token = d->token,
                .is_candidate = c->lease.candidate,
                .reconnect_ms = c->lease.reconnect_delay_ns / 1000000,
                .apply_ops = &apply_ops,
                .apply_arg = d,
                .appliers = d->appliers,
                .role_changed = on_role_changed,
                .arg = d,
        };
        int r = node_open(&config, &d->node, e);

        if (r == 0)
                r = service_new(&d->notifier, d->node, d->store, &d->service, e);
        if (r == 0)
                r = open_halting(d, e);
        if (r == 0)
                r = open_api(d, e);
        if (r == 0)
                r = open_proxy(d, e);
        if (r == 0)
                r = node_listen(d->node, api_accepted, d->api, e);
        if (r == 0) {
                store_set_listener(d->store, d, on_committed);
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

/* What follows the mount may use the mount, so it cannot run on the thread that answers it. */
static void *
start_rest(void *arg)
{
        struct starter *st = arg;
        const struct daemon_options *o = st->daemon->options;

        guard_arm(st->daemon->guard, o->mount_dir);
        node_start(st->daemon->node);
        service_mounted(st->daemon->service, o->config->skip_sync);
        if (!node_wait_ready(st->daemon->node, READY_MS))
                log_warn("no primary is known yet, or not all of its data is here; going on");
        st->result = start_proxy(st->daemon, &st->e);
        if (st->result == 0 && o->on_mounted != NULL)
                st->result = o->on_mounted(o->arg, &st->e);
        if (st->result < 0)
                daemon_stop();
        return NULL;
}

static int
serve(struct daemon *d, struct err *e)
{
        struct starter st = { .daemon = d };
        pthread_t starter;
        int r;

        r = -pthread_create(&d->signal_thread, NULL, wait_for_signals, d);
        if (r < 0)
                return err_set(e, r, "start the signal thread");
        r = scrub_new(d->store, &d->scrub);
        if (r < 0)
                log_warn("databases are not verified: %s", strerror(-r));
        r = -pthread_create(&starter, NULL, start_rest, &st);
        if (r < 0)
                daemon_stop();
        else
                log_info("LiteFS mounted to: %s", d->options->mount_dir);
        r = session_run(d->session, e);
        /* Unmounted from outside, or the connection broke: the signal thread is still waiting. */
        daemon_stop();
        pthread_join(d->signal_thread, NULL);
        pthread_join(starter, NULL);
        if (r == 0 && st.result < 0) {
                *e = st.e;
                r = st.result;
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

static void
tear_down(struct daemon *d)
{
        scrub_free(d->scrub);
        workers_drain(d->forwarders);
        workers_drain(d->workers);
        if (d->store != NULL)
                store_stop_housekeeping(d->store); /* it calls into the mount */
        halting_stop_own(&d->halting);
        api_stop(d->api);
        service_stop(d->service);
        halting_stop(&d->halting);
        node_free(d->node);
        if (d->store != NULL)
                store_set_listener(d->store, NULL, NULL); /* closing may still sync commits */
        service_free(d->service);
        notifier_close(&d->notifier);
        proxy_free(d->proxy); /* the node tells it of positions */
        api_free(d->api);
        halting_release(&d->halting);
        release_access(d);
        session_free(d->session);
        store_close(d->store);
        if (d->lease != NULL)
                d->lease->ops->free(d->lease);
        workers_free(d->appliers);
        workers_free(d->forwarders);
        workers_free(d->workers);
        guard_stop(d->guard);
}

/* That it cannot be told is no reason not to run. */
static void
open_notifier(struct daemon *d)
{
        struct err e = ERR_INIT;

        if (notifier_open(&d->notifier, &e) < 0)
                log_warn("%s: the service manager is told nothing", e.text);
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
        r = guard_start(options->mount_dir, &d.guard);
        if (r < 0)
                return err_set(e, r, "start the process that guards the mount");
        r = workers_new(N_WORKERS, &d.workers);
        if (r == 0)
                r = workers_new(N_APPLIERS, &d.appliers);
        if (r == 0)
                r = workers_new(N_FORWARDERS, &d.forwarders);
        if (r < 0)
                return err_set(e, r, "start worker threads");
        r = make_lease(options->config, &d.lease, e);
        if (r == 0)
                r = open_store(&d, e);
        if (r == 0) {
                settle_files(&d);
                r = mount_store(&d, e);
        }
        if (r == 0)
                r = open_node(&d, e);
        if (r == 0)
                r = serve(&d, e);
        tear_down(&d);
        return r;
}
