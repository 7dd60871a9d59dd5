/* lib/db/prepared.h - a commit whose record is in the log and of which nobody knows yet: its writer, in a WAL that is passed
 * through, has yet to publish it by the wal-index (db/passed.h draws its states).
 *
 * A database has one at the most, db->passed.prepared: made by prepared_begin, freed by whatever publishes or undoes it. The
 * calls, but for prepared_begin, are made with the database's lock, by its access @a. They return 0, or -EIO and the like when
 * the database has stopped over it. For lib/db only. */
#ifndef LITEFS_DB_PREPARED_H
#define LITEFS_DB_PREPARED_H

#include <stdbool.h>
#include <stdint.h>

#include "db/access.h"
#include "db/record.h"
#include "db/wal/wal.h"

#define PASSED_SHOWS_ALL UINT32_MAX /* there is no wal-index: whoever reads the WAL goes by its frames */

struct commit;

struct prepared {
        struct commit *commit; /* NULL: no page has changed, so there is no record; then @pos is not set */
        struct commit_request rq; /* that the commit borrows */
        struct wal_end end;       /* of its last frame */
        uint32_t n_pages;         /* of the database, after it */
        struct ltx_pos pos;
        uint64_t lsn, term;
        uint64_t number;   /* counts those that the database has had */
        bool is_confirmed; /* the application was told, or is about to be */
};

/* Frames of the WAL: that the wal-index shows, or PASSED_SHOWS_ALL; that are captured. */
uint32_t passed_frames_shown(const struct db *db);
uint32_t passed_frames_captured(const struct db *db);

/* The commit of @n_pages that was verified last goes into the log, and is prepared then. Waits for the disk as commit_append
 * does; not with the lock. */
int prepared_begin(struct db_access *a, uint32_t n_pages, struct err *e);
/* Reads the WAL: 1: the verified frames end where it ends; 0: its frames are not there any more; negative. */
int prepared_find(struct db_access *a);
/* It is committed, whose frames are verified. */
int prepared_publish(struct db_access *a);
/* It is committed if its frames are there, else undone. */
int prepared_publish_if_there(struct db_access *a);
/* It is taken out of the log; the database stops if it cannot be. Its frames stay, for others to write over, or for the caller to
 * revoke (wal_revoke_last). */
int prepared_undo(struct db_access *a);
/* Publishes or undoes it if the wal-index, which shows @shown frames, says so. Also with none. */
int prepared_settle(struct db_access *a, uint32_t shown);
/* Follows a chain that has begun anew: what was prepared in the one before is nobody's. Also with none. */
int prepared_follow_chain(struct db_access *a);
/* The log is durable as far as commit @number: it may be told to be committed. If the lease does not hold any more it is undone. */
int prepared_confirm(struct db_access *a, uint64_t number);
/* Frees it, and leaves its record in the log: the database ends. */
void prepared_forget(struct db *db);

#endif
