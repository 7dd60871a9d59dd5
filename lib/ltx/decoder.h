/* lib/ltx/decoder.h - read one LTX file, front to back, v3 or v1.
 *
 * Order: begin, next until it returns 0, finish. Trust nothing that was read until finish returned 0,
 * because only then was the file checksum compared. Reusable like the encoder; one thread at a time.
 * Memory is bounded: one page, one LZ4 block, and the page index is checked as it streams by. */
#ifndef LITEFS_LTX_DECODER_H
#define LITEFS_LTX_DECODER_H

#include <stdint.h>

#include "base/err.h"
#include "base/stream.h"
#include "ltx/header.h"

struct ltx_decoder; /* opaque */

int ltx_decoder_new(struct ltx_decoder **ret);
/* Reads the header into @ret. @src is borrowed until finish. E_FORMAT errors name the byte offset. */
int ltx_decoder_begin(struct ltx_decoder *d, enum ltx_version version, struct byte_src *src,
                      struct ltx_header *ret, struct err *e);
/* Reads a page into @page (page_size bytes). 1: got one, 0: end of pages, <0: error, and then
 * *@ret_pgno is untouched. Page numbers rise strictly, are never 0, the lock page or above commit. */
int ltx_decoder_next(struct ltx_decoder *d, void *page, uint32_t *ret_pgno, struct err *e);
/* Checks page index, file checksum and, for a snapshot with checksums, that all pages came and that
 * the pages make the post-apply checksum. Does not insist that the source ends here. */
int ltx_decoder_finish(struct ltx_decoder *d, struct ltx_trailer *ret, struct err *e);
void ltx_decoder_free(struct ltx_decoder *d); /* NULL is fine */

#endif
