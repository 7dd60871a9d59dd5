/* lib/db/wal_chain.h - the frames of the WAL that continue its chain of checksums, for wal_*.c, capture_wal.c and
 * apply_wal.c.
 *
 * The chain is struct db_wal in struct db, and its database's. All with the database's lock, or as its capturer; none of it
 * waits for the disk to be durable. */
#ifndef LITEFS_DB_WAL_CHAIN_H
#define LITEFS_DB_WAL_CHAIN_H

#include "db/db_internal.h"

/* --- wal_chain.c --- */
uint32_t wal_frame_size(const struct db *db);
/* Frames count from 1. */
uint64_t wal_frame_offset(const struct db *db, uint32_t frame);
/* The frame that the byte at @off belongs to; 0: the header. */
uint32_t wal_frame_at(const struct db *db, uint64_t off);
int wal_begin_chain(struct db *db, const uint8_t header[WAL_HEADER_SIZE]);
/* The chain's verified end goes back, so that @frame is the next to verify; or to the captured end. */
int wal_rewind_to(struct db *db, uint32_t frame);
int wal_rewind_to_captured(struct db *db);
/* A frame as the next of the chain, taken in if it is: one of these, or negative. */
enum wal_verdict { FRAME_INVALID, FRAME_VALID, FRAME_COMMIT };
int wal_verify_frame(struct db *db, const uint8_t *header, const uint8_t *page, uint32_t *ret_commit);
int wal_verify_unsummed(struct db *db, const uint8_t *header, const uint8_t *page);
/* Makes the chain end before @frame in the file, too; stops the database when that cannot be had. */
void wal_revoke_from(struct db *db, uint32_t frame);

/* --- wal_commit.c --- */
/* The frames after the captured ones as one transaction of @commit pages. @last_page: the last one's content, or NULL. */
int wal_capture_frames(const struct capturer *c, uint32_t commit, const uint8_t *last_page,
                       struct err *e);
/* The same for a received one; after a failure they are revoked. */
int wal_capture_received(const struct capturer *c, uint32_t commit, struct err *e);

/* --- capture_wal.c --- */
/* Takes in frames from the file for as long as they continue the chain: 0, negative, or DB_PENDING. */
int wal_advance(struct db *db, struct db_done done);

#endif
