/* Received transactions as frames of the WAL (wal/append.c), and the WAL as a whole for whoever makes its index. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "db/apply.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"

/* A snapshot brings every page; those that did not change need no frame. */
static bool
is_page_unchanged(struct db *db, uint32_t pgno, const uint8_t *page)
{
        bool is;

        db_lock(db);
        is = pagesum_get(&db->image.sums, pgno) == ltx_page_checksum(pgno, page, db->image.page_size);
        pthread_mutex_unlock(&db->lock);
        return is;
}

/* SQLite's transactions have at least one frame; page 1 stands in when nothing changed. */
static int
append_first_page(struct wal_appender *ap, const struct received *rx, uint8_t *page, struct err *e)
{
        struct page_reader pr;
        uint32_t pgno = 0;
        int r = page_reader_open(&pr, rx, e);

        if (r == 0)
                r = page_reader_next(&pr, page, &pgno, e);
        page_reader_close(&pr);
        if (r < 0)
                return r;
        return r > 0 ? wal_append_page(ap, pgno, page) : err_set(e, -EAGAIN, "no page");
}

static int
append_received(struct db *db, struct wal_appender *ap, const struct received *rx, struct err *e)
{
        struct page_reader pr;
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : page_reader_open(&pr, rx, e);

        if (page == NULL)
                return r;
        while (r == 0 && (r = page_reader_next(&pr, page, &pgno, e)) > 0) {
                if (rx->record.min_txid == 1 && is_page_unchanged(db, pgno, page))
                        r = 0;
                else if ((r = wal_append_page(ap, pgno, page)) < 0)
                        err_set(e, r, "write a frame for page %u", pgno);
        }
        page_reader_close(&pr);
        if (r == 0 && wal_append_is_empty(ap))
                r = append_first_page(ap, rx, page, e);
        if (r == 0 && (r = wal_append_finish(ap, rx->record.commit)) < 0)
                err_set(e, r, "write the last frame");
        free(page);
        return r;
}

/* The frames that were appended, as one transaction; after a failure nobody finds them. */
static int
capture_appended(struct db_access *a, struct wal_appender *ap, uint32_t commit, struct err *e)
{
        struct db_wal *w = a->db->wal;
        int r;

        access_lock(a);
        r = wal_append_take(ap);
        access_unlock(a);
        if (r < 0)
                return err_set(e, r, "take in the frames");
        r = capture_frames(a, commit, NULL, e);
        if (r < 0) {
                access_lock(a);
                capture_check_revoked(a->db, wal_revoke_uncaptured(w));
                wal_forget_uncaptured(w);
                access_unlock(a);
        }
        return r;
}

static void
describe_wal(struct db *db, struct db_wal_applied *ret)
{
        struct wal_state ws;

        wal_get_state(db->wal, &ws);
        ret->n_pages = db->image.page_count;
        ret->page_size = db->image.page_size;
        memcpy(ret->cksum, ws.cksum, sizeof ret->cksum);
        ret->salt[0] = ws.salt1;
        ret->salt[1] = ws.salt2;
        ret->is_big_endian_cksum = ws.is_big_endian;
}

static int
apply_by_wal(struct db_access *a, const struct received *rx, struct db_wal_applied *ret, struct err *e)
{
        struct db *db = a->db;
        struct wal_appender *ap;
        int r = db_follows(db, rx, e);

        if (r < 0)
                return r;
        if (rx->record.commit == 0 || rx->record.page_size != db->image.page_size)
                return err_set(e, -EAGAIN, "this transaction cannot go by the WAL");
        access_lock(a);
        wal_forget_uncaptured(db->wal);
        access_unlock(a);
        r = wal_append_begin(db->wal, &ap);
        if (r < 0)
                return err_set(e, r, "find the end of the WAL");
        r = append_received(db, ap, rx, e);
        if (r == 0)
                r = capture_appended(a, ap, rx->record.commit, e);
        ret->pgnos = wal_append_detach_pgnos(ap, &ret->n_frames, &ret->first_frame);
        wal_append_end(ap);
        access_lock(a);
        describe_wal(db, ret);
        access_unlock(a);
        return r;
}

int
db_apply_wal(struct db *db, const struct received *rx, struct db_wal_applied *ret, struct err *e)
{
        struct db_access a;
        int r;

        *ret = (struct db_wal_applied){ 0 };
        r = begin_apply(db, DB_BY_APPLY, rx, &a, e);
        return r < 0 ? r : end_apply(&a, apply_by_wal(&a, rx, ret, e), e);
}

int
db_wal_frames(struct db *db, struct db_wal_applied *ret, struct err *e)
{
        int r = 0;

        *ret = (struct db_wal_applied){ 0 };
        db_lock(db);
        ret->first_frame = 1;
        describe_wal(db, ret);
        ret->pgnos = wal_list_captured(db->wal, &ret->n_frames);
        if (ret->pgnos == NULL)
                r = -ENOMEM;
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? err_set(e, r, "list the frames of the WAL") : 0;
}

int
db_wal_restart(struct db *db, struct err *e)
{
        struct db_access a;
        uint32_t salt;
        int r;

        if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
                return err_set(e, -errno, "draw a salt");
        r = db_access_begin(db, DB_BY_CALL, &a, e);
        if (r < 0)
                return r == E_BUSY ? -EAGAIN : r;
        r = wal_restart(db->wal, salt);
        db_access_end(&a);
        return r < 0 ? err_set(e, r, "restart the WAL") : 0;
}

bool
db_wal_has_pending(struct db *db)
{
        bool has;

        db_lock(db);
        has = wal_has_pending(db->wal);
        pthread_mutex_unlock(&db->lock);
        return has;
}
