/* lib/net/conn_internal.h - how a listener makes connections. */
#ifndef LITEFS_NET_CONN_INTERNAL_H
#define LITEFS_NET_CONN_INTERNAL_H

#include <stdbool.h>
#include <uv.h>

#include "net/conn.h"

/* Accepts the connection that waits at @server, with TLS unless @tls is NULL. @gone(@gone_arg) is called when the connection has been
 * closed, after closed(). Without a handler it reads nothing. On failure nothing was accepted. */
int conn_accept(struct loop *l, uv_stream_t *server, const struct conn_limits *limits,
                struct tls_context *tls, void (*gone)(void *arg), void *gone_arg, struct conn **ret);
bool conn_has_handler(const struct conn *c);
/* What comes from its socket is not what read() gets. */
bool conn_is_tls(const struct conn *c);
/* Whoever has read @data as the handler then gives it back to the present one, from within read(). */
void conn_give_back(struct conn *c, const void *data, size_t n);
void conn_set_limits(struct conn *c, const struct conn_limits *limits);
/* Another descriptor of its socket, the caller's; <0: error. */
int conn_dup(const struct conn *c);
/* The other end's. <0: it has gone. */
int conn_address(const struct conn *c, struct sockaddr_storage *ret);

#endif
