/* The frames of the WAL that continue its chain of checksums, from the header on. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "db/wal/wal_internal.h"
#include "ltx/checksum.h"

uint32_t
wal_frame_size(const struct db_wal *w)
{
        return WAL_FRAME_HEADER_SIZE + w->image->page_size;
}

uint64_t
wal_frame_offset(const struct db_wal *w, uint64_t frame)
{
        return WAL_HEADER_SIZE + (frame - 1) * wal_frame_size(w);
}

uint64_t
wal_frame_at(const struct db_wal *w, uint64_t off)
{
        return off < WAL_HEADER_SIZE ? 0 : (off - WAL_HEADER_SIZE) / wal_frame_size(w) + 1;
}

void
wal_reset(struct db_wal *w)
{
        wal_frames_reset(&w->frames);
        *w = (struct db_wal){ .os = w->os, .image = w->image, .fd = w->fd };
}

void
wal_begin_chain(struct db_wal *w, const uint8_t buf[WAL_HEADER_SIZE])
{
        struct wal_header h;

        wal_reset(w);
        if (wal_header_decode(buf, &h) < 0 || h.page_size != w->image->page_size)
                return; /* SQLite would read nothing from it either */
        w->is_live = true;
        w->is_big_endian = h.is_big_endian_cksum;
        w->salt1 = h.salt1;
        w->salt2 = h.salt2;
        memcpy(w->header_sum, h.cksum, sizeof w->header_sum);
        memcpy(w->captured_sum, h.cksum, sizeof w->captured_sum);
        memcpy(w->verified_sum, h.cksum, sizeof w->verified_sum);
}

int
wal_read_header(struct db_wal *w)
{
        uint8_t header[WAL_HEADER_SIZE];
        ssize_t n = os_pread_all(w->os, "wal:take", w->fd, header, sizeof header, 0);

        if (n == WAL_HEADER_SIZE)
                wal_begin_chain(w, header);
        return n < 0 ? (int)n : 0;
}

/* The predecessor's header has the checksum. */
int
wal_rewind_to(struct db_wal *w, uint32_t frame)
{
        uint8_t h[WAL_FRAME_HEADER_SIZE];
        ssize_t n;

        if (frame > w->frames.n)
                return 0;
        if (frame <= w->n_captured)
                return -ENOTRECOVERABLE; /* they are committed */
        if (frame == w->n_captured + 1) {
                memcpy(w->verified_sum, w->captured_sum, sizeof w->verified_sum);
        } else {
                n = os_pread_all(w->os, "wal:read", w->fd, h, sizeof h,
                                 (off_t)wal_frame_offset(w, frame - 1));
                if (n != (ssize_t)sizeof h)
                        return n < 0 ? (int)n : -EIO;
                w->verified_sum[0] = get_be32(h + 16);
                w->verified_sum[1] = get_be32(h + 20);
        }
        wal_frames_cut(&w->frames, frame - 1);
        return 0;
}

/* Checks @header and @page as the frame after the verified ones, and takes it in if it is. */
int
wal_verify_frame(struct db_wal *w, const uint8_t *header, const uint8_t *page, uint32_t *ret_commit)
{
        uint32_t s[2] = { w->verified_sum[0], w->verified_sum[1] };
        uint32_t pgno = get_be32(header), ps = w->image->page_size;
        int r;

        if (pgno == 0 || get_be32(header + 8) != w->salt1 || get_be32(header + 12) != w->salt2)
                return FRAME_INVALID;
        wal_checksum(w->is_big_endian, header, 8, s);
        wal_checksum(w->is_big_endian, page, ps, s);
        if (s[0] != get_be32(header + 16) || s[1] != get_be32(header + 20))
                return FRAME_INVALID;
        r = wal_frames_push(&w->frames, pgno, ltx_page_checksum(pgno, page, ps));
        if (r < 0)
                return r;
        memcpy(w->verified_sum, s, sizeof s);
        *ret_commit = get_be32(header + 4);
        return *ret_commit != 0 ? FRAME_COMMIT : FRAME_VALID;
}

/* A frame as SQLite before 3.42 may leave it: when a savepoint is rolled back below a frame that was rewritten in place,
 * the frames written next keep the zeros that stand for salts and checksum until commit, and the commit corrects only
 * those behind them. SQLite itself does not look at the checksums of its own transaction, so for it and its readers the
 * commit stands; it must be captured. The chain goes on from the zeros, as SQLite's own correction does. */
int
wal_verify_unsummed(struct db_wal *w, const uint8_t *header, const uint8_t *page)
{
        static const uint8_t zeros[16];
        uint32_t pgno = get_be32(header);
        int r;

        if (pgno == 0 || memcmp(header + 8, zeros, sizeof zeros) != 0)
                return FRAME_INVALID;
        r = wal_frames_push(&w->frames, pgno, ltx_page_checksum(pgno, page, w->image->page_size));
        if (r < 0)
                return r;
        w->verified_sum[0] = w->verified_sum[1] = 0;
        return FRAME_VALID;
}

/* A transaction that could not be captured must not be found in the WAL by SQLite's own recovery: the frame's header
 * becomes zeros, and whatever comes is verified anew. */
int
wal_revoke_from(struct db_wal *w, uint32_t frame)
{
        static const uint8_t zeros[WAL_FRAME_HEADER_SIZE];
        int r = os_pwrite_all(w->os, "wal:revoke", w->fd, zeros, sizeof zeros,
                              (off_t)wal_frame_offset(w, frame));

        w->header_frame = 0;
        w->is_revoked = true;
        (void)wal_rewind_to(w, w->n_captured + 1);
        return r < 0 ? -ENOTRECOVERABLE : 0;
}
