#include "tests/lib/ltx_build.h"

#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define CRC_FLAG ((uint64_t)1 << 63)

uint64_t
slow_crc64(uint64_t crc, const void *buf, size_t n)
{
        const uint8_t *p = buf;

        crc = ~crc;
        for (size_t i = 0; i < n; i++) {
                crc ^= p[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? 0xd800000000000000u : 0);
        }
        return ~crc;
}

void
fill_page(uint8_t *page, uint32_t page_size, enum page_kind kind, uint32_t seed)
{
        uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

        for (uint32_t i = 0; i < page_size; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                page[i] = kind == PAGE_ZEROS  ? 0
                          : kind == PAGE_TEXT ? (uint8_t)('a' + (i / 16 + seed) % 7)
                                              : (uint8_t)(x >> 32);
        }
}

void
v1_begin(struct v1_file *f, const uint8_t header[100])
{
        mem_sink_init(&f->out);
        mem_sink_init(&f->block);
        memcpy(f->header, header, sizeof f->header);
        f->is_compressed = get_be32(header + 4) & 1;
}

static void
put(struct mem_sink *s, const void *buf, size_t n)
{
        if (s->sink.write(&s->sink, buf, n) < 0)
                abort();
}

static void
put_u32(struct mem_sink *s, uint32_t v)
{
        uint8_t be[4];

        put_be32(be, v);
        put(s, be, sizeof be);
}

static void
put_u64(struct mem_sink *s, uint64_t v)
{
        uint8_t be[8];

        put_be64(be, v);
        put(s, be, sizeof be);
}

void
v1_page(struct v1_file *f, uint32_t pgno, const void *page, uint32_t page_size)
{
        put_u32(&f->block, pgno);
        put(&f->block, page, page_size);
}

static void
put_compressed(struct v1_file *f)
{
        /* As the writer of version 1 did: blocks of 64 KiB, each for itself, a checksum over the content. */
        LZ4F_preferences_t prefs = { .frameInfo = {
                                             .blockSizeID = LZ4F_max64KB,
                                             .blockMode = LZ4F_blockIndependent,
                                             .contentChecksumFlag = LZ4F_contentChecksumEnabled } };
        size_t bound = LZ4F_compressFrameBound(f->block.n, &prefs);
        uint8_t *buf = malloc(bound);
        size_t n = buf == NULL ? 0 : LZ4F_compressFrame(buf, bound, f->block.data, f->block.n, &prefs);

        if (buf == NULL || LZ4F_isError(n))
                abort();
        put(&f->out, buf, n);
        free(buf);
}

void
v1_end_frame(struct v1_file *f)
{
        put_compressed(f);
}

void
v1_finish(struct v1_file *f, uint64_t post_apply_checksum)
{
        uint8_t be[8];
        uint64_t crc;

        put_u32(&f->block, 0);
        put(&f->out, f->header, sizeof f->header);
        if (f->is_compressed)
                put_compressed(f);
        else
                put(&f->out, f->block.data, f->block.n);
        put_be64(be, post_apply_checksum);
        crc = slow_crc64(0, f->header, sizeof f->header);
        crc = slow_crc64(crc, f->block.data, f->block.n);
        crc = slow_crc64(crc, be, sizeof be);
        put_u64(&f->out, post_apply_checksum);
        put_u64(&f->out, CRC_FLAG | crc);
}

void
v1_release(struct v1_file *f)
{
        mem_sink_release(&f->out);
        mem_sink_release(&f->block);
}
