/* lib/sqlite/wal_index.h - the wal-index in NAME-shm, in shared memory with running SQLite processes.
 *
 * Layout (wal.c): two copies of a 48-byte header, then 40 bytes of checkpoint state; all in the machine's byte
 * order, for the wal-index never leaves the machine. A header counts only when both copies are equal and the
 * checksum holds; a writer stores the second copy, a barrier, then the first; a reader the other way round. */
#ifndef LITEFS_SQLITE_WAL_INDEX_H
#define LITEFS_SQLITE_WAL_INDEX_H

#include <stdint.h>

#define WAL_INDEX_HEADER_SIZE 136

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

#endif
