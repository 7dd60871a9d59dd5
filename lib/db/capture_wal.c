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
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "db/wal_chain.h"

/* When the kernel has cut a write in two and the first part was let through, it tells the application of a short write
 * where the second one failed. SQLite then writes the rest once more, and would take that for its commit. */
static bool
is_rest_of_revoked(struct db *db, size_t n, uint64_t off)
{
        struct db_wal *w = &db->wal;
        bool is_begin = (off == 0 && n >= WAL_HEADER_SIZE) ||
                        off == wal_frame_offset(db, w->n_captured + 1);

        if (w->is_revoked && is_begin)
                w->is_revoked = false;
        return w->is_revoked;
}

struct frame_job {
        struct work work;
        struct db *db;
        uint32_t commit;
        struct db_done done;
};

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
                r = wal_capture_frames(&c, job->commit, NULL, &e);
        else
                err_set(&e, r, "capture");
        pthread_mutex_lock(&db->lock);
        if (r < 0) {
                log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
                wal_revoke_from(db, db->wal.frames.n);
        } else {
                r = wal_advance(db, job->done);
                if (r < 0)
                        wal_revoke_from(db, db->wal.n_captured + 1);
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

        r = wal_capture_frames(&c, commit, last_page, &e);
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
int
wal_advance(struct db *db, struct db_done done)
{
        uint32_t size = wal_frame_size(db), commit;
        uint8_t *buf = malloc(size);
        int r = FRAME_VALID;

        if (buf == NULL)
                return -ENOMEM;
        while (r >= FRAME_VALID) {
                ssize_t n = os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, size,
                                         (off_t)wal_frame_offset(db, db->wal.frames.n + 1));

                if (n < (ssize_t)size) {
                        r = n < 0 ? (int)n : FRAME_INVALID;
                        break;
                }
                r = wal_verify_frame(db, buf, buf + WAL_FRAME_HEADER_SIZE, &commit);
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

static int
advance_unsummed(struct db *db, uint32_t last, struct db_done done)
{
        uint32_t size = wal_frame_size(db), from = db->wal.frames.n, commit = 0;
        uint8_t *buf = malloc(size);
        int r = FRAME_VALID;

        if (buf == NULL)
                return -ENOMEM;
        while (r == FRAME_VALID && db->wal.frames.n < last) {
                ssize_t n = os_pread_all(db->env->os, "wal:read", db->wal.fd, buf, size,
                                         (off_t)wal_frame_offset(db, db->wal.frames.n + 1));

                if (n < (ssize_t)size) {
                        r = n < 0 ? (int)n : FRAME_INVALID;
                        break;
                }
                r = wal_verify_frame(db, buf, buf + WAL_FRAME_HEADER_SIZE, &commit);
                if (r == FRAME_INVALID)
                        r = wal_verify_unsummed(db, buf, buf + WAL_FRAME_HEADER_SIZE);
        }
        free(buf);
        if (r == FRAME_COMMIT && db->wal.frames.n == last)
                return commit_frame(db, commit, NULL, done);
        return r < 0 ? r : wal_rewind_to(db, from + 1);
}

/* A corrected header: what it completes, and whether it ends a transaction that has gaps (see above). */
static int
take_header_write(struct db *db, uint32_t frame, const uint8_t *header, struct db_done done)
{
        struct db_wal *w = &db->wal;
        int r = wal_advance(db, done);

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
        r = wal_verify_frame(db, w->header, page, &commit);
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
        uint64_t end = wal_frame_offset(db, db->wal.n_captured + 1);
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
        if (off < WAL_HEADER_SIZE || wal_frame_at(db, off) > w->n_written + 1)
                return -ESTALE;
        return count_repeated(db, buf, n, off);
}

/* What the write of [off, off+n), which is in the file, means for the chain. */
static int
take_write(struct db *db, const uint8_t *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_wal *w = &db->wal;
        uint32_t first = off < WAL_HEADER_SIZE ? 1 : wal_frame_at(db, off);
        uint32_t last = wal_frame_at(db, off + n - 1), was_written = w->n_written;
        bool is_taken = false;
        int r = 0;

        if (last > w->n_written)
                w->n_written = last;
        if (n == WAL_FRAME_HEADER_SIZE && off == wal_frame_offset(db, first)) {
                memcpy(w->header, buf, sizeof w->header);
                w->header_frame = first;
                /* A header completes a frame only where it corrects one that was written before. */
                if (first <= was_written)
                        r = take_header_write(db, first, buf, done);
        } else {
                if (n == db->page_size && off == wal_frame_offset(db, first) + WAL_FRAME_HEADER_SIZE)
                        r = take_page_write(db, buf, first, done, &is_taken);
                else
                        w->header_frame = 0;
                if (r == 0 && !is_taken)
                        r = wal_advance(db, done);
        }
        if (first <= w->n_captured)
                first = w->n_captured + 1;
        /* The application is told that the write failed, so it must not stand. */
        if (r < 0 && first <= last)
                wal_revoke_from(db, first);
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
                r = wal_rewind_to(db, wal_frame_at(db, off));
        if (off < WAL_HEADER_SIZE)
                snapshot_save_wal(db);
        if (r == 0)
                r = os_pwrite_all(db->env->os, "wal:write", w->fd, buf, n, (off_t)off);
        if (r < 0)
                return r;
        if (off == 0 && n >= WAL_HEADER_SIZE)
                r = wal_begin_chain(db, buf);
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
