/* Frames that the daemon makes, as SQLite would: transactions of another node. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/wal/wal_internal.h"
#include "ltx/checksum.h"

#define FRAMES_AT_ONCE (256u << 10) /* bytes of WAL written by one call */

struct wal_appender {
        struct db_wal *w;
        struct wal_header header;
        uint32_t page_size;
        uint32_t sum[2];
        uint8_t *buf;  /* whole frames, written together */
        size_t n;      /* bytes in it */
        uint64_t off;  /* of the first of them in the WAL */
        uint8_t *held; /* a page whose frame waits to learn whether it is the last */
        uint32_t held_pgno;
        uint32_t first_frame;
        uint32_t n_frames;
        uint32_t capacity;
        uint32_t *pgnos; /* of each frame */
        uint64_t *sums;  /* and the page's checksum */
};

int
wal_append_begin(struct db_wal *w, struct wal_appender **ret)
{
        struct wal_appender *ap;

        if (w->fd < 0 || !w->is_live)
                return -EAGAIN;
        ap = calloc(1, sizeof *ap);
        if (ap == NULL)
                return -ENOMEM;
        ap->buf = malloc(FRAMES_AT_ONCE + WAL_FRAME_HEADER_SIZE + IMAGE_PAGE_MAX);
        ap->held = malloc(IMAGE_PAGE_MAX);
        if (ap->buf == NULL || ap->held == NULL) {
                wal_append_end(ap);
                return -ENOMEM;
        }
        ap->w = w;
        ap->page_size = w->image->page_size;
        ap->header = (struct wal_header){ .page_size = ap->page_size,
                                          .salt1 = w->salt1,
                                          .salt2 = w->salt2,
                                          .is_big_endian_cksum = w->is_big_endian };
        memcpy(ap->sum, w->captured_sum, sizeof ap->sum);
        ap->first_frame = w->n_captured + 1;
        ap->off = wal_frame_offset(w, ap->first_frame);
        *ret = ap;
        return 0;
}

void
wal_append_end(struct wal_appender *ap)
{
        if (ap == NULL)
                return;
        free(ap->buf);
        free(ap->held);
        free(ap->pgnos);
        free(ap->sums);
        free(ap);
}

static int
remember_frame(struct wal_appender *ap, uint32_t pgno, uint64_t sum)
{
        if (ap->n_frames == ap->capacity) {
                uint32_t want = ap->capacity == 0 ? 64 : ap->capacity * 2;
                uint32_t *pgnos = realloc(ap->pgnos, want * sizeof *pgnos);
                uint64_t *sums;

                if (pgnos == NULL)
                        return -ENOMEM;
                ap->pgnos = pgnos;
                sums = realloc(ap->sums, want * sizeof *sums);
                if (sums == NULL)
                        return -ENOMEM;
                ap->sums = sums;
                ap->capacity = want;
        }
        ap->pgnos[ap->n_frames] = pgno;
        ap->sums[ap->n_frames++] = sum;
        return 0;
}

static int
write_frames_out(struct wal_appender *ap)
{
        int r = ap->n == 0 ? 0
                           : os_pwrite_all(ap->w->os, "apply:wal", ap->w->fd, ap->buf, ap->n,
                                           (off_t)ap->off);

        ap->off += ap->n;
        ap->n = 0;
        return r;
}

static int
encode_held_page(struct wal_appender *ap, uint32_t commit)
{
        uint32_t ps = ap->page_size;
        uint8_t *frame = ap->buf + ap->n;
        int r;

        wal_frame_encode(&ap->header, ap->held_pgno, commit, ap->held, ap->sum, frame);
        memcpy(frame + WAL_FRAME_HEADER_SIZE, ap->held, ps);
        ap->n += WAL_FRAME_HEADER_SIZE + ps;
        r = remember_frame(ap, ap->held_pgno, ltx_page_checksum(ap->held_pgno, ap->held, ps));
        if (r == 0 && ap->n + WAL_FRAME_HEADER_SIZE + ps > FRAMES_AT_ONCE)
                r = write_frames_out(ap);
        return r;
}

int
wal_append_page(struct wal_appender *ap, uint32_t pgno, const uint8_t *page)
{
        int r = ap->held_pgno != 0 ? encode_held_page(ap, 0) : 0;

        if (r < 0)
                return r;
        memcpy(ap->held, page, ap->page_size);
        ap->held_pgno = pgno;
        return 0;
}

bool
wal_append_is_empty(const struct wal_appender *ap)
{
        return ap->held_pgno == 0;
}

int
wal_append_finish(struct wal_appender *ap, uint32_t commit)
{
        int r = encode_held_page(ap, commit);

        return r < 0 ? r : write_frames_out(ap);
}

int
wal_append_take(struct wal_appender *ap)
{
        struct db_wal *w = ap->w;

        for (uint32_t i = 0; i < ap->n_frames; i++) {
                int r = wal_frames_push(&w->frames, ap->pgnos[i], ap->sums[i]);

                if (r < 0) {
                        wal_forget_uncaptured(w);
                        return r;
                }
        }
        memcpy(w->verified_sum, ap->sum, sizeof w->verified_sum);
        return 0;
}

uint32_t *
wal_append_detach_pgnos(struct wal_appender *ap, uint32_t *ret_n, uint32_t *ret_first_frame)
{
        uint32_t *pgnos = ap->pgnos;

        *ret_n = ap->n_frames;
        *ret_first_frame = ap->first_frame;
        ap->pgnos = NULL;
        ap->n_frames = ap->capacity = 0;
        return pgnos;
}

uint32_t *
wal_list_captured(const struct db_wal *w, uint32_t *ret_n)
{
        uint32_t *pgnos = malloc((size_t)w->n_captured * sizeof *pgnos + 1);

        *ret_n = w->n_captured;
        if (pgnos != NULL && w->n_captured > 0)
                memcpy(pgnos, w->frames.pgnos, w->n_captured * sizeof *pgnos);
        return pgnos;
}
