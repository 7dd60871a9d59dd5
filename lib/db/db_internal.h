/* lib/db/db_internal.h - the inside of a database, for the files of lib/db/ only.
 *
 * From the top down. A file calls those of the lines below its own, and nobody calls back up (tests/lint/call_circles.py):
 *
 *   db_file.c               reads, writes and truncations of the database file
 *   replace.c, rename.c     another history instead of ours; another name
 *   apply.c                 transactions that another node has committed; apply_wal.c, import.c: into the WAL, from a file
 *   wal_checkpoint.c        from the WAL into the database file
 *   db.c                    open, close, attributes
 *   wal_file.c, drop.c      the file NAME-wal but for its writes; the end of the database
 *   passed.c                whether applications write to the WAL without us; capture_passed.c: then its commits
 *   recover.c               the state at open; recover_wal.c: what only the WAL has
 *   prepared.c              one of those commits that waits to be published
 *   journal_file.c          the file NAME-journal
 *   capture_wal.c, group.c  commits of WAL mode; over several databases
 *   rest.c                  what is idle closes its files
 *   capture_journal.c       commits of rollback-journal modes and of writes without a journal
 *   housekeep.c             the base; what is done about once a second
 *   commit.c                one transaction: may it be made, and what moves with it
 *   sync.c                  durability of commits, shared by those who wait for it
 *   confirm.c               may its application be told?
 *   remote_commit.c         may one begin here? transactions that another node commits for us
 *   open_transaction.c      what is uncommitted outside the WAL
 *   verify.c, flush.c       the committed image against its checksums; committed pages into the database file
 *   habit.c                 whether applications sync their commits
 *   parked.c                calls that wait for the database
 *   access.c                states, and who may change the database; snapshot.c: all of it as of one position
 *   shown.c, files.c        what is told without the lock; the files in its directory
 *   record.c, received.c    a transaction's pages into the log; the bytes of another node's */
#ifndef LITEFS_DB_DB_INTERNAL_H
#define LITEFS_DB_DB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/backoff.h"
#include "db/access.h"
#include "db/apply.h"
#include "db/db.h"
#include "db/habit.h"
#include "db/remote_commit.h"
#include "db/image/image.h"
#include "db/image/snapshot.h"
#include "db/image/spool.h"
#include "db/record.h"
#include "db/rename.h"
#include "db/wal/wal.h"

#define DB_JOURNAL_CAP (1u << 20)    /* memory of a journal before it spills */
#define DB_WRITEBACK_PAGES_MAX 1024u /* before a commit waits until they are in the file */
#define DB_LIGHT_COMMIT_PAGES 512u   /* a larger commit is captured by a worker */
#define DB_REPLAYED_SOON (1u << 20)  /* log bytes that are sooner replayed than a base is written */
#define DB_BASE_EVERY (64u << 20)    /* log bytes after which the base moves */

enum db_state { DB_OPENING, DB_READY, DB_EXCLUSIVE, DB_FAILED };

struct db_journal {
        bool exists;
        bool is_active; /* holds a transaction: written since it was created or finalised */
        bool is_hot;    /* SQLite would roll back by it; no page is written under one that is not */
        struct spool content;
};

/* A WAL that applications write to without us: passed.h. */
struct db_passed {
        bool is_on;
        bool is_fast; /* commits come unsynced, as is wished */
        int index_fd; /* NAME-shm, while an application has it open; -1 */
        struct prepared *prepared;
        uint64_t n_prepared;      /* that there were */
        uint64_t last_undone;     /* which of them; 0: none */
        bool is_removal_volatile; /* of a WAL that was one: a power cut may bring it back */
        bool was_told;            /* that commits come unsynced */
};

/* Who has the database: access.c. */
struct db_use {
        enum db_state state;
        struct db_access *access;  /* the hold, or the owner; NULL: nobody */
        struct db_access *keeper;  /* goes on beside it */
        struct db_waiter *waiters; /* of whom each got E_BUSY, newest first */
        bool is_wanted;            /* somebody got E_BUSY since it was last to be had */
        atomic_uint n_at_work;     /* holds and owners: set before they ask whether they may commit */
};

/* Whether an idle database has its file open: rest.c. */
struct db_rest_state {
        bool is_closed; /* the database file is there, and opened when it is used; then: */
        uint64_t inode; /* of it */
        bool was_used;  /* since db_rest last looked */
};

/* The transaction that is uncommitted outside the WAL, beside its pages and its journal: open_transaction.c. */
struct db_transaction {
        bool is_unjournaled; /* pages were written without a journal */
        bool is_refused;     /* and as they are they make no database: nothing comes of trying again */
        bool wants_sync;     /* the application has fsynced in it */
};

/* The last commit: commit.c, confirm.c. */
struct db_last_commit {
        uint64_t lsn;        /* the end of the log with it */
        bool is_unconfirmed; /* it was made here, and may not be the cluster's */
        uint64_t term;       /* in this term */
};

/* How much of it all is durable: sync.c. */
struct db_sync_state {
        struct sync_job *job; /* runs or is about to; NULL: none */
        uint32_t n_jobs;      /* that have yet to end, with those before it */
        bool has_unsynced;  /* another node's transactions were applied, and are not durable here yet */
        struct ltx_pos pos; /* durable, as db_sync_applied has left it */
        uint64_t replicable_txid; /* durable at least up to here: may be sent whatever is under way */
};

/* What another node has committed: apply.c. */
struct db_applying {
        const struct received *rx; /* what is being applied, else NULL */
        bool is_pos_held;          /* applied, but caches above do not know: held_pos is shown */
        struct ltx_pos held_pos;
        bool is_local;  /* what was applied last was made here */
        int64_t lag_ms; /* see struct db_info */
        atomic_bool is_receiving;
};

/* The file durably holds this transaction: housekeep.c. */
struct db_base {
        uint64_t txid;
        uint64_t lsn; /* log end when it last moved */
};

/* What is told of a database without its lock, which somebody may hold over a read or a write of the file: the state that the
 * lock was last given back with. */
struct db_shown {
        pthread_mutex_t lock; /* a leaf */
        struct db_info info;
        struct ltx_pos pos; /* also where info has a held one */
        struct ltx_pos durable_pos;
        uint64_t replicable_txid;
        bool is_durable, has_unsynced, exists, is_busy, is_unanswered;
        /* A commit that waits to be published: its writer publishes it without us. These stay open under the lock. */
        bool is_prepared;
        struct ltx_pos prepared_pos;
        struct wal_end prepared_end;
        int index_fd, wal_fd;
};

struct db {
        const struct db_env *env;
        char *name;
        char *dir;
        pthread_mutex_t lock;
        struct db_use use;
        struct db_rest_state rest;
        bool has_news; /* env->committed is to hear of it with the next db_show */
        struct db_shown shown;

        struct db_image image; /* its pages */
        bool is_wal;
        struct ltx_pos pos;
        int64_t timestamp_ms;

        struct txlog *log;
        struct recorder recorder; /* of its transactions, into the log */
        struct db_last_commit last;
        struct db_sync_state sync;
        struct db_base base;
        _Atomic uint64_t
                passed_on_txid; /* the last one that the node had that the lease was last passed on to */
        uint32_t n_replaced; /* how often the whole history was: what waits from before was set aside */
        struct trouble failed;         /* commits, in a row */
        struct trouble index_repairs;  /* of the wal-index; since a commit */
        _Atomic uint64_t past_version; /* see db_past_version */
        bool is_recovering; /* what it commits is this node's from before, and nobody's to refuse */

        bool is_handed_on; /* to another program, which captures what comes from now on (carry.h) */
        struct db_transaction transaction;
        struct db_journal journal;
        struct db_wal *wal;
        struct db_passed passed;
        struct db_habit habit; /* habit.h */

        struct db_applying applying;

        atomic_ullong counters[DB_N_COUNTERS];
        atomic_ullong holds[DB_N_HOLDS]; /* see db_hold_log; + 1, so that 0 is none */
        atomic_ullong kept_txid;         /* see db_keep_log */
        atomic_bool is_halted;           /* see db/remote_commit.h */
        _Atomic(const struct db_remote_commit *) remote_commit; /* NULL: this node commits by itself */
};

/* --- shown.c --- */
/* Takes db->lock. Not on the thread of an event loop, which reads what is shown. */
void db_lock(struct db *db);
/* Before the lock is given back by one who may have changed the database: a hold or an access does so by itself. Not before
 * the change is whole: a transaction may be sent from then on. */
void db_show(struct db *db);
/* What was shown last. Without the lock. */
struct db_shown db_get_shown(struct db *db);

/* --- access.c --- */
/* With the lock. */
void db_fail(struct db *db, const char *why);

/* --- files.c --- */
/* The path of @file in the database's directory: 0, -ENAMETOOLONG. */
int db_path(const struct db *db, const char *file, char *buf, size_t size);
/* Opens the database file, made if it is absent. With the lock, or before anybody knows of the database. */
int db_open_file(struct db *db);
/* Opens what rests (rest.c). For who is about to use the file, or to change the database: an access does so by itself. With the
 * lock. */
int db_wake(struct db *db);
/* Deletes @file of its directory, if it is there. */
void db_remove_file(struct db *db, const char *file);

/* --- open_transaction.c; with the lock --- */
/* image_write and image_truncate of a transaction that has a journal, or has none. */
int db_write_uncommitted(struct db_access *a, const uint8_t *p, size_t n, uint64_t off);
int db_truncate_uncommitted(struct db_access *a, uint64_t size_bytes);
/* Forgets its pages. */
void db_discard_uncommitted(struct db_access *a);
/* ... its journal, and frames that were not captured, too. */
void db_abandon_uncommitted(struct db_access *a);
/* Forgets the journal, with its name. */
void db_leave_no_journal(struct db *db);
/* Its content only. */
void db_leave_empty_journal(struct db *db);

/* --- remote_commit.c --- */
/* 0, or why no transaction can be made here now. */
int db_may_commit(struct db *db);
/* 0; E_BUSY: the request has to wait, see db_env. */
int db_may_enter(struct db *db, bool is_wal);
const struct db_remote_commit *db_remote_commit_of(const struct db *db);
/* Where a capture runs: one that waits for the network must not take a thread that other databases need. */
struct workers *db_capture_workers(const struct db *db);
/* The same for a transaction that goes to @to first (NULL: to nobody). */
int db_may_commit_as(struct db *db, const struct db_remote_commit *to);

/* A transaction of ours, gathered while it is written to the log. */
struct remote_transaction {
        struct byte_sink sink;
        const struct db_remote_commit *to; /* NULL: it goes nowhere */
        struct received rx;
        bool has_begun;
};
/* Where its LTX file goes. */
struct byte_sink *remote_transaction_begin(struct remote_transaction *f, struct db *db);
int remote_transaction_send(struct remote_transaction *f, struct db *db,
                            const struct txlog_record *record, struct err *e);
void remote_transaction_end(struct remote_transaction *f); /* of a zeroed one is fine */

/* --- db.c, db_file.c --- */
/* Closes what it has open, and no more than that. Of one that nobody knows of, or no more. */
void db_release(struct db *db);

/* --- commit.c --- */
/* Appends the transaction to the log and moves position, size and checksums. 1: done, 0: nothing had
 * changed and nothing was appended, <0: error and nothing has moved. */
int commit_transaction(struct db_access *a, const struct commit_request *rq, struct err *e);

/* The same in two steps, for a transaction that stands or falls with others: after 1 the record is in the log, and nobody
 * knows; then one of the three, which ends it. @rq stays the caller's until then. */
struct commit;
int commit_append(struct db_access *a, const struct commit_request *rq, struct commit **ret,
                  struct err *e);
void commit_publish(struct commit *c);
/* 0, or why the record may be there after a restart. */
int commit_undo(struct commit *c, struct err *e);
void commit_forget(struct commit *c);
/* For one that waits between the two, without the access that it was made with. */
struct commit_facts {
        struct ltx_pos pos; /* after it */
        uint64_t lsn;       /* of its end */
        uint64_t term;      /* that it may be committed in */
};
void commit_look(const struct commit *c, struct commit_facts *ret);
void commit_move_to(struct commit *c, struct db_access *a);

/* --- confirm.c --- */
/* The commit is in the log, and as durable as it is to be: 0 after @then (NULL: nothing), or E_UNCONFIRMED and its journal
 * is left empty, so that nobody rolls it back. With the lock. */
int confirm_commit(struct db *db, void (*then)(struct db *db));

/* --- capture_journal.c --- */
/* @r of a commit that the application is told of. It may go on trying: one line, then a count. */
void capture_tell_failed(struct db_access *a, int r, const struct err *e);
/* Commits what is uncommitted outside the WAL; its pages wait to enter the file then. 0 or negative. */
int capture_uncommitted(struct db_access *a, struct err *e);
/* capture_uncommitted in two steps, of an owner; set @a before. */
struct capture {
        struct db_access *a;
        struct commit_request rq;
        uint32_t *pgnos;
        uint32_t old_page_size;
        struct commit *record; /* NULL: there was nothing to commit */
};
int capture_append(struct capture *c, struct err *e);
/* One of the two follows, whatever capture_append said; capture_publish after 0 only. */
int capture_undo(struct capture *c, struct err *e);
int capture_publish(struct capture *c, struct err *e);
/* Neither: nobody knows whether it stands, and the database has stopped. */
void capture_forget(struct capture *c);
/* Whether that is small enough for the thread that answers requests. */
bool capture_is_light(const struct db *db);
/* capture_uncommitted and the sync that the application wants, in this hold or by a worker that it is passed on to. 0, negative,
 * DB_PENDING. @then is called with the lock held after success, before @done. */
int capture_and_finish(struct db_access *a, bool is_synced, void (*then)(struct db *db),
                       struct db_done done);

/* --- capture_wal.c --- */
/* The frames after the captured ones as one transaction of @commit pages. @last_page: the last one's content, or NULL. */
int capture_frames(struct db_access *a, uint32_t commit, const uint8_t *last_page, struct err *e);
/* Each transaction that @scan finds: 0, negative and what is left is revoked, or DB_PENDING. With the lock. */
int capture_scanned(struct db_access *a, struct wal_scan *scan, struct db_done done);
/* Stops the database when what wal_revoke_* has returned says that the WAL has a commit that the log lacks. */
void capture_check_revoked(struct db *db, int result);

/* The request of a transaction that the WAL has. @tx lives as long. */
void capture_frames_request(struct db *db, uint32_t commit, const struct wal_transaction *tx,
                            struct commit_request *ret);
/* Small enough for the thread that answers requests. With the lock. */
bool capture_frames_are_light(const struct db *db, uint32_t commit);

/* --- capture_passed.c: see db/passed.h --- */
struct passed_run {
        uint32_t shown; /* frames that the wal-index shows */
        bool is_sync;   /* frames behind those, too: their writer waits for us */
        bool is_worker;
        bool has_captured;
};
/* Captures what the wal-index shows. As passed_before_call, but for E_NOT_PRIMARY. With the lock. */
int passed_look(struct db_access *a, struct passed_run *run);
/* Before a call that may take frames away: what the wal-index shows is captured. 0; E_BUSY: a worker does it, and @a is passed
 * on; negative. */
int passed_before_call(struct db_access *a);
/* What is published is captured, and what is written behind that is known (wal_has_uncaptured). An owner's. */
int passed_catch_up(struct db_access *a, struct err *e);
int passed_fsync(struct db_access *a, struct db_done done);

/* --- passed.c --- */
/* Before what another node has committed: what is published is captured. Without the lock. */
void passed_before_apply(struct db *db);
/* No application writes to the WAL any more, or it is gone. With the lock. */
void passed_end(struct db_access *a);
void passed_release(struct db *db);

/* --- wal_checkpoint.c --- */
/* A write to the database file in WAL mode. 0: every page is an image from the WAL, written; -EAGAIN: the
 * log must be durable up to *@ret_lsn first; -ENOENT: not a checkpoint's write. */
int checkpoint_write(struct db_access *a, const uint8_t *buf, size_t n, uint64_t off, uint64_t *ret_lsn);

/* All captured frames go into the database file. The owner's. */
int checkpoint_all(struct db_access *a, struct err *e);

/* --- recover_wal.c --- */
/* Whether applications wrote the WAL that is there without us. */
bool recover_has_wal_tail(struct db *db);
/* What it has of commits that the log lacks is in the log then, durable, and nowhere else. */
int recover_wal_tail(struct db_access *a, struct err *e);

/* --- flush.c --- */
/* The uncommitted pages were committed at last_lsn: they wait to enter the file. With the lock. */
int keep_committed(struct db_access *a);
/* Committed pages go into the file if the log is durable that far, else -EAGAIN. */
int flush_writeback(struct db_access *a);
/* flush_writeback now if it can be, without the lock. What does not go now goes later: it is in the log. An owner's pages
 * are its own (-EAGAIN). */
int flush_if_free(struct db *db);
/* The file has all of the committed image, but for the WAL's: cut what lies past its end. With the lock. */
void flush_trim_file(struct db_access *a);

/* --- housekeep.c --- */
/* The base moves to @txid, which the file holds. A keeper's, or an owner's. */
int base_write(struct db_access *a, uint64_t txid, struct err *e);
/* As base_write, of a database that @txid has deleted. */
int base_write_empty(struct db_access *a, uint64_t txid, struct err *e);
/* Makes the database file durable, or stops the database. As base_write. */
int sync_file(struct db_access *a, struct err *e);

/* --- drop.c --- */
/* The record of a drop, durable, if there is a page. The file is still there. */
int db_append_drop(struct db_access *a, const struct ltx_mark *mark, struct err *e);
/* After it: the database has no file any more, nor companions. *@ret_fd and *@ret_wal_fd as in db_drop. With the lock. */
void db_leave_no_file(struct db_access *a, int *ret_fd, int *ret_wal_fd);

/* --- apply.c --- */
/* For replace.c and apply_wal.c: */
/* The database for @who, who applies @rx; -EAGAIN when it is another's. */
int begin_apply(struct db *db, enum db_actor who, const struct received *rx, struct db_access *ret,
                struct err *e);
/* @result, or why what is this node's own could not be made durable. */
int end_apply(struct db_access *a, int result, struct err *e);
/* One more page in the list; @capacity begins as 0. */
int db_changes_add(struct db_changes *ch, uint32_t *capacity, uint32_t pgno);
struct received_pages; /* a reader of what was received, page by page */
int received_pages_open(const struct received *rx, struct received_pages **ret,
                        struct ltx_header *ret_header, struct err *e);
/* 1: a page, 0: the end, and the whole was sound. */
int received_pages_next(struct received_pages *rp, uint8_t *page, uint32_t *ret_pgno, struct err *e);
void received_pages_close(struct received_pages *rp);

/* --- verify.c --- */
/* After a commit, where the configuration or a debug build wants it: compares all of the committed image with its
 * checksums, and stops the database when a page differs (E_CHECKSUM). */
int verify_commit(struct db_access *a, struct err *e);
/* Page @pgno of the committed image, compared with its checksum, in @buf: room for two pages. The lock page is not read. With
 * the lock. */
int verify_read_page(struct db *db, uint8_t *buf, uint32_t pgno, struct err *e);

/* --- sync.c --- */
/* Makes the log durable to @lsn and waits for it, measured. */
int sync_now(struct db *db, uint64_t lsn, struct err *e);
/* The same for what cannot be taken back. A sync that failed is final: the log takes nothing more until it is opened
 * again, and the database stops. */
int sync_or_fail(struct db_access *a, uint64_t lsn, struct err *e);
/* Makes the log durable to @lsn, flushes committed pages, calls @done. DB_PENDING or a negative errno; 0 when the log is
 * that durable already. In a hold. */
int sync_log(struct db_access *a, uint64_t lsn, struct db_done done);
/* The same for the last commit, whose application waits for the answer: see confirm_commit. @then (NULL: nothing) is
 * called with the lock held before @done. */
int sync_commit(struct db_access *a, void (*then)(struct db *db), struct db_done done);
/* Begins to sync the last commit, which the application is about to ask for. With the lock. */
void sync_expected(struct db *db);

/* --- recover.c --- */
int recover(struct db_access *a, struct err *e);

#endif
