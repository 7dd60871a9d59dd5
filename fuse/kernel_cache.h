/* fuse/kernel_cache.h - telling the kernel that what it keeps of a node has changed without its doing.
 *
 * Without locks, and by threads that may enter the mount (own_mount.h): the kernel may wait for a request that has not been
 * answered. Of a node that the kernel does not know nothing is told.
 *
 * What any thread may call, under locks as well, is notify_attr, notify_content, notify_forget_journal and forget_companions:
 * where the thread may not enter (and no handler may), they leave all of it to a teller, which does so a little later. */
#ifndef LITEFS_FUSE_KERNEL_CACHE_H
#define LITEFS_FUSE_KERNEL_CACHE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"

struct session;
struct db;
struct inode;

/* The attributes of NAME. */
void notify_attr(struct session *s, struct db *db);
/* Mode and owner have changed: those of its companions, too. Any thread, without locks. */
void notify_modes(struct session *s, struct db *db);
/* And of the directories on its path. Likewise. */
void notify_ownership(struct session *s, struct db *db);
/* Attributes, and @len bytes (0: to the end) from @off (-1: none) of NAME@suffix. */
void notify_content(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len);
/* A journal that could not be finalised is empty all the same: what the kernel keeps of it would be rolled back. After
 * the answer to whoever finalises it, for the kernel may hold its pages until then. */
void notify_forget_journal(struct session *s, struct db *db);
/* Gives the kernel @n bytes of NAME-wal from @off as they are now, and with them the file's size: a reader that had
 * to ask for the size could be given an answer that another notification makes void, and would read short. */
void notify_wal(struct session *s, struct db *db, uint64_t off, uint64_t n);
/* A database appears: its names are no longer absent, and plain files of these names are hidden. Makes its directories. */
void notify_created(struct session *s, struct db *db);
/* Nodes that are out of the tree, and of which the kernel is still to be told. */
struct detached {
        struct detached_node {
                struct inode *in, *parent;
                char name[NAME_MAX + 1];
        } nodes[6];
        int n;
        bool is_replaced; /* who has them open is to hear of it, rather than to read on */
};

/* NAME, NAME-wal, NAME-journal and NAME-shm are about to be other files. Who has them open reads on in these descriptors,
 * which are taken over (-1: nothing), or, with @list->is_replaced, gets EIO. The kernel is not told: it may hold its directory for a request that waits for the
 * database; so these may be called while it is busy. */
void detach_all(struct session *s, struct db *db, int old_fd, int old_wal_fd, struct detached *list);
/* Without NAME: those who have it open are to see the new content in it. */
void detach_companions(struct session *s, struct db *db, int old_wal_fd, struct detached *list);
/* Tells it, and empties the list. */
void notify_detached(struct session *s, struct detached *list);
/* The same for the companions of a database that the request at hand has dropped, with the session's lock. The kernel is
 * told by a teller once the request is answered, for until then it holds the directory. Takes @d over. */
struct dropped {
        struct work work;
        struct session *s;
        struct detached list;
};
void forget_companions(struct session *s, struct db *db, int old_wal_fd, struct dropped *d);
/* The files of @db, which go with a rename, or whose name another one's content gets: who has it open keeps these (taken over;
 * -1: nothing), or with @is_final is told an error, and by name it is looked up anew. Any thread, without locks; the kernel is
 * told by a teller. */
void notify_moved(struct session *s, struct db *db, int fd, int wal_fd, bool is_final);
/* The kernel's idea of that name may be wrong. Any thread, under the session's lock too; by a teller. */
void notify_name_later(struct session *s, const char *path);
/* A plain file has become @db: plain files that are called like its position or its lock are hidden from now on. With the
 * session's lock; a teller tells the kernel. */
void forget_hidden(struct session *s, struct db *db);
/* An open transaction was forgotten, its journal too. */
void notify_abandoned(struct session *s, struct db *db);
/* It is gone; likewise. */
void notify_dropped(struct session *s, struct db *db, int old_fd, int old_wal_fd);

#endif
