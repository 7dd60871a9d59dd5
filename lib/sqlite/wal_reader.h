/* lib/sqlite/wal_reader.h - the frames of a WAL file that check out, from its beginning.
 *
 * Bytes come through a callback. One thread at a time. */
#ifndef LITEFS_SQLITE_WAL_READER_H
#define LITEFS_SQLITE_WAL_READER_H

#include <stdint.h>
#include <sys/types.h>

#include "sqlite/wal_format.h"

struct wal_reader {
        /* Reads exactly @n bytes at @off unless the file ends: the count or a negative errno. */
        ssize_t (*pread)(void *arg, void *buf, size_t n, uint64_t off);
        void *arg;
        struct wal_header header;
        uint32_t cksum[2];
        uint64_t off; /* of the next frame */
};

/* Set pread and arg before. 1: the header is valid; 0: it is not, or there is none; or a negative errno. */
int wal_reader_begin(struct wal_reader *r);
/* The next frame's page into @page (header.page_size bytes). 1; 0 where the chain ends; or a negative errno.
 * *@ret_commit is the database's size in pages when the frame ends a transaction, else 0. */
int wal_reader_next(struct wal_reader *r, void *page, uint32_t *ret_pgno, uint32_t *ret_commit);

#endif
