/* lib/net/bridge.h - a connection as a socket, for a library that wants to read and write one itself.
 *
 * Bytes go through a pair of sockets of this machine, with backpressure both ways: at most one read is held towards
 * the library, and 128 KiB towards the peer. When the library closes its end, the connection sends what it has been
 * given and ends within 2 s; when the peer goes, the library's socket says so. */
#ifndef LITEFS_NET_BRIDGE_H
#define LITEFS_NET_BRIDGE_H

#include <stddef.h>

struct conn;
struct loop;

/* Becomes the handler of @c; @first, which has been read already, goes ahead. *@ret_fd, which does not block, is the
 * caller's. On failure @c is as before. The loop's thread. */
int bridge_open(struct loop *l, struct conn *c, const void *first, size_t n, int *ret_fd);

#endif
