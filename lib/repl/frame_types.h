/* lib/repl/frame_types.h - what the types of frames consist of; for frame.c only. */
#ifndef LITEFS_REPL_FRAME_TYPES_H
#define LITEFS_REPL_FRAME_TYPES_H

#include "repl/frame.h"

struct frame_reader;
struct frame_writer;

struct frame_layout {
        const char *name;
        size_t min; /* of the payload, in bytes */
        size_t max;
        /* What is wrong is noted in @r. */
        void (*read)(struct frame_reader *r, struct frame *ret);
        void (*write)(struct frame_writer *w, const struct frame *f);
};

/* NULL: there is none. */
const struct frame_layout *frame_find_layout(unsigned type);

#endif
