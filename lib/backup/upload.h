/* lib/backup/upload.h - one database on its way to one destination.
 *
 * The primary's alone. It looks at the place first: whose it is, where its history ends, and whether that is ours.
 *
 *   LOOKING -> FOLLOWING             the backup ends at a position of ours, or a whole database was put
 *   LOOKING -> BLOCKED               it is another cluster's, or another one writes there: said once, looked at again later
 *   FOLLOWING -> BLOCKED             another one has written there: nothing more goes out before the role has changed
 *   any -> LOOKING                   the role changed (upload_forget)
 *
 * Following: what was committed goes out as one object for each step; pieces of level 0 are gathered in longer ones from
 * the log; a whole database goes out now and then; what is not needed any more goes. At each moment the place can be
 * restored to a state that was committed.
 *
 * Where the cluster has gone on from before the backup's end (a failover that lost transactions), the head gets a new
 * epoch; objects behind the last common border go from the newest down, then a whole database goes out. Where they cannot
 * be removed, nothing goes out before the database has passed them by.
 *
 * One thread at a time, no locks, no timers: the caller says when (uploader.h). The getters: any thread. */
#ifndef LITEFS_BACKUP_UPLOAD_H
#define LITEFS_BACKUP_UPLOAD_H

#include "backup/dest.h"
#include "db/db.h"

struct upload;

#define UPLOAD_LEVELS 3 /* that are made of level 0 */

struct upload_config {
        const struct os *os;
        const struct clock *clock;
        const char *tmp_dir;
        bool is_compressed;
        struct dest *dest;
        const char *lineage, *writer; /* see head.h */
        unsigned slot;                /* of the destination, see db_hold_log */
        int64_t level_ms[UPLOAD_LEVELS +
                         1]; /* [1..]: how long a piece of it is; [0]: how long those of 0 are kept */
        int64_t snapshot_ms; /* between two whole databases */
        int64_t keep_ms;     /* how far back states can be restored; 0: nothing is removed */
};

/* Borrows @config, which is that of all of them, and @db. */
int upload_new(const struct upload_config *config, struct db *db, struct upload **ret);
/* Brings the place up to where the database is, and does what is due. 0; -EAGAIN: the database is busy for a moment;
 * else an error, which may be another one's fault. Try again. */
int upload_step(struct upload *u, struct err *e);
/* Only what was committed: for the end. */
int upload_flush(struct upload *u, struct err *e);
/* When something is due though nothing is committed; INT64_MAX: nothing. Wall clock. */
int64_t upload_due_ms(const struct upload *u);
/* The role was lost, or what the destination has is not known any more: the next step looks. */
void upload_forget(struct upload *u);
void upload_free(struct upload *u); /* NULL is fine */

enum upload_state { UPLOAD_LOOKING, UPLOAD_FOLLOWING, UPLOAD_BLOCKED };
struct upload_status {
        enum upload_state state;
        struct ltx_pos pos; /* what the destination has */
        int64_t time_ms;    /* of that transaction */
        uint64_t snapshot_txid;
        uint64_t n_snapshots, n_objects; /* put since the start */
        uint64_t n_gaps; /* times that the log did not reach back to where the destination was */
        bool cannot_remove;
};
void upload_get_status(struct upload *u, struct upload_status *ret);
struct db *upload_db(const struct upload *u);

#endif
