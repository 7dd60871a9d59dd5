/* A planned upgrade, on the side of the program that goes (takeover.h): what is around the mount ends as it does at a stop,
 * while the mount still answers; then the mount comes to rest, and its state is gathered. Nobody who has a file open hears of
 * it. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotonic.h"
#include "cmd/litefs/backups.h"
#include "cmd/litefs/config.h"
#include "cmd/litefs/daemon_internal.h"
#include "cmd/litefs/ending.h"
#include "cmd/litefs/guard.h"
#include "cmd/litefs/make.h"
#include "cmd/litefs/passing.h"
#include "cmd/litefs/pulse.h"
#include "cmd/litefs/takeover.h"
#include "db/db.h"
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
#define REST_MS \
        30000 /* that the mount may take to come to rest, when that is tried first and then for good */
#define PROXY_MS 2000    /* and requests that the proxy has begun to be answered */
#define N_DATABASE_FDS 2 /* that a database hands over at the most: of its journal and of its pages */
#define N_OWN_FDS 16     /* the daemon's own, and those of the hand-over itself */

static bool
leads_by_election(struct daemon *d)
{
        return d->lease->ttl_ms > 0 && store_is_primary(d->store);
}

/* Which lease the next program has to be of. */
static void
name_lease(struct daemon *d, char buf[LEASE_NAME_SIZE])
{
        buf[0] = '\0';
        if (leads_by_election(d))
                make_lease_name(d->options->config, buf);
}

static bool
has_application_ended(struct daemon *d)
{
        return d->options->application(d->options->arg) < 0;
}

struct databases {
        unsigned n;
        struct err *e;
};

static int
check_carried_database(void *arg, struct db *db)
{
        struct databases *all = arg;
        struct db_info info;

        all->n++;
        db_get_info(db, &info);
        if (!info.is_failed)
                return 0;
        return err_text(all->e, -EBUSY,
                        "database %s has failed and would not open in the next program: mend it first "
                        "(`litefs doctor` says how), or restart the node",
                        db_name(db));
}

static unsigned
count_open_descriptors(void)
{
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (dir != NULL && readdir(dir) != NULL)
                n++;
        if (dir != NULL)
                closedir(dir);
        return n;
}

/* What is handed over is open twice meanwhile: files of the mount, and what databases have spilled. */
static int
check_descriptors(struct daemon *d, unsigned n_databases, struct err *e)
{
        unsigned n = count_open_descriptors() + session_count_carried_fds(d->session) +
                     N_DATABASE_FDS * n_databases + N_OWN_FDS;
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || n <= limit.rlim_cur)
                return 0;
        return err_text(e, -EMFILE,
                        "up to %u files may have to be open meanwhile, and the limit is %llu: raise it "
                        "(LimitNOFILE, ulimit -n) and restart the node",
                        n, (unsigned long long)limit.rlim_cur);
}

static int
check_node(struct daemon *d, struct err *e)
{
        struct databases all = { .e = e };
        int r = 0;

        if (has_application_ended(d))
                r = err_text(e, -ECHILD, "the application of exec has ended, and the node ends with it");
        if (r == 0 && !atomic_load(&d->has_joined))
                r = err_text(e, -EBUSY, "the node is still starting: try again when it is ready");
        if (r == 0)
                r = store_each(d->store, check_carried_database, &all);
        if (r == 0)
                r = check_descriptors(d, all.n, e);
        if (r == 0)
                r = halt_grants_check_none(d->halting.given, e);
        return r == 0 ? session_may_be_carried(d->session, e) : r;
}

void
daemon_note_refusal(struct daemon *d, const char *why)
{
        pthread_mutex_lock(&d->lock);
        snprintf(d->refusal, sizeof d->refusal, "%s", why != NULL ? why : "");
        pthread_mutex_unlock(&d->lock);
}

bool
daemon_upgrade_error(void *arg, char *buf, size_t size)
{
        struct daemon *d = arg;

        pthread_mutex_lock(&d->lock);
        snprintf(buf, size, "%s", d->refusal);
        pthread_mutex_unlock(&d->lock);
        return buf[0] != '\0';
}

int
daemon_may_upgrade(void *arg, struct err *e)
{
        struct daemon *d = arg;
        char lease[LEASE_NAME_SIZE];
        int r;

        for (int i = 0; i < JOIN_MS / 10 && !atomic_load(&d->has_joined); i++)
                (void)usleep(10000);
        r = check_node(d, e);
        name_lease(d, lease);
        if (r == 0)
                r = takeover_try(d->options->config, lease, e);
        if (r == 0)
                daemon_note_refusal(d, NULL); /* what is there from now on is of this attempt */
        return r;
}

void
daemon_upgrade(void *arg)
{
        struct daemon *d = arg;

        atomic_store(&d->wants_upgrade, true);
        kill(getpid(), SIGUSR2);
}

/* What may enter the mount ends while it is answered. The lease stays as it is. */
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
        keeper_free(d->keeper); /* the next program's begins anew what it had half done */
        d->keeper = NULL;
        store_stop_housekeeping(
                d->store); /* the round that is under way; the node renews the lease meanwhile */
        node_pause(d->node);
}

/* Nothing is committed any more from the one to the other. */
static void
hand_lease_on(struct daemon *d, struct takeover_facts *facts, char name[LEASE_NAME_SIZE])
{
        name[0] = '\0';
        if (d->lease->ops->hand_on != NULL)
                d->lease->ops->hand_on(d->lease, &facts->hold);
        if (facts->hold.session[0] != '\0')
                make_lease_name(d->options->config, name);
        facts->lease = name;
}

static void
take_lease_back(struct daemon *d, const struct lease_hold *hold)
{
        struct lease_state state;

        if (d->lease->ops->take_on != NULL)
                (void)d->lease->ops->take_on(d->lease, hold, &state, NULL);
}

/* The descriptor of the state, or negative. */
static int
gather_state(struct daemon *d, struct err *e)
{
        const struct daemon_options *o = d->options;
        char lease[LEASE_NAME_SIZE];
        struct takeover_facts facts = {
                .mount_dir = o->mount_dir,
                .data_dir = o->data_dir,
                .http_addr = o->config->http.addr,
                .passes = passing_any(o->config),
                .lock_fd = store_lock_fd(d->store),
                .http_fd = node_listener_fd(d->node),
                .application_pid = o->application(o->arg),
                .hold.fd = -1,
                .leads = leads_by_election(d),
        };
        struct parcel p = { 0 };
        int fd;

        if (facts.application_pid < 0)
                return err_text(e, -ECHILD, "the application of exec has ended");
        guard_get(d->guard, &facts.guard_fd, &facts.guard_pid);
        hand_lease_on(d, &facts, lease);
        takeover_put(&p, &facts);
        store_carry_out(d->store, &p);
        session_carry_out(d->session, &p);
        fd = parcel_finish(&p, TAKEOVER_VERSION, e);
        parcel_release(&p);
        if (fd < 0)
                take_lease_back(d, &facts.hold);
        else if (facts.hold.fd >= 0)
                close(facts.hold.fd);
        return fd;
}

/* Whether the mount comes to rest at all is tried while nothing has ended yet. */
static int
try_to_rest(struct daemon *d, struct workers *const *others, struct err *e)
{
        int r = check_node(d, e);

        if (r == 0)
                r = session_quiesce(d->session, others, REST_MS, e);
        if (r == 0)
                session_go_on(d->session);
        return r;
}

/* From now on no other node gets a halt lock, which would end with the rest. */
static int
prepare_upgrade(struct daemon *d, struct workers *const *others, struct err *e)
{
        int r = halt_grants_pause(d->halting.given, e);

        if (r < 0)
                return r;
        r = try_to_rest(d, others, e);
        if (r < 0)
                halt_grants_go_on(d->halting.given);
        return r;
}

/* The lease lasts as long as it can: from here on to the start of the next program nobody renews it. */
static int
come_to_rest(struct daemon *d, struct workers *const *others, struct err *e)
{
        int slice_ms = leads_by_election(d) ? (int)(d->lease->ttl_ms / 4) : REST_MS;
        int64_t end_ms = monotonic_ms() + REST_MS;
        int r;

        do {
                if (leads_by_election(d))
                        (void)d->lease->ops->renew(d->lease, NULL);
                r = session_quiesce(d->session, others, slice_ms, e);
        } while (r == -ETIMEDOUT && monotonic_ms() < end_ms);
        return r;
}

static int
rest_and_gather(struct daemon *d, struct workers *const *others, struct err *e)
{
        int fd = come_to_rest(d, others, e);

        if (fd == 0) {
                session_end_looking(d->session);
                fd = gather_state(d, e);
                if (fd < 0)
                        session_go_on(d->session);
        }
        return fd;
}

enum upgrade_end
daemon_hand_over(struct daemon *d)
{
        struct workers *const others[] = { d->remote_committers, NULL };
        struct err e = ERR_INIT;
        int fd;

        if (prepare_upgrade(d, others, &e) < 0) {
                log_error("no upgrade: %s", e.text);
                daemon_note_refusal(d, e.text);
                return UPGRADE_REFUSED;
        }
        log_info("upgrade: the node is handed over to the program that is installed now");
        ending_allow(d->ending, "all around the mount to end", AROUND_MS);
        end_what_is_around(d);
        ending_allow(d->ending, "the node to be handed over", UPGRADE_MS);
        atomic_store(&d->is_leaving, true);
        fd = rest_and_gather(d, others, &e);
        if (fd < 0 && has_application_ended(d))
                return UPGRADE_FAILED; /* its status is the node's */
        if (fd < 0) {
                err_prefix(&e, "the node ends, for it could not be handed over");
                d->upgrade_error = e;
                return UPGRADE_FAILED;
        }
        *d->options->ret_parcel_fd = fd;
        d->is_handed_over = true;
        store_leave(d->store);
        session_leave(d->session);
        return UPGRADE_DONE;
}
