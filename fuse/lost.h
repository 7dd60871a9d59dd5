/* fuse/lost.h - nodes of databases that an upgrade could not take over: the kernel knows them, and keeps pages of them, which
 * nobody is to read as if they were true. It is told of them once requests are answered again, for it may wait for one. */
#ifndef LITEFS_FUSE_LOST_H
#define LITEFS_FUSE_LOST_H

#include "fuse/inode.h"
#include "fuse/live_nodes.h"

struct session;
struct lost_node;

/* @in was called @name in its directory, and was @database's. Without memory the kernel is told nothing of it. */
void lost_note(struct session *s, struct inode *in, const char *name, const char *database,
               enum live_kind kind);
/* Tells it; waits. */
void lost_tell(struct session *s);
/* Of those that nobody was told of. */
void lost_free(struct lost_node *list);

#endif
