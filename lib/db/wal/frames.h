/* lib/db/wal/frames.h - what the daemon remembers of each frame of a WAL: page number and checksum.
 *
 * 12 bytes a frame, and 24 a captured transaction. Frames count from 1, as SQLite counts them. Answers
 * which version of a page a checkpoint writes, and which pages the database file still lacks.
 * Not locked: the database's lock guards it. */
#ifndef LITEFS_DB_WAL_FRAMES_H
#define LITEFS_DB_WAL_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

struct wal_tx {
        uint32_t n_frames; /* frames up to and with this transaction's commit */
        uint64_t txid;     /* database position afterwards */
        uint64_t lsn;      /* end of the log afterwards */
};

struct wal_frames {
        uint32_t n;
        uint32_t capacity;
        uint32_t *pgnos; /* [frame - 1] */
        uint64_t *sums;  /* page checksum (ltx/checksum.h) */
        struct wal_tx *txs;
        uint32_t n_txs;
        uint32_t txs_capacity;
        /* Hash of (pgno, sum) to frame, built when a checkpoint first asks, up to n_indexed. */
        uint32_t *index;
        uint32_t index_size;
        uint32_t n_indexed;
        /* Pages whose newest committed image is in the WAL only. */
        uint32_t *pending; /* hash set, 0 = free */
        uint32_t pending_size;
        uint32_t n_pending;
};

void wal_frames_reset(struct wal_frames *f); /* frees everything */
/* Appends frame n + 1. */
int wal_frames_push(struct wal_frames *f, uint32_t pgno, uint64_t sum);
/* Forgets frames after @n. */
void wal_frames_cut(struct wal_frames *f, uint32_t n);
/* Makes room so that the next add_tx cannot fail. */
int wal_frames_reserve_tx(struct wal_frames *f);
void wal_frames_add_tx(struct wal_frames *f, const struct wal_tx *tx);
/* The transaction that frame @frame belongs to; NULL when it is not captured. */
const struct wal_tx *wal_frames_tx_of(const struct wal_frames *f, uint32_t frame);
/* The last transaction that lies wholly in the first @n_frames; NULL when there is none. */
const struct wal_tx *wal_frames_tx_within(const struct wal_frames *f, uint32_t n_frames);
/* The last frame up to @n_captured that holds this image of the page; 0 when none does, <0 on -ENOMEM. */
int64_t wal_frames_find(struct wal_frames *f, uint32_t n_captured, uint32_t pgno, uint64_t sum);

int wal_frames_reserve_pending(struct wal_frames *f, uint32_t n_more);
void wal_frames_add_pending(struct wal_frames *f, uint32_t pgno);
void wal_frames_clear_pending(struct wal_frames *f, uint32_t pgno);
bool wal_frames_is_pending(const struct wal_frames *f, uint32_t pgno);
void wal_frames_clear_pending_above(struct wal_frames *f, uint32_t pgno);

#endif
