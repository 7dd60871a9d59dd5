/* lib/ltx/header.h - the 100-byte LTX header and the 16-byte trailer (byte tables in header.c).
 *
 * Source: the ltx library's file format, versions 0.3 ("v1", what LiteFS 0.5 wrote) and 0.5.2
 * ("v3"); both carry the magic "LTX1" and nothing that tells them apart, so the caller knows. */
#ifndef LITEFS_LTX_HEADER_H
#define LITEFS_LTX_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define LTX_HEADER_SIZE 100
#define LTX_TRAILER_SIZE 16

enum ltx_version { LTX_V1 = 1, LTX_V3 = 3 };

#define LTX_FLAG_LZ4_V1 0x1u      /* v1 only: the page block is one LZ4 frame */
#define LTX_FLAG_NO_CHECKSUM 0x2u /* v3: pre- and post-apply checksums are 0 */

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
        /* Without that flag, in the same bytes: whoever may read the database from here on need not be who might before. */
        bool hides_past;
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

/* 0, else E_FORMAT with the field named. The rules of @version. */
int ltx_header_validate(const struct ltx_header *h, enum ltx_version version, struct err *e);
void ltx_header_encode(const struct ltx_header *h, uint8_t ret[LTX_HEADER_SIZE]);
/* Decodes and validates: 0, else E_FORMAT. */
int ltx_header_decode(const uint8_t buf[LTX_HEADER_SIZE], enum ltx_version version,
                      struct ltx_header *ret, struct err *e);

#endif
