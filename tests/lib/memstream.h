/* tests/lib/memstream.h - both ends of a byte stream in memory, with the faults of a real one. */
#ifndef LITEFS_TESTS_MEMSTREAM_H
#define LITEFS_TESTS_MEMSTREAM_H

#include <stdint.h>

#include "base/stream.h"

/* Keeps what is written to it. Zero-initialise with mem_sink_init. */
struct mem_sink {
        struct byte_sink sink;
        uint8_t *data;
        size_t n;
        size_t capacity;
        size_t limit; /* a write past so many bytes fails with -ENOSPC */
};

void mem_sink_init(struct mem_sink *s);
void mem_sink_release(struct mem_sink *s);

/* Gives the bytes of a buffer that it borrows. */
struct mem_src {
        struct byte_src src;
        const uint8_t *data;
        size_t n;
        size_t off;
        size_t chunk; /* no read gives more than so many bytes */
        int error;    /* what a read gives once off has reached n; 0: the end */
};

void mem_src_init(struct mem_src *s, const void *data, size_t n);

/* pread over a buffer, as the readers in lib/sqlite want it; @arg is a struct mem_file. */
struct mem_file {
        const uint8_t *data;
        size_t n;
        uint64_t fail_from; /* a read that reaches past this offset gives -EIO */
};

ssize_t mem_file_pread(void *arg, void *buf, size_t n, uint64_t off);

#endif
