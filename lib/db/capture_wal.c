/* Commits of WAL mode.
 *
 * Every write to NAME-wal is seen. `frames` holds the frames whose checksums continue the chain from the
 * header; a commit is the moment when the chain reaches a frame with a commit size, which is checked by the
 * write that completes it. SQLite writes a frame as header and page, rewrites frames of its own transaction
 * in place when the cache spills, and then corrects the headers from the first changed frame on; so a write
 * below the verified end takes the chain back to there.
 *
 * The kernel may hand a page over in two parts, and over a frame of an earlier chain that ends in the same bytes
 * the first part completes the frame. So a write that repeats captured bytes changes nothing, and is let through.
 *
 * Two writes are refused, after the caller has been told (-ESTALE) to make SQLite read the WAL anew: one
 * that changes what was captured, and a new header while the database file lacks captured pages. Both come from a
 * connection whose wal-index does not know of a commit that was captured, because the writer died (or was
 * told of an error) between commit frame and wal-index. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "sqlite/wal_format.h"

static uint32_t
frame_size(const struct db *db)
{
        return WAL_FRAME_HEADER_SIZE + db->page_size;
}

static uint64_t
frame_offset(const struct db *db, uint32_t frame)
{
        return WAL_HEADER_SIZE + (uint64_t)(frame - 1) * frame_size(db);
}

/* The frame that the byte at @off belongs to, counted from 1; 0: the header. */
static uint32_t
frame_at(const struct db *db, uint64_t off)
{
        return off < WAL_HEADER_SIZE ? 0 : (uint32_t)((off - WAL_HEADER_SIZE) / frame_size(db)) + 1;
}

void
wal_reset(struct db *db)
{
        int fd = db->wal.fd;

        wal_frames_reset(&db->wal.frames);
        db->wal = (struct db_wal){ .fd = fd };
        db->wal_backfilled_txid = 0;
}

/* --- the chain --- */

/* A new header begins a new chain. */
static int
begin_chain(struct db *db, const uint8_t *buf)
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
static int
rewind_to(struct db *db, uint32_t frame)
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
                                 (off_t)frame_offset(db, frame - 1));
                if (n != (ssize_t)sizeof h)
                        return n < 0 ? (int)n : -EIO;
                w->verified_sum[0] = get_be32(h + 16);
                w->verified_sum[1] = get_be32(h + 20);
        }
        wal_frames_cut(&w->frames, frame - 1);
        return 0;
}

/* --- capture --- */

struct wal_capture {
        const uint32_t *frames;   /* of each page in the request */
        const uint8_t *last_page; /* content of the last frame, when it is at hand */
        uint32_t last_frame;
};

static const uint8_t *
get_frame_page(const struct capturer *c, const struct commit_request *rq, uint32_t i, int *ret_error)
{
        const struct wal_capture *wc = rq->arg;
        struct db *db = c->db;
        ssize_t n;

        if (wc->frames[i] == wc->last_frame && wc->last_page != NULL)
                return wc->last_page;
        n = os_pread_all(db->env->os, "wal:read", db->wal.fd, c->page, db->page_size,
                         (off_t)frame_offset(db, wc->frames[i]) + WAL_FRAME_HEADER_SIZE);
        if (n == (ssize_t)db->page_size)
                return c->page;
        *ret_error = n < 0 ? (int)n : -EIO;
        return NULL;
}

struct page_frame {
        uint32_t pgno;
        uint32_t frame;
};

static int
compare_page_frame(const void *a, const void *b)
{
        const struct page_frame *x = a, *y = b;

        if (x->pgno != y->pgno)
                return x->pgno < y->pgno ? -1 : 1;
        return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* The newest frame of each page that the transaction wrote, by page: two arrays in one allocation. */
static uint32_t *
newest_frames(const struct db *db, uint32_t *ret_n)
{
        const struct db_wal *w = &db->wal;
        uint32_t n = w->frames.n - w->n_captured, kept = 0;
        struct page_frame *list = malloc(n * sizeof *list);
        uint32_t *out = malloc((size_t)n * 2 * sizeof *out);

        if (list == NULL || out == NULL) {
                free(list);
                free(out);
                return NULL;
        }
        for (uint32_t i = 0; i < n; i++)
                list[i] = (struct page_frame){ w->frames.pgnos[w->n_captured + i],
                                               w->n_captured + i + 1 };
        qsort(list, n, sizeof *list, compare_page_frame);
        for (uint32_t i = 0; i < n; i++) {
                if (i + 1 < n && list[i + 1].pgno == list[i].pgno)
                        continue;
                out[kept] = list[i].pgno;
                out[n + kept] = list[i].frame;
                kept++;
        }
        memmove(out + kept, out + n, kept * sizeof *out);
        free(list);
        *ret_n = kept;
        return out;
}

/* After the commit: the chain's captured end, and the pages that now live in the WAL only. */
static void
move_captured(const struct capturer *c, uint32_t commit)
{
        struct db *db = c->db;
        struct db_wal *w = &db->wal;
        struct wal_tx tx = { w->frames.n, db->pos.txid, db->last_lsn };

        capturer_lock(c);
        for (uint32_t i = w->n_captured; i < w->frames.n; i++)
                if (w->frames.pgnos[i] <= commit && w->frames.pgnos[i] != ltx_lock_pgno(db->page_size))
                        wal_frames_add_pending(&w->frames, w->frames.pgnos[i]);
        wal_frames_clear_pending_above(&w->frames, commit);
        wal_frames_add_tx(&w->frames, &tx);
        w->n_captured = w->frames.n;
        memcpy(w->captured_sum, w->verified_sum, sizeof w->captured_sum);
        w->n_written = w->n_captured;
        if (w->is_synced_each)
                sync_expected(db);
        w->is_synced_each = false;
        capturer_unlock(c);
}

/* Captures the frames after n_captured as one transaction of @commit pages. */
static int
capture_frames(const struct capturer *c, uint32_t commit, const uint8_t *last_page, struct err *e)
{
        struct db *db = c->db;
        struct db_wal *w = &db->wal;
        struct wal_capture wc = { .last_page = last_page, .last_frame = w->frames.n };
        struct commit_request rq = { .page_size = db->page_size,
                                     .commit = commit,
                                     .get = get_frame_page,
                                     .arg = &wc,
                                     .wal_salt1 = w->salt1,
                                     .wal_salt2 = w->salt2,
                                     .received = db->received };
        uint32_t n_new = w->frames.n - w->n_captured;
        uint32_t *pages = NULL;
        int r;

        rq.wal_offset = (int64_t)frame_offset(db, w->n_captured + 1);
        rq.wal_size = (int64_t)n_new * frame_size(db);
        if (n_new == 1) {
                rq.pgnos = &w->frames.pgnos[w->frames.n - 1];
                rq.n_pgnos = 1;
                wc.frames = &wc.last_frame;
        } else {
                pages = newest_frames(db, &rq.n_pgnos);
                if (pages == NULL)
                        return err_set(e, -ENOMEM, "collect the transaction's frames");
                rq.pgnos = pages;
                wc.frames = pages + rq.n_pgnos;
        }
        capturer_lock(c);
        r = wal_frames_reserve_tx(&w->frames);
        if (r == 0)
                r = wal_frames_reserve_pending(&w->frames, n_new);
        capturer_unlock(c);
        if (r < 0)
                err_set(e, r, "remember the transaction's frames");
        else
                r = commit_transaction(c, &rq, e);
        free(pages);
        if (r < 0)
                return r;
        move_captured(c, commit);
        return verify_commit(c, e);
}

/* --- transactions of another node --- */

int
wal_rewind_to_captured(struct db *db)
{
        db->wal.header_frame = 0;
        return rewind_to(db, db->wal.n_captured + 1);
}

uint64_t
wal_frame_offset(const struct db *db, uint32_t frame)
{
        return frame_offset(db, frame);
}

int
wal_begin_chain(struct db *db, const uint8_t header[WAL_HEADER_SIZE])
{
        return begin_chain(db, header);
}

static void revoke_from(struct db *db, uint32_t frame);

int
wal_capture_received(const struct capturer *c, uint32_t commit, struct err *e)
{
        struct db *db = c->db;
        int r = capture_frames(c, commit, NULL, e);

        if (r < 0) {
                capturer_lock(c);
                revoke_from(db, db->wal.n_captured + 1);
                (void)wal_rewind_to_captured(db);
                capturer_unlock(c);
        }
        return r;
}

/* --- frames as they are written --- */

/* A transaction that could not be captured must not be found in the WAL by SQLite's own recovery: makes the
 * chain end before @frame, and verifies anew whatever comes. */
static void
revoke_from(struct db *db, uint32_t frame)
{
        static const uint8_t zeros[WAL_FRAME_HEADER_SIZE];
        int r;

        r = os_pwrite_all(db->env->os, "wal:revoke", db->wal.fd, zeros, sizeof zeros,
                          (off_t)frame_offset(db, frame));
        if (r < 0)
                db_fail(db, "a commit that could not be captured cannot be taken back");
        db->wal.header_frame = 0;
        db->wal.is_revoked = true;
        (void)rewind_to(db, db->wal.n_captured + 1);
}

/* When the kernel has cut a write in two and the first part was let through, it tells the application of a short write
 * where the second one failed. SQLite then writes the rest once more, and would take that for its commit. */
static bool
is_rest_of_revoked(struct db *db, size_t n, uint64_t off)
{
        struct db_wal *w = &db->wal;
        bool is_begin = (off == 0 && n >= WAL_HEADER_SIZE) || off == frame_offset(db, w->n_captured + 1);

        if (w->is_revoked && is_begin)
                w->is_revoked = false;
        return w->is_revoked;
}

enum advance { FRAME_INVALID, FRAME_VALID, FRAME_COMMIT };

/* Checks @header and @page as the frame after the verified ones, and takes it in if it is. */
static int
verify_frame(struct db *db, const uint8_t *header, const uint8_t *page, uint32_t *ret_commit)
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

struct frame_job {
        struct work work;
        struct db *db;
        uint32_t commit;
        struct db_done done;
};

static int advance(struct db *db, struct db_done done);

/* A worker's capture; then the frames behind it, if the same write brought more. */
static void
run_frame_capture(struct work *w)
{
        struct frame_job *job = (struct frame_job *)w;
        struct db *db = job->db;
        struct err e = ERR_INIT;
        struct capturer c;
        int r;

        r = capturer_init_worker(&c, db);
        if (r == 0)
                r = capture_frames(&c, job->commit, NULL, &e);
        else
                err_set(&e, r, "capture");
        pthread_mutex_lock(&db->lock);
        if (r < 0) {
                log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
                revoke_from(db, db->wal.frames.n);
        } else {
                r = advance(db, job->done);
                if (r < 0)
                        revoke_from(db, db->wal.n_captured + 1);
                else if (r == 0)
                        r = confirm_commit(db, NULL);
        }
        pthread_mutex_unlock(&db->lock);
        if (r != DB_PENDING) {
                job->done.fn(job->done.arg, r);
                db_end_busy(db);
        }
        capturer_release(&c);
        free(job);
}

static int
post_frame_capture(struct db *db, uint32_t commit, struct db_done done)
{
        struct frame_job *job = malloc(sizeof *job);

        if (job == NULL)
                return -ENOMEM;
        *job = (struct frame_job){ { run_frame_capture, NULL }, db, commit, done };
        db->state = DB_CAPTURING;
        workers_post(db_capture_workers(db), &job->work);
        return DB_PENDING;
}

static int
capture_here(struct db *db, uint32_t commit, const uint8_t *last_page)
{
        struct capturer c = capturer_here(db);
        struct err e = ERR_INIT;
        int r;

        r = capture_frames(&c, commit, last_page, &e);
        if (r < 0)
                log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
        return r;
}

static int
commit_frame(struct db *db, uint32_t commit, const uint8_t *last_page, struct db_done done)
{
        if (db->wal.frames.n - db->wal.n_captured > DB_LIGHT_COMMIT_PAGES || db_forward_of(db) != NULL)
                return post_frame_capture(db, commit, done);
        return capture_here(db, commit, last_page);
}

/* Takes in frames from the file for as long as they continue the chain. */
static int
advance(struct db *db, struct db_done done)
{
        uint32_t size = frame_size(db), commit;
        uint8_t *buf = malloc(size);
        int r = FRAME_VALID;

        if (buf == NULL)
                return -ENOMEM;
        while (r >= FRAME_VALID) {
                ssize_t n = os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, size,
                                         (off_t)frame_offset(db, db->wal.frames.n + 1));

                if (n < (ssize_t)size) {
                        r = n < 0 ? (int)n : FRAME_INVALID;
                        break;
                }
                r = verify_frame(db, buf, buf + WAL_FRAME_HEADER_SIZE, &commit);
                if (r != FRAME_COMMIT)
                        continue;
                r = commit_frame(db, commit, NULL, done);
                if (r != 0)
                        break;
                r = FRAME_VALID;
        }
        free(buf);
        return r == FRAME_INVALID ? 0 : r;
}

/* Frames from the file up to @last as SQLite before 3.42 may leave them: when a savepoint is rolled back below
 * a frame that was rewritten in place, the frames written next keep the zeros that stand for salts and
 * checksum until commit, and the commit corrects only those behind them. SQLite itself does not look at the
 * checksums of its own transaction, so for it and its readers the commit stands; it must be captured. The
 * chain goes on from the zeros, as SQLite's own correction does. */
static int
verify_unsummed(struct db *db, const uint8_t *header, const uint8_t *page)
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

static int
advance_unsummed(struct db *db, uint32_t last, struct db_done done)
{
        uint32_t size = frame_size(db), from = db->wal.frames.n, commit = 0;
        uint8_t *buf = malloc(size);
        int r = FRAME_VALID;

        if (buf == NULL)
                return -ENOMEM;
        while (r == FRAME_VALID && db->wal.frames.n < last) {
                ssize_t n = os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, size,
                                         (off_t)frame_offset(db, db->wal.frames.n + 1));

                if (n < (ssize_t)size) {
                        r = n < 0 ? (int)n : FRAME_INVALID;
                        break;
                }
                r = verify_frame(db, buf, buf + WAL_FRAME_HEADER_SIZE, &commit);
                if (r == FRAME_INVALID)
                        r = verify_unsummed(db, buf, buf + WAL_FRAME_HEADER_SIZE);
        }
        free(buf);
        if (r == FRAME_COMMIT && db->wal.frames.n == last)
                return commit_frame(db, commit, NULL, done);
        return r < 0 ? r : rewind_to(db, from + 1);
}

/* A corrected header: what it completes, and whether it ends a transaction that has gaps (see above). */
static int
take_header_write(struct db *db, uint32_t frame, const uint8_t *header, struct db_done done)
{
        struct db_wal *w = &db->wal;
        int r = advance(db, done);

        if (r != 0 || w->frames.n >= frame || get_be32(header + 4) == 0 ||
            get_be32(header + 8) != w->salt1 || get_be32(header + 12) != w->salt2)
                return r;
        return advance_unsummed(db, frame, done);
}

/* The common case without a read: the page of the next frame, whose header came just before. */
static int
take_page_write(struct db *db, const uint8_t *page, uint32_t frame, struct db_done done,
                bool *ret_is_taken)
{
        struct db_wal *w = &db->wal;
        uint32_t commit;
        int r;

        *ret_is_taken = false;
        if (frame != w->frames.n + 1 || w->header_frame != frame)
                return 0;
        r = verify_frame(db, w->header, page, &commit);
        if (r < 0)
                return r;
        *ret_is_taken = true; /* valid or not: the frame was looked at, with this page */
        if (r == FRAME_COMMIT)
                return commit_frame(db, commit, page, done);
        return 0;
}

/* How many of the bytes lie below the captured end and are what was captured; -ESTALE: one is not. */
static ssize_t
count_repeated(struct db *db, const uint8_t *buf, size_t n, uint64_t off)
{
        uint64_t end = frame_offset(db, db->wal.n_captured + 1);
        size_t want = off >= end ? 0 : off + n <= end ? n : (size_t)(end - off);
        uint8_t held[4096];

        for (size_t at = 0; at < want;) {
                size_t part = want - at < sizeof held ? want - at : sizeof held;
                ssize_t got = os_pread_all(db->env->os, "wal:read", db->wal.fd, held, part,
                                           (off_t)(off + at));

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
check_place(struct db *db, const uint8_t *buf, size_t n, uint64_t off)
{
        struct db_wal *w = &db->wal;

        if (off == 0 && n >= WAL_HEADER_SIZE)
                return w->frames.n_pending > 0 ? -ESTALE : 0;
        if (!w->is_live)
                return 0;
        if (off < WAL_HEADER_SIZE || frame_at(db, off) > w->n_written + 1)
                return -ESTALE;
        return count_repeated(db, buf, n, off);
}

/* What the write of [off, off+n), which is in the file, means for the chain. */
static int
take_write(struct db *db, const uint8_t *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_wal *w = &db->wal;
        uint32_t first = off < WAL_HEADER_SIZE ? 1 : frame_at(db, off);
        uint32_t last = frame_at(db, off + n - 1), was_written = w->n_written;
        bool is_taken = false;
        int r = 0;

        if (last > w->n_written)
                w->n_written = last;
        if (n == WAL_FRAME_HEADER_SIZE && off == frame_offset(db, first)) {
                memcpy(w->header, buf, sizeof w->header);
                w->header_frame = first;
                /* A header completes a frame only where it corrects one that was written before. */
                if (first <= was_written)
                        r = take_header_write(db, first, buf, done);
        } else {
                if (n == db->page_size && off == frame_offset(db, first) + WAL_FRAME_HEADER_SIZE)
                        r = take_page_write(db, buf, first, done, &is_taken);
                else
                        w->header_frame = 0;
                if (r == 0 && !is_taken)
                        r = advance(db, done);
        }
        if (first <= w->n_captured)
                first = w->n_captured + 1;
        /* The application is told that the write failed, so it must not stand. */
        if (r < 0 && first <= last)
                revoke_from(db, first);
        return r;
}

static int
write_wal(struct db *db, const uint8_t *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_wal *w = &db->wal;
        ssize_t repeated;
        int r;

        if (db->state == DB_FAILED)
                return -EIO;
        if (w->fd < 0 || db->page_size == 0)
                return -ENOENT;
        r = db_may_commit(db);
        if (r < 0)
                return r;
        if (is_rest_of_revoked(db, n, off))
                return -EIO;
        repeated = check_place(db, buf, n, off);
        if (repeated < 0 || (size_t)repeated == n)
                return repeated < 0 ? (int)repeated : 0;
        buf += repeated;
        n -= (size_t)repeated;
        off += (uint64_t)repeated;
        if (w->is_live && off >= WAL_HEADER_SIZE)
                r = rewind_to(db, frame_at(db, off));
        if (off < WAL_HEADER_SIZE)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_pwrite_all(db->env->os, "wal:write", w->fd, buf, n, (off_t)off);
        if (r < 0)
                return r;
        if (off == 0 && n >= WAL_HEADER_SIZE)
                r = begin_chain(db, buf);
        if (r < 0 || !w->is_live || off + n <= WAL_HEADER_SIZE)
                return r;
        return take_write(db, buf, n, off, done);
}

int
db_wal_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        uint64_t txid;
        int r;

        if (n == 0)
                return 0;
        db_count(db, DB_COUNT_WAL_WRITES);
        pthread_mutex_lock(&db->lock);
        txid = db->pos.txid;
        r = write_wal(db, buf, n, off, done);
        if (r == 0 && db->pos.txid != txid)
                r = confirm_commit(db, NULL);
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* --- checkpoints --- */

/* A checkpoint goes into the file even where somebody else has written beside the WAL: SQLite counts its pages as
 * copied, and has readers look for them there. What is open must not hide them. */
static int
show_over_open(struct db *db, const uint8_t *buf, size_t n, uint64_t off)
{
        uint32_t ps = db->page_size;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;

                if (off + i + ps > db->open_floor || overlay_has(&db->open, pgno))
                        r = overlay_put(&db->open, pgno, buf + i);
        }
        return r;
}

/* A write to the database file in WAL mode. 0: every page is an image from the WAL, written; -EAGAIN: the
 * log must be durable up to *@ret_lsn first; -ENOENT: not a checkpoint's write. */
int
wal_write_database(struct db *db, const uint8_t *buf, size_t n, uint64_t off, uint64_t *ret_lsn)
{
        struct db_wal *w = &db->wal;
        uint32_t ps = db->page_size;
        uint64_t synced = txlog_synced_lsn(db->log);
        int r;

        if (off % ps != 0 || n % ps != 0)
                return -ENOENT;
        if (!overlay_is_empty(&db->late)) {
                /* Older than what is in the WAL: must not be written over it afterwards. */
                struct capturer c = capturer_here(db);

                *ret_lsn = db->late_lsn;
                r = late_flush(&c);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < n; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;
                uint64_t sum = ltx_page_checksum(pgno, buf + i, ps);
                int64_t frame = wal_frames_find(&w->frames, w->n_captured, pgno, sum);
                const struct wal_tx *tx;

                if (frame <= 0)
                        return frame < 0 ? (int)frame : -ENOENT;
                /* No checkpoint goes back behind one before it. */
                if (pgno <= db->page_count && !wal_frames_is_pending(&w->frames, pgno) &&
                    sum != pagesum_get(&db->sums, pgno))
                        return -ENOENT;
                tx = wal_frames_tx_of(&w->frames, (uint32_t)frame);
                if (tx != NULL && tx->lsn > synced) {
                        *ret_lsn = tx->lsn;
                        return -EAGAIN;
                }
                snapshot_save_frame(db, pgno, (uint32_t)frame);
        }
        snapshot_save_file(db, off, off + n);
        r = os_pwrite_all(db->env->os, "db:checkpoint", db->fd, buf, n, (off_t)off);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i += ps) {
                uint32_t pgno = (uint32_t)((off + i) / ps) + 1;
                uint64_t sum = ltx_page_checksum(pgno, buf + i, ps);
                int64_t frame = wal_frames_find(&w->frames, w->n_captured, pgno, sum);

                if (frame > 0)
                        snapshot_note_copied(db, pgno, (uint32_t)frame);
                if (sum == pagesum_get(&db->sums, pgno))
                        wal_frames_clear_pending(&w->frames, pgno);
        }
        if (off + n > db->size_bytes)
                db->size_bytes = off + n;
        return db_is_dirty(db) ? show_over_open(db, buf, n, off) : 0;
}

void
db_wal_backfilled(struct db *db, const struct db_wal_mark *mark, uint32_t n_backfill)
{
        const struct wal_tx *tx;

        pthread_mutex_lock(&db->lock);
        if (db->wal.is_live && db->wal.salt1 == mark->salt1 && db->wal.salt2 == mark->salt2) {
                tx = wal_frames_tx_within(&db->wal.frames, n_backfill);
                if (tx != NULL)
                        db->wal_backfilled_txid = tx->txid;
        }
        pthread_mutex_unlock(&db->lock);
}

bool
db_wal_captured(struct db *db, struct db_wal_mark *ret)
{
        bool is_live;

        pthread_mutex_lock(&db->lock);
        is_live = db->wal.is_live;
        *ret = (struct db_wal_mark){ db->wal.salt1, db->wal.salt2, db->wal.n_captured };
        pthread_mutex_unlock(&db->lock);
        return is_live;
}

/* --- the file --- */

bool
db_wal_exists(struct db *db)
{
        bool exists;

        pthread_mutex_lock(&db->lock);
        exists = db->wal.fd >= 0;
        pthread_mutex_unlock(&db->lock);
        return exists;
}

int
db_wal_create(struct db *db, mode_t mode)
{
        char path[PATH_MAX];
        int r;

        pthread_mutex_lock(&db->lock);
        if (db->state == DB_FAILED)
                r = -EIO;
        else
                r = db->wal.fd >= 0 ? -EEXIST : db_path(db, "wal", path, sizeof path);
        if (r == 0) {
                r = os_open(db->env->os, "wal:create", path, O_RDWR | O_CREAT | O_TRUNC, mode);
                if (r >= 0) {
                        db->wal.fd = r;
                        wal_reset(db);
                        r = 0;
                }
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* Its transactions are visible to SQLite as soon as it has the name: so they are captured before. */
int
db_wal_take(struct db *db, const char *path, struct db_done done, struct err *e)
{
        char to[PATH_MAX];
        uint8_t header[WAL_HEADER_SIZE];
        ssize_t n = 0;
        int r;

        pthread_mutex_lock(&db->lock);
        r = db_path(db, "wal", to, sizeof to);
        if (r == 0)
                r = os_rename(db->env->os, "wal:take", path, to);
        if (r == 0)
                r = db->wal.fd = os_open(db->env->os, "wal:take", to, O_RDWR, 0);
        if (r >= 0) {
                wal_reset(db);
                n = os_pread_all(db->env->os, "wal:take", db->wal.fd, header, sizeof header, 0);
                r = n < 0 ? (int)n : 0;
        }
        if (r == 0 && n == WAL_HEADER_SIZE)
                r = begin_chain(db, header);
        if (r == 0 && db->wal.is_live)
                r = advance(db, done);
        /* SQLite must not find what the log does not have. */
        if (r < 0 && db->wal.is_live)
                revoke_from(db, db->wal.n_captured + 1);
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? err_set(e, r, "take over %s", path) : r;
}

int
db_wal_stat(struct db *db, struct stat *ret)
{
        int r;

        pthread_mutex_lock(&db->lock); /* or the file could be closed, and its number be another's */
        r = db->wal.fd < 0 ? -ENOENT : os_fstat(db->env->os, "wal:stat", db->wal.fd, ret);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_chmod(struct db *db, mode_t mode)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : fchmod(db->wal.fd, mode & 07777) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_chown(struct db *db, uid_t uid, gid_t gid)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : fchown(db->wal.fd, uid, gid) < 0 ? -errno : 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

ssize_t
db_wal_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT
                           : os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, n, (off_t)off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_truncate(struct db *db, uint64_t size_bytes)
{
        struct db_wal *w = &db->wal;
        uint32_t kept;
        int r = 0;

        pthread_mutex_lock(&db->lock);
        kept = db->page_size > 0 && size_bytes >= WAL_HEADER_SIZE
                       ? (uint32_t)((size_bytes - WAL_HEADER_SIZE) / frame_size(db))
                       : 0;
        if (w->fd < 0)
                r = -ENOENT;
        else if (w->is_live && kept < w->n_captured && w->frames.n_pending > 0)
                r = -EBUSY;
        if (r == 0)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_ftruncate(db->env->os, "wal:truncate", w->fd, (off_t)size_bytes);
        if (r == 0 && w->is_live && kept < w->n_captured)
                wal_reset(db);
        else if (r == 0 && w->is_live && kept < w->frames.n)
                r = rewind_to(db, kept + 1);
        if (r == 0 && w->n_written > kept)
                w->n_written = kept > w->n_captured ? kept : w->n_captured;
        w->header_frame = 0;
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_unlink(struct db *db, int *ret_fd)
{
        char path[PATH_MAX];
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->wal.fd < 0 ? -ENOENT : db->wal.frames.n_pending > 0 ? -EBUSY : 0;
        if (r == 0)
                r = db_path(db, "wal", path, sizeof path);
        if (r == 0)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_unlink(db->env->os, "wal:unlink", path);
        if (r == 0) {
                *ret_fd = db->wal.fd;
                db->wal.fd = -1;
                wal_reset(db);
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_fsync(struct db *db, struct db_done done)
{
        int r;

        pthread_mutex_lock(&db->lock);
        db->wal.is_synced_each = true;
        r = db->state == DB_FAILED ? -EIO : sync_commit(db, NULL, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}
