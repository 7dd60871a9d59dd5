/* tests/lib/ltx_read.h - a whole LTX file, read with the decoder (link litefs_ltx). */
#ifndef LITEFS_TESTS_LTX_READ_H
#define LITEFS_TESTS_LTX_READ_H

#include <stdbool.h>

#include "ltx/decoder.h"
#include "tests/lib/memstream.h"

struct ltx_content {
        struct ltx_header header;
        struct ltx_trailer trailer;
        uint32_t n_pages;
        struct mem_sink pages; /* {pgno in the machine's byte order, page} one after the other */
};

/* 0 or what begin, next or finish failed with; release @ret in any case. */
int ltx_read(enum ltx_version version, struct byte_src *src, struct ltx_content *ret, struct err *e);
int ltx_read_bytes(enum ltx_version version, const void *data, size_t n, struct ltx_content *ret,
                   struct err *e);
void ltx_content_release(struct ltx_content *c);

/* Field by field: a struct has padding. */
bool ltx_header_equal(const struct ltx_header *a, const struct ltx_header *b);
bool ltx_content_equal(const struct ltx_content *a, const struct ltx_content *b);

#endif
