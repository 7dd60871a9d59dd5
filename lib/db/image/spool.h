/* lib/db/image/spool.h - a file that nobody else sees: in memory while small, in an unlinked file once large.
 *
 * Holds what must not reach the database file before its commit: journals and pages of open
 * transactions. Behaves like a sparse file (holes read as zeros). What is in it is gone with the process,
 * which is the point: a transaction that was not committed leaves nothing to undo. One thread at a time,
 * but concurrent readers are fine while nobody writes. */
#ifndef LITEFS_DB_IMAGE_SPOOL_H
#define LITEFS_DB_IMAGE_SPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/os.h"
#include "base/stream.h"

#define SPOOL_CHUNK 4096u

struct spool {
        const struct os *os;
        const char *tmp_dir; /* borrowed; where it spills to */
        size_t cap_bytes;    /* of memory, before it spills */
        uint8_t **chunks;    /* NULL entries are holes; unused once spilled */
        size_t n_chunks;
        size_t used_bytes; /* of memory in chunks */
        uint64_t size_bytes;
        int fd; /* -1 until spilled */
};

void spool_init(struct spool *s, const struct os *os, const char *tmp_dir, size_t cap_bytes);
/* Frees the content; the spool is empty and usable again. */
void spool_reset(struct spool *s);

/* 0 or a negative errno; a failed write may have extended the spool with zeros, no more. */
int spool_write(struct spool *s, const void *buf, size_t n, uint64_t off);
/* The bytes read, less than @n only at the end; else a negative errno. */
ssize_t spool_read(const struct spool *s, void *buf, size_t n, uint64_t off);
int spool_truncate(struct spool *s, uint64_t size_bytes);

/* All of it from the front, as a stream. */
struct spool_src {
        struct byte_src base;
        const struct spool *spool;
        uint64_t off;
};
struct spool_src spool_source(const struct spool *s);

/* The spool's own memory for [off, off+n) when it is contiguous, else NULL: spares hot paths a copy. */
const void *spool_peek(const struct spool *s, uint64_t off, size_t n);

#endif
