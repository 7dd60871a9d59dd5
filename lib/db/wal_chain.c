#include "db/wal_chain.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"

uint32_t
wal_frame_size(const struct db *db)
{
        return WAL_FRAME_HEADER_SIZE + db->page_size;
}

uint64_t
wal_frame_offset(const struct db *db, uint32_t frame)
{
        return WAL_HEADER_SIZE + (uint64_t)(frame - 1) * wal_frame_size(db);
}

/* The frame that the byte at @off belongs to, counted from 1; 0: the header. */
uint32_t
wal_frame_at(const struct db *db, uint64_t off)
{
        return off < WAL_HEADER_SIZE ? 0 : (uint32_t)((off - WAL_HEADER_SIZE) / wal_frame_size(db)) + 1;
}

void
wal_reset(struct db *db)
{
        int fd = db->wal.fd;

        wal_frames_reset(&db->wal.frames);
        db->wal = (struct db_wal){ .fd = fd };
        db->wal_backfilled_txid = 0;
}

/* A new header begins a new chain. */
int
wal_begin_chain(struct db *db, const uint8_t buf[WAL_HEADER_SIZE])
{
        struct wal_header h;
        struct db_wal *w = &db->wal;

        wal_reset(db);
        if (wal_header_decode(buf, &h) < 0 || h.page_size != db->page_size)
                return 0; /* SQLite would read nothing from it either */
        w->is_live = true;
        w->is_big_endian = h.is_big_endian_cksum;
        w->salt1 = h.salt1;
        w->salt2 = h.salt2;
        memcpy(w->header_sum, h.cksum, sizeof w->header_sum);
        memcpy(w->captured_sum, h.cksum, sizeof w->captured_sum);
        memcpy(w->verified_sum, h.cksum, sizeof w->verified_sum);
        return 0;
}

/* Takes the chain back so that @frame is the next to verify. Its predecessor's header has the checksum. */
int
wal_rewind_to(struct db *db, uint32_t frame)
{
        struct db_wal *w = &db->wal;
        uint8_t h[WAL_FRAME_HEADER_SIZE];
        ssize_t n;

        if (frame > w->frames.n)
                return 0;
        assert(frame > w->n_captured);
        if (frame == w->n_captured + 1) {
                memcpy(w->verified_sum, w->captured_sum, sizeof w->verified_sum);
        } else {
                n = os_pread_all(db->env->os, "wal:read", w->fd, h, sizeof h,
                                 (off_t)wal_frame_offset(db, frame - 1));
                if (n != (ssize_t)sizeof h)
                        return n < 0 ? (int)n : -EIO;
                w->verified_sum[0] = get_be32(h + 16);
                w->verified_sum[1] = get_be32(h + 20);
        }
        wal_frames_cut(&w->frames, frame - 1);
        return 0;
}

int
wal_rewind_to_captured(struct db *db)
{
        db->wal.header_frame = 0;
        return wal_rewind_to(db, db->wal.n_captured + 1);
}

/* Checks @header and @page as the frame after the verified ones, and takes it in if it is. */
int
wal_verify_frame(struct db *db, const uint8_t *header, const uint8_t *page, uint32_t *ret_commit)
{
        struct db_wal *w = &db->wal;
        uint32_t s[2] = { w->verified_sum[0], w->verified_sum[1] };
        uint32_t pgno = get_be32(header);
        int r;

        if (pgno == 0 || get_be32(header + 8) != w->salt1 || get_be32(header + 12) != w->salt2)
                return FRAME_INVALID;
        wal_checksum(w->is_big_endian, header, 8, s);
        wal_checksum(w->is_big_endian, page, db->page_size, s);
        if (s[0] != get_be32(header + 16) || s[1] != get_be32(header + 20))
                return FRAME_INVALID;
        r = wal_frames_push(&w->frames, pgno, ltx_page_checksum(pgno, page, db->page_size));
        if (r < 0)
                return r;
        memcpy(w->verified_sum, s, sizeof s);
        *ret_commit = get_be32(header + 4);
        return *ret_commit != 0 ? FRAME_COMMIT : FRAME_VALID;
}

/* Frames from the file up to @last as SQLite before 3.42 may leave them: when a savepoint is rolled back below
 * a frame that was rewritten in place, the frames written next keep the zeros that stand for salts and
 * checksum until commit, and the commit corrects only those behind them. SQLite itself does not look at the
 * checksums of its own transaction, so for it and its readers the commit stands; it must be captured. The
 * chain goes on from the zeros, as SQLite's own correction does. */
int
wal_verify_unsummed(struct db *db, const uint8_t *header, const uint8_t *page)
{
        static const uint8_t zeros[16];
        struct db_wal *w = &db->wal;
        uint32_t pgno = get_be32(header);
        int r;

        if (pgno == 0 || memcmp(header + 8, zeros, sizeof zeros) != 0)
                return FRAME_INVALID;
        r = wal_frames_push(&w->frames, pgno, ltx_page_checksum(pgno, page, db->page_size));
        if (r < 0)
                return r;
        w->verified_sum[0] = w->verified_sum[1] = 0;
        return FRAME_VALID;
}

/* A transaction that could not be captured must not be found in the WAL by SQLite's own recovery: makes the
 * chain end before @frame, and verifies anew whatever comes. */
void
wal_revoke_from(struct db *db, uint32_t frame)
{
        static const uint8_t zeros[WAL_FRAME_HEADER_SIZE];
        int r;

        r = os_pwrite_all(db->env->os, "wal:revoke", db->wal.fd, zeros, sizeof zeros,
                          (off_t)wal_frame_offset(db, frame));
        if (r < 0)
                db_fail(db, "a commit that could not be captured cannot be taken back");
        db->wal.header_frame = 0;
        db->wal.is_revoked = true;
        (void)wal_rewind_to(db, db->wal.n_captured + 1);
}
