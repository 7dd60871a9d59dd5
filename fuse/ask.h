/* fuse/ask.h - whether the mount answers. */
#ifndef LITEFS_FUSE_ASK_H
#define LITEFS_FUSE_ASK_H

#include <stddef.h>

struct session;

/* Asks as an application would, for a name in the root and for one in a directory of databases, the @turn-th of them;
 * returns when both are answered, which may be never. By a thread that may enter the mount (own_mount.h) and that nobody
 * waits for. The number of such directories. */
size_t session_ask(struct session *s, size_t turn);
/* @fn is called once, when the next request comes that is more than a look; from the thread that answers it, with its
 * locks. */
void session_await_request(struct session *s, void (*fn)(void *arg), void *arg);

#endif
