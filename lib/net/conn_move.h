/* lib/net/conn_move.h - a connection on its way from one loop to another: its socket, and its TLS session as it is.
 *
 * Order: conn_detach on the loop that has it, conn_adopt on the other, or conn_moved_free. */
#ifndef LITEFS_NET_CONN_MOVE_H
#define LITEFS_NET_CONN_MOVE_H

#include "net/conn.h"

struct conn_moved;

/* Takes the insides out of @c, which hears closed() with code 0 and is gone for its peer's part unnoticed. It must be
 * open and have nothing queued, else -EBUSY; nothing that was read is taken along. Also within read(). On failure @c is
 * as before. */
int conn_detach(struct conn *c, struct conn_moved **ret);
/* Takes @m, also when it fails. accepted() is as a listener's: call conn_set_handler in it, or the connection is closed. */
int conn_adopt(struct loop *l, struct conn_moved *m, const struct conn_limits *limits,
               void (*accepted)(void *arg, struct conn *c), void *arg);
/* Closes it. NULL is fine; any thread. */
void conn_moved_free(struct conn_moved *m);

#endif
