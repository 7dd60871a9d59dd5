/* cmd/litefs/guard.h - a child process that ends the mount's connection should this process be killed.
 *
 * The kernel aborts a FUSE connection when its last descriptor goes. A daemon that is killed while one of its threads
 * waits for an answer of its own mount (applying a replica's transaction takes locks there) keeps that descriptor: the
 * thread cannot end before the answer comes, the answer not before the thread has ended. The mount would hang for all,
 * and data/lock would stay taken, until somebody types `umount -f`. The guard does that at once.
 *
 * It then makes what is left of the mount in memory useless (fuse/live_nodes.h), so that a connection that is still open
 * gets an error rather than what was true before.
 *
 * It is forked before there are threads, holds nothing of the daemon's, and learns of the death by PR_SET_PDEATHSIG:
 * the thread that starts it must live as long as the process. */
#ifndef LITEFS_CMD_GUARD_H
#define LITEFS_CMD_GUARD_H

#include <sys/types.h>

struct guard;
struct live_nodes;

struct guarded {
        const char *mount_dir;
        const char *dbs_dir; /* DATA/dbs */
};
/* 0 or a negative errno. Before any thread is started. */
int guard_start(const struct guarded *what, struct guard **ret);
/* The nodes that it is to revoke: for the mount to enter. NULL: there is no memory for them. */
struct live_nodes *guard_nodes(const struct guard *g);
/* The mount is there: from now on the guard is needed. @fuse_fd is a descriptor of the connection, of which the guard gets
 * one of its own. Not on the thread that answers the mount. */
void guard_arm(struct guard *g, const char *mount_dir, int fuse_fd);
/* The next program of this process is to have the guard until it has one of its own: what to hand it (a borrowed descriptor,
 * and the guard's id). */
void guard_get(const struct guard *g, int *ret_fd, pid_t *ret_pid);
/* After that, instead of guard_stop. */
void guard_leave(struct guard *g);
/* Before the connection is closed, which would otherwise stay for as long as the guard has it. Frees @g; NULL is fine. */
void guard_stop(struct guard *g);

#endif
