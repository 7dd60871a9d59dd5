/* lib/repl/frame_decoder.h - cuts a stream of bytes, in slices of any size, into frames.
 *
 *   while ((r = frame_decoder_next(d, &bytes, &n, &frame, &e)) > 0)
 *           handle(&frame);          (what is left in bytes, n may wait: see conn_read_stop)
 *
 * Holds at most one frame, and of that what has come, not what its length announces. The first error is
 * final. One thread at a time. */
#ifndef LITEFS_REPL_FRAME_DECODER_H
#define LITEFS_REPL_FRAME_DECODER_H

#include "repl/frame.h"

struct frame_decoder;

/* 0 or -ENOMEM. */
int frame_decoder_new(struct frame_decoder **ret);
/* Takes bytes off the slice @*bytes, @*n. 1: *@ret is the next frame, and what it borrows lives until the next
 * call and as long as the slice. 0: the slice is used up. E_FORMAT: says where in the stream, and what. */
int frame_decoder_next(struct frame_decoder *d, const uint8_t **bytes, size_t *n, struct frame *ret,
                       struct err *e);
/* Calls @fn for each frame of the slice, until it returns less than 0, which is returned; else 0 or as frame_decoder_next. */
int frame_decoder_each(struct frame_decoder *d, const uint8_t *bytes, size_t n,
                       int (*fn)(void *arg, struct frame *frame, struct err *e), void *arg,
                       struct err *e);
/* At the end of the stream: 0, or E_FORMAT when it ends inside a frame. */
int frame_decoder_finish(const struct frame_decoder *d, struct err *e);
/* NULL is fine. */
void frame_decoder_free(struct frame_decoder *d);

#endif
