/* fuse/moments.h - NAME@MOMENT: past states of databases, as files that nobody can write.
 *
 * A name is one only when there is nothing of that name: what stands before its last '@' is a database, the rest is a moment
 * (history/moment.h). All names of one state share a node, which is linked in the tree under a name that no file can have, and
 * whose content never changes. The state is read from the log by threads that are there for nothing else (historians); the
 * request is parked meanwhile.
 *
 * With the session's lock. */
#ifndef LITEFS_FUSE_MOMENTS_H
#define LITEFS_FUSE_MOMENTS_H

#include <stdlib.h>

#include "fuse/fuse_internal.h"
#include "history/moment.h"

#define N_HISTORIANS 2
#define LISTED_MAX 1000u /* states that a directory of .history has at the most */

struct moment_node {
        struct moment_info info;
        uint64_t past_version; /* of its database, when that was found */
        struct moment *moment; /* while a file is open, else NULL */
        char *names; /* of HISTORY: what was listed last, each with a zero byte, and one more; or NULL */
};
/* NULL is fine. */
static inline void
moment_node_free(struct moment_node *n)
{
        if (n == NULL)
                return;
        moment_close(n->moment);
        free(n->names);
        free(n);
}

/* LOOKUP of what does not exist: whether @name is a moment's, and then the request was answered, or put aside. */
bool moment_lookup(fuse_req_t req, struct inode *parent, const char *name);
/* Whether @name is that of a moment of a database, be there such a state or not. */
bool moment_is_name(struct session *s, struct inode *parent, const char *name);
/* OPEN: true when the request was put aside; else *@ret_error is 0, and the node can be read, or the error. */
bool moment_open_node(fuse_req_t req, struct inode *in, int *ret_error);
/* The last file was closed. */
void moment_close_node(struct session *s, struct inode *in);

/* READDIR of the history of a database, from its beginning: true when the request was put aside; else *@ret_error is 0 and
 * `names` are there, or the error. */
bool moment_list_states(fuse_req_t req, struct inode *dir, int *ret_error);

/* --- node_history.c --- */
#define HISTORY_NAME ".history"
/* LOOKUP in a directory of kind HISTORY, or of its root's name: whether it was one, and the request was answered or put
 * aside. */
bool history_lookup(fuse_req_t req, struct inode *parent, const char *name);
struct history_lister {
        int (*add)(void *arg, const char *name,
                   mode_t type); /* other than 0 ends the list, and is returned */
        void *arg;
};
int history_list(struct session *s, struct inode *dir, const struct history_lister *list);

/* When no more requests come. Without the lock. */
void moments_end(struct session *s);

#endif
