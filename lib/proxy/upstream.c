#include "proxy/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"

#define EXPIRE_EVERY_MS 5000

struct upstream {
        struct list idle;
        struct pool *pool;
        struct conn *conn;
        const struct upstream_handler *handler; /* NULL: idle, or closing */
        void *arg;
        int64_t idle_since_ms;
        bool is_reused;
        bool is_dropped;
        char address[];
};

struct pool {
        struct loop *loop;
        struct conn_limits limits;
        struct loop_timer *timer;
        struct list idle; /* the one used last is first */
        unsigned n_idle, n_open;
};

struct conn *
upstream_conn(const struct upstream *u)
{
        return u->conn;
}

const char *
upstream_address(const struct upstream *u)
{
        return u->address;
}

bool
upstream_is_reused(const struct upstream *u)
{
        return u->is_reused;
}

static void
leave_idle(struct upstream *u)
{
        if (list_is_empty(&u->idle))
                return;
        list_remove(&u->idle);
        u->pool->n_idle--;
}

void
upstream_drop(struct upstream *u)
{
        leave_idle(u);
        u->handler = NULL;
        u->is_dropped = true;
        conn_close(u->conn);
}

void
upstream_finish(struct upstream *u, int64_t timeout_ms)
{
        u->handler = NULL;
        u->is_dropped = true;
        conn_finish(u->conn, timeout_ms);
}

static void
on_opened(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL)
                u->handler->opened(u->arg);
}

static void
on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL)
                u->handler->read(u->arg, data, n);
        else if (!u->is_dropped)
                upstream_drop(u); /* an answer that nobody asked for */
}

static void
on_ended(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL)
                u->handler->ended(u->arg);
        else if (!u->is_dropped)
                upstream_drop(u);
}

static void
on_writable(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL)
                u->handler->writable(u->arg);
}

static void
on_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct upstream *u = arg;

        (void)c;
        leave_idle(u);
        u->pool->n_open--;
        if (u->handler != NULL)
                u->handler->closed(u->arg, code, e);
        free(u);
}

static const struct conn_handler conn_handler = { on_opened, on_read, on_ended, on_writable, on_closed };

static void
expire(void *arg)
{
        struct pool *pool = arg;
        int64_t now = loop_now_ms(pool->loop);

        while (!list_is_empty(&pool->idle)) {
                struct upstream *u = LIST_ENTRY(pool->idle.prev, struct upstream, idle);

                if (now - u->idle_since_ms < UPSTREAM_IDLE_MS)
                        break;
                upstream_drop(u);
        }
        if (pool->n_idle > 0)
                loop_timer_start(pool->timer, EXPIRE_EVERY_MS);
}

int
pool_new(struct loop *l, const struct conn_limits *limits, struct pool **ret)
{
        struct pool *pool = calloc(1, sizeof *pool);
        int r;

        if (pool == NULL)
                return -ENOMEM;
        pool->loop = l;
        pool->limits = *limits;
        list_init(&pool->idle);
        r = loop_timer_new(l, expire, pool, &pool->timer);
        if (r < 0) {
                free(pool);
                return r;
        }
        *ret = pool;
        return 0;
}

void
pool_free(struct pool *pool)
{
        if (pool == NULL)
                return;
        loop_timer_free(pool->timer);
        free(pool);
}

void
pool_close_idle(struct pool *pool)
{
        while (!list_is_empty(&pool->idle))
                upstream_drop(LIST_ENTRY(pool->idle.next, struct upstream, idle));
}

unsigned
pool_n_idle(const struct pool *pool)
{
        return pool->n_idle;
}

unsigned
pool_n_open(const struct pool *pool)
{
        return pool->n_open;
}

struct upstream *
upstream_take(struct pool *pool, const char *address, int64_t max_idle_ms,
              const struct upstream_handler *h, void *arg)
{
        int64_t now = loop_now_ms(pool->loop);

        for (struct list *l = pool->idle.next; l != &pool->idle; l = l->next) {
                struct upstream *u = LIST_ENTRY(l, struct upstream, idle);

                if (now - u->idle_since_ms > max_idle_ms)
                        break;
                if (strcmp(u->address, address) != 0)
                        continue;
                leave_idle(u);
                u->handler = h;
                u->arg = arg;
                u->is_reused = true;
                return u;
        }
        return NULL;
}

int
upstream_connect(struct pool *pool, const char *address, int64_t timeout_ms,
                 const struct upstream_handler *h, void *arg, struct upstream **ret, struct err *e)
{
        size_t n = strlen(address) + 1;
        struct upstream *u = calloc(1, sizeof *u + n);
        int r;

        if (u == NULL)
                return err_set(e, -ENOMEM, "connect to %s", address);
        list_init(&u->idle);
        u->pool = pool;
        u->handler = h;
        u->arg = arg;
        memcpy(u->address, address, n);
        r = conn_connect(pool->loop, address, timeout_ms, &pool->limits, &conn_handler, u, &u->conn, e);
        if (r < 0) {
                free(u);
                return r;
        }
        pool->n_open++;
        *ret = u;
        return 0;
}

void
upstream_put(struct upstream *u)
{
        struct pool *pool = u->pool;

        if (pool->n_idle == UPSTREAM_MAX_IDLE)
                upstream_drop(LIST_ENTRY(pool->idle.prev, struct upstream, idle));
        u->handler = NULL;
        u->idle_since_ms = loop_now_ms(pool->loop);
        list_push(&pool->idle, &u->idle);
        if (pool->n_idle++ == 0)
                loop_timer_start(pool->timer, EXPIRE_EVERY_MS);
        conn_read_start(u->conn);
}
