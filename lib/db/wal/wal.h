/* lib/db/wal/wal.h - the WAL of one database: its file, the chain of its frames, and which of them are captured.
 *
 * An application's way through it: wal_write puts bytes into the file and says by a `struct wal_scan` where to look;
 * wal_scan_next takes in frames for as long as they continue the chain, and stops at each that ends a transaction, for
 * the owner of the database to capture what lies behind the last captured frame: wal_transaction_begin, its pages, and
 * wal_captured once it is logged. A checkpoint's way: wal_checkpoint_write. The daemon's own: wal_append_begin.
 *
 * It knows the database's pages (image/image.h) and no more than that: no log, no transactions but as numbers, no
 * right to commit. -ENOTRECOVERABLE: what it remembers and what the file has disagree, so the database must stop.
 *
 * Threads: as for the image. The database's lock guards all of it; the owner may make the calls that say so without. */
#ifndef LITEFS_DB_WAL_WAL_H
#define LITEFS_DB_WAL_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/os.h"
#include "db/image/snapshot.h"

struct db_wal;

/* --- file.c: the file, but for writes --- */
/* @image outlives it. */
int wal_new(const struct os *os, struct db_image *image, struct db_wal **ret);
void wal_free(struct db_wal *w); /* closes the file; NULL is fine */

struct wal_state {
        bool is_live; /* the header is valid and of this database's page size; else the rest is 0 */
        bool is_big_endian;
        uint32_t salt1, salt2;
        uint32_t n_captured; /* frames up to the last captured commit */
        uint32_t cksum[2];   /* running checksum there */
};
void wal_get_state(const struct db_wal *w, struct wal_state *ret);
bool wal_is_live(const struct db_wal *w);
bool wal_exists(const struct db_wal *w);

int wal_create(struct db_wal *w, const char *path, mode_t mode);
/* The file at @path moves to @to and is the WAL; wal_scan_rest finds what is in it. */
int wal_take_file(struct db_wal *w, const char *path, const char *to);
/* The file at @path is the WAL as it is, for wal_resume. -ENOENT. */
int wal_keep_file(struct db_wal *w, const char *path);
int wal_stat(const struct db_wal *w, struct stat *ret);
ssize_t wal_read(const struct db_wal *w, void *buf, size_t n, uint64_t off);
/* -EBUSY while frames are lost by it that the database file lacks. */
int wal_truncate(struct db_wal *w, uint64_t size_bytes);
/* All of it goes, wherever it is copied to. */
int wal_empty(struct db_wal *w);
/* A header with other salts, and so no frame. -ENOENT; -EBUSY as wal_truncate. */
int wal_restart(struct db_wal *w, uint32_t salt);
/* -ENOENT; -EBUSY as wal_truncate. *@ret_fd is the old file, the caller's. */
int wal_unlink(struct db_wal *w, const char *path, int *ret_fd);
/* There is none any more; what was its file is the caller's (-1: none). */
int wal_detach(struct db_wal *w);
/* The application has synced it, and so is likely to do it after its next commit. */
void wal_note_sync(struct db_wal *w);
/* Frames that are not captured are nobody's any more. */
void wal_forget_uncaptured(struct db_wal *w);

/* --- resume.c: a file that applications have gone on with --- */
/* Of the frames of wal_keep_file those are captured that make up the image, which is that of @txid; the log's end is @lsn.
 * @is_passed: any number of transactions may have come behind them without us, and more come meanwhile. @room: as for the image.
 * E_CHECKSUM: they do not. */
int wal_resume(struct db_wal *w, uint64_t txid, uint64_t lsn, bool is_passed, uint8_t *room);

/* --- write.c: an application's write --- */
struct wal_scan {
        uint32_t first, last;     /* frames that were written */
        const uint8_t *page;      /* of the next frame, as it was written; NULL: the file has it */
        bool reads_on;            /* in the file */
        uint32_t corrected;       /* a frame whose header was written over; 0: none */
        const uint8_t *last_page; /* of the last frame that was taken in, when it is at hand */
};
/* -ENOENT: no file or page size; -EFBIG; -EIO: the rest of a commit that failed; -ESTALE: the writer does not know of
 * what is captured: its wal-index must be made invalid. After 0, wal_scan_next. @buf lives as long as @ret. */
int wal_write(struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off, struct wal_scan *ret);
/* Whatever the file has behind the verified frames. */
struct wal_scan wal_scan_rest(void);
/* 1: the frames up to here end a transaction of *@ret_commit pages: to be captured before the next call; 0: there is no
 * more; <0. */
int wal_scan_next(struct db_wal *w, struct wal_scan *scan, uint8_t *room, uint32_t *ret_commit);
/* The application is told that the write failed, so no transaction of it must stand, also for SQLite's own recovery. */
int wal_revoke_scan(struct db_wal *w, const struct wal_scan *scan);
/* The same of the transaction that wal_scan_next has found last; of whatever is not captured. */
int wal_revoke_last(struct db_wal *w);
int wal_revoke_uncaptured(struct db_wal *w);

/* --- transaction.c: the frames behind the captured ones as a transaction --- */
struct wal_transaction {
        const struct db_wal *wal;
        uint32_t n_pgnos;
        const uint32_t *pgnos;    /* rising */
        const uint32_t *frames;   /* the newest of each */
        const uint8_t *last_page; /* content of the last frame, when it is at hand */
        uint32_t last_frame;
        uint32_t n_frames;
        uint32_t salt1, salt2;
        int64_t offset, size; /* in the file */
        uint32_t *list;       /* what the first two point to, if it is its own */
};
uint32_t wal_n_uncaptured(const struct db_wal *w);
/* The same, with frames that have only begun to be written. */
bool wal_has_uncaptured(const struct db_wal *w);
/* The database has @commit pages after it. An application's (@is_ours) may not make them up. The owner may. */
int wal_transaction_begin(struct db_wal *w, uint32_t commit, bool is_ours, const uint8_t *last_page,
                          struct wal_transaction *ret, struct err *e);
/* So that wal_captured cannot fail. */
int wal_transaction_reserve(struct db_wal *w, const struct wal_transaction *tx);
/* The @i-th page: @last_page or read into @room. The owner may. */
const uint8_t *wal_transaction_page(const struct wal_transaction *tx, uint32_t i, uint8_t *room,
                                    int *ret_error);
void wal_transaction_end(struct wal_transaction *tx); /* of a zeroed one is fine */
/* They are logged: the database is at @txid then, the log's end at @lsn. True: the application is likely to sync. */
bool wal_captured(struct db_wal *w, uint32_t commit, uint64_t txid, uint64_t lsn);

/* --- checkpoint.c: from here into the image's file --- */
/* Pages whose newest committed image is in the WAL only. */
bool wal_has_pending(const struct db_wal *w);
bool wal_is_pending(const struct db_wal *w, uint32_t pgno);
/* All of them, for a snapshot; ret->frames is the caller's. */
int wal_map_pending(const struct db_wal *w, struct image_wal_pages *ret);
/* The committed image of a pending page, whose checksum is @sum: 1; 0: no frame has it; <0: it cannot be read. */
int wal_read_pending(struct db_wal *w, uint32_t pgno, uint64_t sum, uint8_t *buf);

/* Whether a write into the database file can be a checkpoint's at all. */
bool wal_may_be_checkpoint(const struct db_wal *w, size_t n, uint64_t off);
/* Such a write, with the log durable to @synced_lsn and no page in the image's writeback. 0: each page is an image of
 * ours, and is in the file; -EAGAIN: the log must be durable up to *@ret_lsn first; -ENOENT: one is not. */
int wal_checkpoint_write(struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off,
                         uint64_t synced_lsn, uint64_t *ret_lsn);
/* A checkpoint ends by cutting the file to the WAL's database size. It is one when all that it cuts, or leaves out, has
 * its committed image in the WAL or past the committed end. */
bool wal_is_checkpoint_cut(const struct db_wal *w, uint64_t size_bytes);
/* SQLite has copied the first @n_frames of the chain with these salts to the file; and up to which transaction it is
 * known to have. */
void wal_note_backfilled(struct db_wal *w, uint32_t salt1, uint32_t salt2, uint32_t n_frames);
uint64_t wal_backfilled_txid(const struct db_wal *w);

struct wal_copy {
        uint32_t pgno;
        uint32_t frame;
};
/* The captured frames from (@from, @to], into room for that many; then, without the lock, the newest of each page is
 * left, by page. Both say how many. */
uint32_t wal_list_copies(const struct db_wal *w, uint32_t from, uint32_t to, struct wal_copy *list);
uint32_t wal_newest_copies(struct wal_copy *list, uint32_t n);
/* -EAGAIN: the WAL has begun anew. */
int wal_read_copy(const struct db_wal *w, const struct wal_copy *cp, uint8_t *page);

/* --- passed.c: a file that applications write to without us (fuse/passthrough.h), so that it is ahead of what is known --- */
/* A descriptor of the file, the caller's; -ENOENT. */
int wal_dup(const struct db_wal *w);
int wal_fd(const struct db_wal *w); /* its own; -1 */
/* 1: the file begins with the header of another chain than the known one; 0: it does not; <0. */
int wal_has_other_chain(struct db_wal *w);
/* Follows that chain. Nothing must be pending (-EBUSY), nor wait to be published. */
int wal_follow_other_chain(struct db_wal *w);
/* Up to which frame the wal-index in @index_fd shows this chain to other connections; 0: it shows another one, or is just
 * written, or none is known. */
uint32_t wal_published_frames(const struct db_wal *w, int index_fd);
/* The end of the verified frames, and whether the file still has it: nobody has written over a frame up to there. */
struct wal_end {
        uint32_t n_frames;
        uint32_t salt1, salt2;
        uint32_t cksum[2];
        off_t header_at; /* of its last frame, in the file */
};
struct wal_end wal_verified_end(const struct db_wal *w);
/* The verified frames end there again. */
int wal_rewind_to_end(struct db_wal *w, const struct wal_end *end);
bool wal_is_at(const struct db_wal *w, const struct wal_end *end);
bool wal_index_shows(const struct os *os, int index_fd, const struct wal_end *end);
bool wal_file_has_end(const struct os *os, int wal_fd, const struct wal_end *end);
/* The first @n_frames of the file are logged already: -ENOENT when the chain does not get there. */
int wal_skip_logged(struct db_wal *w, uint32_t n_frames, uint8_t *room);
/* (write.c) As wal_scan_next with wal_scan_rest(), and where the chain seems to end without a commit, over frames without a
 * checksum (chain.c), too: nobody has told us of a commit behind them. */
int wal_find_commit(struct db_wal *w, uint8_t *room, uint32_t *ret_commit);

/* --- append.c: frames of the daemon's own, behind the captured ones --- */
struct wal_appender;
/* Behind the captured frames: what else there is must be forgotten by now. -EAGAIN: there is no chain to continue. The
 * owner may. */
int wal_append_begin(struct db_wal *w, struct wal_appender **ret);
/* The owner may. */
int wal_append_page(struct wal_appender *ap, uint32_t pgno, const uint8_t *page);
/* The last frame ends the transaction, of @commit pages; all are in the file. The owner may. */
int wal_append_finish(struct wal_appender *ap, uint32_t commit);
/* They continue the chain: to be captured next. */
int wal_append_take(struct wal_appender *ap);
bool wal_append_is_empty(const struct wal_appender *ap);
/* Its pages in the order of their frames, the first of which is *@ret_first_frame. By malloc, and the caller's. */
uint32_t *wal_append_detach_pgnos(struct wal_appender *ap, uint32_t *ret_n, uint32_t *ret_first_frame);
void wal_append_end(struct wal_appender *ap); /* NULL is fine */
/* The page of each captured frame, by malloc; NULL: out of memory. */
uint32_t *wal_list_captured(const struct db_wal *w, uint32_t *ret_n);

#endif
