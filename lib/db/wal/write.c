/* An application's write, and the transactions that it completes.
 *
 * Every write to NAME-wal is seen. `frames` holds the frames whose checksums continue the chain from the header; a commit
 * is the moment when the chain reaches a frame with a commit size, which is checked by the write that completes it.
 * SQLite writes a frame as header and page, rewrites frames of its own transaction in place when the cache spills, and
 * then corrects the headers from the first changed frame on; so a write below the verified end takes the chain back to
 * there.
 *
 * The kernel may hand a page over in two parts, and over a frame of an earlier chain that ends in the same bytes the
 * first part completes the frame. So a write that repeats captured bytes changes nothing, and is let through.
 *
 * Two writes are refused (-ESTALE), for the caller to make SQLite read the WAL anew: one that changes what was captured,
 * and a new header while the database file lacks captured pages. Both come from a connection whose wal-index does not
 * know of a commit that was captured, because the writer died (or was told of an error) between commit frame and
 * wal-index. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "db/wal/wal_internal.h"

/* --- into the file --- */

/* When the kernel has cut a write in two and the first part was let through, it tells the application of a short write
 * where the second one failed. SQLite then writes the rest once more, and would take that for its commit. */
static bool
is_rest_of_revoked(struct db_wal *w, size_t n, uint64_t off)
{
        bool is_begin = (off == 0 && n >= WAL_HEADER_SIZE) ||
                        off == wal_frame_offset(w, (uint64_t)w->n_captured + 1);

        if (w->is_revoked && is_begin)
                w->is_revoked = false;
        return w->is_revoked;
}

/* How many of the bytes lie below the captured end and are what was captured; -ESTALE: one is not. */
static ssize_t
count_repeated(const struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off)
{
        uint64_t end = wal_frame_offset(w, (uint64_t)w->n_captured + 1);
        size_t want = off >= end ? 0 : off + n <= end ? n : (size_t)(end - off);
        uint8_t held[4096];

        for (size_t at = 0; at < want;) {
                size_t part = want - at < sizeof held ? want - at : sizeof held;
                ssize_t got = os_pread_all(w->os, "wal:read", w->fd, held, part, (off_t)(off + at));

                if (got < 0)
                        return got;
                if ((size_t)got < part || memcmp(held, buf + at, part) != 0)
                        return -ESTALE;
                at += part;
        }
        return (ssize_t)want;
}

/* Whether the write may happen, see the file comment: how many of its bytes repeat captured ones, or an error. */
static ssize_t
check_place(const struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off)
{
        if (off == 0 && n >= WAL_HEADER_SIZE)
                return w->frames.n_pending > 0 ? -ESTALE : 0;
        if (!w->is_live)
                return 0;
        if (off < WAL_HEADER_SIZE || wal_frame_at(w, off) > (uint64_t)w->n_written + 1)
                return -ESTALE;
        return count_repeated(w, buf, n, off);
}

/* Where to look for what the write of [off, off+n), which is in the file, completes. */
static void
begin_scan(struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off, struct wal_scan *ret)
{
        /* Neither is beyond the next frame and what one write has room for: check_place. */
        uint32_t first = off < WAL_HEADER_SIZE ? 1 : (uint32_t)wal_frame_at(w, off);
        uint32_t last = (uint32_t)wal_frame_at(w, off + n - 1), was_written = w->n_written;
        uint64_t page_at = wal_frame_offset(w, first) + WAL_FRAME_HEADER_SIZE;

        ret->first = first;
        ret->last = last;
        if (last > w->n_written)
                w->n_written = last;
        if (n == WAL_FRAME_HEADER_SIZE && off == wal_frame_offset(w, first)) {
                memcpy(w->header, buf, sizeof w->header);
                w->header_frame = first;
                /* A header completes a frame only where it corrects one that was written before. */
                ret->corrected = first <= was_written ? first : 0;
                ret->reads_on = ret->corrected != 0;
        } else if (n == w->image->page_size && off == page_at) {
                /* The common case without a read: the page of the next frame, whose header came just before. */
                if (first == w->frames.n + 1 && w->header_frame == first)
                        ret->page = buf;
                else
                        ret->reads_on = true;
        } else {
                w->header_frame = 0;
                ret->reads_on = true;
        }
}

int
wal_write(struct db_wal *w, const uint8_t *buf, size_t n, uint64_t off, struct wal_scan *ret)
{
        ssize_t repeated;
        int r = 0;

        *ret = (struct wal_scan){ 0 };
        if (w->fd < 0 || w->image->page_size == 0)
                return -ENOENT;
        if (off > INT64_MAX - n || wal_frame_at(w, off + n) > WAL_FRAMES_MAX)
                return -EFBIG;
        if (is_rest_of_revoked(w, n, off))
                return -EIO;
        repeated = check_place(w, buf, n, off);
        if (repeated < 0 || (size_t)repeated == n)
                return repeated < 0 ? (int)repeated : 0;
        buf += repeated;
        n -= (size_t)repeated;
        off += (uint64_t)repeated;
        if (w->is_live && off >= WAL_HEADER_SIZE)
                r = wal_rewind_to(w, (uint32_t)wal_frame_at(w, off));
        if (off < WAL_HEADER_SIZE)
                image_save_wal(w->image);
        if (r == 0)
                r = os_pwrite_all(w->os, "wal:write", w->fd, buf, n, (off_t)off);
        if (r < 0)
                return r;
        if (off == 0 && n >= WAL_HEADER_SIZE)
                wal_begin_chain(w, buf);
        if (w->is_live && off + n > WAL_HEADER_SIZE)
                begin_scan(w, buf, n, off, ret);
        return 0;
}

/* --- what it completes --- */

/* The next frame, from the file: 1, 0 when the file ends before it does, or negative. */
static int
read_next_frame(const struct db_wal *w, uint8_t *room)
{
        uint32_t size = wal_frame_size(w);
        ssize_t n = os_pread_all(w->os, "wal:read", w->fd, room, size,
                                 (off_t)wal_frame_offset(w, (uint64_t)w->frames.n + 1));

        return n < 0 ? (int)n : n == (ssize_t)size;
}

int
wal_take_frame(struct db_wal *w, uint8_t *room, uint32_t *ret_commit)
{
        int r = read_next_frame(w, room);

        return r < 0    ? r
               : r == 0 ? FRAME_INVALID
                        : wal_verify_frame(w, room, room + WAL_FRAME_HEADER_SIZE, ret_commit);
}

/* Whether a corrected header ends a transaction that has gaps: see wal_verify_unsummed. */
static bool
ends_with_gaps(const struct db_wal *w, uint32_t frame)
{
        return w->frames.n < frame && get_be32(w->header + 4) != 0 &&
               get_be32(w->header + 8) == w->salt1 && get_be32(w->header + 12) == w->salt2;
}

/* Frames up to @last, or to one that is not the chain's even so, or to the first that ends a transaction: its verdict. */
static int
take_gaps_too(struct db_wal *w, uint32_t last, uint8_t *room, uint32_t *ret_commit)
{
        int r = FRAME_VALID;

        while (r == FRAME_VALID && w->frames.n < last) {
                r = read_next_frame(w, room);
                if (r <= 0)
                        return r < 0 ? r : FRAME_INVALID;
                r = wal_verify_frame(w, room, room + WAL_FRAME_HEADER_SIZE, ret_commit);
                if (r == FRAME_INVALID)
                        r = wal_verify_unsummed(w, room, room + WAL_FRAME_HEADER_SIZE);
        }
        return r;
}

static int
take_unsummed_frames(struct db_wal *w, uint32_t last, uint8_t *room, uint32_t *ret_commit)
{
        uint32_t from = w->frames.n;
        int r = take_gaps_too(w, last, room, ret_commit);

        if (r == FRAME_COMMIT && w->frames.n == last)
                return 1;
        return r < 0 ? r : wal_rewind_to(w, from + 1);
}

int
wal_find_commit(struct db_wal *w, uint8_t *room, uint32_t *ret_commit)
{
        struct wal_scan scan = wal_scan_rest();
        int r = wal_scan_next(w, &scan, room, ret_commit);
        uint32_t from = w->frames.n;

        if (r != 0 || !w->is_live)
                return r;
        r = take_gaps_too(w, UINT32_MAX, room, ret_commit);
        if (r == FRAME_COMMIT)
                return 1;
        return r < 0 ? r : wal_rewind_to(w, from + 1);
}

struct wal_scan
wal_scan_rest(void)
{
        return (struct wal_scan){ .last = UINT32_MAX, .reads_on = true };
}

int
wal_scan_next(struct db_wal *w, struct wal_scan *scan, uint8_t *room, uint32_t *ret_commit)
{
        int r;

        scan->last_page = scan->page;
        scan->page = NULL;
        if (scan->last_page != NULL) { /* valid or not: the frame was looked at, with this page */
                r = wal_verify_frame(w, w->header, scan->last_page, ret_commit);
                return r < 0 ? r : r == FRAME_COMMIT;
        }
        while (scan->reads_on) {
                r = wal_take_frame(w, room, ret_commit);
                if (r < 0 || r == FRAME_COMMIT)
                        return r < 0 ? r : 1;
                scan->reads_on = r == FRAME_VALID;
        }
        if (scan->corrected != 0) {
                uint32_t frame = scan->corrected;

                scan->corrected = 0;
                if (ends_with_gaps(w, frame))
                        return take_unsummed_frames(w, frame, room, ret_commit);
        }
        return 0;
}

int
wal_revoke_scan(struct db_wal *w, const struct wal_scan *scan)
{
        uint32_t first = scan->first <= w->n_captured ? w->n_captured + 1 : scan->first;

        return first <= scan->last ? wal_revoke_from(w, first) : 0;
}

int
wal_revoke_uncaptured(struct db_wal *w)
{
        return wal_revoke_from(w, w->n_captured + 1);
}

int
wal_revoke_last(struct db_wal *w)
{
        return wal_revoke_from(w, w->frames.n);
}
