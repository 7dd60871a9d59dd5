#include "proxy/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db/db.h"
#include "proxy/proxy_internal.h"

#define DRAIN_POLL_MS 5

const struct conn_limits proxy_conn_limits = { PROXY_LOW, PROXY_HIGH, PROXY_MAX };

/* --- who waits for a position or for a primary --- */

static void
on_wake(struct mail *m)
{
        struct proxy *p = LIST_ENTRY(m, struct proxy, wake);
        struct list *next;

        atomic_store(&p->is_wake_posted, false);
        for (struct list *l = p->waiters.next; l != &p->waiters; l = next) {
                struct client *c = LIST_ENTRY(l, struct client, in_waiters);

                next = l->next;
                request_route(c);
                client_settle(c);
        }
}

void
proxy_wake(struct proxy *p)
{
        if (atomic_load(&p->n_waiting) == 0 || atomic_exchange(&p->is_wake_posted, true))
                return;
        (void)loop_post(p->loop, &p->wake);
}

void
proxy_committed(struct proxy *p, struct db *db)
{
        if (p->recent != NULL)
                recent_mark(p->recent, cookie_hash(db_name(db)), db);
}

/* --- begin --- */

static int
add_db(void *arg, struct db *db)
{
        return recent_add(arg, cookie_hash(db_name(db)), db);
}

static int
make_pool(void *arg)
{
        struct proxy *p = arg;

        return pool_new(p->loop, &proxy_conn_limits, p->config.tls, p->config.token, &p->pool);
}

static int
set_up(struct proxy *p, struct err *e)
{
        const char *db = p->config.db;
        int r = 0;

        p->path_buf = malloc(HEAD_MAX_BYTES);
        if (p->path_buf == NULL)
                r = -ENOMEM;
        if (r == 0 && (db[0] == '\0' || strcmp(db, "*") == 0)) {
                r = recent_new(&p->recent);
                if (r == 0)
                        r = store_each(p->config.store, add_db, p->recent);
        }
        if (r < 0)
                return err_set(e, r, "start the proxy");
        r = loop_new(&p->loop, e);
        if (r == 0 && (r = loop_call(p->loop, make_pool, p)) < 0)
                err_set(e, r, "start the proxy");
        return r;
}

static bool
is_any(const char *host)
{
        return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Where one arrives who connects to @host. */
static const char *
destination(const char *host)
{
        return is_any(host) || strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

static bool
is_loopback(const char *host)
{
        return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* Would the proxy be its own application? One request would come round until no connection is left for clients. */
static int
check_target(const struct proxy_config *config, struct err *e)
{
        struct addr target, own;
        int r = addr_parse(config->target, &target, e);

        if (r < 0) {
                err_prefix(e, "proxy.target");
                return r;
        }
        if (addr_parse(config->listen_address, &own, NULL) < 0 || own.port != target.port ||
            own.port == 0)
                return 0; /* what is wrong with proxy.addr is told when it is listened at */
        if (is_any(own.host) ? !is_loopback(destination(target.host))
                             : strcmp(destination(own.host), destination(target.host)) != 0)
                return 0;
        return err_text(e, E_CONFIG, "proxy.target %s is proxy.addr %s: it is the application's address",
                        config->target, config->listen_address);
}

int
proxy_new(const struct proxy_config *config, struct proxy **ret, struct err *e)
{
        struct proxy *p = calloc(1, sizeof *p);
        int r;

        if (p == NULL)
                return err_set(e, -ENOMEM, "start the proxy");
        p->config = *config;
        list_init(&p->clients);
        list_init(&p->waiters);
        p->wake.run = on_wake;
        r = check_target(config, e);
        if (r == 0)
                r = set_up(p, e);
        if (r < 0) {
                proxy_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct start {
        struct proxy *p;
        struct err *e;
};

static void
accepted(void *arg, struct conn *c)
{
        struct proxy *p = arg;

        if (!p->is_draining)
                client_new(p, c, false);
}

static int
listen_on_loop(void *arg)
{
        struct start *st = arg;
        struct proxy *p = st->p;
        struct listener_config config = { .address = p->config.listen_address,
                                          .max_conns = PROXY_MAX_CLIENTS,
                                          .limits = proxy_conn_limits,
                                          .accepted = accepted,
                                          .arg = p };
        int r = listener_open(p->loop, &config, &p->listener, st->e);

        if (r < 0)
                return r;
        p->port = listener_port(p->listener);
        atomic_store(&p->is_open, true);
        return 0;
}

int
proxy_start(struct proxy *p, struct err *e)
{
        struct start st = { p, e };
        int r = loop_call(p->loop, listen_on_loop, &st);

        if (r < 0)
                err_prefix(e, "proxy.addr");
        return r;
}

int
proxy_port(const struct proxy *p)
{
        return p->port;
}

/* --- end --- */

/* Who has its last word in the socket is not waited for: it may keep its end open as long as it likes. */
static int
count_busy(void *arg)
{
        struct proxy *p = arg;
        int n = 0;

        for (struct list *l = p->clients.next; l != &p->clients; l = l->next) {
                const struct client *c = LIST_ENTRY(l, struct client, in_clients);

                if (c->state != CLIENT_CLOSING || conn_queued_bytes(c->conn) > 0)
                        n++;
        }
        return n;
}

static int
begin_to_drain(void *arg)
{
        struct proxy *p = arg;
        struct list *next;

        p->is_draining = true;
        atomic_store(&p->is_open, false);
        listener_close(p->listener);
        p->listener = NULL;
        for (struct list *l = p->clients.next; l != &p->clients; l = next) {
                next = l->next;
                client_drain(LIST_ENTRY(l, struct client, in_clients));
        }
        return 0;
}

void
proxy_drain(struct proxy *p, int64_t timeout_ms)
{
        const struct timespec pause = { .tv_nsec = DRAIN_POLL_MS * 1000000 };
        int64_t until_ms;

        if (p == NULL || p->loop == NULL || p->is_stopped)
                return;
        p->is_stopped = true;
        until_ms = clock_boot_ms(p->config.clock) + timeout_ms;
        (void)loop_call(p->loop, begin_to_drain, p);
        while (loop_call(p->loop, count_busy, p) > 0 && clock_boot_ms(p->config.clock) < until_ms)
                nanosleep(&pause, NULL);
        loop_stop(p->loop);
}

void
proxy_free(struct proxy *p)
{
        if (p == NULL)
                return;
        proxy_drain(p, 0);
        listener_close(p->listener);
        pool_free(p->pool);
        loop_free(p->loop);
        recent_free(p->recent);
        text_release(&p->scratch);
        free(p->path_buf);
        free(p);
}

/* --- what operators look at --- */

struct stats_call {
        struct proxy *p;
        struct proxy_stats *ret;
};

static int
take_stats(void *arg)
{
        struct stats_call *call = arg;
        struct proxy *p = call->p;

        *call->ret = p->stats;
        call->ret->n_clients = p->n_clients;
        call->ret->n_peers = p->n_peers;
        call->ret->n_tunnels = p->n_tunnels;
        call->ret->n_upstreams = pool_n_open(p->pool);
        call->ret->n_idle_upstreams = pool_n_idle(p->pool);
        if (p->listener != NULL)
                call->ret->n_refused_clients = listener_n_refused(p->listener);
        return 0;
}

void
proxy_get_stats(struct proxy *p, struct proxy_stats *ret)
{
        struct stats_call call = { p, ret };

        *ret = (struct proxy_stats){ 0 };
        (void)loop_call(p->loop, take_stats, &call);
}
