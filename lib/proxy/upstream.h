/* lib/proxy/upstream.h - connections to applications and to other nodes' proxies, kept open between requests.
 *
 * One that waits for its next request is watched: when the other side ends it, or says anything, it is closed. All
 * of it on the loop's thread. */
#ifndef LITEFS_PROXY_UPSTREAM_H
#define LITEFS_PROXY_UPSTREAM_H

#include "net/conn.h"
#include "proxy/list.h"
#include "proxy/route.h"

#define UPSTREAM_MAX_IDLE 100
#define UPSTREAM_IDLE_MS 60000
/* For requests that must not be sent twice, a connection must have been in use so recently that the application is not
 * about to close it: what is sent into its closing may or may not have been seen. */
#define UPSTREAM_FRESH_MS 1000
/* Another node's proxy closes none before we do, but when it ends, and then at once. */
#define UPSTREAM_NODE_FRESH_MS 15000

struct pool;
struct tls_context;
struct token;
struct upstream;

/* As in struct conn_handler; after closed() the upstream is gone. */
struct upstream_handler {
        void (*opened)(void *arg);
        void (*read)(void *arg, const uint8_t *data, size_t n);
        void (*ended)(void *arg);
        void (*writable)(void *arg);
        void (*closed)(void *arg, int code, const struct err *e);
};

/* @tls and @token are what other nodes' ports want; both may be NULL, both are borrowed. */
int pool_new(struct loop *l, const struct conn_limits *limits, struct tls_context *tls,
             struct token *token, struct pool **ret);
/* After the loop's stop. NULL is fine. */
void pool_free(struct pool *pool);
unsigned pool_n_idle(const struct pool *pool);
unsigned pool_n_open(const struct pool *pool); /* idle ones included */

/* One that is connected to @to and idle, or NULL; @max_idle_ms is how long it may have been. */
struct upstream *upstream_take(struct pool *pool, const struct destination *to, int64_t max_idle_ms,
                               const struct upstream_handler *h, void *arg);
/* Connects, and is let in where that has to be asked for; opened() or closed() follows. -EBUSY: try again soon, as
 * connect_limit.h says. With closed(), of another node: -EPROTO is TLS's, others are node_upgrade.h's. */
int upstream_connect(struct pool *pool, const struct destination *to, int64_t timeout_ms,
                     const struct upstream_handler *h, void *arg, struct upstream **ret, struct err *e);
struct conn *upstream_conn(const struct upstream *u);
/* It has served a request before. */
bool upstream_is_reused(const struct upstream *u);
/* The owner lets go of it and hears no more: to wait for another request, or to be closed now. */
void upstream_put(struct upstream *u);
void upstream_drop(struct upstream *u);
/* Closed when it has taken what was sent to it, or at @timeout_ms. */
void upstream_finish(struct upstream *u, int64_t timeout_ms);

#endif
