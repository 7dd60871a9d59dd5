/* The file NAME: what applications read, and what they write outside the WAL. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "db/db_internal.h"

/* --- reads --- */

/* Bytes of the file alone: zeros past its end and past the open transaction's cut. */
static int
read_file(struct db *db, uint8_t *buf, size_t n, uint64_t off)
{
        size_t have = n;
        ssize_t r = 0;

        if (off >= db->open_floor)
                have = 0;
        else if (db->open_floor - off < n)
                have = (size_t)(db->open_floor - off);
        if (have > 0 && db->fd >= 0)
                r = os_pread_all(db->env->os, "db:read", db->fd, buf, have, (off_t)off);
        if (r < 0)
                return (int)r;
        memset(buf + r, 0, n - (size_t)r);
        return 0;
}

/* Lays the pages of @o that touch [off, off+n) over @buf. */
static int
lay_over(const struct overlay *o, uint64_t floor, uint8_t *buf, size_t n, uint64_t off, uint8_t *scratch)
{
        uint32_t ps = o->page_size;

        if (overlay_is_empty(o))
                return 0;
        for (uint64_t page = off / ps; page * ps < off + n; page++) {
                uint64_t from = page * ps < off ? off : page * ps;
                uint64_t to = (page + 1) * ps < off + n ? (page + 1) * ps : off + n;
                const uint8_t *p;
                int error = -EIO;

                if (page >= UINT32_MAX || page * ps >= floor || !overlay_has(o, (uint32_t)page + 1))
                        continue;
                p = overlay_get(o, (uint32_t)page + 1, scratch, &error);
                if (p == NULL)
                        return error;
                memcpy(buf + (from - off), p + (from - page * ps), (size_t)(to - from));
        }
        return 0;
}

static int
read_visible(struct db *db, uint8_t *buf, size_t n, uint64_t off, uint8_t *scratch)
{
        int r = read_file(db, buf, n, off);

        /* Late pages past the open transaction's cut are cut with the file's. */
        if (r == 0)
                r = lay_over(&db->late, db->open_floor, buf, n, off, scratch);
        if (r == 0)
                r = lay_over(&db->open, UINT64_MAX, buf, n, off, scratch);
        return r;
}

const uint8_t *
db_visible_page(const struct capturer *c, uint32_t page_size, uint32_t pgno, int *ret_error)
{
        struct db *db = c->db;
        int r;

        if (db->open.page_size == page_size && overlay_has(&db->open, pgno))
                return overlay_get(&db->open, pgno, c->page, ret_error);
        r = read_visible(db, c->page, page_size, (uint64_t)(pgno - 1) * page_size, c->scratch);
        if (r < 0) {
                *ret_error = r;
                return NULL;
        }
        return c->page;
}

ssize_t
db_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        int r;

        pthread_mutex_lock(&db->lock);
        if (off >= db->size_bytes)
                n = 0;
        else if (n > db->size_bytes - off)
                n = (size_t)(db->size_bytes - off);
        r = n == 0 ? 0 : read_visible(db, buf, n, off, db->page_buf);
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? r : (ssize_t)n;
}

/* --- writes --- */

/* A rollback writes back pages that the transaction has not come to write. That must go on a full disk: else the
 * journal stays, and nobody can read the database. */
static int
put_page(struct db *db, uint32_t pgno, const uint8_t *p)
{
        uint8_t *now = db->page_buf;
        int r = overlay_put(&db->open, pgno, p);

        if (r == -ENOSPC && (uint64_t)pgno * db->page_size <= db->size_bytes &&
            read_visible(db, now, db->page_size, (uint64_t)(pgno - 1) * db->page_size,
                         now + DB_PAGE_BUF) == 0 &&
            memcmp(now, p, db->page_size) == 0)
                r = 0;
        return r;
}

static int
put_open(struct db *db, uint32_t pgno, const uint8_t *p, uint32_t at, uint32_t n)
{
        uint32_t ps = db->page_size;
        uint8_t *page = db->page_buf;
        int r;

        if (n == ps)
                return put_page(db, pgno, p);
        r = read_visible(db, page, ps, (uint64_t)(pgno - 1) * ps, page + DB_PAGE_BUF);
        if (r < 0)
                return r;
        memcpy(page + at, p, n);
        return overlay_put(&db->open, pgno, page);
}

/* Any size at any offset: SQLite writes whole pages, cp and dd do not. */
int
db_write_open(struct db *db, const uint8_t *p, size_t n, uint64_t off)
{
        uint32_t ps = db->page_size;
        int r;

        if (off + n > (uint64_t)UINT32_MAX * ps)
                return -EFBIG;
        while (n > 0) {
                uint32_t at = (uint32_t)(off % ps);
                uint32_t part = ps - at < n ? ps - at : (uint32_t)n;

                r = put_open(db, (uint32_t)(off / ps) + 1, p, at, part);
                if (r < 0)
                        return r;
                p += part;
                off += part;
                n -= part;
                if (off > db->size_bytes)
                        db->size_bytes = off;
        }
        if (!db->journal.is_hot)
                db->is_unjournaled = true;
        return 0;
}

struct write_job {
        struct db *db;
        uint8_t *buf;
        size_t n;
        uint64_t off;
        struct db_done done;
};

/* The log is durable now: the checkpoint's write may go through, unless it turns out to need more of it. */
static void
finish_checkpoint_write(void *arg, int result)
{
        struct write_job *job = arg;
        struct db *db = job->db;
        uint64_t lsn;

        pthread_mutex_lock(&db->lock);
        while (result == 0) {
                result = wal_write_database(db, job->buf, job->n, job->off, &lsn);
                if (result != -EAGAIN)
                        break;
                result = sync_log(db, lsn, NULL, (struct db_done){ finish_checkpoint_write, job });
        }
        pthread_mutex_unlock(&db->lock);
        if (result == DB_PENDING)
                return;
        job->done.fn(job->done.arg, result == -ENOENT ? -EIO : result);
        free(job->buf);
        free(job);
}

static int
park_checkpoint_write(struct db *db, const void *buf, size_t n, uint64_t off, uint64_t lsn,
                      struct db_done done)
{
        struct write_job *job = malloc(sizeof *job);
        uint8_t *copy = malloc(n);
        int r = -ENOMEM;

        if (job != NULL && copy != NULL) {
                memcpy(copy, buf, n);
                *job = (struct write_job){ db, copy, n, off, done };
                r = sync_log(db, lsn, NULL, (struct db_done){ finish_checkpoint_write, job });
        }
        if (r != DB_PENDING) {
                free(copy);
                free(job);
        }
        return r;
}

/* A transaction that was begun when it was allowed may write on: it must be able to roll back. Committing is what is
 * refused then (commit.c). One without a journal cannot be refused at its end, so it may not begin where it could
 * have to be (forward.h). */
static int
may_go_on(struct db *db)
{
        if (db->journal.is_hot || db->is_unjournaled)
                return 0;
        return db_forward_of(db) != NULL ? E_NOT_PRIMARY : db_may_commit(db);
}

static int
write_locked(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        uint64_t lsn = 0;
        int r;

        if (db->state == DB_FAILED)
                return -EIO;
        if (db->fd < 0 || db->page_size == 0)
                return -ENOENT;
        if (off > INT64_MAX - n)
                return -EFBIG;
        if (!db->journal.is_hot && db->wal.is_live) {
                r = wal_write_database(db, buf, n, off, &lsn);
                if (r == -EAGAIN) {
                        r = park_checkpoint_write(db, buf, n, off, lsn, done);
                        if (r != 0)
                                return r;
                        r = wal_write_database(db, buf, n, off, &lsn);
                }
                if (r != -ENOENT) /* ENOENT: not an image from the WAL */
                        return r;
        }
        /* A checkpoint adds nothing, and may be made on any node. This does. */
        r = may_go_on(db);
        return r < 0 ? r : db_write_open(db, buf, n, off);
}

int
db_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        int r;

        db_count(db, DB_COUNT_DATABASE_WRITES);
        pthread_mutex_lock(&db->lock);
        r = write_locked(db, buf, n, off, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* Zeros the part of the page past @size_bytes, in the overlay: it would show if the file grew again. */
static int
cut_page(struct db *db, uint64_t size_bytes)
{
        static const uint8_t zeros[DB_PAGE_BUF];
        uint32_t ps = db->page_size, at = (uint32_t)(size_bytes % ps);

        return at == 0 ? 0 : put_open(db, (uint32_t)(size_bytes / ps) + 1, zeros, at, ps - at);
}

/* A checkpoint ends by cutting the file to the WAL's database size. It is one when all that it cuts, or
 * leaves out, has its committed image in the WAL or past the committed end. */
static bool
is_checkpoint_cut(const struct db *db, uint64_t size_bytes)
{
        uint32_t ps = db->page_size;

        if (!db->wal.is_live || db->journal.is_hot || db_is_dirty(db) || size_bytes % ps != 0)
                return false;
        for (uint64_t pgno = size_bytes / ps + 1;
             pgno <= db->page_count && (pgno - 1) * ps < db->size_bytes; pgno++)
                if (!wal_frames_is_pending(&db->wal.frames, (uint32_t)pgno))
                        return false;
        return true;
}

/* What is cut may be needed until the transaction that freed it is durable. */
static int
cut_by_checkpoint(struct db *db, uint64_t size_bytes)
{
        struct capturer c = capturer_here(db);
        struct err e = ERR_INIT;
        int r;

        if (sync_or_fail(&c, db->last_lsn, &e) < 0)
                return -EIO;
        r = late_flush(&c);
        snapshot_save_file(db, size_bytes, INT64_MAX);
        if (r == 0)
                r = os_ftruncate(db->env->os, "db:cut", db->fd, (off_t)size_bytes);
        if (r == 0)
                db->size_bytes = size_bytes;
        return r;
}

static int
truncate_locked(struct db *db, uint64_t size_bytes)
{
        int r;

        if (db->state == DB_FAILED)
                return -EIO;
        if (db->fd < 0 || db->page_size == 0)
                return -ENOENT;
        if (size_bytes > (uint64_t)UINT32_MAX * db->page_size)
                return -EFBIG;
        if (is_checkpoint_cut(db, size_bytes))
                return cut_by_checkpoint(db, size_bytes);
        /* SQLite cuts what it has freed after the commit that freed it: no new transaction. */
        r = size_bytes == (uint64_t)db->page_count * db->page_size ? 0 : may_go_on(db);
        return r < 0 ? r : db_truncate_open(db, size_bytes);
}

int
db_truncate_open(struct db *db, uint64_t size_bytes)
{
        uint64_t committed = (uint64_t)db->page_count * db->page_size;
        int r;

        if (size_bytes < db->size_bytes) {
                r = cut_page(db, size_bytes);
                if (r < 0)
                        return r;
                overlay_drop_above(&db->open,
                                   (uint32_t)((size_bytes + db->page_size - 1) / db->page_size));
        }
        db->size_bytes = size_bytes;
        if (size_bytes < committed && size_bytes < db->open_floor)
                db->open_floor = size_bytes;
        if (size_bytes != committed && !db->journal.is_hot)
                db->is_unjournaled = true;
        late_trim_file(db);
        return 0;
}

int
db_truncate(struct db *db, uint64_t size_bytes)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = truncate_locked(db, size_bytes);
        pthread_mutex_unlock(&db->lock);
        return r;
}

void
db_discard_open(struct db *db)
{
        overlay_reset(&db->open);
        overlay_set_page_size(&db->open, db->page_size);
        db->open_floor = DB_NO_FLOOR;
        db->is_unjournaled = false;
        db->wants_sync = false;
}

int
db_fsync(struct db *db, struct db_done done)
{
        int r;

        pthread_mutex_lock(&db->lock);
        db->wants_sync = true;
        if (db->state == DB_FAILED)
                r = -EIO;
        else if (db->journal.is_hot)
                r = 0; /* the commit will be synced; until then the pages stay out of the file */
        else if (db->is_unjournaled)
                r = capture_and_finish(db, true, NULL, done);
        else
                r = sync_commit(db, NULL, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* --- drop --- */

static int
append_drop(struct db *db, struct err *e)
{
        struct commit_request rq = { .page_size = db->page_size, .commit = 0 };
        struct capturer c = capturer_here(db);
        int r;

        if (db->state == DB_FAILED)
                return err_set(e, -EIO, "the database is stopped after an earlier error");
        if (db->page_count == 0)
                return 0;
        r = commit_transaction(&c, &rq, e);
        if (r < 0)
                return r;
        db_discard_open(db);
        return sync_or_fail(&c, db->last_lsn, e);
}

static void
remove_file(struct db *db, const char *file)
{
        char path[PATH_MAX];

        if (db_path(db, file, path, sizeof path) == 0)
                (void)os_unlink(db->env->os, "db:drop", path);
}

void
db_leave_no_file(struct db *db, int *ret_fd, int *ret_wal_fd)
{
        /* The transaction is durable: the file no longer matters, so no error below does. */
        snapshot_save_wal(db);
        overlay_reset(&db->late);
        wal_reset(db);
        db_leave_no_journal(db);
        remove_file(db, "database");
        remove_file(db, "wal");
        remove_file(db, "shm");
        *ret_fd = db->fd;
        *ret_wal_fd = db->wal.fd;
        db->fd = db->wal.fd = -1;
        db->size_bytes = 0;
        db->is_wal = false;
        db->page_size = 0;
}

int
db_drop(struct db *db, int *ret_fd, int *ret_wal_fd, struct err *e)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->fd < 0 ? err_set(e, -ENOENT, "drop %s", db->name) : append_drop(db, e);
        if (r >= 0) {
                db_leave_no_file(db, ret_fd, ret_wal_fd);
                r = 0;
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}
