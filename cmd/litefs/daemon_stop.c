/* The end of a node: signals, and what has to be over before what. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon_internal.h"
#include "cmd/litefs/ending.h"
#include "cmd/litefs/pulse.h"
#include "cmd/litefs/service.h"
#include "fuse/session.h"
#include "http/api.h"
#include "proxy/proxy.h"
#include "repl/node.h"
#include "store/store.h"

#define DRAIN_MS 5000
#define PROXY_END_MS 2000   /* for what the proxy has sent to other nodes at the end */
#define BACKUP_END_MS 10000 /* for what was committed last to get to the backups at the end */
#define HOLD_MS 5000        /* that a hand-over waits at most for writes that the proxy has begun */

static void
signal_set(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGUSR1);
        sigaddset(set, SIGUSR2);
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

/* --- the end --- */

static int64_t
drain_ms(struct daemon *d)
{
        int64_t ms = config_to_ms(d->options->config->proxy.drain_ns), left;

        if (!atomic_load(&d->is_stopping))
                return ms < HOLD_MS ? ms : HOLD_MS;
        left = atomic_load(&d->drained_ms) - clock_boot_ms(clock_host());
        return left > 0 ? left : 0;
}

void
daemon_hold_writes(void *arg, bool is_held)
{
        struct daemon *d = arg;

        if (is_held)
                proxy_hold(d->proxy, drain_ms(d));
        else
                proxy_release(d->proxy);
}

static void
take_readonly(void *arg, const char *name, uint64_t n)
{
        if (strcmp(name, "EROFS") == 0)
                *(uint64_t *)arg = n;
}

/* In all, from the signal on; -1: without end. What may take as long as it likes is the application with an exec-grace of 0,
 * and then the time begins when it has ended. */
static int64_t
stop_allowance_ms(const struct config *c, bool has_application_ended)
{
        int64_t ms = config_to_ms(c->shutdown_timeout_ns);

        if (ms == 0)
                return -1;
        if (has_application_ended || c->n_exec == 0)
                return ms + (c->proxy.target[0] != '\0' ? config_to_ms(c->proxy.drain_ns) : 0);
        if (c->exec_grace_ns == 0)
                return -1;
        return stop_allowance_ms(c, true) + config_to_ms(c->exec_grace_ns);
}

static void
end_exec(struct daemon *d, int sig)
{
        const struct config *c = d->options->config;

        ending_at(d->ending, "the application of exec to end");
        if (d->options->on_signal != NULL)
                d->options->on_signal(d->options->arg, sig);
        if (c->n_exec > 0 && c->exec_grace_ns == 0)
                ending_allow(d->ending, "requests that the proxy has begun", stop_allowance_ms(c, true));
}

/* The application gets the signal when no request needs it any more and another node leads, if one can: however long it
 * takes to end, the cluster can write. What it still writes itself is refused then. */
static void
end_application(struct daemon *d, int sig)
{
        bool had_lease = store_is_primary(d->store);
        uint64_t before = 0, after = 0;

        ending_at(d->ending, "the lease to be handed over");
        proxy_retire(d->proxy);
        if (had_lease)
                proxy_hold(d->proxy, drain_ms(d)); /* for good */
        node_leave(d->node);
        session_each_error(d->session, take_readonly, &before);
        proxy_leave(d->proxy, drain_ms(d));
        end_exec(d, sig);
        proxy_drain(d->proxy, PROXY_END_MS);
        session_each_error(d->session, take_readonly, &after);
        if (had_lease && after > before)
                log_warn(
                        "%llu writes of the application came after the lease had been handed over, and were refused: "
                        "let it end within proxy.drain, or write nothing when it ends",
                        (unsigned long long)(after - before));
}

static void
end_service(struct daemon *d)
{
        log_info("signal received, litefs shutting down");
        service_stopping(d->service);
        ending_at(d->ending, "the last transactions to get to the backups");
        backups_stop(d->backups, BACKUP_END_MS);
        atomic_store(&d->is_ending, true);
        ending_at(d->ending, "requests to the API, halts and streams");
        halting_stop_own(&d->halting);
        api_stop(d->api);
        halting_stop(&d->halting);
        pulse_stop(d->pulse);
        ending_at(d->ending, "write transactions and streams to end");
        node_stop(d->node);
        ending_at(d->ending, "requests to the mount");
        session_stop(d->session, DRAIN_MS);
}

/* What is around the mount has ended for the next program, which there will not be. */
static void
end_after_upgrade(struct daemon *d)
{
        ending_allow(d->ending, "its own end", stop_allowance_ms(d->options->config, false));
        service_stopping(d->service);
        end_exec(d, SIGTERM);
        ending_at(d->ending, "requests to the mount");
        session_stop(d->session, DRAIN_MS);
        d->lease->ops->release(d->lease); /* nobody commits any more, and others may */
}

/* --- signals --- */

static bool
stop_has_served(struct daemon *d)
{
        bool has_served;

        pthread_mutex_lock(&d->lock);
        while (d->phase == STARTING)
                pthread_cond_wait(&d->started, &d->lock);
        has_served = d->phase == SERVING;
        pthread_mutex_unlock(&d->lock);
        return has_served;
}

static bool
stop_serves(struct daemon *d)
{
        bool serves;

        pthread_mutex_lock(&d->lock);
        serves = d->phase == SERVING;
        pthread_mutex_unlock(&d->lock);
        return serves;
}

/* SIGUSR1 logs the request counts; SIGUSR2 is daemon_upgrade's. */
static enum upgrade_end
handle_signal(struct daemon *d, int sig)
{
        if (!stop_serves(d))
                return UPGRADE_REFUSED;
        if (sig == SIGUSR1)
                session_log_requests(d->session);
        else if (atomic_exchange(&d->wants_upgrade, false))
                return daemon_hand_over(d);
        return UPGRADE_REFUSED;
}

/* SIGINT and SIGTERM end the node. */
static void *
wait_for_signals(void *arg)
{
        struct daemon *d = arg;
        const struct config *c = d->options->config;
        enum upgrade_end end = UPGRADE_REFUSED;
        sigset_t set;
        int sig;

        signal_set(&set);
        while (end == UPGRADE_REFUSED) {
                if (sigwait(&set, &sig) != 0)
                        continue;
                if (sig != SIGUSR1 && sig != SIGUSR2)
                        break;
                end = handle_signal(d, sig);
        }
        if (end == UPGRADE_FAILED)
                end_after_upgrade(d);
        if (end != UPGRADE_REFUSED)
                return NULL;
        ending_allow(d->ending, "its own start", stop_allowance_ms(c, false));
        atomic_store(&d->drained_ms, clock_boot_ms(clock_host()) + config_to_ms(c->proxy.drain_ns));
        atomic_store(&d->is_stopping, true);
        if (stop_has_served(d)) {
                end_application(d, sig);
                end_service(d);
        }
        ending_at(d->ending, "the databases to be closed");
        return NULL;
}

int
daemon_await_signals(struct daemon *d, struct err *e)
{
        int r;

        pthread_mutex_init(&d->lock, NULL);
        pthread_cond_init(&d->started, NULL);
        r = -pthread_create(&d->signal_thread, NULL, wait_for_signals, d);
        return r < 0 ? err_set(e, r, "start the signal thread") : 0;
}

static void
stop_set_phase(struct daemon *d, int phase)
{
        pthread_mutex_lock(&d->lock);
        d->phase = phase;
        pthread_cond_signal(&d->started);
        pthread_mutex_unlock(&d->lock);
}

void
daemon_serves(struct daemon *d)
{
        stop_set_phase(d, SERVING);
}

void
daemon_join_signals(struct daemon *d)
{
        if (!stop_serves(d))
                stop_set_phase(d, NOT_STARTED);
        if (!atomic_load(&d->is_leaving))
                daemon_stop(); /* nobody else may have sent one */
        pthread_join(d->signal_thread, NULL);
}
