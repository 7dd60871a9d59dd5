/* lib/db/access.h - the right to change a database, as a type.
 *
 * Whatever changes a database takes a `struct db_access *`, and db_access_begin is where one comes from. Who asks says
 * which kind it is (access.c has the table):
 *
 *   for a hold    has the database's lock from begin to end. For what is done at once.
 *   as its owner  has the database to itself across lock drops: captures of large transactions, adoption, what other
 *                 nodes have committed, another history instead of ours. Readers go on, and take turns with the owner
 *                 at the lock, which it has for each change that they could see.
 *   as a keeper   changes nothing that a commit changes, and so goes on beside the others, owners too: but the files and
 *                 the log are not replaced or removed meanwhile. For housekeeping, whose syncs last.
 *
 * Who comes when it cannot be had gets E_BUSY, and has changed nothing. Requests of the mount are then put aside until
 * env->idle was called; who cannot be asked again leaves a struct db_waiter.
 *
 * Threads: an access is used by one thread at a time, and stays where it is in memory until it has ended. */
#ifndef LITEFS_DB_ACCESS_H
#define LITEFS_DB_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "db/db.h"

/* Who changes a database. */
enum db_actor {
        DB_BY_NOBODY,
        DB_BY_OPENING,  /* recovery: nobody else knows the database yet */
        DB_BY_CLOSING,  /* nobody else knows it any more */
        DB_BY_CALL,     /* a call of the mount, for its length */
        DB_BY_DROP,     /* that deletes the database */
        DB_BY_SYNC,     /* committed pages into the file, once their log is durable */
        DB_BY_CAPTURE,  /* a worker that commits what applications wrote */
        DB_BY_GROUP,    /* likewise, over several databases at once */
        DB_BY_ADOPTION, /* a plain file becomes the database */
        DB_BY_APPLY,    /* a transaction that did not come through the mount */
        DB_BY_APPLIED_DROP,
        DB_BY_REPLACEMENT,
        DB_BY_RENAME, /* whose name is taken away, or given to another one's content */
        DB_BY_HOUSEKEEPING,
        N_DB_ACTORS
};

struct db_access {
        struct db *db;
        enum db_actor who;
        unsigned n_locks;  /* how often its user has locked the database: once for a hold */
        bool is_passed_on; /* db_access_pass: another one has it now */
        uint8_t *room;     /* for two pages of any size */
};

/* 0; E_BUSY; -EIO when the database has failed; -ENOMEM. Without the database's lock, which a hold has after it. */
int db_access_begin(struct db *db, enum db_actor who, struct db_access *ret, struct err *e);
/* Gives it back, and the lock of a hold. After an owner those who wait are called, and env->idle. One that has been
 * passed on, or that was not given, ends without any of that. */
void db_access_end(struct db_access *a);

/* Called without locks, by the thread that has ended the access that was in the way. */
struct db_waiter {
        struct db_waiter *next;
        void (*fn)(struct db_waiter *w);
};
/* As db_access_begin; after E_BUSY @w is called when it is worth trying again. */
int db_access_begin_or_wait(struct db *db, enum db_actor who, struct db_access *ret, struct db_waiter *w,
                            struct err *e);

/* --- in here --- */

/* What was in the way for another reason than an access is gone: those who wait are called. Without locks. */
void access_tell_free(struct db *db);
/* What @a has becomes the owner @who's in @ret: from a hold to a worker, from a worker to the next. With the lock. */
int db_access_pass(struct db_access *a, enum db_actor who, struct db_access *ret);
/* The lock, which a hold has and an owner takes for each change; may be nested. */
void access_lock(struct db_access *a);
void access_unlock(struct db_access *a);
/* 0; -EIO when the database has failed, which it does when @a is not the one that has it. */
int access_check(struct db_access *a, struct err *e);

#endif
