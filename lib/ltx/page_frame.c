/* The frame of a page and the index are laid out in encoder.c. */
#include "ltx/page_frame.h"

#include <lz4.h>

#include "base/bytes.h"
#include "ltx/header.h"

#define FRAME_HEADER_SIZE 10u

size_t
ltx_page_frame_max(uint32_t page_size)
{
        return FRAME_HEADER_SIZE + (size_t)LZ4_COMPRESSBOUND(page_size);
}

uint64_t
ltx_index_length(const uint8_t tail[LTX_INDEX_TAIL])
{
        return get_be64(tail);
}

/* 0, or E_FORMAT: no number ends here. */
static int
take_uvarint(struct ltx_index_cursor *c, uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned shift = 0; c->p < c->end && shift < 64; shift += 7) {
                uint8_t b = *c->p++;

                v |= (uint64_t)(b & 0x7f) << shift;
                if (b < 0x80) {
                        *ret = v;
                        return 0;
                }
        }
        return E_FORMAT;
}

int
ltx_index_next(struct ltx_index_cursor *c, uint32_t *ret_pgno, uint64_t *ret_off)
{
        uint64_t pgno, off, size;

        if (take_uvarint(c, &pgno) < 0 || pgno > UINT32_MAX)
                return E_FORMAT;
        if (pgno == 0)
                return 0;
        if (take_uvarint(c, &off) < 0 || take_uvarint(c, &size) < 0)
                return E_FORMAT;
        *ret_pgno = (uint32_t)pgno;
        *ret_off = off;
        return 1;
}

int
ltx_page_frame_decode(const uint8_t *buf, size_t n, uint32_t pgno, uint32_t page_size, void *ret)
{
        uint32_t size;

        if (n < FRAME_HEADER_SIZE || get_be32(buf) != pgno || get_be16(buf + 4) != 1)
                return E_FORMAT;
        size = get_be32(buf + 6);
        if (size == 0 || size > n - FRAME_HEADER_SIZE)
                return E_FORMAT;
        return LZ4_decompress_safe((const char *)buf + FRAME_HEADER_SIZE, ret, (int)size,
                                   (int)page_size) == (int)page_size
                       ? 0
                       : E_FORMAT;
}
