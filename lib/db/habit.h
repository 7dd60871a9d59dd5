/* lib/db/habit.h - whether applications sync their commits in WAL mode, which says what fuse.wal-passthrough is good for.
 *
 * Synchronous=FULL syncs the WAL after each commit, NORMAL does not: so the last commit was synced if a sync came before the
 * next one. But a checkpoint begins with a sync, too. One sync between a commit and a checkpoint's first write says nothing,
 * two say that one of them was the commit's.
 *
 * Counted as DB_COUNT_SYNCED, _UNSYNCED and _UNCLEAR. With the database's lock, but for db_syncs_each. Where the kernel passes
 * the WAL through, db/passed.h counts them: it sees the syncs alone. */
#ifndef LITEFS_DB_HABIT_H
#define LITEFS_DB_HABIT_H

#include <stdbool.h>

#define HABIT_SURE 1000 /* commits before anything is said */

struct db;

struct db_habit {
        bool is_open;     /* the last commit has yet to be counted */
        unsigned n_syncs; /* since it */
};

/* An application has committed; synced the WAL; and a checkpoint has written a page to the database file. */
void habit_committed(struct db *db);
void habit_synced(struct db *db);
void habit_checkpoints(struct db *db);

/* Enough commits were seen, and all were synced but for a few that nobody can tell of. Any thread, any lock. */
bool db_syncs_each(struct db *db);

#endif
