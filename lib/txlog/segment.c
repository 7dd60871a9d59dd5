/* Segment header, big-endian, in a block of 4096 bytes:
 *   off size field
 *     0    8 magic "LFSLOG01"
 *     8    8 sequence number, as in the name
 *    16    8 salt: random
 *    24    8 created, ms since the epoch
 *    32    8 1: the segment before this one is durable as a whole; 0: not known to be
 *    40    8 last max TXID of the segment before this one, 0 when there was none
 *    48    8 CRC-64 of bytes 0..47
 * All of it lies in the first 512 bytes, so a crash leaves it whole or not there at all.
 * Frame, big-endian, aligned to 8:
 *     0    4 magic "LREC"
 *     4    4 zero
 *     8    8 payload bytes
 *    16    8 min TXID
 *    24    8 max TXID
 *    32    8 pre-apply checksum
 *    40    8 post-apply checksum
 *    48    8 timestamp, ms since the epoch
 *    56    4 page size
 *    60    4 commit
 *    64    8 CRC-64 of the payload
 *    72    8 CRC-64 of bytes 0..71, continuing the frame before (the first: the salt)
 *    80    . payload, an LTX v3 file; then zero to seven bytes of anything up to the next multiple of 8 */
#include "txlog/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"

#define SEGMENT_MAGIC "LFSLOG01"
#define FRAME_MAGIC "LREC"
#define CHECK_BUF 65536u

void
segment_header_encode(const struct segment_header *h, uint8_t buf[SEGMENT_HEADER_SIZE])
{
        memset(buf, 0, SEGMENT_HEADER_SIZE);
        memcpy(buf, SEGMENT_MAGIC, 8);
        put_be64(buf + 8, h->seq);
        put_be64(buf + 16, h->salt);
        put_be64(buf + 24, (uint64_t)h->created_ms);
        put_be64(buf + 32, h->is_previous_durable);
        put_be64(buf + 40, h->previous_txid);
        put_be64(buf + 48, ltx_crc64(0, buf, 48));
}

int
segment_header_decode(const uint8_t buf[SEGMENT_HEADER_SIZE], struct segment_header *ret)
{
        static const uint8_t zeros[56];

        if (memcmp(buf, zeros, sizeof zeros) == 0)
                return E_NOT_FOUND;
        if (memcmp(buf, SEGMENT_MAGIC, 8) != 0)
                return E_FORMAT;
        if (ltx_crc64(0, buf, 48) != get_be64(buf + 48))
                return E_CHECKSUM;
        *ret = (struct segment_header){
                .seq = get_be64(buf + 8),
                .salt = get_be64(buf + 16),
                .created_ms = (int64_t)get_be64(buf + 24),
                .is_previous_durable = get_be64(buf + 32) == 1,
                .previous_txid = get_be64(buf + 40),
        };
        return 0;
}

int
segment_header_read(const struct os *os, int fd, struct segment_header *ret)
{
        uint8_t buf[SEGMENT_HEADER_SIZE];
        ssize_t n = os_pread_all(os, "segment:read", fd, buf, sizeof buf, 0);

        if (n < 0)
                return (int)n;
        return n < (ssize_t)sizeof buf ? E_NOT_FOUND : segment_header_decode(buf, ret);
}

void
record_frame_encode(struct record_frame *f, uint64_t previous_chain, uint8_t buf[FRAME_SIZE])
{
        const struct txlog_record *r = &f->record;

        memcpy(buf, FRAME_MAGIC, 4);
        put_be32(buf + 4, f->tag);
        put_be64(buf + 8, r->size_bytes);
        put_be64(buf + 16, r->min_txid);
        put_be64(buf + 24, r->max_txid);
        put_be64(buf + 32, r->pre_apply_checksum);
        put_be64(buf + 40, r->post_apply_checksum);
        put_be64(buf + 48, (uint64_t)r->timestamp_ms);
        put_be32(buf + 56, r->page_size);
        put_be32(buf + 60, r->commit);
        put_be64(buf + 64, f->payload_crc);
        f->chain = ltx_crc64(previous_chain, buf, 72);
        put_be64(buf + 72, f->chain);
}

static void
decode_fields(const uint8_t buf[FRAME_SIZE], struct record_frame *ret)
{
        ret->record = (struct txlog_record){
                .size_bytes = get_be64(buf + 8),
                .min_txid = get_be64(buf + 16),
                .max_txid = get_be64(buf + 24),
                .pre_apply_checksum = get_be64(buf + 32),
                .post_apply_checksum = get_be64(buf + 40),
                .timestamp_ms = (int64_t)get_be64(buf + 48),
                .page_size = get_be32(buf + 56),
                .commit = get_be32(buf + 60),
        };
        ret->tag = get_be32(buf + 4);
        ret->payload_crc = get_be64(buf + 64);
        ret->chain = get_be64(buf + 72);
}

int
record_frame_decode(const uint8_t buf[FRAME_SIZE], uint64_t previous_chain, struct record_frame *ret)
{
        if (memcmp(buf, FRAME_MAGIC, 4) != 0 || ltx_crc64(previous_chain, buf, 72) != get_be64(buf + 72))
                return E_FORMAT;
        decode_fields(buf, ret);
        if (ret->record.min_txid == 0 || ret->record.max_txid < ret->record.min_txid)
                return E_FORMAT;
        return 0;
}

int
record_frame_read(const struct os *os, int fd, uint64_t off, uint64_t limit, uint64_t previous_chain,
                  struct record_frame *ret)
{
        uint8_t buf[FRAME_SIZE];
        ssize_t n;

        if (off > limit || limit - off < FRAME_SIZE)
                return 0;
        n = os_pread_all(os, "segment:read", fd, buf, sizeof buf, (off_t)off);
        if (n < 0)
                return (int)n;
        if (n < (ssize_t)sizeof buf || record_frame_decode(buf, previous_chain, ret) < 0 ||
            ret->record.size_bytes > limit - off - FRAME_SIZE)
                return 0;
        return 1;
}

int
record_frame_check_payload(const struct os *os, int fd, uint64_t off, const struct record_frame *f)
{
        uint64_t done = 0, crc = 0;
        uint8_t *buf = malloc(CHECK_BUF);
        int r = buf == NULL ? -ENOMEM : 0;

        while (r == 0 && done < f->record.size_bytes) {
                uint64_t left = f->record.size_bytes - done;
                size_t n = left < CHECK_BUF ? (size_t)left : CHECK_BUF;
                ssize_t got = os_pread_all(os, "segment:read", fd, buf, n,
                                           (off_t)(off + FRAME_SIZE + done));

                if (got < 0)
                        r = (int)got;
                else if ((size_t)got < n)
                        r = E_CHECKSUM;
                else
                        crc = ltx_crc64(crc, buf, n);
                done += n;
        }
        free(buf);
        return r < 0 ? r : crc == f->payload_crc ? 0 : E_CHECKSUM;
}

/* Whether a frame at @off, whose chain cannot be followed, is one all the same. */
static int
is_durable_frame(const struct os *os, int fd, uint64_t off, uint64_t limit, const uint8_t *buf,
                 uint64_t salt, uint64_t min_txid)
{
        struct record_frame f;
        int r;

        decode_fields(buf, &f);
        if (f.tag != (record_frame_tag(salt) | RECORD_FRAME_PREVIOUS_DURABLE) ||
            f.record.min_txid < min_txid || f.record.max_txid < f.record.min_txid ||
            f.record.size_bytes > limit - off - FRAME_SIZE)
                return 0;
        r = record_frame_check_payload(os, fd, off, &f);
        return r == 0 ? 1 : r == E_CHECKSUM ? 0 : r;
}

int
record_frame_find_durable(const struct os *os, int fd, uint64_t off, uint64_t limit, uint64_t salt,
                          uint64_t min_txid)
{
        uint8_t *buf = malloc(CHECK_BUF);
        int r = buf == NULL ? -ENOMEM : 0;

        while (r == 0 && off + FRAME_SIZE <= limit) {
                size_t want = limit - off < CHECK_BUF ? (size_t)(limit - off) : CHECK_BUF;
                ssize_t n = os_pread_all(os, "segment:read", fd, buf, want, (off_t)off);
                size_t i;

                if (n < (ssize_t)FRAME_SIZE) {
                        r = n < 0 ? (int)n : 0;
                        break;
                }
                for (i = 0; r == 0 && i + FRAME_SIZE <= (size_t)n; i += 8)
                        if (memcmp(buf + i, FRAME_MAGIC, 4) == 0)
                                r = is_durable_frame(os, fd, off + i, limit, buf + i, salt, min_txid);
                off += i;
        }
        free(buf);
        return r;
}
