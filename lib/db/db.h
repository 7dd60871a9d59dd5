/* lib/db/db.h - one database: its committed image, its open transaction, its log and its position.
 *
 * What the mount's nodes NAME, NAME-journal, NAME-wal and NAME-shm are made of. An application's write
 * arrives here, is held back until its transaction commits, and a commit is in the log before the call
 * that makes it (journal finalised, commit frame written) returns.
 *
 *   database file   written only with committed pages whose log record is durable, so that replaying the
 *                   log from `base` over it gives the image at the log's end, whenever the power fails
 *   uncommitted     pages of the transaction that is open, in memory
 *   writeback       pages of committed transactions whose log record is not durable yet, in memory
 *
 * Threads: any thread may call; a lock inside guards the state (rank: below the mount's session lock,
 * above the log's). A call that would wait for the disk returns DB_PENDING and its `struct db_done` is
 * called later from a worker, exactly once, without the lock. While somebody else has the database to himself
 * (db/access.h) reads go on, and every call that would change it returns E_BUSY, having done nothing: it may be made
 * again when env->idle was called.
 *
 * Errors: negative errno that the mount may return as it is, or a domain code. */
#ifndef LITEFS_DB_DB_H
#define LITEFS_DB_DB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/os.h"
#include "base/workers.h"
#include "db/meters.h"
#include "txlog/txlog.h"
#include "ltx/pos.h"

/* Not yet: its struct db_done will be called. */
#define DB_PENDING 1

struct db;

/* What a database needs of its surroundings; outlives it. */
struct db_env {
        const struct os *os;
        const struct clock *clock;
        struct workers *workers;
        struct workers *
                remote_committers; /* captures that wait for the primary run here; NULL: on the workers */
        const char *tmp_dir;       /* for unlinked files of huge transactions */
        /* Commits that a killed run left in the WAL alone (db/passed.h) are this node's to commit: no other can have led
         * since. */
        bool takes_wal_tail;
        bool is_compressed; /* LZ4 in the log */
        bool keeps_log;     /* all of it, until db_keep_log says otherwise */
        bool is_strict;     /* recompute the whole checksum after each commit */
        uint64_t node_id;
        uint64_t segment_bytes;   /* of the log (txlog/txlog.h); 0: its own choice */
        uint64_t base_every;      /* log bytes after which the base moves; 0: 64 MiB */
        struct db_meters *meters; /* of all databases; or NULL */
        /* Applications have had databases open since the process before this one served them, and go on with their WALs. */
        bool is_resumed;
        /* The node ends: work on what another node has sent ends with -ECANCELED, however much there is. NULL: never. */
        const atomic_bool *is_ending;
        void *arg;
        /* 0 when this node may commit now, else E_NOT_PRIMARY or E_FENCED. Any thread, must not wait. */
        int (*may_commit)(void *arg);
        /* 0, or E_BUSY: a transaction that would begin now (a rollback journal, any write to the WAL) has to wait until
         * idle is called. As may_commit; NULL: never. */
        int (*may_enter)(void *arg, bool is_wal);
        /* 0 when an application may be told that what this node has committed in @term is committed: the lease still
         * holds, or was passed on to a node that has it (db_pass_on). Else E_UNCONFIRMED. As may_commit; NULL: always. */
        int (*may_confirm)(void *arg, uint64_t term, bool is_passed_on);
        /* The term that may_commit speaks of; asked before it. NULL: there is only one. */
        uint64_t (*term)(void *arg);
        /* After each commit, and when one has become durable, with the database's lock held: must be quick and
         * must not call back. */
        void (*committed)(void *arg, struct db *db);
        /* Who had the database to himself has it no more: calls that got E_BUSY may be made. From a worker, no lock
         * held. */
        void (*idle)(void *arg, struct db *db);
        /* Wants db_housekeep() within about a second. With the lock held. */
        void (*wants_housekeeping)(void *arg);
        /* Whether it may open again what an idle database does not need (db_rest). With the lock held; NULL: always. */
        bool (*may_wake)(void *arg);
};

/* How a call that returned DB_PENDING ends. */
struct db_done {
        void (*fn)(void *arg, int result);
        void *arg;
};

struct db_info {
        struct ltx_pos pos;
        int64_t timestamp_ms; /* of the last transaction */
        uint32_t page_size;   /* 0 before the first transaction */
        uint32_t page_count;  /* 0: empty or deleted */
        bool is_wal;          /* the header says so */
        bool is_failed;
        uint64_t base_txid;
        int64_t apply_lag_ms; /* how old the last transaction was when it was applied here; 0: it is this node's */
};

/* Opens the database kept in @dir (created when absent), whose path in the mount is @name. Recovers:
 * replays the log from the base over the file and checks the checksum. E_CORRUPT_DB when it does not
 * hold. */
int db_open(const struct db_env *env, const char *name, const char *dir, struct db **ret, struct err *e);
/* Moves the base to the current position if it can, so that the next start is quick. */
void db_close(struct db *db);

/* The last transaction of this node's own, before its application is told: 0, or E_UNCONFIRMED. Then the transaction
 * stays, for it may have been sent, but the cluster may have gone on without it; the call that commits it fails, as do
 * syncs, until another transaction follows or db_confirm. lib/db asks for the calls below; this is for others. */
int db_may_confirm(struct db *db);
/* What this node has of @term and before is known to be the cluster's. */
void db_confirm(struct db *db, uint64_t term);
/* What is committed by now is on the node that the lease is about to be passed on to. Any thread, any lock. */
void db_pass_on(struct db *db);
/* A transaction of this node is being committed, or waits for its fdatasync, or is not shown yet: whoever was told that it may
 * commit may still have to be answered. */
bool db_is_committing(struct db *db);

/* What is counted of a database since it was opened. */
enum db_counter {
        DB_COUNT_DATABASE_WRITES, /* calls, of applications and checkpoints */
        DB_COUNT_JOURNAL_WRITES,
        DB_COUNT_WAL_WRITES,
        DB_COUNT_SHM_WRITES, /* by the kernel: applications map it */
        DB_COUNT_COMMITS,    /* of this node's own */
        DB_COUNT_SYNCED,     /* in WAL mode, by their application (db/habit.h), */
        DB_COUNT_UNSYNCED,   /* not by it, */
        DB_COUNT_UNCLEAR,    /* and which nobody can tell of */
        DB_COUNT_APPLIED,    /* of other nodes' */
        DB_COUNT_SENT_RECORDS,
        DB_COUNT_SENT_SNAPSHOTS,
        DB_COUNT_RECEIVED_SNAPSHOTS,
        DB_COUNT_DIVERGENCES, /* times that its state was set aside */
        DB_COUNT_DROPPED,     /* transactions that retention took out of the log */
        DB_N_COUNTERS
};

const char *db_name(const struct db *db); /* for the database's life */
/* Any thread, any lock. */
void db_count(struct db *db, enum db_counter what);
void db_count_many(struct db *db, enum db_counter what, uint64_t n);
uint64_t db_counter(struct db *db, enum db_counter what);
/* This and what else tells how a database is (db_exists, db_replicable_txid, db_durable_pos, db_has_unsynced, db_looks_busy,
 * db_is_committing, db_past_version) waits for nobody: it is as the last one who changed it has left it. Any thread, any lock. */
void db_get_info(struct db *db, struct db_info *ret);
struct txlog *db_log(struct db *db);
/* Moves whenever what it was before is no longer for whoever may read it: it was deleted, or another one took its place. */
uint64_t db_past_version(struct db *db);
/* The last transaction that may be sent to replicas: one whose application waits for it to be durable may not be
 * before it is, or a replica could have what its primary has lost. */
uint64_t db_replicable_txid(struct db *db);
/* Transactions of other nodes were applied, and the log is not durable up to the last of them. */
bool db_has_unsynced(struct db *db);
/* Makes it so; waits for the disk, with no lock. A log that cannot be synced stops the database. */
int db_sync_applied(struct db *db, struct err *e);
/* The last position that is known to be durable here; *@ret_has_all: it is the database's. */
struct ltx_pos db_durable_pos(struct db *db, bool *ret_has_all);
/* Transactions of another node wait to be applied, or are: none is made here meanwhile, whatever the role. */
void db_set_receiving(struct db *db, bool is_receiving);
bool db_is_receiving(struct db *db);
/* Somebody has the database to himself at this moment. Only a hint: by the next call it may be otherwise. */
bool db_looks_busy(struct db *db);
/* It has pages, so it shows in the mount. */
bool db_exists(struct db *db);

/* Takes the plain file at @path (valid SQLite header, no hot journal) as the new content: one transaction
 * with all pages, durable, then the file is renamed to the database file. Waits for the disk: worker only.
 * The database must be empty. Of a file with companions, see db/adopt.h. */
int db_adopt_file(struct db *db, const char *path, struct err *e);

/* The file NAME. @result of fstat comes from the file, size and mtime from what applications see. */
int db_stat(struct db *db, struct stat *ret);
uint64_t db_size_bytes(struct db *db);
int db_chmod(struct db *db, mode_t mode);
int db_chown(struct db *db, uid_t uid, gid_t gid);
ssize_t db_read(struct db *db, void *buf, size_t n, uint64_t off);
int db_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done);
int db_truncate(struct db *db, uint64_t size_bytes);
int db_fsync(struct db *db, struct db_done done);
/* A handle that had written is closed: E_BUSY while what it wrote may be somebody's to commit, else 0. */
int db_may_close(struct db *db);
/* Deletes the database: a transaction with commit 0. Journal, WAL and wal-index go with it: beside the next database of
 * this name they would be another's. *@ret_fd and *@ret_wal_fd (-1: none) are the old files, for handles still open. */
int db_drop(struct db *db, int *ret_fd, int *ret_wal_fd, struct err *e);

/* Pages were written without a journal (journal_mode MEMORY and OFF, cp, dd) and wait for a moment that
 * is a transaction boundary. */
bool db_has_unjournaled(struct db *db);
/* The caller knows that this is one. Waits for who has the database: DB_PENDING. E_FORMAT: what is there now is no database;
 * logged once, until more is written. */
int db_capture_unjournaled(struct db *db, struct db_done done);
/* That is how it ended last, so that it is in vain until more is written. */
bool db_is_refused(struct db *db);
/* Then it becomes what it was, unless more was written meanwhile. 0, -ENOMEM, or DB_PENDING: who has the database first. */
int db_discard_refused(struct db *db, struct db_done done);

/* The file NAME-journal. Finalising it (unlink, truncation to 0, zeroed header) is the commit. */
bool db_journal_exists(struct db *db);
int db_journal_create(struct db *db);
uint64_t db_journal_size(struct db *db);
ssize_t db_journal_read(struct db *db, void *buf, size_t n, uint64_t off);
int db_journal_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done);
int db_journal_truncate(struct db *db, uint64_t size_bytes, struct db_done done);
int db_journal_unlink(struct db *db, struct db_done done);
int db_journal_fsync(struct db *db, struct db_done done);

/* The file NAME-wal. A write that completes a valid commit frame is the commit. */
bool db_wal_exists(struct db *db);
int db_wal_create(struct db *db, mode_t mode);
int db_wal_stat(struct db *db, struct stat *ret);
ssize_t db_wal_read(struct db *db, void *buf, size_t n, uint64_t off);
int db_wal_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done);
int db_wal_truncate(struct db *db, uint64_t size_bytes);
/* -EBUSY while the database file lacks pages that only the WAL has. *@ret_fd as in db_drop. */
int db_wal_unlink(struct db *db, int *ret_fd);
int db_wal_fsync(struct db *db, struct db_done done);
/* The frames that are captured: (salts, count). A writer that died after its commit frame leaves a
 * wal-index that does not know of the last ones (fuse/self_mount.c). */
struct db_wal_mark {
        uint32_t salt1;
        uint32_t salt2;
        uint32_t n_frames;
};
bool db_wal_captured(struct db *db, struct db_wal_mark *ret);
/* The wal-index has been made invalid for that. Whether to log it, with @ret_count behind (base/backoff.h): a writer that was
 * told of an error may go on trying. */
bool db_note_index_repair(struct db *db, char ret_count[TROUBLE_COUNT_SIZE]);
/* SQLite has copied the WAL's first @n_backfill frames (of the chain with @mark's salts) to the file. */
void db_wal_backfilled(struct db *db, const struct db_wal_mark *mark, uint32_t n_backfill);

/* Writes committed pages into the file whose records are or can be made durable, prepares log space, moves the base when
 * the log has grown by enough, drops log segments that @retention lets go. Waits for the disk: worker
 * only. Returns true when it wants to be called again soon. */
struct db_retention {
        int64_t max_age_ms; /* <= 0: keep everything */
};
bool db_housekeep(struct db *db, const struct db_retention *retention, struct err *e);

/* What comes after @txid stays in the log whatever its age, for a backup that has yet to take it; of each slot, UINT64_MAX
 * at first: it needs nothing. No log grows beyond DB_HELD_BYTES for that. Any thread, any lock. */
#define DB_N_HOLDS 4
#define DB_HELD_BYTES (1ull << 30)
void db_hold_log(struct db *db, unsigned slot, uint64_t txid);

/* What comes after @txid stays in the log whatever its age and size, for past states; UINT64_MAX: nothing has to. kept_log is
 * what was said last. Any thread, any lock. */
void db_keep_log(struct db *db, uint64_t txid);
uint64_t db_kept_log(const struct db *db);

/* Closes what it has open, which the next use opens again: how many descriptors. One that was used since the last call
 * stays, and one that has something to do (its base is moved meanwhile, for the next call). Waits for the disk: worker
 * only. */
unsigned db_rest(struct db *db);

/* Reads the whole committed image from file, WAL and overlays and compares each page with its checksum; a page that
 * differs stops the database (E_CHECKSUM). Writers may go on meanwhile: between a few hundred pages, and while one
 * is in the way, @pace->rest() may sleep; false ends the round early (0). */
struct db_pace {
        void *arg;
        bool (*rest)(void *arg);
};
int db_verify(struct db *db, const struct db_pace *pace, struct err *e);

#endif
