/* lib/db/carry.h - what a process hands to the one that takes its place of a database that applications have open: what is
 * uncommitted, and its journal. All else recovery finds where it is (env->is_resumed). */
#ifndef LITEFS_DB_CARRY_H
#define LITEFS_DB_CARRY_H

#include "base/parcel.h"
#include "db/db.h"

/* Nobody uses the database any more, none of its jobs is under way, and no commit is prepared (db/passed.h). */
void db_carry_out(struct db *db, struct parcel *p);
/* After it, once there is a program that is given the parcel: what comes from now on is that one's, and db_close takes nothing more
 * from a WAL that is passed through. */
void db_leave(struct db *db);
/* Nobody uses it yet. The next part is of @db, by its name. -ENOMEM, or E_CHECKSUM: the database was opened at another
 * position than it was handed over at, and the part has been passed over. */
int db_carry_in(struct db *db, struct parcel_reader *r, struct err *e);
/* Past the part of a database that did not open. */
void db_carry_skip(struct parcel_reader *r);

#endif
