/* lib/db/group.h - one transaction over several databases, in rollback modes.
 *
 * SQLite commits it by removing its super-journal: each database's journal says the super-journal's name, and without that
 * file none of them is rolled back. So that is where all of them are captured (fs_remove.c), as one:
 *
 *   1  the group's note, durable: which transaction of which database belongs to it      (store/groups.h)
 *   2  a record in each log, and each log synced
 *   3  the note removed, durably: that is the commit
 *   4  positions move, pages go on their way to the files
 *
 * What fails before 3 takes the records out again; so does the next start where it finds a note. The databases are their
 * owner's meanwhile, and what is not published is not sent. */
#ifndef LITEFS_DB_GROUP_H
#define LITEFS_DB_GROUP_H

#include "db/access.h"

struct db_group_note {
        void *arg;
        /* Makes the note of @n databases durable; each one's @txids is the group's. */
        int (*write)(void *arg, const uint64_t *txids, unsigned n, struct err *e);
        /* And durably removes it. After an error it may be there or not. */
        int (*remove)(void *arg, struct err *e);
};

/* Commits what is uncommitted in each of the @n databases, which their accesses own (DB_BY_GROUP). 0, E_UNCONFIRMED
 * (db_may_confirm), or why nothing of it stands. When that cannot be said the databases are stopped, and the next start
 * decides for all alike. Waits for the disk. */
int db_group_commit(struct db_access *accesses, unsigned n, const struct db_group_note *note,
                    struct err *e);

/* Of a commit over @n databases, of which @a is one, that failed: logged once, then counted, as a commit of that one is, and
 * @a is soon looked after. */
void db_group_tell_failed(struct db_access *a, unsigned n, int r, const struct err *e);

/* Another node commits for this database now (db/remote_commit.h). */
bool db_commits_remotely(struct db *db);

/* The name of the super-journal that the journal of a transaction under way ends with (pager.c): its length, 0 when it
 * has none. */
size_t db_journal_super(struct db *db, char *buf, size_t size);

#endif
