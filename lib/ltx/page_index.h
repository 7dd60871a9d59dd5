/* lib/ltx/page_index.h - the index behind an LTX v3 file's pages: for each page, rising, uvarint page number,
 * uvarint offset of its frame in the file, uvarint size of the frame; then uvarint 0; then u64 big-endian, the
 * length of the uvarint part. */
#ifndef LITEFS_LTX_PAGE_INDEX_H
#define LITEFS_LTX_PAGE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define UVARINT_MAX 10

/* Writes @v and returns the bytes it took. */
static inline size_t
uvarint_put(uint8_t *p, uint64_t v)
{
        size_t n = 0;

        while (v >= 0x80) {
                p[n++] = (uint8_t)(v | 0x80);
                v >>= 7;
        }
        p[n++] = (uint8_t)v;
        return n;
}

#endif
