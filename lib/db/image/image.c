#include "db/image/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/image/snapshot.h"

#define OVERLAY_CAP (2u << 20) /* memory of each overlay before it spills */

int
image_init(struct db_image *img, const struct os *os, const char *tmp_dir)
{
        *img = (struct db_image){ .os = os, .fd = -1, .uncommitted_floor = IMAGE_NO_FLOOR };
        pthread_mutex_init(&img->snapshot_lock, NULL);
        overlay_init(&img->uncommitted, os, tmp_dir, OVERLAY_CAP);
        overlay_init(&img->writeback, os, tmp_dir, OVERLAY_CAP);
        img->page_buf = malloc(2 * IMAGE_PAGE_MAX);
        return img->page_buf == NULL ? -ENOMEM : 0;
}

void
image_release(struct db_image *img)
{
        overlay_release(&img->uncommitted);
        overlay_release(&img->writeback);
        pagesum_release(&img->sums);
        os_close(img->os, "db:close", img->fd);
        free(img->page_buf);
        pthread_mutex_destroy(&img->snapshot_lock);
}

void
image_follow_page_size(struct db_image *img)
{
        overlay_set_page_size(&img->uncommitted, img->page_size);
        overlay_set_page_size(&img->writeback, img->page_size);
}

void
image_take(struct db_image *img, struct db_image *from)
{
        image_discard_uncommitted(img);
        overlay_reset(&img->writeback);
        img->writeback_lsn = 0;
        os_close(img->os, "replace:close", img->fd);
        img->fd = from->fd;
        from->fd = -1;
        pagesum_release(&img->sums);
        img->sums = from->sums;
        from->sums = (struct pagesum){ 0 };
        img->page_size = from->page_size;
        img->page_count = from->page_count;
        img->size_bytes = from->size_bytes;
        image_follow_page_size(img);
}

/* --- reads --- */

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

/* --- the file --- */

int
image_write_file(struct db_image *img, const char *tag, const void *buf, size_t n, uint64_t off)
{
        image_save_file(img, off, off + n);
        return os_pwrite_all(img->os, tag, img->fd, buf, n, (off_t)off);
}

int
image_cut_file(struct db_image *img, const char *tag, uint64_t size_bytes)
{
        image_save_file(img, size_bytes, INT64_MAX);
        return os_ftruncate(img->os, tag, img->fd, (off_t)size_bytes);
}
