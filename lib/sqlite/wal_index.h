/* lib/sqlite/wal_index.h - the wal-index in NAME-shm, in shared memory with running SQLite processes.
 *
 * Layout (wal.c): two copies of a 48-byte header, then 40 bytes of checkpoint state; all in the machine's byte
 * order, for the wal-index never leaves the machine. A header counts only when both copies are equal and the
 * checksum holds; a writer stores the second copy, a barrier, then the first; a reader the other way round. */
#ifndef LITEFS_SQLITE_WAL_INDEX_H
#define LITEFS_SQLITE_WAL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_INDEX_HEADER_SIZE 136
#define WAL_INDEX_COPY_SIZE 48u

struct wal_index_header {
        uint32_t mx_frame; /* valid frames in the WAL */
        uint32_t n_pages;  /* of the database */
        uint32_t salt[2];  /* as numbers, like struct wal_header's */
};

/* @index is the mapped beginning of the file, at least WAL_INDEX_HEADER_SIZE bytes, 8-aligned. 0, or -EAGAIN
 * when no valid header is there (nobody has recovered the WAL yet, or somebody is just writing it). */
int wal_index_read_header(const void *index, struct wal_index_header *ret);
/* Frames that checkpoints have copied into the database file. */
uint32_t wal_index_backfill(const void *index);
/* Makes both copies invalid. Every SQLite connection then finds, at its next transaction, that the header does
 * not hold, takes WRITE and rebuilds the wal-index from the WAL itself; snapshots that are open go on, for
 * frames are never moved by that. */
void wal_index_invalidate(void *index);

/* The first 2 * WAL_INDEX_COPY_SIZE bytes of one that says to be of a version to come: no connection begins a transaction with
 * it, nor mends it (SQLITE_CANTOPEN), where one that is invalid would be made anew from the WAL. */
void wal_index_spoil(void *ret);

/* --- writing it, as the process that holds WRITE ---
 *
 * What follows works on a copy of the file's content in memory. The caller reads the copy and writes back the parts
 * that are named, for a mapping of a file on FUSE is not for the process that serves it. */

#define WAL_INDEX_BLOCK_SIZE 32768u
#define WAL_READ_MARKS 5
#define WAL_READ_MARK_NOT_USED 0xffffffffu

/* Bytes that the file must have to index @n_frames. */
size_t wal_index_size(uint32_t n_frames);
/* Bytes [from, to) of the copy that were changed; {0, 0}: none. */
struct wal_index_range {
        size_t from, to;
};
/* Enters frame @frame (counted from 1, one after the other) as an image of @pgno. Nobody looks at it before
 * wal_index_publish. What a dead writer left from there on is cleared. The ranges, page numbers and slots, are
 * extended; frames of another block need ranges of their own (wal_index_size tells: it grows). */
void wal_index_enter(void *index, uint32_t frame, uint32_t pgno, struct wal_index_range *pgnos,
                     struct wal_index_range *slots);

struct wal_index_commit {
        uint32_t page_size;
        uint32_t mx_frame;
        uint32_t n_pages;
        uint32_t frame_cksum[2]; /* of frame mx_frame */
        uint32_t salt[2];
        bool is_big_endian_cksum;
};
/* Sets both copies of the header, the first WAL_INDEX_PUBLISHED bytes: once they are written back (by one call: a
 * reader who sees them half written finds that the copies differ), the frames up to mx_frame are the WAL's content
 * for transactions that begin from then on. */
#define WAL_INDEX_PUBLISHED 96
void wal_index_publish(void *index, const struct wal_index_commit *commit);
/* Where these words are in the file, 4 bytes each, for who changes one that others change, too. */
#define WAL_INDEX_AT_BACKFILL 96
#define WAL_INDEX_AT_READ_MARK(i) (100 + 4 * (i))
#define WAL_INDEX_AT_BACKFILL_ATTEMPTED 128

/* The WAL begins anew: no frame is copied, no reader needs one. With the locks READ(1) to READ(4), or when no
 * valid header was there. */
void wal_index_restart(void *index);
uint32_t wal_index_read_mark(const void *index, int i);
void wal_index_set_read_mark(void *index, int i, uint32_t mark);
/* With CKPT: what is about to be copied, and what is. */
void wal_index_set_backfill_attempted(void *index, uint32_t n_frames);
void wal_index_set_backfill(void *index, uint32_t n_frames);

#endif
