/* lib/ltx/page_frame.h - single pages of an LTX v3 file, by its page index, for who does not read it from front to back.
 *
 * What the index says is not checked against the frames: the caller has proved the file's bytes by another checksum. */
#ifndef LITEFS_LTX_PAGE_FRAME_H
#define LITEFS_LTX_PAGE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Bytes behind the pages that tell where the index begins: its length, then the trailer. */
#define LTX_INDEX_TAIL 24u
/* Room for a frame of a page of this size, whatever is in it. */
size_t ltx_page_frame_max(uint32_t page_size);

/* From the file's last LTX_INDEX_TAIL bytes: how many bytes before them the index begins. */
uint64_t ltx_index_length(const uint8_t tail[LTX_INDEX_TAIL]);

/* The entries of an index, one after the other. */
struct ltx_index_cursor {
        const uint8_t *p, *end;
};
/* 1: a page and the offset of its frame in the file, 0: that was the end, E_FORMAT. */
int ltx_index_next(struct ltx_index_cursor *c, uint32_t *ret_pgno, uint64_t *ret_off);

/* The page @pgno (page_size bytes) out of its frame, of which @buf has at least all: 0, or E_FORMAT if it is none. */
int ltx_page_frame_decode(const uint8_t *buf, size_t n, uint32_t pgno, uint32_t page_size, void *ret);

#endif
