/* lib/db/wal/wal_internal.h - the inside of the WAL, for its files. */
#ifndef LITEFS_DB_WAL_WAL_INTERNAL_H
#define LITEFS_DB_WAL_WAL_INTERNAL_H

#include "db/wal/frames.h"
#include "db/wal/wal.h"
#include "sqlite/wal_format.h"

#define WAL_FRAMES_MAX \
        (UINT32_MAX / 2) /* SQLite's own are of 32 bits; a WAL of so many has a terabyte at least */

/* The chain: what SQLite has written since the last header, as far as it checks out. */
struct db_wal {
        const struct os *os;
        struct db_image *image;
        int fd;              /* -1: no file */
        bool is_synced_each; /* the application has synced after its last commit, so it will after the next */
        bool is_revoked; /* the last transaction failed: nothing but the begin of another one is taken */
        bool is_live;    /* the header is valid and of this database's page size */
        bool is_big_endian;
        uint32_t salt1, salt2;
        uint32_t header_sum[2];   /* of the chain's header */
        struct wal_frames frames; /* verified frames, the captured ones first */
        uint32_t n_captured;      /* frames up to the last captured commit */
        uint32_t captured_sum[2]; /* running checksum there */
        uint32_t verified_sum[2]; /* running checksum at frames.n */
        uint32_t n_written;       /* highest frame that the open transaction has begun to write */
        uint32_t header_frame;    /* number of the frame whose header was written last; 0: none */
        uint8_t header[24];       /* and its header, so that the page's write completes it in memory */
        uint64_t backfilled_txid; /* SQLite has copied frames up to this transaction into the file */
};

/* --- chain.c --- */
uint32_t wal_frame_size(const struct db_wal *w);
/* Frames count from 1. Of an offset that an application named it is a number of 64 bits, until it is known to be one of
 * the WAL's, or the next. */
uint64_t wal_frame_offset(const struct db_wal *w, uint64_t frame);
/* The frame that the byte at @off belongs to; 0: the header. */
uint64_t wal_frame_at(const struct db_wal *w, uint64_t off);
/* No frames, no header; the file stays. */
void wal_reset(struct db_wal *w);
/* A new header begins a new chain. */
void wal_begin_chain(struct db_wal *w, const uint8_t header[WAL_HEADER_SIZE]);
/* The file's. */
int wal_read_header(struct db_wal *w);
/* The chain's verified end goes back, so that @frame is the next to verify. */
int wal_rewind_to(struct db_wal *w, uint32_t frame);
/* A frame as the next of the chain, taken in if it is: one of these, or negative. */
enum wal_verdict { FRAME_INVALID, FRAME_VALID, FRAME_COMMIT };
int wal_verify_frame(struct db_wal *w, const uint8_t *header, const uint8_t *page, uint32_t *ret_commit);
int wal_verify_unsummed(struct db_wal *w, const uint8_t *header, const uint8_t *page);
/* (write.c) The same of the next frame that the file has. */
int wal_take_frame(struct db_wal *w, uint8_t *room, uint32_t *ret_commit);
/* Makes the chain end before @frame in the file, too. */
int wal_revoke_from(struct db_wal *w, uint32_t frame);

#endif
