/* A WAL that applications have had open while no one served it: the chain is found again from the file alone.
 *
 * SQLite goes on with the wal-index that it has mapped, so the frames must count as before. Which of them are captured,
 * the image tells: of each page that they have, the newest one is the committed image. At most one transaction can stand
 * behind them, for SQLite has one writer, whose last write was not answered: it is looked at when that write comes. Where
 * applications write without us (db/passed.h) it may be any number, and the WAL may have begun anew once the file had all of
 * it, but then nothing of it is captured. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "db/wal/wal_internal.h"
#include "ltx/checksum.h"

/* The chain up to the end of a transaction; of none, up to its header. */
struct boundary {
        uint32_t n_frames, commit;
        uint32_t sum[2];
};

struct boundaries {
        struct boundary *list;
        size_t n, capacity;
};

static int
add_boundary(struct boundaries *b, struct boundary one)
{
        if (b->n == b->capacity) {
                size_t want = b->capacity == 0 ? 64 : b->capacity * 2;
                struct boundary *p = realloc(b->list, want * sizeof *p);

                if (p == NULL)
                        return -ENOMEM;
                b->list = p;
                b->capacity = want;
        }
        b->list[b->n++] = one;
        return 0;
}

/* All frames that check out, and where each transaction ends. */
static int
find_boundaries(struct db_wal *w, uint8_t *room, struct boundaries *ret)
{
        struct boundary none = { 0, w->image->page_count, { w->captured_sum[0], w->captured_sum[1] } };
        int r = add_boundary(ret, none), verdict = FRAME_VALID;
        uint32_t commit;

        while (r == 0 && verdict != FRAME_INVALID && w->frames.n < WAL_FRAMES_MAX) {
                verdict = wal_take_frame(w, room, &commit);
                if (verdict < 0)
                        return verdict;
                if (verdict == FRAME_COMMIT)
                        r = add_boundary(
                                ret, (struct boundary){ w->frames.n,
                                                        commit,
                                                        { w->verified_sum[0], w->verified_sum[1] } });
        }
        return r;
}

/* The newest frame of each page among the first @n_frames, by page: the caller's. */
static struct wal_copy *
list_newest(const struct db_wal *w, uint32_t n_frames, uint32_t *ret_n)
{
        struct wal_copy *list = malloc(((size_t)n_frames + 1) * sizeof *list);

        if (list == NULL)
                return NULL;
        for (uint32_t f = 0; f < n_frames; f++)
                list[f] = (struct wal_copy){ w->frames.pgnos[f], f + 1 };
        *ret_n = wal_newest_copies(list, n_frames);
        return list;
}

static bool
is_frame_of_image(const struct db_wal *w, uint32_t pgno, uint32_t frame)
{
        const struct db_image *img = w->image;

        return pgno > img->page_count || pgno == ltx_lock_pgno(img->page_size) ||
               w->frames.sums[frame - 1] == pagesum_get(&img->sums, pgno);
}

/* Without looking at all of it: a boundary's last frame is the newest of its page. */
static bool
may_be_captured(const struct db_wal *w, const struct boundary *b)
{
        return b->commit == w->image->page_count &&
               (b->n_frames == 0 || is_frame_of_image(w, w->frames.pgnos[b->n_frames - 1], b->n_frames));
}

static bool
is_committed_image(const struct db_wal *w, const struct wal_copy *list, uint32_t n)
{
        for (uint32_t i = 0; i < n; i++)
                if (!is_frame_of_image(w, list[i].pgno, list[i].frame))
                        return false;
        return true;
}

/* Pages that the file has not got yet. */
static int
note_pending(struct db_wal *w, const struct wal_copy *list, uint32_t n, uint8_t *room)
{
        const struct db_image *img = w->image;
        int r = wal_frames_reserve_pending(&w->frames, n);

        for (uint32_t i = 0; i < n && r == 0; i++) {
                uint32_t pgno = list[i].pgno;
                ssize_t got;

                if (pgno > img->page_count)
                        continue;
                got = os_pread_all(w->os, "wal:read", img->fd, room, img->page_size,
                                   (off_t)(pgno - 1) * img->page_size);
                if (got < 0)
                        r = (int)got;
                else if (got < (ssize_t)img->page_size ||
                         ltx_page_checksum(pgno, room, img->page_size) !=
                                 w->frames.sums[list[i].frame - 1])
                        wal_frames_add_pending(&w->frames, pgno);
        }
        return r;
}

/* Frames that the open transaction has begun to write are known by their salts, or are to be corrected yet. */
static int
count_written(struct db_wal *w)
{
        static const uint8_t zeros[8];
        uint8_t h[WAL_FRAME_HEADER_SIZE];

        for (w->n_written = w->n_captured; w->n_written < WAL_FRAMES_MAX; w->n_written++) {
                ssize_t n = os_pread_all(w->os, "wal:read", w->fd, h, sizeof h,
                                         (off_t)wal_frame_offset(w, (uint64_t)w->n_written + 1));

                if (n < 0)
                        return (int)n;
                if (n < (ssize_t)sizeof h || get_be32(h) == 0 ||
                    ((get_be32(h + 8) != w->salt1 || get_be32(h + 12) != w->salt2) &&
                     memcmp(h + 8, zeros, sizeof zeros) != 0))
                        return 0;
        }
        return 0;
}

static int
settle_at(struct db_wal *w, const struct boundary *b, uint64_t txid, uint64_t lsn)
{
        int r = b->n_frames > 0 ? wal_frames_reserve_tx(&w->frames) : 0;

        if (r < 0)
                return r;
        wal_frames_cut(&w->frames, b->n_frames);
        if (b->n_frames > 0)
                wal_frames_add_tx(&w->frames, &(struct wal_tx){ b->n_frames, txid, lsn });
        w->n_captured = b->n_frames;
        memcpy(w->captured_sum, b->sum, sizeof w->captured_sum);
        memcpy(w->verified_sum, b->sum, sizeof w->verified_sum);
        return count_written(w);
}

/* 1: the chain is captured up to @b; 0: it is not. */
static int
try_boundary(struct db_wal *w, const struct boundary *b, uint64_t txid, uint64_t lsn, uint8_t *room)
{
        struct wal_copy *list;
        uint32_t n = 0;
        int r;

        if (!may_be_captured(w, b))
                return 0;
        list = list_newest(w, b->n_frames, &n);
        r = list == NULL ? -ENOMEM : 0;

        if (r == 0 && is_committed_image(w, list, n)) {
                r = note_pending(w, list, n, room);
                if (r == 0)
                        r = settle_at(w, b, txid, lsn);
                if (r == 0)
                        r = 1;
        }
        free(list);
        return r;
}

int
wal_resume(struct db_wal *w, uint64_t txid, uint64_t lsn, bool is_passed, uint8_t *room)
{
        struct boundaries ends = { .n = 0 };
        int r = wal_read_header(w);

        if (r == 0 && !w->is_live)
                return is_passed ? 0 : E_CHECKSUM; /* it is being begun anew */
        if (r == 0)
                r = find_boundaries(w, room, &ends);
        for (size_t i = ends.n; i > 0 && r == 0 && (is_passed || i + 2 > ends.n); i--)
                r = try_boundary(w, &ends.list[i - 1], txid, lsn, room);
        free(ends.list);
        return r > 0 ? 0 : r < 0 ? r : E_CHECKSUM;
}
