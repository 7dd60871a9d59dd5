/* A node from its start to its end: what is opened, in which order, and what has to be gone before what. */
#include "cmd/litefs/daemon_internal.h"

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
#include "cmd/litefs/renewing.h"
#include "cmd/litefs/service.h"
#include "cmd/litefs/takeover.h"
#include "http/api.h"
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

/* The lease of the program before this one, renewed while the databases are opened, which may take longer than it lasts. If it has run out meanwhile nothing is committed by it, and the node finds out as
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
        if (r == 0 && renewing_start(d->lease, &d->renewing) < 0)
                log_warn("the lease is not renewed before the node has started: out of memory");
        else if (r < 0 && hold->session[0] != '\0')
                log_error("the lease that this node holds is left to run out: %s", e.text);
}

/* A static lease is decided before anybody can look. */
static void
settle_files(struct daemon *d)
{
        struct lease_state holder;

        if (d->held.has_holder && takeover_facts(d->options->takeover)->leads)
                store_set_role(d->store, true, &d->held);
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

/* --- while it serves --- */

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

/* The lease is the node's to renew from now on. */
static void
lead_on(struct daemon *d)
{
        renewing_end(d->renewing);
        d->renewing = NULL;
        node_start(d->node, &d->held);
        daemon_listen_late(d);
}

/* What follows the mount may use the mount, so it cannot run on the thread that answers it. */
static void *
start_rest(void *arg)
{
        struct starter *st = arg;
        const struct daemon_options *o = st->daemon->options;

        guard_arm(st->daemon->guard, o->mount_dir, session_connection(st->daemon->session));
        if (st->daemon->held.has_holder)
                lead_on(st->daemon);
        if (o->takeover != NULL) {
                takeover_end(o->takeover);
                session_begin_carried(st->daemon->session);
        }
        if (!st->daemon->held.has_holder) /* what it receives may be of a database that was lost */
                node_start(st->daemon->node, NULL);
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
        renewing_end(d->renewing);
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
                r = daemon_open_node(d, e);
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
        if (r == 0 && options->takeover != NULL)
                take_lease_on(&d);
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
