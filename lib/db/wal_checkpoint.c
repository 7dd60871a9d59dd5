/* Pages of the WAL on their way into the database file, copied by SQLite or by the daemon. */
#include <errno.h>
#include <stdlib.h>

#include "db/apply.h"
#include "db/db_internal.h"

int
checkpoint_write(struct db_access *a, const uint8_t *buf, size_t n, uint64_t off, uint64_t *ret_lsn)
{
        struct db *db = a->db;

        if (!wal_may_be_checkpoint(db->wal, n, off))
                return -ENOENT;
        if (!overlay_is_empty(&db->image.writeback)) {
                /* Older than what is in the WAL: must not be written over it afterwards. */
                int r = flush_writeback(a);

                *ret_lsn = db->image.writeback_lsn;
                if (r < 0)
                        return r;
        }
        return wal_checkpoint_write(db->wal, buf, n, off, txlog_synced_lsn(db->log), ret_lsn);
}

void
db_wal_backfilled(struct db *db, const struct db_wal_mark *mark, uint32_t n_backfill)
{
        db_lock(db);
        wal_note_backfilled(db->wal, mark->salt1, mark->salt2, n_backfill);
        pthread_mutex_unlock(&db->lock);
}

bool
db_wal_captured(struct db *db, struct db_wal_mark *ret)
{
        struct wal_state ws;

        db_lock(db);
        wal_get_state(db->wal, &ws);
        pthread_mutex_unlock(&db->lock);
        *ret = (struct db_wal_mark){ ws.salt1, ws.salt2, ws.n_captured };
        return ws.is_live;
}

/* --- by the daemon --- */

/* The newest frame of each page within the bounds, by page. */
static struct wal_copy *
list_copies(struct db *db, uint32_t from_frame, uint32_t to_frame, uint32_t *ret_n)
{
        struct wal_copy *list = malloc(((size_t)to_frame - from_frame + 1) * sizeof *list);

        if (list == NULL)
                return NULL;
        db_lock(db);
        *ret_n = wal_list_copies(db->wal, from_frame, to_frame, list);
        pthread_mutex_unlock(&db->lock);
        *ret_n = wal_newest_copies(list, *ret_n);
        return list;
}

/* With the lock. */
static int
copy_frame(struct db_access *a, const struct wal_copy *cp, uint8_t *page)
{
        struct db *db = a->db;
        uint32_t ps = db->image.page_size;
        uint64_t lsn;
        int r = wal_read_copy(db->wal, cp, page);

        if (r < 0 || cp->pgno > db->image.page_count)
                return r;
        return checkpoint_write(a, page, ps, (uint64_t)(cp->pgno - 1) * ps, &lsn);
}

/* The owner has the database for all of them; whoever is none has it for one page at a time, so that commits go on. */
static int
copy_one_frame(struct db *db, struct db_access *owner, const struct wal_copy *cp, uint8_t *page)
{
        struct db_access hold;
        int r;

        if (owner != NULL) {
                access_lock(owner);
                r = copy_frame(owner, cp, page);
                access_unlock(owner);
                return r;
        }
        r = db_access_begin(db, DB_BY_CALL, &hold, NULL);
        if (r == 0)
                r = copy_frame(&hold, cp, page);
        db_access_end(&hold);
        return r == E_BUSY ? -EAGAIN : r;
}

static int
checkpoint_frames(struct db *db, struct db_access *owner, uint32_t from_frame, uint32_t to_frame,
                  struct db_changes *ret, struct err *e)
{
        uint32_t n = 0, capacity = 0;
        struct wal_copy *list;
        uint8_t *page;
        int r;

        r = txlog_sync(db->log, txlog_end_lsn(db->log), e);
        if (r < 0)
                return r;
        list = list_copies(db, from_frame, to_frame, &n);
        page = malloc(IMAGE_PAGE_MAX);
        if (list == NULL || page == NULL)
                r = -ENOMEM;
        for (uint32_t i = 0; i < n && r == 0; i++) {
                r = copy_one_frame(db, owner, &list[i], page);
                if (r == 0)
                        r = db_changes_add(ret, &capacity, list[i].pgno);
        }
        free(page);
        free(list);
        return r < 0 ? err_set(e, r, "copy the WAL into %s/database", db->dir) : 0;
}

int
db_wal_checkpoint(struct db *db, uint32_t from_frame, uint32_t to_frame, struct db_changes *ret,
                  struct err *e)
{
        *ret = (struct db_changes){ .old_fd = -1, .old_wal_fd = -1 };
        db_lock(db);
        ret->page_size = db->image.page_size;
        pthread_mutex_unlock(&db->lock);
        return checkpoint_frames(db, NULL, from_frame, to_frame, ret, e);
}

int
checkpoint_all(struct db_access *a, struct err *e)
{
        struct db_changes ch = { 0 };
        struct wal_state ws;
        int r;

        wal_get_state(a->db->wal, &ws);
        r = checkpoint_frames(a->db, a, 0, ws.n_captured, &ch, e);

        free(ch.pgnos);
        return r;
}

void
db_wal_cut_file(struct db *db)
{
        struct db_access a;
        uint64_t size;

        if (db_access_begin(db, DB_BY_CALL, &a, NULL) < 0)
                return;
        size = (uint64_t)db->image.page_count * db->image.page_size;
        if (db->image.fd >= 0 && !wal_has_pending(db->wal) && db->image.size_bytes > size &&
            txlog_synced_lsn(db->log) >= db->last.lsn) {
                /* What stays is not seen by anybody but those who look at the size; recovery cuts it. */
                if (image_cut_file(&db->image, "apply:cut", size) == 0)
                        db->image.size_bytes = size;
        }
        db_access_end(&a);
}
