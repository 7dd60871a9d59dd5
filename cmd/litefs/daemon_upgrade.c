/* A planned upgrade, on the side of the program that goes (takeover.h): what is around the mount ends as it does at a stop,
 * while the mount still answers; then the mount comes to rest, and its state is gathered. Nobody who has a file open hears of
 * it. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon_internal.h"
#include "cmd/litefs/ending.h"
#include "cmd/litefs/guard.h"
#include "cmd/litefs/pulse.h"
#include "cmd/litefs/takeover.h"
#include "fuse/carry.h"
#include "fuse/session.h"
#include "history/keeper.h"
#include "http/api.h"
#include "proxy/proxy.h"
#include "repl/node.h"
#include "store/carry.h"
#include "store/store.h"

#define AROUND_MS 120000 /* that it may take to end what is around the mount, which answers meanwhile, */
#define UPGRADE_MS 60000 /* and from then on up to the next program; else the node is ended by force */
#define JOIN_MS 10000    /* before it, for a start that is not over yet */
#define REST_MS 30000    /* of which the mount may take to come to rest */
#define PROXY_MS 2000    /* and requests that the proxy has begun to be answered */

static int
check_lease(struct daemon *d, struct err *e)
{
        if (d->lease->ttl_ms == 0 || !store_is_primary(d->store))
                return 0;
        return err_text(e, -EBUSY,
                        "this node is the primary by a lease of %s, which cannot be handed to another "
                        "program yet: run `litefs handoff` first, or restart the node",
                        d->lease->type);
}

static int
check_node(struct daemon *d, struct err *e)
{
        int r = check_lease(d, e);

        if (r == 0 && !atomic_load(&d->has_joined))
                r = err_text(e, -EBUSY, "the node is still starting: try again when it is ready");
        return r == 0 ? session_may_be_carried(d->session, e) : r;
}

int
daemon_may_upgrade(void *arg, struct err *e)
{
        struct daemon *d = arg;
        int r;

        for (int i = 0; i < JOIN_MS / 10 && !atomic_load(&d->has_joined); i++)
                (void)usleep(10000);
        r = check_node(d, e);
        return r == 0 ? takeover_try(d->options->config, e) : r;
}

void
daemon_upgrade(void *arg)
{
        struct daemon *d = arg;

        atomic_store(&d->wants_upgrade, true);
        kill(getpid(), SIGUSR2);
}

/* What may enter the mount ends while it is answered. The lease stays: a static one, or none. */
static void
end_what_is_around(struct daemon *d)
{
        proxy_retire(d->proxy);
        proxy_drain(d->proxy, PROXY_MS);
        backups_stop(d->backups, 0);
        atomic_store(&d->is_ending, true);
        halting_stop_own(&d->halting);
        api_stop(d->api);
        halting_stop(&d->halting);
        pulse_stop(d->pulse);
        node_stop(d->node);
        keeper_free(d->keeper); /* the next program's begins anew what it had half done */
        d->keeper = NULL;
        store_stop_housekeeping(d->store);
}

/* The descriptor of the state, or negative. */
static int
gather_state(struct daemon *d, struct err *e)
{
        const struct daemon_options *o = d->options;
        struct takeover_facts facts = {
                .mount_dir = o->mount_dir,
                .data_dir = o->data_dir,
                .http_addr = o->config->http.addr,
                .lock_fd = store_lock_fd(d->store),
                .http_fd = node_listener_fd(d->node),
                .application_pid = o->application(o->arg),
        };
        struct parcel p = { 0 };
        int fd;

        guard_get(d->guard, &facts.guard_fd, &facts.guard_pid);
        takeover_put(&p, &facts);
        store_carry_out(d->store, &p);
        session_carry_out(d->session, &p);
        fd = parcel_finish(&p, TAKEOVER_VERSION, e);
        parcel_release(&p);
        return fd;
}

enum upgrade_end
daemon_hand_over(struct daemon *d)
{
        struct workers *const others[] = { d->remote_committers, NULL };
        struct err e = ERR_INIT;
        int fd;

        if (check_node(d, &e) < 0) {
                log_error("no upgrade: %s", e.text);
                return UPGRADE_REFUSED;
        }
        log_info("upgrade: the node is handed over to the program that is installed now");
        ending_allow(d->ending, "all around the mount to end", AROUND_MS);
        end_what_is_around(d);
        ending_allow(d->ending, "the node to be handed over", UPGRADE_MS);
        atomic_store(&d->is_leaving, true);
        if (session_quiesce(d->session, others, REST_MS, &e) < 0) {
                log_error("the node ends, for it cannot be handed over: %s", e.text);
                return UPGRADE_FAILED;
        }
        fd = gather_state(d, &e);
        if (fd < 0) {
                log_error("the node ends, for it cannot be handed over: %s", e.text);
                session_go_on(d->session);
                return UPGRADE_FAILED;
        }
        *d->options->ret_parcel_fd = fd;
        d->is_handed_over = true;
        session_leave(d->session);
        return UPGRADE_DONE;
}
