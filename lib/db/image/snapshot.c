#include "db/image/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sqlite/wal_format.h"

#define SAVED_CAP (4u << 20) /* memory for saved pages before they spill */

struct image_snapshot {
        struct db_image *img;
        uint32_t page_size;
        uint32_t page_count;

        /* Guarded by the image's snapshot_lock: */
        uint32_t next_pgno;         /* those below are read */
        int fd;                     /* the file's, our own: it may be dropped meanwhile */
        struct image_wal_pages wal; /* pages that are in the WAL only */
        int file_fd; /* the database's then: checkpoints go there, unless the file is another by now */
        struct overlay saved;
        int error; /* a page could not be saved: the snapshot is lost */

        uint8_t *page; /* the reader's own */
};

/* --- saving, by those who change the image --- */

static uint32_t
snapshot_frame_of(const struct image_snapshot *snap, uint32_t pgno)
{
        return snap->wal.frames != NULL ? snap->wal.frames[pgno - 1] : 0;
}

/* The page as it was, from where it was. With the snapshot_lock. */
static int
read_original(struct image_snapshot *snap, uint32_t pgno, uint8_t *page)
{
        const struct os *os = snap->img->os;
        uint32_t ps = snap->page_size, frame = snapshot_frame_of(snap, pgno);
        ssize_t n;

        if (frame != 0) {
                off_t off = (off_t)(WAL_HEADER_SIZE +
                                    (uint64_t)(frame - 1) * (WAL_FRAME_HEADER_SIZE + ps) +
                                    WAL_FRAME_HEADER_SIZE);

                n = os_pread_all(os, "snapshot:wal", snap->wal.fd, page, ps, off);
                return n == (ssize_t)ps ? 0 : n < 0 ? (int)n : -EIO;
        }
        n = os_pread_all(os, "snapshot:read", snap->fd, page, ps, (off_t)(pgno - 1) * ps);
        if (n < 0)
                return (int)n;
        memset(page + n, 0, ps - (size_t)n);
        return 0;
}

/* With the snapshot_lock. */
static void
save_page(struct image_snapshot *snap, uint32_t pgno)
{
        uint8_t *page;
        int r;

        if (pgno < snap->next_pgno || snap->error != 0 || overlay_has(&snap->saved, pgno))
                return;
        page = malloc(snap->page_size);
        r = page == NULL ? -ENOMEM : read_original(snap, pgno, page);
        if (r == 0)
                r = overlay_put(&snap->saved, pgno, page);
        free(page);
        snap->error = r;
}

static void
save_range(struct image_snapshot *snap, uint64_t from, uint64_t to)
{
        uint64_t first = from / snap->page_size + 1;
        uint64_t last = (to + snap->page_size - 1) / snap->page_size;

        if (first < snap->next_pgno)
                first = snap->next_pgno;
        for (uint64_t pgno = first; pgno <= last && pgno <= snap->page_count; pgno++)
                if (snapshot_frame_of(snap, (uint32_t)pgno) == 0)
                        save_page(snap, (uint32_t)pgno);
}

void
image_save_file(struct db_image *img, uint64_t from, uint64_t to)
{
        pthread_mutex_lock(&img->snapshot_lock);
        if (img->snapshot != NULL)
                save_range(img->snapshot, from, to);
        pthread_mutex_unlock(&img->snapshot_lock);
}

/* So that there is nothing left to save when the WAL begins anew: whoever waits for that would wait for all of it. */
void
image_save_frame(struct db_image *img, uint32_t pgno, uint32_t frame)
{
        struct image_snapshot *snap;

        pthread_mutex_lock(&img->snapshot_lock);
        snap = img->snapshot;
        if (snap != NULL && pgno <= snap->page_count && snapshot_frame_of(snap, pgno) != 0 &&
            (snapshot_frame_of(snap, pgno) != frame || snap->file_fd != img->fd))
                save_page(snap, pgno);
        pthread_mutex_unlock(&img->snapshot_lock);
}

void
image_note_copied(struct db_image *img, uint32_t pgno, uint32_t frame)
{
        struct image_snapshot *snap;

        pthread_mutex_lock(&img->snapshot_lock);
        snap = img->snapshot;
        if (snap != NULL && pgno <= snap->page_count && frame != 0 &&
            snapshot_frame_of(snap, pgno) == frame && snap->file_fd == img->fd)
                snap->wal.frames[pgno - 1] = 0;
        pthread_mutex_unlock(&img->snapshot_lock);
}

void
image_save_wal(struct db_image *img)
{
        struct image_snapshot *snap;

        pthread_mutex_lock(&img->snapshot_lock);
        snap = img->snapshot;
        if (snap != NULL && snap->wal.frames != NULL) {
                for (uint32_t pgno = snap->next_pgno; pgno <= snap->page_count; pgno++)
                        if (snap->wal.frames[pgno - 1] != 0)
                                save_page(snap, pgno);
                free(snap->wal.frames);
                snap->wal.frames = NULL;
        }
        pthread_mutex_unlock(&img->snapshot_lock);
}

/* --- the moment --- */

int
image_snapshot_new(struct db_image *img, const char *tmp_dir, struct image_snapshot **ret)
{
        struct image_snapshot *snap = calloc(1, sizeof *snap);

        if (snap == NULL)
                return -ENOMEM;
        snap->img = img;
        snap->fd = -1;
        snap->next_pgno = 1;
        overlay_init(&snap->saved, img->os, tmp_dir, SAVED_CAP);
        snap->page = malloc(IMAGE_PAGE_MAX);
        if (snap->page == NULL) {
                image_snapshot_free(snap);
                return -ENOMEM;
        }
        *ret = snap;
        return 0;
}

void
image_snapshot_free(struct image_snapshot *snap)
{
        struct db_image *img;

        if (snap == NULL)
                return;
        img = snap->img;
        pthread_mutex_lock(&img->snapshot_lock);
        if (img->snapshot == snap)
                img->snapshot = NULL;
        pthread_mutex_unlock(&img->snapshot_lock);
        if (snap->fd >= 0)
                close(snap->fd);
        overlay_release(&snap->saved);
        free(snap->wal.frames);
        free(snap->page);
        free(snap);
}

/* What waits to enter the file is nowhere to be read later. */
static int
save_writeback(struct image_snapshot *snap)
{
        struct db_image *img = snap->img;
        uint32_t *pgnos = overlay_sorted_pgnos(&img->writeback);
        int r = pgnos == NULL && !overlay_is_empty(&img->writeback) ? -ENOMEM : 0;

        for (uint32_t i = 0; i < img->writeback.n_pages && r == 0; i++) {
                const uint8_t *page = overlay_get(&img->writeback, pgnos[i], img->page_buf, &r);

                if (page != NULL && pgnos[i] <= img->page_count)
                        r = overlay_put(&snap->saved, pgnos[i], page);
        }
        free(pgnos);
        return r;
}

bool
image_has_snapshot(struct db_image *img)
{
        bool has;

        pthread_mutex_lock(&img->snapshot_lock);
        has = img->snapshot != NULL;
        pthread_mutex_unlock(&img->snapshot_lock);
        return has;
}

int
image_snapshot_begin(struct image_snapshot *snap, const struct image_wal_pages *wal)
{
        struct db_image *img = snap->img;
        int r;

        snap->wal = *wal;
        snap->page_size = img->page_size;
        snap->page_count = img->page_count;
        snap->file_fd = img->fd;
        overlay_set_page_size(&snap->saved, img->page_size);
        /* 3 and up, closed by exec: no application that litefs starts is to have it. */
        snap->fd = fcntl(img->fd, F_DUPFD_CLOEXEC, 3);
        r = snap->fd < 0 ? -errno : save_writeback(snap);
        if (r < 0)
                return r;
        pthread_mutex_lock(&img->snapshot_lock);
        img->snapshot = snap;
        pthread_mutex_unlock(&img->snapshot_lock);
        return 0;
}

int
image_snapshot_read(struct image_snapshot *snap, uint32_t pgno, const uint8_t **ret)
{
        int r = 0;

        pthread_mutex_lock(&snap->img->snapshot_lock);
        if (snap->error != 0) {
                r = snap->error;
        } else if (overlay_has(&snap->saved, pgno)) {
                const uint8_t *p = overlay_get(&snap->saved, pgno, snap->page, &r);

                /* It may be in the overlay's memory, which the next save can move. */
                if (p != NULL && p != snap->page)
                        memcpy(snap->page, p, snap->page_size);
        } else {
                r = read_original(snap, pgno, snap->page);
        }
        snap->next_pgno = pgno + 1;
        pthread_mutex_unlock(&snap->img->snapshot_lock);
        *ret = snap->page;
        return r;
}
