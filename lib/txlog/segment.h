/* lib/txlog/segment.h - one file of the transaction log, and the frame around each record in it.
 *
 * Byte tables in segment.c and docs/on-disk.md. A record's frame checksum continues the one before it (the
 * first continues the segment's random salt), so bytes left over from a cut or overwritten record can never
 * pass for a record. Bytes in, bytes out: no locks, no policy; txlog.c has those. */
#ifndef LITEFS_TXLOG_SEGMENT_H
#define LITEFS_TXLOG_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "txlog/txlog.h"

#define SEGMENT_HEADER_SIZE 4096u
#define FRAME_SIZE 80u

struct segment_header {
        uint64_t seq;
        uint64_t salt;
        int64_t created_ms;
        uint64_t previous_txid;   /* last max TXID of the segment before this one; 0: there was none */
        bool is_previous_durable; /* all of the segment before this one was synced */
};

/* A record in its place. */
struct record_frame {
        struct txlog_record record;
        uint64_t payload_crc;
        /* Of its segment (record_frame_tag), and bit 0: all of the log before this record was durable when it was
         * written. So where such a record is, what is missing before it was not torn off: it is damaged. */
        uint32_t tag;
        uint64_t chain; /* this frame's checksum, which the next continues */
};

void segment_header_encode(const struct segment_header *h, uint8_t buf[SEGMENT_HEADER_SIZE]);
/* 0; E_NOT_FOUND when it was never written (zeros); E_FORMAT or E_CHECKSUM when it is damaged. */
int segment_header_decode(const uint8_t buf[SEGMENT_HEADER_SIZE], struct segment_header *ret);
int segment_header_read(const struct os *os, int fd, struct segment_header *ret);

#define RECORD_FRAME_PREVIOUS_DURABLE 1u
static inline uint32_t
record_frame_tag(uint64_t salt)
{
        return (uint32_t)salt & ~RECORD_FRAME_PREVIOUS_DURABLE;
}

/* Sets @f->chain. */
void record_frame_encode(struct record_frame *f, uint64_t previous_chain, uint8_t buf[FRAME_SIZE]);
/* 0, or E_FORMAT when no frame continues @previous_chain here: the end of the log, or damage. */
int record_frame_decode(const uint8_t buf[FRAME_SIZE], uint64_t previous_chain,
                        struct record_frame *ret);
/* Reads the frame at @off: 1, 0 when there is none, or a negative errno. @limit bounds the payload. */
int record_frame_read(const struct os *os, int fd, uint64_t off, uint64_t limit, uint64_t previous_chain,
                      struct record_frame *ret);
/* Looks behind @off for a record of this segment that says that what came before it was durable, and whose payload is
 * whole: 1, 0 or a negative errno. @min_txid: what such a record has at the least. */
int record_frame_find_durable(const struct os *os, int fd, uint64_t off, uint64_t limit, uint64_t salt,
                              uint64_t min_txid);
/* Reads the payload and compares its CRC: 0, E_CHECKSUM, or a negative errno. */
int record_frame_check_payload(const struct os *os, int fd, uint64_t off, const struct record_frame *f);

/* Where the frame after one at @off with @size_bytes of payload begins. */
static inline uint64_t
record_frame_end(uint64_t off, uint64_t size_bytes)
{
        return (off + FRAME_SIZE + size_bytes + 7) & ~(uint64_t)7;
}

#endif
