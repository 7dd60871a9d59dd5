#include "db/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "db/adopt.h"
#include "db/db_internal.h"

/* What it leaves out would have to be made up: of two billion pages, if it says so. */
static int
lacks_page(const struct received *rx, uint32_t n_pages, struct err *e)
{
        return err_text(
                e, E_FORMAT,
                "transaction %016llx makes %lu pages of %lu, and page %lu is not in it: it is not from a node "
                "that works",
                (unsigned long long)rx->record.max_txid, (unsigned long)rx->record.commit,
                (unsigned long)n_pages, (unsigned long)rx->last_missing);
}

int
db_follows(struct db *db, const struct received *rx, struct err *e)
{
        const struct txlog_record *rec = &rx->record;
        struct db_shown now = db_get_shown(db);
        struct ltx_pos pos = now.pos;
        uint32_t n_pages = now.info.page_size == rec->page_size ? now.info.page_count : 0;

        if (rx->is_absent || (rec->min_txid == 1 && (!rx->is_local || rec->max_txid == pos.txid + 1)))
                return 0;
        if (rec->min_txid == pos.txid + 1 && rec->pre_apply_checksum == pos.checksum)
                return rx->last_missing <= n_pages ? 0 : lacks_page(rx, n_pages, e);
        return err_text(e, E_POS_MISMATCH,
                        "transaction %016llx follows %016llx/%016llx, this node is at %016llx/%016llx",
                        (unsigned long long)rec->max_txid, (unsigned long long)rec->min_txid - 1,
                        (unsigned long long)rec->pre_apply_checksum, (unsigned long long)pos.txid,
                        (unsigned long long)pos.checksum);
}

/* --- into the database file --- */

int
begin_apply(struct db *db, enum db_actor who, const struct received *rx, struct db_access *ret,
            struct err *e)
{
        int r;

        passed_before_apply(db);
        r = db_access_begin(db, who, ret, e);
        if (r < 0)
                return r == E_BUSY ? -EAGAIN : r;
        access_lock(ret);
        db->applying.rx = rx;
        db->applying.is_pos_held = true;
        db->applying.is_local = rx->is_local;
        db->applying.held_pos = db->pos;
        access_unlock(ret);
        return 0;
}

int
end_apply(struct db_access *a, int result, struct err *e)
{
        struct db *db = a->db;
        struct err local = ERR_INIT;
        bool is_local = db->applying.rx->is_local;
        int r = is_local ? sync_now(db, db->last.lsn, &local) : 0;

        access_lock(a);
        if (r < 0)
                db_fail(db, local.text);
        else if (is_local || result == 0)
                db->sync.replicable_txid =
                        db->pos.txid; /* if it is another's, its primary has seen to that */
        if (!is_local && txlog_synced_lsn(db->log) < db->last.lsn && !db->sync.has_unsynced) {
                db->sync.has_unsynced = true; /* store/sync_all.h */
                if (db->env->wants_housekeeping != NULL)
                        db->env->wants_housekeeping(db->env->arg);
        }
        db->applying.rx = NULL;
        access_unlock(a);
        db_access_end(a);
        return result < 0 || r == 0 ? result : err_text(e, r, "%s", local.text);
}

void
db_apply_shown(struct db *db)
{
        db_lock(db);
        db->applying.is_pos_held = false;
        db->has_news |= db->applying.is_local; /* it was not to be sent before: see db_replicable_txid */
        db->applying.is_local = false;
        db_show(db);
        pthread_mutex_unlock(&db->lock);
}

/* A fresh file beside where the database goes, from pages that are all there. */
static int
write_file(struct db *db, const struct received *rx, int fd, struct err *e)
{
        struct page_reader pr;
        struct ltx_trailer trailer;
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : 0;

        if (r < 0)
                return r;
        r = page_reader_open(&pr, rx, e);
        while (r == 0 && (r = page_reader_next(&pr, page, &pgno, e)) > 0) {
                r = os_pwrite_all(db->env->os, "apply:file", fd, page, pr.header.page_size,
                                  (off_t)(pgno - 1) * pr.header.page_size);
                if (r < 0)
                        err_set(e, r, "write page %u", pgno);
        }
        if (r == 0)
                r = ltx_decoder_finish(pr.decoder, &trailer, e);
        if (r == 0) {
                r = os_ftruncate(db->env->os, "apply:file", fd,
                                 (off_t)pr.header.commit * pr.header.page_size);
                if (r < 0)
                        err_set(e, r, "set the size");
        }
        page_reader_close(&pr);
        free(page);
        return r;
}

static int
apply_fresh(struct db_access *a, const struct received *rx, struct err *e)
{
        struct db *db = a->db;
        char path[PATH_MAX];
        int fd, r = db_path(db, "received", path, sizeof path);

        if (r < 0)
                return err_set(e, r, "apply");
        fd = os_open(db->env->os, "apply:file", path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return err_set(e, fd, "create %s", path);
        r = write_file(db, rx, fd, e);
        os_close(db->env->os, "apply:file", fd);
        if (r == 0)
                r = adopt_file(a, path, e);
        if (r < 0)
                (void)os_unlink(db->env->os, "apply:file", path);
        return r;
}

static int
apply_drop(struct db_access *a, struct db_changes *ret, struct err *e)
{
        struct db *db = a->db;
        struct commit_request rq = { .page_size = db->image.page_size };
        int r;

        if (rq.page_size == 0)
                rq.page_size = db->applying.rx->record.page_size;
        r = commit_transaction(a, &rq, e);
        if (r > 0)
                r = sync_or_fail(a, db->last.lsn, e);
        if (r < 0)
                return r;
        access_lock(a);
        db_abandon_uncommitted(a);
        db_leave_no_file(a, &ret->old_fd, &ret->old_wal_fd);
        access_unlock(a);
        return 0;
}

int
db_changes_add(struct db_changes *ch, uint32_t *capacity, uint32_t pgno)
{
        if (ch->n_pages == *capacity) {
                uint32_t want = *capacity == 0 ? 64 : *capacity * 2;
                uint32_t *p = realloc(ch->pgnos, want * sizeof *p);

                if (p == NULL)
                        return -ENOMEM;
                ch->pgnos = p;
                *capacity = want;
        }
        ch->pgnos[ch->n_pages++] = pgno;
        return 0;
}

/* The pages become those of an open transaction. */
static int
lay_uncommitted(struct db_access *a, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct page_reader pr;
        uint32_t pgno, capacity = 0;
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : page_reader_open(&pr, rx, e);

        if (page == NULL)
                return r;
        ret->page_size = pr.header.page_size;
        while (r == 0 && (r = page_reader_next(&pr, page, &pgno, e)) > 0) {
                uint64_t off = (uint64_t)(pgno - 1) * pr.header.page_size;

                access_lock(a);
                r = db_write_uncommitted(a, page, pr.header.page_size, off);
                access_unlock(a);
                if (r == 0)
                        r = db_changes_add(ret, &capacity, pgno);
                if (r < 0)
                        err_set(e, r, "write page %u", pgno);
        }
        if (r == 0) {
                access_lock(a);
                r = db_truncate_uncommitted(a, (uint64_t)pr.header.commit * pr.header.page_size);
                access_unlock(a);
                if (r < 0)
                        err_set(e, r, "set the size");
        }
        page_reader_close(&pr);
        free(page);
        return r;
}

static int
apply_over(struct db_access *a, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct db *db = a->db;
        int r;

        r = lay_uncommitted(a, rx, ret, e);
        if (r == 0) {
                access_lock(a);
                db->transaction.is_unjournaled =
                        true; /* also without a page that changed: there is a transaction */
                access_unlock(a);
                r = capture_uncommitted(a, e);
        }
        if (r < 0) {
                access_lock(a);
                db_discard_uncommitted(a);
                db->image.size_bytes = (uint64_t)db->image.page_count * db->image.page_size;
                access_unlock(a);
                return r; /* with the list: what was laid open may have been seen */
        }
        /* What does not go now goes later: it is in the log, and applied. */
        if (db->image.writeback.n_pages > DB_WRITEBACK_PAGES_MAX &&
            txlog_sync(db->log, db->image.writeback_lsn, NULL) == 0)
                (void)flush_writeback(a);
        return 0;
}

/* A chain whose frames are all in the file would hide what is written there now. */
static int
end_chain(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r = 0;

        access_lock(a);
        db_abandon_uncommitted(a);
        if (wal_has_pending(db->wal))
                r = err_set(e, -EBUSY, "the WAL holds pages that the file lacks");
        else if (wal_exists(db->wal) && (r = wal_empty(db->wal)) < 0)
                err_set(e, r, "empty the WAL");
        access_unlock(a);
        return r;
}

static int
apply_direct(struct db_access *a, const struct received *rx, struct db_changes *ret, struct err *e)
{
        int r;

        access_lock(a);
        ret->was_open = image_is_dirty(&a->db->image) || a->db->journal.exists;
        access_unlock(a);
        r = db_follows(a->db, rx, e);
        if (r == 0 && rx->record.commit == 0)
                return apply_drop(a, ret, e);
        if (r == 0)
                r = end_chain(a, e);
        if (r < 0)
                return r;
        return a->db->image.fd < 0 ? apply_fresh(a, rx, e) : apply_over(a, rx, ret, e);
}

int
db_apply_direct(struct db *db, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct db_access a;
        int r;

        *ret = (struct db_changes){ .old_fd = -1, .old_wal_fd = -1 };
        r = begin_apply(db, rx->record.commit == 0 ? DB_BY_APPLIED_DROP : DB_BY_APPLY, rx, &a, e);
        return r < 0 ? r : end_apply(&a, apply_direct(&a, rx, ret, e), e);
}
