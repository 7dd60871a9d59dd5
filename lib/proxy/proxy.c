#include "proxy/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db/db.h"
#include "proxy/client.h"
#include "proxy/request.h"
#include "proxy/serve.h"

#define DRAIN_POLL_MS 5

const struct conn_limits proxy_conn_limits = { PROXY_LOW, PROXY_HIGH, PROXY_MAX };

/* --- who waits for a position or for a primary --- */

static void
proxy_on_wake(struct mail *m)
{
        struct proxy *p = LIST_ENTRY(m, struct proxy, wake);
        struct list *next;

        atomic_store(&p->is_wake_posted, false);
        if (atomic_exchange(&p->is_stream_new, false))
                asks_lost(p->asks);
        for (struct list *l = p->waiters.next; l != &p->waiters; l = next) {
                struct client *c = LIST_ENTRY(l, struct client, in_waiters);

                next = l->next;
                request_route(c);
                serve_settle(c);
        }
}

void
proxy_wake(struct proxy *p)
{
        if (atomic_load(&p->n_waiting) == 0 || atomic_exchange(&p->is_wake_posted, true))
                return;
        (void)loop_post(p->loop, &p->wake);
}

/* What is said over a WebSocket that was opened as a write is a write, too: it does not stay with who was the primary. */
static void
proxy_on_primary_changed(struct mail *m)
{
        struct proxy *p = LIST_ENTRY(m, struct proxy, primary_changed);

        atomic_store(&p->is_change_posted, false);
        for (struct list *l = p->clients.next; l != &p->clients; l = l->next) {
                struct client *c = LIST_ENTRY(l, struct client, in_clients);

                if (c->state != CLIENT_TUNNEL || request_is_where_it_belongs(c))
                        continue;
                client_end_tunnel(c);
                serve_settle(c);
        }
}

void
proxy_primary_changed(struct proxy *p)
{
        proxy_wake(p);
        if (!atomic_exchange(&p->is_change_posted, true))
                (void)loop_post(p->loop, &p->primary_changed);
}

void
proxy_connected(struct proxy *p)
{
        atomic_store(&p->is_stream_new, true);
        proxy_wake(p);
}

static void
send_ask(void *arg, uint64_t nonce, struct db *db)
{
        struct proxy *p = arg;

        if (p->ask != NULL)
                p->ask(p->ask_arg, nonce, db != NULL ? db_name(db) : "");
}

void
proxy_set_asker(struct proxy *p, void (*ask)(void *arg, uint64_t nonce, const char *db_name), void *arg)
{
        p->ask = ask;
        p->ask_arg = arg;
}

struct answer_mail {
        struct mail mail;
        struct proxy *proxy;
        uint64_t nonce;
        struct answer answer;
};

static void
proxy_on_answer(struct mail *m)
{
        struct answer_mail *am = LIST_ENTRY(m, struct answer_mail, mail);

        asks_answered(am->proxy->asks, am->nonce, &am->answer);
        proxy_wake(am->proxy);
        free(am);
}

void
proxy_answered(struct proxy *p, uint64_t nonce, uint64_t term, uint64_t txid)
{
        struct answer_mail *am = calloc(1, sizeof *am);

        if (am == NULL)
                return;
        *am = (struct answer_mail){ { .run = proxy_on_answer }, p, nonce, { term, txid } };
        if (loop_post(p->loop, &am->mail) < 0)
                free(am);
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
proxy_set_up(struct proxy *p, struct err *e)
{
        const char *db = p->config.db;
        int r = 0;

        p->path_buf = malloc(HEAD_MAX_BYTES);
        if (p->path_buf == NULL)
                r = -ENOMEM;
        if (r == 0)
                r = asks_new(send_ask, p, &p->asks);
        if (r == 0)
                r = crowd_init(&p->peers, &(struct crowd_limits){ .name = "proxy: other nodes",
                                                                  .max = PROXY_MAX_PEERS });
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
check_own_target(const struct proxy_config *config, struct err *e)
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
        p->wake.run = proxy_on_wake;
        p->primary_changed.run = proxy_on_primary_changed;
        r = check_own_target(config, e);
        if (r == 0)
                r = proxy_set_up(p, e);
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
proxy_accepted(void *arg, struct conn *c)
{
        struct proxy *p = arg;

        if (!p->is_draining)
                serve_client(p, c, false);
}

static int
proxy_listen_on_loop(void *arg)
{
        struct start *st = arg;
        struct proxy *p = st->p;
        struct listener_config config = {
                .address = p->config.listen_address,
                .crowd = { .name = "proxy.addr", .max = PROXY_MAX_CLIENTS, .reserve = PROXY_RESERVE },
                .limits = proxy_conn_limits,
                .accepted = proxy_accepted,
                .arg = p
        };
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
        int r = loop_call(p->loop, proxy_listen_on_loop, &st);

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

static void
wait_for_none(struct proxy *p, int (*count)(void *arg), int64_t until_ms)
{
        const struct timespec pause = { .tv_nsec = DRAIN_POLL_MS * 1000000 };

        while (loop_call(p->loop, count, p) > 0 && clock_boot_ms(p->config.clock) < until_ms)
                nanosleep(&pause, NULL);
}

static void
each_client(struct proxy *p, void (*fn)(struct client *c))
{
        struct list *next;

        for (struct list *l = p->clients.next; l != &p->clients; l = next) {
                next = l->next;
                fn(LIST_ENTRY(l, struct client, in_clients));
        }
}

void
proxy_set_well(struct proxy *p, bool is_well)
{
        atomic_store(&p->is_unwell, !is_well);
}

static int
proxy_retire_on_loop(void *arg)
{
        ((struct proxy *)arg)->is_retiring = true;
        return 0;
}

void
proxy_retire(struct proxy *p)
{
        if (p != NULL && !p->is_stopped)
                (void)loop_call(p->loop, proxy_retire_on_loop, p);
}

static bool
is_at_application(const struct client *c)
{
        return (c->state == CLIENT_PASSING || c->state == CLIENT_CONNECTING) && !c->is_to_primary;
}

static int
count_writes(void *arg)
{
        struct proxy *p = arg;
        int n = 0;

        for (struct list *l = p->clients.next; l != &p->clients; l = l->next) {
                const struct client *c = LIST_ENTRY(l, struct client, in_clients);

                n += is_at_application(c) && c->kind == ROUTE_WRITE;
        }
        return n;
}

static int
count_at_application(void *arg)
{
        struct proxy *p = arg;
        int n = 0;

        for (struct list *l = p->clients.next; l != &p->clients; l = l->next)
                n += is_at_application(LIST_ENTRY(l, struct client, in_clients));
        return n;
}

static int
hold_on_loop(void *arg)
{
        ((struct proxy *)arg)->n_holds++;
        return 0;
}

void
proxy_hold(struct proxy *p, int64_t timeout_ms)
{
        if (p == NULL || p->is_stopped)
                return;
        (void)loop_call(p->loop, hold_on_loop, p);
        wait_for_none(p, count_writes, clock_boot_ms(p->config.clock) + timeout_ms);
}

/* Who has waited has the time for a new primary that he would have had without. */
static void
wait_anew(struct client *c)
{
        if (c->state == CLIENT_WAITING && c->kind == ROUTE_WRITE)
                c->wait_until_ms = loop_now_ms(c->proxy->loop) + c->proxy->config.primary_redirect_ms;
}

static int
release_on_loop(void *arg)
{
        struct proxy *p = arg;

        if (--p->n_holds > 0)
                return 0;
        each_client(p, wait_anew);
        proxy_wake(p);
        return 0;
}

void
proxy_release(struct proxy *p)
{
        if (p != NULL && !p->is_stopped)
                (void)loop_call(p->loop, release_on_loop, p);
}

static void
end_tunnel(struct client *c)
{
        if (c->state != CLIENT_TUNNEL || c->is_to_primary)
                return;
        client_end_tunnel(c);
        serve_settle(c);
}

static int
leave_on_loop(void *arg)
{
        struct proxy *p = arg;

        p->is_leaving = true;
        each_client(p, end_tunnel);
        proxy_wake(p);
        return 0;
}

void
proxy_leave(struct proxy *p, int64_t timeout_ms)
{
        if (p == NULL || p->is_stopped)
                return;
        (void)loop_call(p->loop, leave_on_loop, p);
        wait_for_none(p, count_at_application, clock_boot_ms(p->config.clock) + timeout_ms);
}

static void
drain_early(struct client *c)
{
        serve_drain(c, false);
}

static void
drain_late(struct client *c)
{
        serve_drain(c, true);
}

static int
begin_to_drain(void *arg)
{
        struct proxy *p = arg;

        p->is_retiring = p->is_draining = true;
        atomic_store(&p->is_open, false);
        listener_close(p->listener);
        p->listener = NULL;
        each_client(p, drain_early);
        return 0;
}

static int
end_to_drain(void *arg)
{
        each_client(arg, drain_late);
        return 0;
}

void
proxy_drain(struct proxy *p, int64_t timeout_ms)
{
        int64_t now_ms;

        if (p == NULL || p->loop == NULL || atomic_exchange(&p->is_stopped, true))
                return;
        now_ms = clock_boot_ms(p->config.clock);
        (void)loop_call(p->loop, begin_to_drain, p);
        wait_for_none(p, count_busy, now_ms + (timeout_ms < PROXY_LAST_MS ? timeout_ms : PROXY_LAST_MS));
        (void)loop_call(p->loop, end_to_drain, p);
        wait_for_none(p, count_busy, now_ms + timeout_ms);
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
        asks_free(p->asks);
        crowd_release(&p->peers);
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
