/* lib/db/snapshot.h - a whole database as one LTX file, as of one position, while writers and checkpoints go on.
 *
 * Whoever is about to overwrite bytes of the database file or the WAL that the snapshot has yet to read saves the
 * old ones first, in a spool. So a snapshot costs writers one read and one memory copy for each page that they
 * change before it has passed, and nothing after.
 *
 * One snapshot of a database at a time. Threads: one uses the snapshot, any thread changes the database. */
#ifndef LITEFS_DB_SNAPSHOT_H
#define LITEFS_DB_SNAPSHOT_H

#include "base/err.h"
#include "db/db.h"

struct db_snapshot;

/* @ret_record says what the file will be: min_txid 1, size_bytes 0 (not known). -EAGAIN: the database is busy, or
 * is being read by another snapshot: try again. -ENOENT: it has no transaction. */
int db_snapshot_open(struct db *db, struct db_snapshot **ret, struct txlog_record *ret_record,
                     struct err *e);
/* Before the first read: the file gets no checksums (LTX_FLAG_NO_CHECKSUM), but has them in its header's spare bytes. */
void db_snapshot_chain(struct db_snapshot *snap);
/* Appends at least @want more bytes of the file to @sink, unless it ends before: 1: there is more, 0: that was the
 * end, <0: error. */
int db_snapshot_read(struct db_snapshot *snap, size_t want, struct byte_sink *sink, struct err *e);
void db_snapshot_close(struct db_snapshot *snap); /* NULL is fine */

#endif
