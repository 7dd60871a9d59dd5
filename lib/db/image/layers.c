/* Reading through the layers: each page from the uppermost that has it. */
#include "db/image/image.h"

#include <errno.h>
#include <string.h>

/* Bytes of the file alone: zeros past its end and past the open transaction's cut. */
static int
read_uncut_file(const struct db_image *img, uint8_t *buf, size_t n, uint64_t off)
{
        size_t have = n;
        ssize_t r = 0;

        if (off >= img->uncommitted_floor)
                have = 0;
        else if (img->uncommitted_floor - off < n)
                have = (size_t)(img->uncommitted_floor - off);
        if (have > 0 && img->fd >= 0)
                r = os_pread_all(img->os, "db:read", img->fd, buf, have, (off_t)off);
        if (r < 0)
                return (int)r;
        memset(buf + r, 0, n - (size_t)r);
        return 0;
}

/* Lays the pages of @o that touch [off, off+n) over @buf. */
static int
lay_overlay(const struct overlay *o, uint64_t floor, uint8_t *buf, size_t n, uint64_t off,
            uint8_t *scratch)
{
        uint32_t ps = o->page_size;

        if (overlay_is_empty(o))
                return 0;
        for (uint64_t page = off / ps; page * ps < off + n; page++) {
                uint64_t from = page * ps < off ? off : page * ps;
                uint64_t to = (page + 1) * ps < off + n ? (page + 1) * ps : off + n;
                const uint8_t *p;
                int error = -EIO;

                if (page >= UINT32_MAX || page * ps >= floor || !overlay_has(o, (uint32_t)page + 1))
                        continue;
                p = overlay_get(o, (uint32_t)page + 1, scratch, &error);
                if (p == NULL)
                        return error;
                memcpy(buf + (from - off), p + (from - page * ps), (size_t)(to - from));
        }
        return 0;
}

int
image_read_visible(const struct db_image *img, uint8_t *buf, size_t n, uint64_t off, uint8_t *scratch)
{
        int r = read_uncut_file(img, buf, n, off);

        /* Committed pages past the open transaction's cut are cut with the file's. */
        if (r == 0)
                r = lay_overlay(&img->writeback, img->uncommitted_floor, buf, n, off, scratch);
        if (r == 0)
                r = lay_overlay(&img->uncommitted, UINT64_MAX, buf, n, off, scratch);
        return r;
}

ssize_t
image_read(struct db_image *img, void *buf, size_t n, uint64_t off)
{
        int r;

        if (off >= img->size_bytes)
                n = 0;
        else if (n > img->size_bytes - off)
                n = (size_t)(img->size_bytes - off);
        r = n == 0 ? 0 : image_read_visible(img, buf, n, off, img->page_buf);
        return r < 0 ? r : (ssize_t)n;
}

const uint8_t *
image_visible_page(const struct db_image *img, uint32_t page_size, uint32_t pgno, uint8_t *room,
                   int *ret_error)
{
        int r;

        if (img->uncommitted.page_size == page_size && overlay_has(&img->uncommitted, pgno))
                return overlay_get(&img->uncommitted, pgno, room, ret_error);
        r = image_read_visible(img, room, page_size, (uint64_t)(pgno - 1) * page_size,
                               room + IMAGE_PAGE_MAX);
        if (r < 0) {
                *ret_error = r;
                return NULL;
        }
        return room;
}

const uint8_t *
image_committed_page(const struct db_image *img, uint32_t page_size, uint32_t pgno, uint8_t *room,
                     int *ret_error)
{
        ssize_t n;

        if (img->writeback.page_size == page_size && overlay_has(&img->writeback, pgno))
                return overlay_get(&img->writeback, pgno, room, ret_error);
        n = img->fd < 0 ? 0
                        : os_pread_all(img->os, "db:read", img->fd, room, page_size,
                                       (off_t)(pgno - 1) * page_size);
        if (n < 0) {
                *ret_error = (int)n;
                return NULL;
        }
        memset(room + n, 0, page_size - (size_t)n); /* pages never written at the end: a hole */
        return room;
}
