/* lib/db/image/pagesum.h - the checksum of each page of the committed image, and of the database.
 *
 * 8 bytes a page; the database checksum (contract: FLAG | XOR of the page CRCs) is kept up to date with
 * each page that changes, so a commit costs in proportion to what it wrote. The lock page counts as 0.
 * Not locked: the database's lock guards it. */
#ifndef LITEFS_DB_IMAGE_PAGESUM_H
#define LITEFS_DB_IMAGE_PAGESUM_H

#include <stdint.h>

struct pagesum {
        uint64_t *sums; /* [pgno - 1]; flag set, or 0 for "not known" and the lock page */
        uint32_t n_pages;
        uint32_t capacity;
        uint64_t xor_sum;
};

void pagesum_release(struct pagesum *ps);
/* Makes room for @n_pages so that sets up to there cannot fail. */
int pagesum_reserve(struct pagesum *ps, uint32_t n_pages);
/* Grows (new pages unknown) or shrinks. Growing beyond what was reserved may fail with -ENOMEM. */
int pagesum_resize(struct pagesum *ps, uint32_t n_pages);
/* 0 when @pgno is beyond the end or not known. */
uint64_t pagesum_get(const struct pagesum *ps, uint32_t pgno);
/* Of up to @n pages from @first_pgno on, as many as there are: how many. @sums is a struct pagesum, as base_file_write
 * hands it back. */
uint32_t pagesum_copy(void *sums, uint32_t first_pgno, uint64_t *ret, uint32_t n);
/* @pgno must be within the size. */
void pagesum_set(struct pagesum *ps, uint32_t pgno, uint64_t sum);
/* The checksum of the database, flag set. */
uint64_t pagesum_total(const struct pagesum *ps);

#endif
