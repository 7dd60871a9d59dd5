/* fuse/notify.h - telling the kernel that what it keeps of a node has changed without its doing.
 *
 * Workers only, without locks: the kernel may wait for a request that the dispatch thread is to answer. Of a node
 * that the kernel does not know nothing is told. */
#ifndef LITEFS_FUSE_NOTIFY_H
#define LITEFS_FUSE_NOTIFY_H

#include <limits.h>
#include <stdint.h>

struct session;
struct db;
struct inode;

/* The attributes of NAME. */
void notify_attr(struct session *s, struct db *db);
/* Attributes, and @len bytes (0: to the end) from @off of NAME@suffix. */
void notify_content(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len);
/* Gives the kernel @n bytes of NAME-wal from @off as they are now, and with them the file's size: a reader that had
 * to ask for the size could be given an answer that another notification makes void, and would read short. */
void notify_wal(struct session *s, struct db *db, uint64_t off, uint64_t n);
/* A database appears: its names are no longer absent. Makes its directories. */
void notify_created(struct session *s, struct db *db);
/* Nodes that are out of the tree, and of which the kernel is still to be told. */
struct detached {
        struct detached_node {
                struct inode *in, *parent;
                char name[NAME_MAX + 1];
        } nodes[5];
        int n;
};

/* NAME, NAME-wal, NAME-journal and NAME-shm are about to be other files. Who has them open reads on in these descriptors,
 * which are taken over (-1: nothing). The kernel is not told: it may hold its directory for a request that waits for the
 * database; so these may be called while it is busy. */
void detach_all(struct session *s, struct db *db, int old_fd, int old_wal_fd, struct detached *list);
/* Without NAME: those who have it open are to see the new content in it. */
void detach_companions(struct session *s, struct db *db, int old_wal_fd, struct detached *list);
/* Tells it, and empties the list. */
void notify_detached(struct session *s, struct detached *list);
/* The same for the companions of a database that the request at hand has dropped, with the session's lock. The kernel is
 * told by a worker once the request is answered, for until then it holds the directory; by one at a time, so that those
 * who wait for the directory do not become all that there are. Takes @d over. */
struct dropped {
        struct dropped *next;
        struct detached list;
};
void forget_companions(struct session *s, struct db *db, int old_wal_fd, struct dropped *d);
/* An open transaction was forgotten, its journal too. */
void notify_abandoned(struct session *s, struct db *db);
/* It is gone; likewise. */
void notify_dropped(struct session *s, struct db *db, int old_fd, int old_wal_fd);

#endif
