/* lib/ltx/encoder.h - write one LTX v3 file, front to back, in bounded memory.
 *
 * Order: begin, page for each page in rising page order, finish; abort at any point (or finish) makes
 * the encoder ready for the next begin. One encoder is meant to be kept and reused: after the first
 * file it allocates only to grow its page index (about 10 bytes a page). One thread at a time.
 *
 * A page becomes an LZ4 block; one that does not shrink becomes a stored block (literals only), which
 * every reader accepts. With @compress false every block is stored. */
#ifndef LITEFS_LTX_ENCODER_H
#define LITEFS_LTX_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stream.h"
#include "ltx/header.h"

struct ltx_encoder; /* opaque */

int ltx_encoder_new(bool compress, struct ltx_encoder **ret);
/* Validates @header and writes it to @sink, which is borrowed until finish or abort. */
int ltx_encoder_begin(struct ltx_encoder *enc, const struct ltx_header *header, struct byte_sink *sink,
                      struct err *e);
/* @page holds page_size bytes. E_FORMAT when @pgno is 0, the lock page, above commit, not rising, or
 * leaves a hole in a snapshot. */
int ltx_encoder_page(struct ltx_encoder *enc, uint32_t pgno, const void *page, struct err *e);
/* Writes the end of the page block, the page index and the trailer. @post_apply_checksum must have
 * the flag set (be 0 under LTX_FLAG_NO_CHECKSUM). @ret may be NULL. */
int ltx_encoder_finish(struct ltx_encoder *enc, uint64_t post_apply_checksum, struct ltx_trailer *ret,
                       struct err *e);
void ltx_encoder_abort(struct ltx_encoder *enc);
void ltx_encoder_free(struct ltx_encoder *enc); /* NULL is fine */

#endif
