/* tests/lib/ltx_build.h - LTX files of version 1, which litefs reads but never writes, and pages to put into
 * files. Written from the format's description alone, so that the decoder is not tested against itself. Needs litefs_ltx's LZ4. */
#ifndef LITEFS_TESTS_LTX_BUILD_H
#define LITEFS_TESTS_LTX_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/memstream.h"

enum page_kind {
        PAGE_ZEROS,
        PAGE_TEXT,  /* shrinks */
        PAGE_NOISE, /* does not */
        PAGE_KINDS
};

void fill_page(uint8_t *page, uint32_t page_size, enum page_kind kind, uint32_t seed);

/* CRC-64/GO-ISO a bit at a time. */
uint64_t slow_crc64(uint64_t crc, const void *buf, size_t n);

struct v1_file {
        struct mem_sink out;
        struct mem_sink block; /* the page block, before compression */
        uint8_t header[100];
        bool is_compressed;
};

/* @header: the 100 bytes, magic and all. */
void v1_begin(struct v1_file *f, const uint8_t header[100]);
void v1_page(struct v1_file *f, uint32_t pgno, const void *page, uint32_t page_size);
/* Ends an LZ4 frame where it is, so that f->out holds just that frame. */
void v1_end_frame(struct v1_file *f);
/* The file is in f->out then. */
void v1_finish(struct v1_file *f, uint64_t post_apply_checksum);
void v1_release(struct v1_file *f);

#endif
