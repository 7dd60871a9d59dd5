/* lib/db/passed.h - a WAL that applications write to without us: the kernel passes their reads and writes of NAME-wal and
 * NAME-shm through to the files in the database's directory (fuse/passthrough.h).
 *
 * What is left to see is FSYNC, which SQLite with synchronous=FULL calls between a commit's frames and the wal-index: there
 * the commit is captured, and answered once it is durable and the lease holds. Until the wal-index shows it, a commit is
 * *prepared*: its record is in the log, and nothing else knows of it. No position, no replica, no backup: for its writer may
 * be killed in between, and another connection, which does not know of it, writes over its frames.
 *
 *              FSYNC                 the wal-index shows it, another follows it, or nobody is left who could
 *   (frames) ---------> prepared -----------------------------------------------------> committed
 *                          |
 *                          +------> undone: its frames were written over, or its application is told of an error
 *
 * With synchronous=NORMAL nobody asks. Such a commit is captured when somebody looks (db_wal_look), at the latest before a
 * checkpoint's first write, a truncation or the end of the WAL. Nothing is lost by that while litefs runs; but nobody asks
 * the lease before its application is told, and a kill of litefs leaves the last ones in the WAL alone.
 *
 * Any thread. Nothing here waits for the disk; but for the calls that db/db.h says so of. */
#ifndef LITEFS_DB_PASSED_H
#define LITEFS_DB_PASSED_H

#include <stdbool.h>

#include "db/db.h"

enum wal_passthrough {
        WAL_PASSTHROUGH_OFF,  /* writes of the WAL come to us */
        WAL_PASSTHROUGH_FULL, /* commits that nobody syncs are told of */
        WAL_PASSTHROUGH_FAST, /* they are what is asked for */
};

/* Before the kernel is told so, or for the first open file that it is not done for any more: E_BUSY, or an error, and nothing
 * has changed. */
int db_wal_pass_through(struct db *db, enum wal_passthrough how);
/* A descriptor of the WAL's file, the caller's; -ENOENT. */
int db_wal_dup(struct db *db);
/* Applications have NAME-shm open, whose descriptor @fd becomes the database's; or none has it any more (-1): with
 * locking_mode=EXCLUSIVE none ever does. */
void db_wal_set_index(struct db *db, int fd);

/* Of one that another program has handed on: without a look, for nothing is captured yet. @fd becomes the database's. */
void db_wal_restore_index(struct db *db, int fd);

struct db_look {
        bool is_moving;   /* something was captured, or decided */
        bool is_prepared; /* a commit waits for its writer to publish it */
};
/* Captures what the wal-index shows, and decides what was prepared. 0; E_BUSY: to be looked at again; or why it cannot be
 * captured. */
int db_wal_look(struct db *db, struct db_look *ret);
/* Nobody is left who could publish what is prepared: with SQLite's WRITE lock, and the wal-index made invalid, so that the
 * next connection reads the WAL anew, or nobody has one. It is committed if its frames are there. */
void db_wal_decide(struct db *db);

#endif
