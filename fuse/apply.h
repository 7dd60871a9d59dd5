/* fuse/apply.h - a replica's transactions, under the locks of the SQLite processes that read the database.
 *
 * An application of a replica is a reader like any other, and we are the one writer. In WAL mode transactions
 * go behind the WAL, with WRITE held, and readers notice nothing; what they have read stays as it was for as
 * long as their transaction lasts. Otherwise they are laid into the database file with EXCLUSIVE held, as are
 * those for a database that nobody has open.
 *
 * Threads: workers whose ids the session knows (session_config), one at a time for a database. */
#ifndef LITEFS_FUSE_APPLY_H
#define LITEFS_FUSE_APPLY_H

#include "db/apply.h"
#include "fuse/session.h"

struct apply; /* locks and open files, kept between transactions that follow each other closely */

int apply_new(struct session *s, struct db *db, struct apply **ret);
/* 0. -EAGAIN: a reader or an application's lock is in the way; keep @a, which goes on to keep new readers out
 * (PENDING), and try again in a while. E_POS_MISMATCH, E_CHECKSUM: the databases differ. */
int apply_transaction(struct apply *a, const struct received *rx, struct err *e);
/* Keeps writers out until apply_free, so that the database's position stays: for transactions that are made here.
 * Readers go on. 0, also when there is no database; -EAGAIN: a writer is at work, try again. After a transaction it
 * lets readers in again, and keeps writers out of the journal mode that the database has then. */
int apply_reserve(struct apply *a, struct err *e);
/* Has a visitor forget a transaction that was refused, or whose writer died, on a node that does not lead: SQLite's next reader
 * would roll it back, but others see it until then, and its size. Where somebody is in it, or reads: with the next tick of the
 * store, which it asks for. */
void apply_abandon_refused(struct session *s, struct db *db);
/* Gives the locks back, checkpointing first when the WAL has grown long. NULL is fine. */
void apply_free(struct apply *a);

#endif
