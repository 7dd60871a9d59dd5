/* Pages of the open transaction. They are in memory, or in an unlinked file: what is not committed leaves nothing to
 * undo. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/image/image.h"

/* A rollback writes back pages that the transaction has not come to write. That must go on a full disk: else the
 * journal stays, and nobody can read the database. */
static int
put_uncommitted_page(struct db_image *img, uint32_t pgno, const uint8_t *p)
{
        uint8_t *now = img->page_buf;
        int r = overlay_put(&img->uncommitted, pgno, p);

        if (r == -ENOSPC && (uint64_t)pgno * img->page_size <= img->size_bytes &&
            image_read_visible(img, now, img->page_size, (uint64_t)(pgno - 1) * img->page_size,
                               now + IMAGE_PAGE_MAX) == 0 &&
            memcmp(now, p, img->page_size) == 0)
                r = 0;
        return r;
}

/* @n bytes from @at of the page. */
static int
put_uncommitted_part(struct db_image *img, uint32_t pgno, const uint8_t *p, uint32_t at, uint32_t n)
{
        uint32_t ps = img->page_size;
        uint8_t *page = img->page_buf;
        int r;

        if (n == ps)
                return put_uncommitted_page(img, pgno, p);
        r = image_read_visible(img, page, ps, (uint64_t)(pgno - 1) * ps, page + IMAGE_PAGE_MAX);
        if (r < 0)
                return r;
        memcpy(page + at, p, n);
        return overlay_put(&img->uncommitted, pgno, page);
}

int
image_write(struct db_image *img, const uint8_t *p, size_t n, uint64_t off)
{
        uint32_t ps = img->page_size;
        int r;

        if (off + n > (uint64_t)UINT32_MAX * ps)
                return -EFBIG;
        while (n > 0) {
                uint32_t at = (uint32_t)(off % ps);
                uint32_t part = ps - at < n ? ps - at : (uint32_t)n;

                r = put_uncommitted_part(img, (uint32_t)(off / ps) + 1, p, at, part);
                if (r < 0)
                        return r;
                p += part;
                off += part;
                n -= part;
                if (off > img->size_bytes)
                        img->size_bytes = off;
        }
        return 0;
}

/* Zeros the part of the page past @size_bytes, in the overlay: it would show if the file grew again. */
static int
cut_uncommitted_page(struct db_image *img, uint64_t size_bytes)
{
        static const uint8_t zeros[IMAGE_PAGE_MAX];
        uint32_t ps = img->page_size, at = (uint32_t)(size_bytes % ps);

        return at == 0 ? 0
                       : put_uncommitted_part(img, (uint32_t)(size_bytes / ps) + 1, zeros, at, ps - at);
}

int
image_truncate(struct db_image *img, uint64_t size_bytes)
{
        uint32_t ps = img->page_size;
        uint64_t committed = (uint64_t)img->page_count * ps;
        int r;

        if (size_bytes < img->size_bytes) {
                r = cut_uncommitted_page(img, size_bytes);
                if (r < 0)
                        return r;
                overlay_drop_above(&img->uncommitted, (uint32_t)((size_bytes + ps - 1) / ps));
        }
        img->size_bytes = size_bytes;
        if (size_bytes < committed && size_bytes < img->uncommitted_floor)
                img->uncommitted_floor = size_bytes;
        return 0;
}

void
image_discard_uncommitted(struct db_image *img)
{
        overlay_reset(&img->uncommitted);
        overlay_set_page_size(&img->uncommitted, img->page_size);
        img->uncommitted_floor = IMAGE_NO_FLOOR;
}

int
image_list_uncommitted(const struct db_image *img, uint32_t commit, uint32_t **ret, uint32_t *ret_n)
{
        uint32_t first_cut, end, n = 0;
        uint32_t *written, *all;

        *ret = NULL;
        *ret_n = img->uncommitted.n_pages;
        if (*ret_n > 0 && (*ret = overlay_sorted_pgnos(&img->uncommitted)) == NULL)
                return -ENOMEM;
        if (img->uncommitted_floor == IMAGE_NO_FLOOR)
                return 0;
        first_cut = (uint32_t)(img->uncommitted_floor / img->page_size) + 1;
        end = commit < img->page_count ? commit : img->page_count;
        if (end < first_cut)
                return 0;
        written = *ret;
        all = malloc(((size_t)*ret_n + (end - first_cut + 1)) * sizeof *all);
        if (all == NULL)
                return -ENOMEM; /* the caller frees what *@ret has */
        for (uint32_t i = 0; i < *ret_n && written[i] < first_cut; i++)
                all[n++] = written[i];
        for (uint32_t pgno = first_cut; pgno <= end && pgno != 0; pgno++)
                all[n++] = pgno;
        for (uint32_t i = 0; i < *ret_n; i++)
                if (written[i] > end && written[i] >= first_cut)
                        all[n++] = written[i];
        free(written);
        *ret = all;
        *ret_n = n;
        return 0;
}

int
image_show_over_uncommitted(struct db_image *img, const uint8_t *buf, size_t n, uint64_t off)
{
        uint32_t ps = img->page_size;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;

                if (off + i + ps > img->uncommitted_floor || overlay_has(&img->uncommitted, pgno))
                        r = overlay_put(&img->uncommitted, pgno, buf + i);
        }
        return r;
}
