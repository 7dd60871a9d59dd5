/* Pages that only the WAL has, and their way into the database file, copied by SQLite or by the daemon. */
#include <errno.h>
#include <stdlib.h>

#include "db/wal/wal_internal.h"
#include "ltx/checksum.h"

bool
wal_has_pending(const struct db_wal *w)
{
        return w->frames.n_pending > 0;
}

bool
wal_is_pending(const struct db_wal *w, uint32_t pgno)
{
        return wal_frames_is_pending(&w->frames, pgno);
}

int
wal_map_pending(const struct db_wal *w, struct image_wal_pages *ret)
{
        uint32_t page_count = w->image->page_count;

        *ret = (struct image_wal_pages){ .fd = w->fd };
        if (w->frames.n_pending == 0)
                return 0;
        ret->frames = calloc(page_count, sizeof *ret->frames);
        if (ret->frames == NULL)
                return -ENOMEM;
        for (uint32_t f = 1; f <= w->n_captured; f++) {
                uint32_t pgno = w->frames.pgnos[f - 1];

                if (pgno <= page_count && wal_frames_is_pending(&w->frames, pgno))
                        ret->frames[pgno - 1] = f;
        }
        return 0;
}

static int
read_frame_page(const struct db_wal *w, const char *tag, uint32_t frame, uint8_t *buf)
{
        uint32_t ps = w->image->page_size;
        ssize_t n = os_pread_all(w->os, tag, w->fd, buf, ps,
                                 (off_t)wal_frame_offset(w, frame) + WAL_FRAME_HEADER_SIZE);

        return n == (ssize_t)ps ? 0 : n < 0 ? (int)n : -ENODATA;
}

int
wal_read_pending(struct db_wal *w, uint32_t pgno, uint64_t sum, uint8_t *buf)
{
        int64_t frame = wal_frames_find(&w->frames, w->n_captured, pgno, sum);
        int r;

        if (frame <= 0)
                return (int)frame;
        r = read_frame_page(w, "verify:wal", (uint32_t)frame, buf);
        return r < 0 ? r : 1;
}

/* --- by SQLite --- */

bool
wal_may_be_checkpoint(const struct db_wal *w, size_t n, uint64_t off)
{
        uint32_t ps = w->image->page_size;

        return w->image->fd >= 0 && w->is_live && off % ps == 0 && n % ps == 0;
}

/* Whether the page may go into the file now, as its frame's image: the frame, or an error. */
static int64_t
find_copied_frame(struct db_wal *w, uint32_t pgno, uint64_t sum, uint64_t synced_lsn, uint64_t *ret_lsn)
{
        const struct db_image *img = w->image;
        int64_t frame = wal_frames_find(&w->frames, w->n_captured, pgno, sum);
        const struct wal_tx *tx;

        if (frame <= 0)
                return frame < 0 ? frame : -ENOENT;
        /* No checkpoint goes back behind one before it. */
        if (pgno <= img->page_count && !wal_frames_is_pending(&w->frames, pgno) &&
            sum != pagesum_get(&img->sums, pgno))
                return -ENOENT;
        tx = wal_frames_tx_of(&w->frames, (uint32_t)frame);
        if (tx != NULL && tx->lsn > synced_lsn) {
                *ret_lsn = tx->lsn;
                return -EAGAIN;
        }
        return frame;
}

int
wal_checkpoint_write(struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off, uint64_t synced_lsn,
                     uint64_t *ret_lsn)
{
        struct db_image *img = w->image;
        uint32_t ps = img->page_size;
        int r;

        for (size_t i = 0; i < n; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;
                uint64_t sum = ltx_page_checksum(pgno, buf + i, ps);
                int64_t frame = find_copied_frame(w, pgno, sum, synced_lsn, ret_lsn);

                if (frame < 0)
                        return (int)frame;
                image_save_frame(img, pgno, (uint32_t)frame);
        }
        r = image_write_file(img, "db:checkpoint", buf, n, off);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;
                uint64_t sum = ltx_page_checksum(pgno, buf + i, ps);
                int64_t frame = wal_frames_find(&w->frames, w->n_captured, pgno, sum);

                if (frame > 0)
                        image_note_copied(img, pgno, (uint32_t)frame);
                if (sum == pagesum_get(&img->sums, pgno))
                        wal_frames_clear_pending(&w->frames, pgno);
        }
        /* It may begin anew from here on, and unseen where applications write to it without us. */
        if (w->frames.n_pending == 0)
                image_save_wal(img);
        if (off + n > img->size_bytes)
                img->size_bytes = off + n;
        return image_is_dirty(img) ? image_show_over_uncommitted(img, buf, n, off) : 0;
}

bool
wal_is_checkpoint_cut(const struct db_wal *w, uint64_t size_bytes)
{
        const struct db_image *img = w->image;
        uint32_t ps = img->page_size;

        if (!w->is_live || image_is_dirty(img) || size_bytes % ps != 0)
                return false;
        for (uint64_t pgno = size_bytes / ps + 1;
             pgno <= img->page_count && (pgno - 1) * ps < img->size_bytes; pgno++)
                if (!wal_frames_is_pending(&w->frames, (uint32_t)pgno))
                        return false;
        return true;
}

void
wal_note_backfilled(struct db_wal *w, uint32_t salt1, uint32_t salt2, uint32_t n_frames)
{
        const struct wal_tx *tx;

        if (!w->is_live || w->salt1 != salt1 || w->salt2 != salt2)
                return;
        tx = wal_frames_tx_within(&w->frames, n_frames);
        if (tx != NULL)
                w->backfilled_txid = tx->txid;
}

uint64_t
wal_backfilled_txid(const struct db_wal *w)
{
        return w->backfilled_txid;
}

/* --- by the daemon --- */

static int
compare_copy(const void *a, const void *b)
{
        const struct wal_copy *x = a, *y = b;

        if (x->pgno != y->pgno)
                return x->pgno < y->pgno ? -1 : 1;
        return x->frame < y->frame ? -1 : x->frame > y->frame;
}

uint32_t
wal_list_copies(const struct db_wal *w, uint32_t from, uint32_t to, struct wal_copy *list)
{
        uint32_t n = 0;

        for (uint32_t f = from + 1; f <= to && f <= w->n_captured; f++)
                list[n++] = (struct wal_copy){ w->frames.pgnos[f - 1], f };
        return n;
}

uint32_t
wal_newest_copies(struct wal_copy *list, uint32_t n)
{
        uint32_t kept = 0;

        qsort(list, n, sizeof *list, compare_copy);
        for (uint32_t i = 0; i < n; i++)
                if (i + 1 == n || list[i + 1].pgno != list[i].pgno)
                        list[kept++] = list[i];
        return kept;
}

int
wal_read_copy(const struct db_wal *w, const struct wal_copy *cp, uint8_t *page)
{
        int r;

        if (!w->is_live || cp->frame > w->n_captured)
                return -EAGAIN;
        r = read_frame_page(w, "apply:checkpoint", cp->frame, page);
        return r == -ENODATA ? -EIO : r;
}
