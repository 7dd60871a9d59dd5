/* lib/txlog/txlog.h - the transaction log of one database: LTX v3 files, one after the other, in
 * preallocated append-only segments.
 *
 * The log is the truth: a transaction is committed when its record is in the log, and durable when the
 * log was synced past it. dbs/NAME/log/ holds segments SSSSSSSSSSSSSSSS.seg named by a sequence number
 * in 16 hex digits (docs/on-disk.md has the bytes). Records are framed with length and CRC, seeded with
 * the segment's own random number so that old bytes in a preallocated or reused segment never pass for
 * records; what does not check out at the end of the last segment is a torn tail and is cut at open.
 * A bad record that is followed by a later segment is damage and fails the open (E_CORRUPT_DB, with file
 * and offset).
 *
 * TXIDs in the log are contiguous: each record's min_txid is the last max_txid + 1, or it is a snapshot
 * (min_txid 1, any higher max_txid), after which older records stay readable but no longer lead to it.
 *
 * Threads: append calls come from one thread at a time (the database's owner). sync, readers, retention
 * and the getters are safe from any thread at any time and never block an append for the length of an
 * fdatasync. LSN = count of log bytes ever appended, only grows while the log is open; a new open
 * starts anywhere. */
#ifndef LITEFS_TXLOG_TXLOG_H
#define LITEFS_TXLOG_TXLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "base/stream.h"
#include "ltx/header.h"
#include "ltx/pos.h"

struct txlog;
struct txlog_reader;

struct txlog_options {
        uint64_t segment_bytes; /* a segment is closed once it is this long; 0: 16 MiB */
};

/* What is known of a record without decoding its LTX. */
struct txlog_record {
        uint64_t min_txid;
        uint64_t max_txid;
        uint64_t pre_apply_checksum;
        uint64_t post_apply_checksum;
        int64_t timestamp_ms;
        uint32_t page_size;
        uint32_t commit;
        uint64_t size_bytes; /* of the LTX file */
};

/* Opens or creates the log in @dir (which is created when absent, durably). Verifies the CRC of every
 * record that is newer than @verify_from_txid and of the whole last segment; cuts a torn tail. */
int txlog_open(const struct os *os, const char *dir, const struct txlog_options *options,
               uint64_t verify_from_txid, struct txlog **ret, struct err *e);
/* For looking only, also while a daemon appends: changes nothing on disk (a torn tail is left out, not cut),
 * and no append, sync or retention may be called. Sees the records there are at this moment. */
int txlog_open_readonly(const struct os *os, const char *dir, struct txlog **ret, struct err *e);
/* Does not sync. NULL is fine. No reader may be open. */
void txlog_close(struct txlog *log);

/* Another log instead, which is open already and in the same directory by now: begin (-EAGAIN while there are readers;
 * none can be opened from then on), then commit, which takes @other, or abort. Nobody appends or makes space
 * meanwhile; whoever else has the log goes on using it. */
int txlog_swap_begin(struct txlog *log);
int txlog_swap_commit(struct txlog *log,
                      struct txlog *other); /* 0; -EBUSY, and nothing has changed: none was begun */
void txlog_swap_abort(struct txlog *log);

/* Bytes that the torn tail had when it was cut at open, 0 when there was none. */
uint64_t txlog_torn_bytes(const struct txlog *log);
/* Where the last record ends, for messages: "FILE at offset N". */
void txlog_describe_end(const struct txlog *log, char *buf, size_t size);

/* Appends one record: begin, LTX bytes to the returned sink, commit. The sink is borrowed from the log
 * and valid until commit or abort. Small records are gathered in memory and written with one pwrite at
 * commit; past 1 MiB the bytes go out as they come. Nothing is visible to readers before commit
 * returned 0. After a failed commit, or abort, the log is as it was before begin (whatever was written
 * is cut or overwritten later); only when even that cannot be had does the log refuse all further
 * appends with -EIO until it is opened again. */
struct byte_sink *txlog_append_begin(struct txlog *log);
/* @record.size_bytes is ignored: the sink counted. Returns 0 and the LSN after the record. */
int txlog_append_commit(struct txlog *log, const struct txlog_record *record, uint64_t *ret_lsn,
                        struct err *e);
void txlog_append_abort(struct txlog *log);

/* Takes the last record, which must be that of @txid, out again: E_NOT_FOUND when it is another. Nobody may have read it;
 * that it is gone lasts once the log was synced (txlog_end_lsn). After an error of the disk it is gone for this process, and
 * what becomes of it after a restart is open. The appender's, once after an append or an open. */
int txlog_undo_last(struct txlog *log, uint64_t txid, struct err *e);

/* Closes the file that is appended to, if all of it is durable; the next append opens it again. Whether it has. Nobody may
 * append meanwhile. */
bool txlog_rest(struct txlog *log);
/* Makes everything up to @lsn durable: returns when an fdatasync that covers it has succeeded. Several
 * callers share one. An fdatasync that failed is final (the kernel may have dropped the pages): from then
 * on sync of anything not yet synced, and append, fail with -EIO. */
int txlog_sync(struct txlog *log, uint64_t lsn, struct err *e);
uint64_t txlog_end_lsn(struct txlog *log);
uint64_t txlog_synced_lsn(struct txlog *log);

/* Prepares the zero-filled space ahead of the end so that appends overwrite instead of extend. Costs a
 * write of up to 1 MiB; call it from a worker when txlog_wants_space() says so. Failure is harmless. */
bool txlog_wants_space(struct txlog *log);
int txlog_make_space(struct txlog *log);

/* Newest record: false when the log is empty. */
bool txlog_last(struct txlog *log, struct txlog_record *ret);
/* Oldest record still there: false when the log is empty. */
bool txlog_first(struct txlog *log, struct txlog_record *ret);

struct txlog_stat {
        uint32_t segments;
        uint64_t bytes;           /* records with their frames */
        uint64_t allocated_bytes; /* on disk, with the space ahead */
};
void txlog_get_stat(struct txlog *log, struct txlog_stat *ret);
/* Bytes of the segments that have only what follows on @txid. */
uint64_t txlog_bytes_behind(struct txlog *log, uint64_t txid);

/* Positions a reader so that the first next() returns the oldest record with max_txid > @after_txid.
 * E_NOT_FOUND when retention has dropped the record that follows @after_txid, -EAGAIN after txlog_swap_begin. A reader sees records that
 * are appended after it was opened, keeps its segment alive, and is used by one thread at a time. */
int txlog_reader_open(struct txlog *log, uint64_t after_txid, struct txlog_reader **ret, struct err *e);
/* 1: *@ret is the next record and *@ret_src gives its LTX bytes until the next call; 0: at the end for
 * now; <0: error (E_CHECKSUM names file and offset). The CRC of the record's bytes is checked by the time
 * the source has returned its end (a mismatch is E_CHECKSUM from the last read). */
int txlog_reader_next(struct txlog_reader *r, struct txlog_record *ret, struct byte_src **ret_src,
                      struct err *e);
void txlog_reader_close(struct txlog_reader *r); /* NULL is fine */
/* Where the bytes lie of the record that next() has returned: they stay as they are for as long as the file is open, also
 * when retention has taken its name away. @fd is the reader's until the next call. */
struct txlog_place {
        uint64_t seq; /* the segment */
        int fd;
        uint64_t off; /* of the record's LTX file in it */
};
void txlog_reader_get_place(const struct txlog_reader *r, struct txlog_place *ret);

/* A place for a reader from which it meets every record but, perhaps, those before the last one that is no younger than
 * @time_ms: what to open it with. By the segments' ends only, so no record is read. */
uint64_t txlog_seek_time(struct txlog *log, int64_t time_ms);

/* Whether a position is one that this log has led through. */
enum txlog_history {
        TXLOG_HISTORY_OURS = 0,    /* it is, or there is no transaction in it */
        TXLOG_HISTORY_OTHER = 1,   /* it is not: what led to it is nowhere here */
        TXLOG_HISTORY_UNKNOWN = 2, /* the records that would tell are not in the log any more */
};
/* 0, or what stopped the search. */
int txlog_find_history(struct txlog *log, struct ltx_pos pos, enum txlog_history *ret, struct err *e);

/* Drops whole segments from the old end while: every record in it is <= @keep_after_txid, and the
 * segment's newest record is older than @max_age_ms at @now_ms or the log is larger than @max_bytes
 * (0: no limit). Never the last segment, nor one that a reader stands in or before. Returns how many
 * segments went, else a negative errno. */
struct txlog_retention {
        uint64_t keep_after_txid;
        int64_t now_ms;
        int64_t max_age_ms;
        uint64_t max_bytes;
};
int txlog_retain(struct txlog *log, const struct txlog_retention *policy, struct err *e);

#endif
