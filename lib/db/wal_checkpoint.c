/* Pages of the WAL on their way into the database file, copied by SQLite or by the daemon. */
#include <errno.h>
#include <stdlib.h>

#include "db/apply.h"
#include "db/wal_chain.h"
#include "ltx/checksum.h"

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

/* --- by the daemon --- */

struct copy {
        uint32_t pgno;
        uint32_t frame;
};

static int
compare_copy(const void *a, const void *b)
{
        const struct copy *x = a, *y = b;

        if (x->pgno != y->pgno)
                return x->pgno < y->pgno ? -1 : 1;
        return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* The newest frame of each page within the bounds, by page. */
static struct copy *
list_copies(struct db *db, uint32_t from_frame, uint32_t to_frame, uint32_t *ret_n)
{
        uint32_t n = 0, kept = 0;
        struct copy *list = malloc(((size_t)to_frame - from_frame + 1) * sizeof *list);

        if (list == NULL)
                return NULL;
        pthread_mutex_lock(&db->lock);
        for (uint32_t f = from_frame + 1; f <= to_frame && f <= db->wal.n_captured; f++)
                list[n++] = (struct copy){ db->wal.frames.pgnos[f - 1], f };
        pthread_mutex_unlock(&db->lock);
        qsort(list, n, sizeof *list, compare_copy);
        for (uint32_t i = 0; i < n; i++)
                if (i + 1 == n || list[i + 1].pgno != list[i].pgno)
                        list[kept++] = list[i];
        *ret_n = kept;
        return list;
}

static int
copy_frame(struct db *db, const struct copy *cp, uint8_t *page)
{
        uint32_t ps = db->page_size;
        uint64_t lsn;
        ssize_t n;
        int r = 0;

        n = os_pread_all(db->env->os, "apply:checkpoint", db->wal.fd, page, ps,
                         (off_t)wal_frame_offset(db, cp->frame) + WAL_FRAME_HEADER_SIZE);
        if (n < (ssize_t)ps)
                return n < 0 ? (int)n : -EIO;
        pthread_mutex_lock(&db->lock);
        if (cp->pgno <= db->page_count)
                r = wal_write_database(db, page, ps, (uint64_t)(cp->pgno - 1) * ps, &lsn);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_wal_checkpoint(struct db *db, uint32_t from_frame, uint32_t to_frame, struct db_changes *ret,
                  struct err *e)
{
        uint32_t n = 0, capacity = 0;
        struct copy *list;
        uint8_t *page;
        int r;

        *ret = (struct db_changes){ .page_size = db->page_size, .old_fd = -1, .old_wal_fd = -1 };
        r = txlog_sync(db->log, txlog_end_lsn(db->log), e);
        if (r < 0)
                return r;
        list = list_copies(db, from_frame, to_frame, &n);
        page = malloc(DB_PAGE_BUF);
        if (list == NULL || page == NULL)
                r = -ENOMEM;
        for (uint32_t i = 0; i < n && r == 0; i++) {
                r = copy_frame(db, &list[i], page);
                if (r == 0)
                        r = db_changes_add(ret, &capacity, list[i].pgno);
        }
        free(page);
        free(list);
        return r < 0 ? err_set(e, r, "copy the WAL into %s/database", db->dir) : 0;
}

void
db_wal_cut_file(struct db *db)
{
        uint64_t size;

        pthread_mutex_lock(&db->lock);
        size = (uint64_t)db->page_count * db->page_size;
        if (db->state == DB_READY && db->fd >= 0 && db->wal.frames.n_pending == 0 &&
            db->size_bytes > size && txlog_synced_lsn(db->log) >= db->last_lsn) {
                snapshot_save_file(db, size, INT64_MAX);
                /* What stays is not seen by anybody but those who look at the size; recovery cuts it. */
                if (os_ftruncate(db->env->os, "apply:cut", db->fd, (off_t)size) == 0)
                        db->size_bytes = size;
        }
        pthread_mutex_unlock(&db->lock);
}
