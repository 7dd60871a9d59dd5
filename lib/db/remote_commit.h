/* lib/db/remote_commit.h - transactions of this node that another one, the primary, has to commit first; and the reverse.
 *
 * While this node holds the primary's halt lock for a database, applications commit here as they do on a primary.
 * Each transaction is captured, given to db_remote_commit.send as the LTX file that it is, and enters the log only when
 * that has returned 0. Such captures are always a worker's, for they wait for the network: the database is busy
 * meanwhile, readers go on. A transaction without a journal is refused: there is no call that could fail when it is. */
#ifndef LITEFS_DB_REMOTE_COMMIT_H
#define LITEFS_DB_REMOTE_COMMIT_H

#include "db/apply.h"

struct db_remote_commit {
        void *arg;
        /* 0, or why nothing is to be begun. Under the database's lock: must not wait. */
        int (*may_commit)(void *arg);
        /* 0 once the primary has it, durably. Anything else: it is not known to. On a worker, without a lock. */
        int (*send)(void *arg, struct db *db, const struct received *rx, struct err *e);
};

/* From now on, or with NULL no longer. @f outlives the database. Any thread. */
void db_set_remote_commit(struct db *db, const struct db_remote_commit *f);

/* On the primary: another node's transactions alone are made (is_local ones of db/apply.h). SQLite's locks keep well
 * behaved writers waiting; this is for those who take none. Any thread. */
void db_set_halted(struct db *db, bool is_halted);

/* Whether @rx is a transaction that this database has, and has had from elsewhere than @rx. Not for snapshots, which
 * are there to replace what one has. */
bool db_has_transaction(struct db *db, const struct received *rx);

/* The journal holds a transaction. */
bool db_journal_is_active(struct db *db);
/* There is one that is open, with a journal or without, and none can be committed here now. */
bool db_has_refused(struct db *db);
/* Forgets the transaction that is open, whose writer is dead, and its journal. The caller holds EXCLUSIVE. 0, or
 * -EAGAIN when the database is busy. */
int db_abandon(struct db *db);

#endif
