/* tests/lib/db_driver.h - SQLite on lib/db in one process, without FUSE.
 *
 * A driver holds one open database (ROOT/dbs/t.db, as a store would lay it out) and an sqlite3_vfs whose files
 * NAME, NAME-journal and NAME-wal call lib/db as the mount's request handlers do: a call waits while the database
 * is busy, and one that returns DB_PENDING waits for its db_done. The wal-index lives in the heap, locks in the
 * driver; any number of connections of one thread. Temporary files go to SQLite's own VFS.
 *
 * What the mount does by timer (transactions without a journal, backfill, housekeeping) is db_driver_tick(). */
#ifndef LITEFS_TESTS_DB_DRIVER_H
#define LITEFS_TESTS_DB_DRIVER_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"
#include "db/db.h"

struct db_driver;

/* Makes ROOT, ROOT/dbs and ROOT/tmp through @os when they are not there, durably, and opens the database. */
int db_driver_open(const struct os *os, const char *root, struct db_driver **ret, struct err *e);
/* With log segments of @segment_bytes, and a base that moves twice as often as they do. */
int db_driver_open_with(const struct os *os, const char *root, uint64_t segment_bytes,
                        struct db_driver **ret, struct err *e);
/* db_close, and the VFS goes; connections must be closed. NULL is fine. */
void db_driver_close(struct db_driver *d);

/* The database is closed and opened again under the connections that there are, as by a program that takes over, which is
 * handed a parcel. */
int db_driver_resume(struct db_driver *d, struct err *e);

struct db *db_driver_db(struct db_driver *d);
/* Waits for all that its workers have to do. */
void db_driver_drain(struct db_driver *d);
/* The lease has ended: nothing is committed, nor confirmed, until it is back. Any thread. */
void db_driver_fence(struct db_driver *d, bool is_fenced);
/* Takes the plain file at @path as the database, as the mount does once it looks like one. */
int db_driver_adopt(struct db_driver *d, const char *path, struct err *e);
/* A write may tear its whole sector (psow=0): SQLite then repeats the commit frame up to the sector's end.
 * For connections that are made afterwards. */
void db_driver_set_padded(struct db_driver *d, bool is_padded);
/* Connections that are made afterwards write the WAL without lib/db, which hears of syncs alone, as with
 * fuse.wal-passthrough (db/passed.h). db_driver_tick looks. */
void db_driver_set_passed(struct db_driver *d, bool is_passed);
/* The next sync of the WAL is the last that its connection hears of: it fails for it, before or once the database has done
 * it. To the others that is a writer who was killed between its commit's frames, or its commit, and the wal-index. */
void db_driver_die_at_sync(struct db_driver *d, bool is_before);
/* What a visitor does once it has WRITE and the wal-index lacks a commit: the index becomes invalid, and the commit stands. */
void db_driver_decide(struct db_driver *d);
/* Deletes the database, as unlink of NAME does. */
int db_driver_drop(struct db_driver *d, struct err *e);

/* A connection, or an SQLite error code and then *@ret is NULL. Synchronous is FULL and the page cache small
 * enough to spill (@cache_pages; 0: SQLite's own size). */
int db_driver_connect(struct db_driver *d, int cache_pages, sqlite3 **ret);
/* Probe for pages without a journal, read the backfill, housekeeping with @max_age_ms of retention. */
int db_driver_tick(struct db_driver *d, int64_t max_age_ms, struct err *e);

/* A checksum over all tables' rows, in order; 0 and a message when it cannot be had. */
int db_driver_digest(sqlite3 *c, uint64_t *ret);
/* Runs one SQL text: an SQLite code. */
int db_driver_exec(sqlite3 *c, const char *sql);
/* The first column of the first row, as a number; -1 when there is none. */
int64_t db_driver_int(sqlite3 *c, const char *sql);
/* PRAGMA integrity_check says ok. */
bool db_driver_is_intact(sqlite3 *c);

#endif
