/* What makes an image up, and the file under its layers. */
#include "db/image/image.h"

#include <errno.h>
#include <stdlib.h>

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
