/* lib/store/ownership.h - modes and owners in the mount, on their way from the primary to replicas: who may open a
 * database there has to be the same before and after a promotion.
 *
 * Threads: any. */
#ifndef LITEFS_STORE_OWNERSHIP_H
#define LITEFS_STORE_OWNERSHIP_H

#include "db/ownership.h"
#include "store/store.h"

/* The database or directory at @path ("": the root) has another mode or owner, or is new: the listeners hear of each database
 * that it concerns, as of a commit. May be called under a database's lock. */
void store_ownership_changed(struct store *s, const char *path);
/* Moves with each such change; never 0. */
uint64_t store_ownership_version(const struct store *s);
/* 0; -ENOENT when there is no such database, or a directory is missing. */
int store_read_ownership(struct store *s, struct db *db, struct path_ownership *ret);
/* Makes it so, as far as this process may: one that is not root owns all there is. 0 or an error. */
int store_take_ownership(struct store *s, struct db *db, const struct path_ownership *po, struct err *e);

#endif
