#include "db/image/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIN_TABLE 64u

void
overlay_init(struct overlay *o, const struct os *os, const char *tmp_dir, size_t cap_bytes)
{
        *o = (struct overlay){ 0 };
        spool_init(&o->pages, os, tmp_dir, cap_bytes);
}

void
overlay_reset(struct overlay *o)
{
        if (o->n_slots == 0)
                return;
        spool_reset(&o->pages);
        if (o->table_size > 16 * MIN_TABLE) {
                free(o->table);
                o->table = NULL;
                o->table_size = 0;
        } else {
                memset(o->table, 0, o->table_size * sizeof *o->table);
        }
        o->n_pages = 0;
        o->n_slots = 0;
}

void
overlay_release(struct overlay *o)
{
        overlay_reset(o);
        free(o->table);
        free(o->pages.chunks);
        o->pages.chunks = NULL;
        o->pages.n_chunks = 0;
        o->table = NULL;
        o->table_size = 0;
}

void
overlay_set_page_size(struct overlay *o, uint32_t page_size)
{
        if (o->n_pages > 0)
                return; /* pages of one size are no pages of another: what comes is told by the size that stays */
        overlay_reset(o);
        o->page_size = page_size;
}

static uint32_t
hash(uint32_t pgno)
{
        return pgno * 2654435761u;
}

/* The entry that holds @pgno, or the free one where it belongs. The table is never full. */
static struct overlay_entry *
overlay_slot(struct overlay_entry *table, uint32_t table_size, uint32_t pgno)
{
        uint32_t i = hash(pgno) & (table_size - 1);

        while (table[i].pgno != 0 && table[i].pgno != pgno)
                i = (i + 1) & (table_size - 1);
        return &table[i];
}

static int
rebuild(struct overlay *o, uint32_t table_size, uint32_t keep_up_to)
{
        struct overlay_entry *table = calloc(table_size, sizeof *table);
        uint32_t n = 0;

        if (table == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < o->table_size; i++) {
                if (o->table[i].pgno == 0 || o->table[i].pgno > keep_up_to)
                        continue;
                *overlay_slot(table, table_size, o->table[i].pgno) = o->table[i];
                n++;
        }
        free(o->table);
        o->table = table;
        o->table_size = table_size;
        o->n_pages = n;
        return 0;
}

/* Room in the table for one page more. */
static int
overlay_grow_table(struct overlay *o)
{
        if ((o->n_pages + 1) * 2 <= o->table_size)
                return 0;
        return rebuild(o, o->table_size == 0 ? MIN_TABLE : o->table_size * 2, UINT32_MAX);
}

int
overlay_put_slot(struct overlay *o, uint32_t pgno, uint32_t slot)
{
        int r = overlay_grow_table(o);

        if (r < 0)
                return r;
        *overlay_slot(o->table, o->table_size, pgno) = (struct overlay_entry){ pgno, slot };
        o->n_pages++;
        if (slot >= o->n_slots)
                o->n_slots = slot + 1;
        return 0;
}

int
overlay_put(struct overlay *o, uint32_t pgno, const void *page)
{
        struct overlay_entry *en;
        uint32_t slot;
        int r = overlay_grow_table(o);

        if (r < 0)
                return r;
        en = overlay_slot(o->table, o->table_size, pgno);
        slot = en->pgno != 0 ? en->slot : o->n_slots;
        r = spool_write(&o->pages, page, o->page_size, (uint64_t)slot * o->page_size);
        if (r < 0)
                return r;
        if (en->pgno == 0) {
                *en = (struct overlay_entry){ pgno, slot };
                o->n_slots++;
                o->n_pages++;
        }
        return 0;
}

int
overlay_reserve(struct overlay *o, uint32_t n)
{
        static const uint8_t zeros[65536];
        uint32_t table_size = o->table_size == 0 ? MIN_TABLE : o->table_size;
        int r = 0;

        while (((uint64_t)o->n_pages + n) * 2 > table_size)
                table_size *= 2;
        if (table_size > o->table_size)
                r = rebuild(o, table_size, UINT32_MAX);
        for (uint32_t i = 0; i < n && r == 0; i++)
                r = spool_write(&o->pages, zeros, o->page_size,
                                ((uint64_t)o->n_slots + i) * o->page_size);
        return r;
}

bool
overlay_has(const struct overlay *o, uint32_t pgno)
{
        return o->n_pages > 0 && overlay_slot(o->table, o->table_size, pgno)->pgno == pgno;
}

const uint8_t *
overlay_get(const struct overlay *o, uint32_t pgno, uint8_t *buf, int *ret_error)
{
        struct overlay_entry *en = overlay_slot(o->table, o->table_size, pgno);
        uint64_t off = (uint64_t)en->slot * o->page_size;
        const uint8_t *p = spool_peek(&o->pages, off, o->page_size);
        ssize_t n;

        if (p != NULL)
                return p;
        n = spool_read(&o->pages, buf, o->page_size, off);
        if (n == (ssize_t)o->page_size)
                return buf;
        *ret_error = n < 0 ? (int)n : -EIO;
        return NULL;
}

/* Deletes one entry by moving the rest of its probe run up (no tombstones). */
static void
delete_at(struct overlay *o, uint32_t i)
{
        uint32_t mask = o->table_size - 1, j = i;

        for (;;) {
                j = (j + 1) & mask;
                if (o->table[j].pgno == 0)
                        break;
                /* Leave entries whose home lies cyclically in (i, j]. */
                if (((j - hash(o->table[j].pgno)) & mask) < ((j - i) & mask))
                        continue;
                o->table[i] = o->table[j];
                i = j;
        }
        o->table[i].pgno = 0;
        o->n_pages--;
}

void
overlay_drop_above(struct overlay *o, uint32_t pgno)
{
        /* A deletion may move an entry from behind the scan to its place; so look at it again. */
        for (uint32_t i = 0; i < o->table_size && o->n_pages > 0;) {
                if (o->table[i].pgno > pgno)
                        delete_at(o, i);
                else
                        i++;
        }
        /* Entries that wrapped around the end can have been moved behind the scan: they were seen. */
        if (o->n_pages == 0)
                overlay_reset(o);
}

static int
compare_pgno(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

uint32_t *
overlay_sorted_pgnos(const struct overlay *o)
{
        uint32_t *list, n = 0;

        if (o->n_pages == 0)
                return NULL;
        list = malloc(o->n_pages * sizeof *list);
        if (list == NULL)
                return NULL;
        for (uint32_t i = 0; i < o->table_size; i++)
                if (o->table[i].pgno != 0)
                        list[n++] = o->table[i].pgno;
        qsort(list, n, sizeof *list, compare_pgno);
        return list;
}
