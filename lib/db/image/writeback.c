/* Committed pages on their way to the database file.
 *
 * The rule that recovery stands on: a page enters the database file only when the log record that carries it is durable.
 * So whatever part of the file's unsynced writes a power loss keeps, replaying the log from the base writes each page
 * that may be wrong. Whether it is durable is asked in flush.c, before image_write_back. */
#include <errno.h>
#include <stdlib.h>

#include "db/image/image.h"

/* Moves page by page; a page that cannot be added leaves the overlay as good as before. */
static int
merge_uncommitted(struct db_image *img)
{
        uint32_t *pgnos = overlay_sorted_pgnos(&img->uncommitted);
        uint32_t n = img->uncommitted.n_pages;
        const uint8_t *page;
        int r = pgnos == NULL && n > 0 ? -ENOMEM : 0;

        for (uint32_t i = 0; i < n && r == 0; i++) {
                page = overlay_get(&img->uncommitted, pgnos[i], img->page_buf, &r);
                if (page != NULL)
                        r = overlay_put(&img->writeback, pgnos[i], page);
        }
        free(pgnos);
        return r;
}

int
image_commit_uncommitted(struct db_image *img, uint64_t lsn)
{
        int r = 0;

        if (overlay_is_empty(&img->writeback)) {
                struct overlay empty = img->writeback;

                img->writeback = img->uncommitted;
                img->uncommitted = empty;
                overlay_set_page_size(&img->uncommitted, img->page_size);
        } else {
                r = img->writeback.page_size == img->uncommitted.page_size ? merge_uncommitted(img)
                                                                           : -EINVAL;
                if (r == 0)
                        overlay_reset(&img->uncommitted);
        }
        if (r < 0)
                return r;
        img->uncommitted_floor = IMAGE_NO_FLOOR;
        img->writeback_lsn = lsn;
        return 0;
}

int
image_reserve_writeback(struct db_image *img)
{
        return overlay_reserve(&img->writeback, img->uncommitted.n_pages);
}

static int
write_back_page(struct db_image *img, uint32_t pgno, uint8_t *room)
{
        uint32_t ps = img->writeback.page_size;
        const uint8_t *page;
        int error = -EIO;

        page = overlay_get(&img->writeback, pgno, room, &error);
        if (page == NULL)
                return error;
        return image_write_file(img, "db:writeback", page, ps, (uint64_t)(pgno - 1) * ps);
}

int
image_write_back(struct db_image *img, uint8_t *room)
{
        uint64_t end = (uint64_t)img->page_count * img->page_size;
        uint32_t *pgnos;
        int r = 0;

        if (overlay_is_empty(&img->writeback))
                return 0;
        pgnos = overlay_sorted_pgnos(&img->writeback);
        if (pgnos == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < img->writeback.n_pages && r == 0; i++)
                if ((uint64_t)(pgnos[i] - 1) * img->writeback.page_size < end)
                        r = write_back_page(img, pgnos[i], room);
        free(pgnos);
        return r;
}

void
image_end_writeback(struct db_image *img, int result)
{
        img->writeback_error = result;
        if (result == 0)
                overlay_reset(&img->writeback);
}

void
image_trim_file(struct db_image *img)
{
        uint64_t size = (uint64_t)img->page_count * img->page_size;
        struct stat st;

        if (img->fd < 0 || !overlay_is_empty(&img->writeback) || img->size_bytes > size)
                return;
        /* A failure leaves bytes that nobody sees; recovery cuts them. */
        if (os_fstat(img->os, "db:trim", img->fd, &st) == 0 && (uint64_t)st.st_size > size)
                (void)image_cut_file(img, "db:trim", size);
}
