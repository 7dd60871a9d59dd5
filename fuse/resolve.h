/* fuse/resolve.h - from a name to what stands behind it: a database, one of its companions, a special file, or
 * a plain file. Under the session's lock. */
#ifndef LITEFS_FUSE_RESOLVE_H
#define LITEFS_FUSE_RESOLVE_H

#include "fuse/fuse_internal.h"
#include "store/dbname.h"

/* What database @path is, or is a companion of; *@ret_kind is DBNAME_DATABASE for itself. NULL: none. */
struct db *resolve_database(struct session *s, const char *path, enum dbname_kind *ret_kind);
enum inode_kind resolve_kind(enum dbname_kind kind);
/* Finds out what a name stands for that is not in the table: 1 and kind and database, -ENOENT, or an error. */
int resolve_name(struct session *s, struct inode *parent, const char *name, enum inode_kind *ret_kind,
                 struct db **ret_db);
/* The node for a request by name, with a reference. */
int resolve_node(struct session *s, struct inode *parent, const char *name, struct inode **ret);
/* Whether databases live in the directory at @path. */
bool resolve_has_databases(struct session *s, const char *path);

#endif
