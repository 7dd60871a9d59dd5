/* fuse/notify.h - telling the kernel that what it keeps of a node has changed without its doing.
 *
 * Workers only, without locks: the kernel may wait for a request that the dispatch thread is to answer. Of a node
 * that the kernel does not know nothing is told. */
#ifndef LITEFS_FUSE_NOTIFY_H
#define LITEFS_FUSE_NOTIFY_H

#include <stdint.h>

struct session;
struct db;

/* The attributes of NAME. */
void notify_attr(struct session *s, struct db *db);
/* Attributes, and @len bytes (0: to the end) from @off of NAME@suffix. */
void notify_content(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len);
/* Gives the kernel @n bytes of NAME-wal from @off as they are now, and with them the file's size: a reader that had
 * to ask for the size could be given an answer that another notification makes void, and would read short. */
void notify_wal(struct session *s, struct db *db, uint64_t off, uint64_t n);
/* A database appears: its names are no longer absent. Makes its directories. */
void notify_created(struct session *s, struct db *db);
/* NAME's pages are about to be others, with nobody in a transaction: -wal and -shm are gone; who has the WAL open reads on
 * in @old_wal_fd, which is taken over (-1: nothing). notify_content for NAME has to follow. */
void notify_replaced(struct session *s, struct db *db, int old_wal_fd);
/* All its files are about to be others. Who has the old ones open reads on in these descriptors, which are taken over. */
void notify_detached(struct session *s, struct db *db, int old_fd, int old_wal_fd);
/* An open transaction was forgotten, its journal too. */
void notify_abandoned(struct session *s, struct db *db);
/* It is gone; likewise. */
void notify_dropped(struct session *s, struct db *db, int old_fd, int old_wal_fd);

#endif
