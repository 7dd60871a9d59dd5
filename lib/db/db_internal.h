/* lib/db/db_internal.h - the inside of a database, for the files of lib/db/ only.
 *
 *   db.c               open, close, states, attributes
 *   db_file.c          the database file's reads, writes and truncations; its end
 *   commit.c           one transaction into the log, and the state moved on
 *   capture_journal.c  commits of rollback-journal modes and of writes without a journal; journal_file.c
 *   capture_wal.c      commits of WAL mode; wal_chain.c, wal_commit.c, wal_file.c
 *   wal_checkpoint.c   from the WAL into the database file
 *   sync.c             durability of commits, shared by those who wait for it
 *   late.c             committed pages on their way to the database file; the base; housekeeping
 *   replace.c          another history instead of ours
 *   apply.c            transactions that another node has committed; apply_wal.c, received.c
 *   forward.c          transactions that another node commits for us
 *   snapshot.c         all of it as of one position, while it changes
 *   verify.c           the committed image against its checksums
 *   recover.c          the state at open */
#ifndef LITEFS_DB_DB_INTERNAL_H
#define LITEFS_DB_DB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "db/apply.h"
#include "db/db.h"
#include "db/forward.h"
#include "db/overlay.h"
#include "db/pagesum.h"
#include "db/wal_frames.h"
#include "ltx/encoder.h"
#include "sqlite/wal_format.h"

#define DB_OVERLAY_CAP (2u << 20)  /* memory of each overlay before it spills */
#define DB_JOURNAL_CAP (1u << 20)  /* memory of a journal before it spills */
#define DB_LATE_PAGES_MAX 1024u    /* late pages before a commit asks for a flush */
#define DB_LIGHT_COMMIT_PAGES 512u /* a larger commit is captured by a worker */
#define DB_BASE_EVERY (64u << 20)  /* log bytes after which the base moves */
#define DB_NO_FLOOR UINT64_MAX

enum db_state { DB_OPENING, DB_READY, DB_CAPTURING, DB_FAILED };

struct db_journal {
        bool exists;
        bool is_active; /* holds a transaction: written since it was created or finalised */
        bool is_hot;    /* SQLite would roll back by it; no page is written under one that is not */
        struct spool content;
};

/* The WAL chain: what SQLite has written since the last header, as far as it checks out. */
struct db_wal {
        int fd;              /* -1: no file */
        bool is_synced_each; /* the application has synced after its last commit, so it will after the next */
        bool is_revoked; /* the last transaction failed: nothing but the begin of another one is taken */
        bool is_live;    /* the header is valid and of this database's page size */
        bool is_big_endian;
        uint32_t salt1, salt2;
        uint32_t header_sum[2];
        struct wal_frames frames; /* verified frames, the captured ones first */
        uint32_t n_captured;      /* frames up to the last captured commit */
        uint32_t captured_sum[2]; /* running checksum there */
        uint32_t verified_sum[2]; /* running checksum at frames.n */
        uint32_t n_written;       /* highest frame that the open transaction has begun to write */
        uint32_t header_frame;    /* number of the frame whose header was written last; 0: none */
        uint8_t header[24];       /* and its header, so that the page's write completes it in memory */
};

struct db {
        const struct db_env *env;
        char *name;
        char *dir;
        pthread_mutex_t lock;
        pthread_mutex_t
                keeping; /* held for all of a db_housekeep, so that replace.c can rule one out; above lock */
        enum db_state state;

        int fd; /* the database file; -1 when there is none */
        uint32_t page_size;
        uint32_t page_count; /* committed */
        bool is_wal;
        struct ltx_pos pos;
        int64_t timestamp_ms;
        int64_t apply_lag_ms; /* see struct db_info */
        struct pagesum sums;  /* of the committed image */

        struct txlog *log;
        struct ltx_encoder *encoder;
        uint64_t last_lsn;        /* of the last commit */
        bool is_unconfirmed;      /* which was made here, and may not be the cluster's */
        struct sync_job *syncing; /* runs or is about to; NULL: none */
        uint32_t n_syncs;         /* jobs that have yet to end, with those before it */
        uint64_t durable_txid;    /* the log is durable at least up to here, as sync.c has seen it */

        uint64_t size_bytes; /* of the file as applications see it */
        struct overlay open; /* uncommitted pages */
        uint64_t open_floor; /* bytes of the file from here on are cut by the open transaction */
        bool is_unjournaled; /* `open` holds pages written without a journal */
        bool wants_sync;     /* the application has fsynced in this transaction */

        struct overlay late; /* committed, not yet in the file */
        uint64_t late_lsn;   /* durable log end that allows them in */
        int late_error;      /* of the last attempt to write them */

        struct db_journal journal;
        struct db_wal wal;

        uint64_t wal_backfilled_txid; /* SQLite has copied the WAL up to here to the file */
        uint64_t base_txid;           /* the file durably holds this transaction */
        uint64_t base_lsn;            /* log end when the base last moved */
        uint8_t *page_buf; /* 2 x 64 KiB, for whoever holds the lock; untouched parts cost nothing */

        const struct received *received; /* what is being applied, else NULL */
        bool is_pos_held;                /* applied, but caches above do not know: held_pos is shown */
        bool is_apply_local;             /* what was applied last was made here */
        struct ltx_pos held_pos;
        pthread_mutex_t snapshot_lock; /* guards snapshot and what it points to; rank below lock */
        struct db_snapshot *snapshot;  /* that is being read, else NULL */

        atomic_ullong counters[DB_N_COUNTERS];
        atomic_bool is_receiving;
        atomic_bool is_halted;                      /* see db/forward.h */
        _Atomic(const struct db_forward *) forward; /* NULL: this node commits by itself */

        struct commit_change *changes; /* scratch of commit.c, kept between commits */
        uint32_t changes_capacity;
};

#define DB_PAGE_BUF 65536u

/* Who captures: a thread that holds the lock, or the worker of a busy database. The worker works without
 * the lock, for a huge transaction takes seconds and readers must go on, on buffers of its own; nobody but
 * it may change the database, and it takes the lock for each change it makes. */
struct capturer {
        struct db *db;
        bool is_worker;
        uint8_t *page; /* DB_PAGE_BUF bytes each */
        uint8_t *scratch;
};
static inline void
capturer_lock(const struct capturer *c)
{
        if (c->is_worker)
                pthread_mutex_lock(&c->db->lock);
}
static inline void
capturer_unlock(const struct capturer *c)
{
        if (c->is_worker)
                pthread_mutex_unlock(&c->db->lock);
}
/* The capturer for a holder of the lock. */
static inline struct capturer
capturer_here(struct db *db)
{
        return (struct capturer){ db, false, db->page_buf, db->page_buf + DB_PAGE_BUF };
}
/* The capturer for a worker: allocates. */
int capturer_init_worker(struct capturer *c, struct db *db);
void capturer_release(struct capturer *c);

/* --- forward.c --- */
/* 0, or why no transaction can be made here now. */
int db_may_commit(struct db *db);
const struct db_forward *db_forward_of(const struct db *db);
/* Where a capture runs: one that waits for the network must not take a thread that other databases need. */
struct workers *db_capture_workers(const struct db *db);
/* The same for a transaction that goes to @to first (NULL: to nobody). */
int db_may_commit_as(struct db *db, const struct db_forward *to);

/* A transaction of ours, gathered while it is written to the log. */
struct forwarding {
        struct byte_sink tee;
        const struct db_forward *to; /* NULL: it goes nowhere */
        struct byte_sink *log;
        struct received rx;
        bool has_begun;
};
/* What to write to instead of @log. */
struct byte_sink *forwarding_begin(struct forwarding *f, struct db *db, struct byte_sink *log);
int forwarding_send(struct forwarding *f, struct db *db, const struct txlog_record *record,
                    struct err *e);
void forwarding_end(struct forwarding *f); /* of a zeroed one is fine */

/* --- db.c, db_file.c --- */
int db_path(const struct db *db, const char *file, char *buf, size_t size);
/* The page as applications see it outside the WAL: open, late, file; zeros past the end. In memory that
 * lives until the next call. */
const uint8_t *db_visible_page(const struct capturer *c, uint32_t page_size, uint32_t pgno,
                               int *ret_error);
int db_open_file(struct db *db);
void db_fail(struct db *db, const char *why);
static inline bool
db_is_dirty(const struct db *db)
{
        return !overlay_is_empty(&db->open) || db->open_floor != DB_NO_FLOOR;
}
void db_discard_open(struct db *db);

/* --- commit.c --- */
struct commit_change {
        uint64_t sum;
        uint32_t pgno;
};

/* What a transaction consists of. @pgnos rises strictly and may hold pages that turn out unchanged;
 * pages between the old and the new size that it lacks are taken as they are visible. NULL with
 * @is_snapshot: every page of the new image. */
struct commit_request {
        uint32_t page_size;
        uint32_t commit; /* new size in pages */
        bool is_snapshot;
        const uint32_t *pgnos;
        uint32_t n_pgnos;
        const uint8_t *(*get)(const struct capturer *c, const struct commit_request *rq, uint32_t i,
                              int *ret_error);
        const void *arg;
        int64_t wal_offset, wal_size;
        uint32_t wal_salt1, wal_salt2;
        const struct received *received; /* not NULL: the record is there already, see db/apply.h */
};

/* Appends the transaction to the log and moves position, size and checksums. 1: done, 0: nothing had
 * changed and nothing was appended, <0: error and nothing has moved. */
int commit_transaction(const struct capturer *c, const struct commit_request *rq, struct err *e);

/* --- capture_journal.c --- */
/* Commits what is in `open` and makes it late. 0 or negative. */
int capture_open(const struct capturer *c, struct err *e);
/* Whether that is small enough for the thread that answers requests. */
bool capture_is_light(const struct db *db);
/* capture_open and the sync that the application wants, here or by a worker. 0, negative, DB_PENDING.
 * @then is called with the lock held after success, before @done. */
int capture_and_finish(struct db *db, bool is_synced, void (*then)(struct db *db), struct db_done done);

/* The commit is in the log, and as durable as it is to be: 0 after @then (NULL: nothing), or E_UNCONFIRMED and its journal
 * is left empty, so that nobody rolls it back. With the lock. */
int confirm_commit(struct db *db, void (*then)(struct db *db));

/* --- wal_chain.c, of which more is in wal_chain.h; wal_checkpoint.c --- */
void wal_reset(struct db *db);
/* A write to the database file in WAL mode. 0: every page is an image from the WAL, written; -EAGAIN: the
 * log must be durable up to *@ret_lsn first; -ENOENT: not a checkpoint's write. */
int wal_write_database(struct db *db, const uint8_t *buf, size_t n, uint64_t off, uint64_t *ret_lsn);

/* --- late.c --- */
/* Moves `open` to `late`, after its transaction was appended at last_lsn. */
int late_add_open(struct db *db);
/* Writes late pages to the file if the log is durable that far, else -EAGAIN. */
int late_flush(const struct capturer *c);
/* With the lock: late_flush now if it can be. What does not go now goes later: it is in the log. A busy
 * database's late pages are its worker's (-EAGAIN). */
int late_try_flush(struct db *db);
/* The file has all of the committed image (outside the WAL): cut what lies past its end. With the lock. */
void late_trim_file(struct db *db);
int base_write(struct db *db, uint64_t txid, struct err *e);
/* Makes the database file durable, or stops the database. */
int sync_file(struct db *db, struct err *e);

/* Writes into `open`, in any size at any offset. With the lock. */
int db_write_open(struct db *db, const uint8_t *p, size_t n, uint64_t off);
/* Cuts or extends what is visible. With the lock. */
int db_truncate_open(struct db *db, uint64_t size_bytes);
/* Forgets the journal, with its name. With the lock. */
void db_leave_no_journal(struct db *db);
/* Its content only. With the lock. */
void db_leave_empty_journal(struct db *db);
/* After the record of a drop: the database has no file any more, nor companions. With the lock. */
void db_leave_no_file(struct db *db, int *ret_fd, int *ret_wal_fd);

/* --- apply.c --- */
/* Forgets the open transaction, its journal, and frames that were not captured. With the lock. */
void db_abandon_open(struct db *db);

/* For replace.c: */
/* Takes the database for this thread alone, as a long capture does, and gives it back. */
int begin_apply(struct db *db, const struct received *rx, struct capturer *c, struct err *e);
/* @result, or why what is this node's own could not be made durable. */
int end_apply(struct db *db, struct capturer *c, int result, struct err *e);
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
int verify_commit(const struct capturer *c, struct err *e);

/* --- snapshot.c --- */
/* Before bytes [from, to) of the database file are overwritten or cut; before the WAL begins anew or is cut. With
 * the database's lock, or as its capturer. */
void snapshot_save_file(struct db *db, uint64_t from, uint64_t to);
void snapshot_save_wal(struct db *db);
/* Before and after a checkpoint writes @frame into the file as @pgno. */
void snapshot_save_frame(struct db *db, uint32_t pgno, uint32_t frame);
void snapshot_note_copied(struct db *db, uint32_t pgno, uint32_t frame);

/* --- sync.c --- */
/* Makes the log durable to @lsn and waits for it, measured. */
int sync_now(struct db *db, uint64_t lsn, struct err *e);
/* The same for what cannot be taken back. A sync that failed is final: the log takes nothing more until it is opened
 * again, and the database stops. */
int sync_or_fail(const struct capturer *c, uint64_t lsn, struct err *e);
/* Makes the log durable to @lsn, flushes late pages, calls @then (NULL: nothing) with the lock held, then
 * @done. DB_PENDING or a negative errno; 0 when the log is that durable already. With the lock. */
int sync_log(struct db *db, uint64_t lsn, void (*then)(struct db *db), struct db_done done);
/* The same for the last commit, whose application waits for the answer: see confirm_commit. */
int sync_commit(struct db *db, void (*then)(struct db *db), struct db_done done);
/* Begins to sync the last commit, which the application is about to ask for. With the lock. */
void sync_expected(struct db *db);

/* --- recover.c --- */
int recover(struct db *db, struct err *e);

#endif
