#include "proxy/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"
#include "proxy/connect_limit.h"
#include "proxy/node_upgrade.h"

#define EXPIRE_EVERY_MS 5000

/* Of another node's, until it has let us in. */
struct opening {
        struct upgrade head; /* of its answer */
        struct loop_timer *timer;
        int64_t timeout_ms;
        struct err err; /* why not; code 0: the connection knows */
};

struct upstream {
        struct list idle;
        struct pool *pool;
        struct conn *conn;
        const struct upstream_handler *handler; /* NULL: idle, or closing */
        void *arg;
        int64_t idle_since_ms;
        bool is_reused;
        bool is_dropped;
        struct opening *opening; /* NULL: there is nothing to ask for, or no more */
        struct destination to;
};

struct pool {
        struct loop *loop;
        struct conn_limits limits;
        struct tls_context *tls;
        struct token *token;
        struct connect_limit limit;
        struct loop_timer *timer;
        struct list idle; /* the one used last is first */
        unsigned n_idle, n_open;
};

struct conn *
upstream_conn(const struct upstream *u)
{
        return u->conn;
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

/* --- to be let in --- */

static void
opening_free(struct opening *o)
{
        if (o == NULL)
                return;
        loop_timer_free(o->timer);
        free(o);
}

static void
opening_is_late(void *arg)
{
        struct upstream *u = arg;

        err_text(&u->opening->err, -ETIMEDOUT, "%s does not answer", u->to.address);
        conn_close(u->conn);
}

static int
opening_new(struct upstream *u, int64_t timeout_ms)
{
        struct opening *o = calloc(1, sizeof *o);
        int r = o != NULL ? loop_timer_new(u->pool->loop, opening_is_late, u, &o->timer) : -ENOMEM;

        if (r < 0) {
                free(o);
                return r;
        }
        o->timeout_ms = timeout_ms;
        u->opening = o;
        return 0;
}

static void
ask_upgrade(struct upstream *u)
{
        char buf[NODE_UPGRADE_SIZE], token[TOKEN_SIZE];

        token_get(u->pool->token, token);
        (void)conn_write(u->conn, buf, node_upgrade_request(u->to.address, token, buf));
        loop_timer_start(u->opening->timer, u->opening->timeout_ms);
}

static void
have_answer(struct upstream *u, const uint8_t *data, size_t n)
{
        struct opening *o = u->opening;
        int r = upgrade_feed(&o->head, &data, &n, &o->err);

        if (r == 0)
                return;
        if (r > 0)
                r = node_upgrade_check_answer(&o->head, &o->err);
        if (r == 0 && n > 0)
                r = err_text(&o->err, E_FORMAT, "it said more than it was asked");
        if (r < 0) {
                conn_close(u->conn);
                return;
        }
        opening_free(o);
        u->opening = NULL;
        connect_limit_opened(&u->pool->limit, u->to.address);
        u->handler->opened(u->arg);
}

/* It is closed before we were let in: the reason goes to @code and @e. */
static void
not_let_in(struct upstream *u, int *code, struct err *e)
{
        struct pool *pool = u->pool;

        if (u->opening->err.code != 0)
                *e = u->opening->err;
        else if (*code == 0)
                err_text(e, -ECONNRESET, "%s closed the connection without an answer", u->to.address);
        *code = e->code;
        opening_free(u->opening);
        u->opening = NULL;
        if (u->is_dropped)
                connect_limit_given_up(&pool->limit);
        else
                connect_limit_failed(&pool->limit, u->to.address, loop_now_ms(pool->loop), e);
}

/* --- events --- */

static void
on_opened(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler == NULL)
                return;
        if (u->opening != NULL)
                ask_upgrade(u);
        else
                u->handler->opened(u->arg);
}

static void
upstream_on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL && u->opening != NULL)
                have_answer(u, data, n);
        else if (u->handler != NULL)
                u->handler->read(u->arg, data, n);
        else if (!u->is_dropped)
                upstream_drop(u); /* an answer that nobody asked for */
}

static void
upstream_on_ended(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->opening != NULL)
                conn_close(u->conn);
        else if (u->handler != NULL)
                u->handler->ended(u->arg);
        else if (!u->is_dropped)
                upstream_drop(u);
}

static void
upstream_on_writable(void *arg, struct conn *c)
{
        struct upstream *u = arg;

        (void)c;
        if (u->handler != NULL)
                u->handler->writable(u->arg);
}

static void
upstream_on_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct upstream *u = arg;
        struct err why = ERR_INIT;

        (void)c;
        leave_idle(u);
        u->pool->n_open--;
        if (e != NULL)
                why = *e;
        if (u->opening != NULL)
                not_let_in(u, &code, &why);
        if (u->handler != NULL)
                u->handler->closed(u->arg, code, code < 0 ? &why : NULL);
        free(u);
}

static const struct conn_handler conn_handler = { on_opened, upstream_on_read, upstream_on_ended,
                                                  upstream_on_writable, upstream_on_closed };

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
pool_new(struct loop *l, const struct conn_limits *limits, struct tls_context *tls, struct token *token,
         struct pool **ret)
{
        struct pool *pool = calloc(1, sizeof *pool);
        int r;

        if (pool == NULL)
                return -ENOMEM;
        pool->loop = l;
        pool->limits = *limits;
        pool->tls = tls;
        pool->token = token;
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

static bool
is_same_destination(const struct destination *a, const struct destination *b)
{
        return a->is_node == b->is_node && strcmp(a->address, b->address) == 0;
}

struct upstream *
upstream_take(struct pool *pool, const struct destination *to, int64_t max_idle_ms,
              const struct upstream_handler *h, void *arg)
{
        int64_t now = loop_now_ms(pool->loop);

        for (struct list *l = pool->idle.next; l != &pool->idle; l = l->next) {
                struct upstream *u = LIST_ENTRY(l, struct upstream, idle);

                if (now - u->idle_since_ms > max_idle_ms)
                        break;
                if (!is_same_destination(&u->to, to))
                        continue;
                leave_idle(u);
                u->handler = h;
                u->arg = arg;
                u->is_reused = true;
                return u;
        }
        return NULL;
}

static int
begin_connect(struct upstream *u, int64_t timeout_ms, struct err *e)
{
        struct pool *pool = u->pool;
        int r = u->to.is_node ? opening_new(u, timeout_ms) : 0;

        if (r < 0)
                return err_set(e, r, "connect to %s", u->to.address);
        return conn_connect(pool->loop, u->to.is_node ? pool->tls : NULL, u->to.address, timeout_ms,
                            &pool->limits, &conn_handler, u, &u->conn, e);
}

int
upstream_connect(struct pool *pool, const struct destination *to, int64_t timeout_ms,
                 const struct upstream_handler *h, void *arg, struct upstream **ret, struct err *e)
{
        struct upstream *u;
        int r;

        if (to->is_node && pool->tls == NULL)
                return err_text(e, -EPROTO, "connect to %s: this node has no TLS", to->address);
        r = to->is_node ? connect_limit_enter(&pool->limit, to->address, loop_now_ms(pool->loop), e) : 0;
        if (r < 0)
                return r;
        u = calloc(1, sizeof *u);
        if (u == NULL) {
                if (to->is_node)
                        connect_limit_given_up(&pool->limit);
                return err_set(e, -ENOMEM, "connect to %s", to->address);
        }
        list_init(&u->idle);
        u->pool = pool;
        u->handler = h;
        u->arg = arg;
        u->to = *to;
        r = begin_connect(u, timeout_ms, e);
        if (r < 0) {
                if (to->is_node)
                        connect_limit_given_up(&pool->limit);
                opening_free(u->opening);
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
