/* lib/sqlite/wal_format.h - header and frames of a WAL file (SQLite file format, section 4).
 *
 * Header, 32 bytes: magic, version, page size, checkpoint sequence, salt 1, salt 2, checksum (2 x u32).
 * Frame, 24 bytes + page: page number, size of the database after a commit (else 0), salt 1, salt 2,
 * checksum (2 x u32), running from the header's over the first 8 bytes and the page of each frame.
 * All big-endian; the magic tells in which byte order the checksum reads its words. */
#ifndef LITEFS_SQLITE_WAL_FORMAT_H
#define LITEFS_SQLITE_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_HEADER_SIZE 32u
#define WAL_FRAME_HEADER_SIZE 24u

struct wal_header {
        uint32_t page_size;
        uint32_t checkpoint_seq;
        uint32_t salt1;
        uint32_t salt2;
        uint32_t cksum[2];
        bool is_big_endian_cksum;
};

/* 0, or E_FORMAT (magic, version, page size) or E_CHECKSUM. */
int wal_header_decode(const uint8_t buf[WAL_HEADER_SIZE], struct wal_header *ret);

/* Writes a header with checksum of its own; @h's cksum is set. */
void wal_header_encode(struct wal_header *h, uint8_t ret[WAL_HEADER_SIZE]);
/* The header of a frame whose page is @page; continues @s, the checksum up to the frame before it. @commit: the
 * size of the database in pages when the frame ends a transaction, else 0. */
void wal_frame_encode(const struct wal_header *h, uint32_t pgno, uint32_t commit, const uint8_t *page,
                      uint32_t s[2], uint8_t ret[WAL_FRAME_HEADER_SIZE]);

/* Continues @s over @n bytes, a multiple of 8. */
void wal_checksum(bool is_big_endian, const uint8_t *p, size_t n, uint32_t s[2]);

#endif
