/* fuse/live_nodes.h - the nodes of which the kernel may hold pages, in memory that outlives the daemon.
 *
 * A mount that has ended leaves behind what it has shown: an application that has a database open goes on to read cached
 * pages, and the wal-index that it has mapped, and would be given what was true then, for ever and without an error. So
 * when litefs ends, in order or by a kill, every wal-index is made invalid and other pages are forgotten: the next
 * statement has to ask, and hears that nobody answers. After a kill the guard (cmd/litefs/guard.h) does it, for which this
 * table lies in memory that it shares. Where there is no room left in it, a node is left out.
 *
 * The pages of a database that has a wal-index stay: an application that has mapped them (PRAGMA mmap_size) would be killed
 * by SIGBUS where they are missing, and nobody begins to read them who has not read the wal-index first.
 *
 * Under the session's lock where nothing else is said. */
#ifndef LITEFS_FUSE_LIVE_NODES_H
#define LITEFS_FUSE_LIVE_NODES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct live_nodes;

/* Shared with children that are forked from now on; NULL when there is no memory. Never freed. */
struct live_nodes *live_nodes_new(void);
enum live_kind { LIVE_DATABASE, LIVE_WAL_INDEX, LIVE_OTHER };

/* @id is the kernel's number of the node (id_table.h), whose place here is the same; @database the same number for a
 * database and its companions. */
void live_nodes_add(struct live_nodes *t, uint64_t id, uint64_t database, enum live_kind kind);
void live_nodes_remove(struct live_nodes *t, uint64_t id);
/* Wal-indexes are passed through to files (passthrough.h), of which the kernel has no pages that could be made invalid. */
void live_nodes_set_passed(struct live_nodes *t);
bool live_nodes_are_passed(const struct live_nodes *t);
/* Tells the kernel by @fuse_fd, a descriptor of the connection. May wait for requests under way on these nodes to be
 * answered. Not under @lock, which guards the table. 0 or -ENOMEM. */
int live_nodes_revoke(const struct live_nodes *t, pthread_mutex_t *lock, int fuse_fd);
/* When the daemon is dead and the connection aborted. */
void live_nodes_revoke_after_death(struct live_nodes *t, int fuse_fd);
/* The same for one node. @has_wal_index: so has its database. */
void live_node_revoke(int fuse_fd, uint64_t id, enum live_kind kind, bool has_wal_index);

#endif
