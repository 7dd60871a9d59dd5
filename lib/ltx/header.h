/* lib/ltx/header.h - the 100-byte LTX header and the 16-byte trailer (byte tables in header.c).
 *
 * Source: the ltx library's file format, versions 0.3 ("v1", what LiteFS 0.5 wrote) and 0.5.2
 * ("v3"); both carry the magic "LTX1" and nothing that tells them apart, so the caller knows. */
#ifndef LITEFS_LTX_HEADER_H
#define LITEFS_LTX_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stream.h"

#define LTX_HEADER_SIZE 100
#define LTX_TRAILER_SIZE 16

enum ltx_version { LTX_V1 = 1, LTX_V3 = 3 };

#define LTX_FLAG_LZ4_V1 0x1u      /* v1 only: the page block is one LZ4 frame */
#define LTX_FLAG_NO_CHECKSUM 0x2u /* v3: pre- and post-apply checksums are 0 */

/* What a transaction tells of itself where other readers do not look; not with LTX_FLAG_NO_CHECKSUM. */
struct ltx_mark {
        bool hides_past; /* whoever may read the database from here on need not be who might before */
        /* A part of a rename: the other database, which is the source where the transaction leaves pages, and the target where
         * it leaves none. 0: it is none. */
        uint32_t renamed_name; /* ltx_name_hash */
        uint64_t renamed_at; /* the source's checksum before; the TXID by which the target became what that was */
        uint16_t renamed_count,
                renamed_group; /* databases that are renamed by the same rename(2), and a number of it */
};

struct ltx_header {
        uint32_t flags;
        uint32_t page_size;
        uint32_t commit;   /* pages in the database afterwards; 0: the database was deleted */
        uint64_t min_txid; /* 1 makes it a snapshot: every page, applies over anything */
        uint64_t max_txid;
        int64_t timestamp_ms; /* since the Unix epoch */
        uint64_t pre_apply_checksum;
        int64_t wal_offset;
        int64_t wal_size;
        uint32_t wal_salt1;
        uint32_t wal_salt2;
        uint64_t node_id;
        /* With LTX_FLAG_NO_CHECKSUM: the checksums that the file would have, in bytes that other readers pass over. Both
         * 0: not known. */
        uint64_t chain_pre, chain_post;
        struct ltx_mark mark; /* without that flag, in the same bytes */
};

struct ltx_trailer {
        uint64_t post_apply_checksum;
        uint64_t file_checksum;
};

static inline bool
ltx_header_is_snapshot(const struct ltx_header *h)
{
        return h->min_txid == 1;
}

/* Of a database's name: FNV-1a of 64 bits, its halves XORed; 1 instead of 0. */
uint32_t ltx_name_hash(const char *name);
/* 0, else E_FORMAT with the field named. The rules of @version. */
int ltx_header_validate(const struct ltx_header *h, enum ltx_version version, struct err *e);
void ltx_header_encode(const struct ltx_header *h, uint8_t ret[LTX_HEADER_SIZE]);
/* Decodes and validates: 0, else E_FORMAT. */
int ltx_header_decode(const uint8_t buf[LTX_HEADER_SIZE], enum ltx_version version,
                      struct ltx_header *ret, struct err *e);
/* Of a file of version 3. E_FORMAT also where it is not whole. */
int ltx_header_read(struct byte_src *src, struct ltx_header *ret, struct err *e);

#endif
