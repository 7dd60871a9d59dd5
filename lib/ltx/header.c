/* off size field, all big-endian
 *   0    4 magic "LTX1"
 *   4    4 flags
 *   8    4 page size
 *  12    4 commit: pages afterwards
 *  16    8 min TXID
 *  24    8 max TXID
 *  32    8 timestamp, ms since the epoch
 *  40    8 pre-apply checksum
 *  48    8 WAL offset
 *  56    8 WAL size
 *  64    4 WAL salt 1
 *  68    4 WAL salt 2
 *  72    8 node id
 *  80    4 zero; or, where the flags say that there are checksums, "LFSH": what the database was before is hidden, or
 *             "LFSR": it is not, and then struct ltx_mark,
 *  84    4 renamed_name
 *  88    2 renamed_count
 *  90    2 renamed_group
 *  92    8 renamed_at;
 *  80    4 or "LFS1" and then, where they say that there are none,
 *  84    8 the pre-apply and
 *  92    8 the post-apply checksum all the same
 * trailer: post-apply checksum u64, file checksum u64 */
#include "ltx/header.h"

#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/pos.h"

static int
header_bad(struct err *e, const char *what)
{
        return err_set(e, E_FORMAT, "LTX header: %s", what);
}

#define CHAIN_AT 80
#define CHAIN_MAGIC "LFS1"
#define MARK_HIDES_PAST "LFSH"
#define MARK "LFSR"

/* As the checksums of a file that has them. */
static bool
is_chain_valid(const struct ltx_header *h)
{
        bool has_pre = (h->chain_pre & LTX_CHECKSUM_FLAG) != 0;

        return (h->flags & LTX_FLAG_NO_CHECKSUM) && (h->chain_post & LTX_CHECKSUM_FLAG) &&
               (h->min_txid == 1 ? h->chain_pre == 0 : has_pre);
}

static int
validate_checksum(const struct ltx_header *h, struct err *e)
{
        if (h->flags & LTX_FLAG_NO_CHECKSUM)
                return h->pre_apply_checksum == 0 ? 0 : header_bad(e, "pre-apply checksum not allowed");
        if (h->min_txid == 1)
                return h->pre_apply_checksum == 0 ? 0
                                                  : header_bad(e, "a snapshot has a pre-apply checksum");
        return h->pre_apply_checksum & LTX_CHECKSUM_FLAG ? 0
                                                         : header_bad(e, "pre-apply checksum missing");
}

int
ltx_header_validate(const struct ltx_header *h, enum ltx_version version, struct err *e)
{
        uint32_t allowed = version == LTX_V1 ? LTX_FLAG_LZ4_V1 : LTX_FLAG_NO_CHECKSUM;

        if (h->flags & ~allowed)
                return err_set(e, E_FORMAT, "LTX header: flags 0x%08x", h->flags);
        if (!ltx_is_page_size(h->page_size))
                return err_set(e, E_FORMAT, "LTX header: page size %u", h->page_size);
        if (h->min_txid == 0 || h->max_txid < h->min_txid || h->max_txid > LTX_TXID_MAX)
                return header_bad(e, "TXID range");
        if (h->wal_offset < 0 || h->wal_size < 0)
                return header_bad(e, "WAL offset or size");
        if (version == LTX_V1 && (h->wal_offset != 0) != (h->wal_size != 0))
                return header_bad(e, "WAL offset without size");
        if ((h->wal_salt1 != 0 || h->wal_salt2 != 0) && h->wal_offset == 0)
                return header_bad(e, "WAL salt without offset");
        if ((h->chain_pre != 0 || h->chain_post != 0) && !is_chain_valid(h))
                return header_bad(e, "chained checksums");
        return validate_checksum(h, e);
}

static void
encode_mark(const struct ltx_mark *m, uint8_t ret[20])
{
        if (!m->hides_past && m->renamed_name == 0)
                return;
        memcpy(ret, m->hides_past ? MARK_HIDES_PAST : MARK, 4);
        put_be32(ret + 4, m->renamed_name);
        put_be16(ret + 8, m->renamed_count);
        put_be16(ret + 10, m->renamed_group);
        put_be64(ret + 12, m->renamed_at);
}

static struct ltx_mark
decode_mark(const uint8_t buf[20])
{
        bool hides_past = memcmp(buf, MARK_HIDES_PAST, 4) == 0;

        if (!hides_past && memcmp(buf, MARK, 4) != 0)
                return (struct ltx_mark){ 0 };
        return (struct ltx_mark){ .hides_past = hides_past,
                                  .renamed_name = get_be32(buf + 4),
                                  .renamed_count = get_be16(buf + 8),
                                  .renamed_group = get_be16(buf + 10),
                                  .renamed_at = get_be64(buf + 12) };
}

uint32_t
ltx_name_hash(const char *name)
{
        uint64_t h = 14695981039346656037u; /* FNV-1a, folded: CRC-64 keeps what differs little close */

        for (; *name != '\0'; name++)
                h = (h ^ (uint8_t)*name) * 1099511628211u;
        h = (uint32_t)(h ^ (h >> 32));
        return h != 0 ? (uint32_t)h : 1;
}

void
ltx_header_encode(const struct ltx_header *h, uint8_t ret[LTX_HEADER_SIZE])
{
        memset(ret, 0, LTX_HEADER_SIZE);
        memcpy(ret, "LTX1", 4);
        put_be32(ret + 4, h->flags);
        put_be32(ret + 8, h->page_size);
        put_be32(ret + 12, h->commit);
        put_be64(ret + 16, h->min_txid);
        put_be64(ret + 24, h->max_txid);
        put_be64(ret + 32, (uint64_t)h->timestamp_ms);
        put_be64(ret + 40, h->pre_apply_checksum);
        put_be64(ret + 48, (uint64_t)h->wal_offset);
        put_be64(ret + 56, (uint64_t)h->wal_size);
        put_be32(ret + 64, h->wal_salt1);
        put_be32(ret + 68, h->wal_salt2);
        put_be64(ret + 72, h->node_id);
        if (!(h->flags & LTX_FLAG_NO_CHECKSUM))
                encode_mark(&h->mark, ret + CHAIN_AT);
        if (h->chain_post == 0)
                return;
        memcpy(ret + CHAIN_AT, CHAIN_MAGIC, 4);
        put_be64(ret + CHAIN_AT + 4, h->chain_pre);
        put_be64(ret + CHAIN_AT + 12, h->chain_post);
}

int
ltx_header_decode(const uint8_t buf[LTX_HEADER_SIZE], enum ltx_version version, struct ltx_header *ret,
                  struct err *e)
{
        struct ltx_header h = {
                .flags = get_be32(buf + 4),
                .page_size = get_be32(buf + 8),
                .commit = get_be32(buf + 12),
                .min_txid = get_be64(buf + 16),
                .max_txid = get_be64(buf + 24),
                .timestamp_ms = (int64_t)get_be64(buf + 32),
                .pre_apply_checksum = get_be64(buf + 40),
                .wal_offset = (int64_t)get_be64(buf + 48),
                .wal_size = (int64_t)get_be64(buf + 56),
                .wal_salt1 = get_be32(buf + 64),
                .wal_salt2 = get_be32(buf + 68),
                .node_id = get_be64(buf + 72),
        };
        int r;

        if ((h.flags & LTX_FLAG_NO_CHECKSUM) && memcmp(buf + CHAIN_AT, CHAIN_MAGIC, 4) == 0) {
                h.chain_pre = get_be64(buf + CHAIN_AT + 4);
                h.chain_post = get_be64(buf + CHAIN_AT + 12);
        }
        if (!(h.flags & LTX_FLAG_NO_CHECKSUM) && version == LTX_V3)
                h.mark = decode_mark(buf + CHAIN_AT);

        if (memcmp(buf, "LTX1", 4) != 0)
                return header_bad(e, "no magic at offset 0");
        r = ltx_header_validate(&h, version, e);
        if (r == 0)
                *ret = h;
        return r;
}

int
ltx_header_read(struct byte_src *src, struct ltx_header *ret, struct err *e)
{
        uint8_t buf[LTX_HEADER_SIZE];
        ssize_t n = byte_src_read_all(src, buf, sizeof buf);

        if (n < (ssize_t)sizeof buf)
                return err_set(e, n < 0 ? (int)n : E_FORMAT, "LTX header");
        return ltx_header_decode(buf, LTX_V3, ret, e);
}
