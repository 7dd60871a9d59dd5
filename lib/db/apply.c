#include "db/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "db/wal_chain.h"

int
db_follows(struct db *db, const struct received *rx, struct err *e)
{
        const struct txlog_record *rec = &rx->record;
        struct ltx_pos pos;

        pthread_mutex_lock(&db->lock);
        pos = db->pos;
        pthread_mutex_unlock(&db->lock);
        if (rx->is_absent || (rec->min_txid == 1 && (!rx->is_local || rec->max_txid == pos.txid + 1)))
                return 0;
        if (rec->min_txid == pos.txid + 1 && rec->pre_apply_checksum == pos.checksum)
                return 0;
        return err_text(e, E_POS_MISMATCH,
                        "transaction %016llx follows %016llx/%016llx, this node is at %016llx/%016llx",
                        (unsigned long long)rec->max_txid, (unsigned long long)rec->min_txid - 1,
                        (unsigned long long)rec->pre_apply_checksum, (unsigned long long)pos.txid,
                        (unsigned long long)pos.checksum);
}

/* --- what was open --- */

void
db_abandon_open(struct db *db)
{
        if (db_is_dirty(db) || db->is_unjournaled)
                db_discard_open(db);
        db->size_bytes = (uint64_t)db->page_count * db->page_size;
        db_leave_no_journal(db);
        if (db->wal.is_live)
                (void)wal_rewind_to_captured(db);
        db->wal.n_written = db->wal.n_captured;
}

/* --- into the database file --- */

/* Takes the database for this thread alone, as a long capture does. */
int
begin_apply(struct db *db, const struct received *rx, struct capturer *c, struct err *e)
{
        int r = capturer_init_worker(c, db);

        if (r < 0)
                return err_set(e, r, "apply");
        pthread_mutex_lock(&db->lock);
        if (db->state == DB_FAILED)
                r = err_set(e, -EIO, "the database is stopped after an earlier error");
        else if (db->state != DB_READY)
                r = err_set(e, -EAGAIN, "the database is busy");
        if (r == 0) {
                db->state = DB_CAPTURING;
                db->received = rx;
                db->is_pos_held = true;
                db->is_apply_local = rx->is_local;
                db->held_pos = db->pos;
        }
        pthread_mutex_unlock(&db->lock);
        if (r < 0)
                capturer_release(c);
        return r;
}

int
end_apply(struct db *db, struct capturer *c, int result, struct err *e)
{
        struct err local = ERR_INIT;
        int r = db->received->is_local ? sync_now(db, db->last_lsn, &local) : 0;

        pthread_mutex_lock(&db->lock);
        db->received = NULL;
        if (r < 0)
                db_fail(db, local.text);
        else
                db->durable_txid = db->pos.txid; /* if it is another's, its primary has seen to that */
        pthread_mutex_unlock(&db->lock);
        capturer_release(c);
        db_end_busy(db);
        return result < 0 || r == 0 ? result : err_text(e, r, "%s", local.text);
}

void
db_apply_shown(struct db *db)
{
        pthread_mutex_lock(&db->lock);
        db->is_pos_held = false;
        if (db->is_apply_local &&
            db->env->committed != NULL) /* it was not to be sent before: see db_shippable_txid */
                db->env->committed(db->env->arg, db);
        db->is_apply_local = false;
        pthread_mutex_unlock(&db->lock);
}

/* A fresh file beside where the database goes, from pages that are all there. */
static int
write_file(struct db *db, const struct received *rx, int fd, struct err *e)
{
        struct page_reader pr;
        struct ltx_trailer trailer;
        uint8_t *page = malloc(DB_PAGE_BUF);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : 0;

        if (r < 0)
                return r;
        r = page_reader_open(&pr, rx, e);
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0) {
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
apply_fresh(struct db *db, const struct received *rx, struct err *e)
{
        char path[PATH_MAX];
        int fd, r = db_path(db, "received", path, sizeof path);

        if (r < 0)
                return err_set(e, r, "apply");
        fd = os_open(db->env->os, "apply:file", path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_set(e, fd, "create %s", path);
        r = write_file(db, rx, fd, e);
        os_close(db->env->os, "apply:file", fd);
        if (r == 0)
                r = db_adopt_file(db, path, e);
        if (r < 0)
                (void)os_unlink(db->env->os, "apply:file", path);
        return r;
}

static int
apply_drop(const struct capturer *c, struct db_changes *ret, struct err *e)
{
        struct db *db = c->db;
        struct commit_request rq = { .page_size = db->page_size, .received = db->received };
        int r;

        if (rq.page_size == 0)
                rq.page_size = db->received->record.page_size;
        r = commit_transaction(c, &rq, e);
        if (r > 0)
                r = sync_or_fail(c, db->last_lsn, e);
        if (r < 0)
                return r;
        pthread_mutex_lock(&db->lock);
        db_abandon_open(db);
        db_leave_no_file(db, &ret->old_fd, &ret->old_wal_fd);
        pthread_mutex_unlock(&db->lock);
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
lay_open(const struct capturer *c, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct db *db = c->db;
        struct page_reader pr;
        uint32_t pgno, capacity = 0;
        uint8_t *page = malloc(DB_PAGE_BUF);
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : page_reader_open(&pr, rx, e);

        if (page == NULL)
                return r;
        ret->page_size = pr.header.page_size;
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0) {
                uint64_t off = (uint64_t)(pgno - 1) * pr.header.page_size;

                pthread_mutex_lock(&db->lock);
                r = db_write_open(db, page, pr.header.page_size, off);
                pthread_mutex_unlock(&db->lock);
                if (r == 0)
                        r = db_changes_add(ret, &capacity, pgno);
                if (r < 0)
                        err_set(e, r, "write page %u", pgno);
        }
        if (r == 0) {
                pthread_mutex_lock(&db->lock);
                r = db_truncate_open(db, (uint64_t)pr.header.commit * pr.header.page_size);
                pthread_mutex_unlock(&db->lock);
                if (r < 0)
                        err_set(e, r, "set the size");
        }
        page_reader_close(&pr);
        free(page);
        return r;
}

static int
apply_over(const struct capturer *c, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct db *db = c->db;
        int r;

        r = lay_open(c, rx, ret, e);
        if (r == 0) {
                pthread_mutex_lock(&db->lock);
                db->is_unjournaled = true; /* also without a page that changed: there is a transaction */
                pthread_mutex_unlock(&db->lock);
                r = capture_open(c, e);
        }
        if (r < 0) {
                pthread_mutex_lock(&db->lock);
                db_discard_open(db);
                db->size_bytes = (uint64_t)db->page_count * db->page_size;
                pthread_mutex_unlock(&db->lock);
                return r; /* with the list: what was laid open may have been seen */
        }
        /* What does not go now goes later: it is in the log, and applied. */
        if (db->late.n_pages > DB_LATE_PAGES_MAX && txlog_sync(db->log, db->late_lsn, NULL) == 0)
                (void)late_flush(c);
        return 0;
}

/* A chain whose frames are all in the file would hide what is written there now. */
static int
end_chain(struct db *db, struct err *e)
{
        int r = 0;

        pthread_mutex_lock(&db->lock);
        if (db->state == DB_CAPTURING) /* what is open is being committed, whose locks ever have gone */
                r = err_set(e, -EAGAIN, "the database is busy");
        else
                db_abandon_open(db);
        if (r == 0 && db->wal.frames.n_pending > 0)
                r = err_set(e, -EBUSY, "the WAL holds pages that the file lacks");
        else if (r == 0 && db->wal.fd >= 0) {
                snapshot_save_wal(db);
                r = os_ftruncate(db->env->os, "apply:wal", db->wal.fd, 0);
                if (r == 0)
                        wal_reset(db);
                else
                        err_set(e, r, "empty the WAL");
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_apply_direct(struct db *db, const struct received *rx, struct db_changes *ret, struct err *e)
{
        struct capturer c;
        int r;

        *ret = (struct db_changes){ .old_fd = -1,
                                    .old_wal_fd = -1,
                                    .was_open = db_is_dirty(db) || db->journal.exists };
        r = db_follows(db, rx, e);
        if (r == 0 && rx->record.commit > 0)
                r = end_chain(db, e);
        if (r == 0)
                r = begin_apply(db, rx, &c, e);
        if (r < 0)
                return r;
        if (rx->record.commit == 0)
                r = apply_drop(&c, ret, e);
        else if (db->fd < 0)
                r = apply_fresh(db, rx, e);
        else
                r = apply_over(&c, rx, ret, e);
        return end_apply(db, &c, r, e);
}
