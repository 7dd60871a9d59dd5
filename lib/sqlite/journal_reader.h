/* lib/sqlite/journal_reader.h - a rollback journal: what the pages were before the transaction (pager.c).
 *
 * Segments, each a header padded to a sector and records. Header, 28 bytes: magic, number of records, nonce,
 * size of the database before in pages, sector size, page size. Record: page number, page, checksum (nonce plus
 * each 200th byte of the page from its end on). All big-endian. A number of records of 0xffffffff means "as many
 * as the file holds"; so does 0 in the last segment, whose header was never completed.
 * One thread at a time. Bytes come through a callback, so files and memory do alike. */
#ifndef LITEFS_SQLITE_JOURNAL_READER_H
#define LITEFS_SQLITE_JOURNAL_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define JOURNAL_HEADER_SIZE 28

struct journal_reader {
        /* Reads exactly @n bytes at @off unless the file ends: the count or a negative errno. */
        ssize_t (*pread)(void *arg, void *buf, size_t n, uint64_t off);
        void *arg;
        uint64_t size_bytes; /* of the file */
        uint32_t page_size;
        uint32_t sector_size; /* of the first header; holds for all */
        uint32_t page_count;  /* of the database before the transaction */
        uint32_t nonce;
        uint64_t off;    /* of the next record */
        uint64_t n_left; /* records left in the segment */
        bool is_at_end;
};

/* Reads the first header; set pread, arg and size_bytes before. @page_size is the database's, taken when the
 * header has none; 0: unknown. 1: there is something to roll back; 0: nothing (no valid header: the journal was
 * finalised or never synced); E_FORMAT: sizes that cannot be; or a negative errno. */
int journal_reader_begin(struct journal_reader *r, uint32_t page_size);
/* The next record into @page (page_size bytes): 1; 0 at the end, which is also where a record is torn; or a
 * negative errno. */
int journal_reader_next(struct journal_reader *r, void *page, uint32_t *ret_pgno);

/* The name of the super-journal, which a transaction over several databases puts at the end: its length, without a NUL;
 * 0 when there is none that @size bytes hold; or a negative errno. Set pread, arg and size_bytes before. */
ssize_t journal_reader_super(struct journal_reader *r, char *buf, size_t size);

#endif
