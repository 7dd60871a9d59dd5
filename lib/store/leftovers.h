/* lib/store/leftovers.h - what a crash has left among the plain files, put right before the mount serves.
 *
 * A database begins as a plain file (docs/architecture.md, classification). A crash can leave the plain file
 * beside the database that it became: it is removed, or it would show again once the database is dropped.
 * And it can leave a complete database that nobody has taken over yet: the primary does. */
#ifndef LITEFS_STORE_LEFTOVERS_H
#define LITEFS_STORE_LEFTOVERS_H

#include <sys/stat.h>

#include "store/store.h"

/* Whether the plain file @name is an empty companion (-journal, -wal, -shm) of a database that was deleted: the name that
 * the mount leaves of it, until somebody removes it, or the next start. @st as of lstat. */
bool leftovers_is_remains(struct store *s, const char *name, const struct stat *st);

/* WARNs of a plain file that @db's NAME-pos or NAME-lock hides. */
void leftovers_tell_hidden(struct store *s, struct db *db);

/* After store_open and store_set_role, before anything is mounted. What cannot be put right is logged. */
void leftovers_settle(struct store *s);

#endif
