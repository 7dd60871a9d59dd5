/* lib/store/groups.h - commits over several databases of a node (db/group.h), and their notes in DATA/groups/. */
#ifndef LITEFS_STORE_GROUPS_H
#define LITEFS_STORE_GROUPS_H

#include "base/err.h"
#include "db/db.h"

struct store;

/* Whether SQLite calls super-journals so: NAME-mjXXXXXX9XX. */
bool groups_is_super(const char *name);

/* The databases whose transaction under way ends with the removal of a super-journal called @name (without directories:
 * SQLite made most of the name up), in the order in which they are to be had. The number of them; *@ret is the caller's
 * to free. -ENOMEM; -EFBIG: more than SQLite can attach by far. A database that has a halt lock commits by itself: the primary takes one at a time (0 then). */
int groups_find(struct store *s, const char *name, struct db ***ret);

/* Commits them as one, by a worker: DB_PENDING, and @done hears what db_group_commit says; or -ENOMEM. @dbs stays the
 * caller's until then. */
int groups_commit(struct store *s, struct db **dbs, unsigned n, struct db_done done);

/* At start, once DATA/groups is there, and before the databases are opened: takes out of their logs what notes speak of. */
int groups_settle(struct store *s, struct err *e);

#endif
