/* lib/db/image/overlay.h - pages that lie over the database file: written, but not allowed into it yet.
 *
 * A database has two: pages of the open transaction, and pages of committed transactions whose log
 * records are not durable yet. Both also carry a floor: bytes of the file at or past it are hidden (read
 * as zeros), which is how an uncommitted truncation is held back. Page images live in a spool, so a huge
 * transaction costs disk, not memory; the index costs 16 bytes a page.
 * Not locked: the database's lock guards it; concurrent gets are fine while nobody changes it. */
#ifndef LITEFS_DB_IMAGE_OVERLAY_H
#define LITEFS_DB_IMAGE_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "db/image/spool.h"

struct overlay {
        struct spool pages; /* slot i at i * page_size */
        uint32_t page_size;
        uint32_t n_pages;
        uint32_t n_slots; /* high-water mark: slots of dropped pages are not reused */
        uint32_t table_size;
        struct overlay_entry {
                uint32_t pgno; /* 0: free */
                uint32_t slot;
        } * table;
};

void overlay_init(struct overlay *o, const struct os *os, const char *tmp_dir, size_t cap_bytes);
/* Empties it; cheap when it is small. */
void overlay_reset(struct overlay *o);
void overlay_release(struct overlay *o);
/* Only while empty, else it stays what it is. */
void overlay_set_page_size(struct overlay *o, uint32_t page_size);

static inline bool
overlay_is_empty(const struct overlay *o)
{
        return o->n_pages == 0;
}

int overlay_put(struct overlay *o, uint32_t pgno, const void *page);
/* A page that is not there yet, and whose image is in the slot already (carry.h). */
int overlay_put_slot(struct overlay *o, uint32_t pgno, uint32_t slot);
/* Room for @n pages more: as many calls of overlay_put then need neither memory nor space on the disk. */
int overlay_reserve(struct overlay *o, uint32_t n);
bool overlay_has(const struct overlay *o, uint32_t pgno);
/* The page, in the overlay's memory or read into @buf; NULL and *ret_error when it cannot be read. The
 * page must be there. */
const uint8_t *overlay_get(const struct overlay *o, uint32_t pgno, uint8_t *buf, int *ret_error);
/* Forgets pages above @pgno. */
void overlay_drop_above(struct overlay *o, uint32_t pgno);
/* All page numbers, rising, in a new array that the caller frees. NULL when memory is out or when the
 * overlay is empty. */
uint32_t *overlay_sorted_pgnos(const struct overlay *o);

#endif
