/* Received transactions as frames of the WAL, and the WAL as a whole for whoever makes its index. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "db/apply.h"
#include "db/wal_chain.h"
#include "ltx/checksum.h"

#define FRAMES_AT_ONCE (256u << 10) /* bytes of WAL written by one call */

struct frame_writer {
        struct db *db;
        struct wal_header header;
        uint32_t sum[2];
        uint8_t *buf;  /* whole frames, written together */
        size_t n;      /* bytes in it */
        uint64_t off;  /* of the first of them in the WAL */
        uint8_t *held; /* a page whose frame waits to learn whether it is the last */
        uint32_t held_pgno;
        struct db_wal_applied *out;
        uint32_t capacity;
};

static int
flush_frames(struct frame_writer *w)
{
        int r = w->n == 0 ? 0
                          : os_pwrite_all(w->db->env->os, "apply:wal", w->db->wal.fd, w->buf, w->n,
                                          (off_t)w->off);

        w->off += w->n;
        w->n = 0;
        return r;
}

static int
put_held(struct frame_writer *w, uint32_t commit)
{
        struct db *db = w->db;
        uint32_t ps = db->page_size;
        uint8_t *frame = w->buf + w->n;
        struct db_changes list = { .n_pages = w->out->n_frames, .pgnos = w->out->pgnos };
        int r;

        wal_frame_encode(&w->header, w->held_pgno, commit, w->held, w->sum, frame);
        memcpy(frame + WAL_FRAME_HEADER_SIZE, w->held, ps);
        w->n += WAL_FRAME_HEADER_SIZE + ps;
        r = db_changes_add(&list, &w->capacity, w->held_pgno);
        w->out->pgnos = list.pgnos;
        w->out->n_frames = list.n_pages;
        if (r == 0) {
                pthread_mutex_lock(&db->lock);
                r = wal_frames_push(&db->wal.frames, w->held_pgno,
                                    ltx_page_checksum(w->held_pgno, w->held, ps));
                memcpy(db->wal.verified_sum, w->sum, sizeof w->sum);
                pthread_mutex_unlock(&db->lock);
        }
        if (r == 0 && w->n + WAL_FRAME_HEADER_SIZE + ps > FRAMES_AT_ONCE)
                r = flush_frames(w);
        return r;
}

static int
put_page(struct frame_writer *w, uint32_t pgno, const uint8_t *page)
{
        int r = w->held_pgno != 0 ? put_held(w, 0) : 0;

        if (r < 0)
                return r;
        memcpy(w->held, page, w->db->page_size);
        w->held_pgno = pgno;
        return 0;
}

/* A snapshot brings every page; those that did not change need no frame. */
static bool
is_same(struct db *db, uint32_t pgno, const uint8_t *page)
{
        bool is;

        pthread_mutex_lock(&db->lock);
        is = pagesum_get(&db->sums, pgno) == ltx_page_checksum(pgno, page, db->page_size);
        pthread_mutex_unlock(&db->lock);
        return is;
}

/* SQLite's transactions have at least one frame; page 1 stands in when nothing changed. */
static int
put_first_page(struct frame_writer *w, const struct received *rx, uint8_t *page, struct err *e)
{
        struct page_reader pr;
        uint32_t pgno = 0;
        int r = page_reader_open(&pr, rx, e);

        if (r == 0)
                r = ltx_decoder_next(pr.decoder, page, &pgno, e);
        page_reader_close(&pr);
        if (r < 0)
                return r;
        return r > 0 ? put_page(w, pgno, page) : err_set(e, -EAGAIN, "no page");
}

static int
write_frames(struct frame_writer *w, const struct received *rx, struct err *e)
{
        struct page_reader pr;
        uint8_t *page = malloc(DB_PAGE_BUF);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : page_reader_open(&pr, rx, e);

        if (page == NULL)
                return r;
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0) {
                if (rx->record.min_txid == 1 && is_same(w->db, pgno, page))
                        r = 0;
                else if ((r = put_page(w, pgno, page)) < 0)
                        err_set(e, r, "write a frame for page %u", pgno);
        }
        page_reader_close(&pr);
        if (r == 0 && w->held_pgno == 0)
                r = put_first_page(w, rx, page, e);
        if (r == 0) {
                r = put_held(w, rx->record.commit);
                if (r == 0)
                        r = flush_frames(w);
                if (r < 0)
                        err_set(e, r, "write the last frame");
        }
        free(page);
        return r;
}

static int
start_frames(struct frame_writer *w, struct err *e)
{
        struct db *db = w->db;
        struct db_wal *wal = &db->wal;
        int r;

        pthread_mutex_lock(&db->lock);
        r = wal->fd < 0 || !wal->is_live ? -EAGAIN : wal_rewind_to_captured(db);
        if (r == 0) {
                w->header = (struct wal_header){ .page_size = db->page_size,
                                                 .salt1 = wal->salt1,
                                                 .salt2 = wal->salt2,
                                                 .is_big_endian_cksum = wal->is_big_endian };
                memcpy(w->sum, wal->captured_sum, sizeof w->sum);
                w->off = wal_frame_offset(db, wal->n_captured + 1);
                w->out->first_frame = wal->n_captured + 1;
                w->out->page_size = db->page_size;
        }
        pthread_mutex_unlock(&db->lock);
        if (r < 0)
                return err_set(e, r, "find the end of the WAL");
        w->buf = malloc(FRAMES_AT_ONCE + WAL_FRAME_HEADER_SIZE + DB_PAGE_BUF);
        w->held = malloc(DB_PAGE_BUF);
        return w->buf == NULL || w->held == NULL ? err_set(e, -ENOMEM, "apply") : 0;
}

static void
describe_wal(struct db *db, struct db_wal_applied *ret)
{
        ret->n_pages = db->page_count;
        ret->page_size = db->page_size;
        memcpy(ret->cksum, db->wal.captured_sum, sizeof ret->cksum);
        ret->salt[0] = db->wal.salt1;
        ret->salt[1] = db->wal.salt2;
        ret->is_big_endian_cksum = db->wal.is_big_endian;
}

int
db_apply_wal(struct db *db, const struct received *rx, struct db_wal_applied *ret, struct err *e)
{
        struct frame_writer w = { .db = db, .out = ret };
        struct capturer c;
        int r;

        *ret = (struct db_wal_applied){ 0 };
        r = db_follows(db, rx, e);
        if (r < 0)
                return r;
        if (rx->record.commit == 0 || rx->record.page_size != db->page_size)
                return err_set(e, -EAGAIN, "this transaction cannot go by the WAL");
        r = begin_apply(db, rx, &c, e);
        if (r < 0)
                return r;
        r = start_frames(&w, e);
        if (r == 0)
                r = write_frames(&w, rx, e);
        if (r == 0) {
                r = wal_capture_received(&c, rx->record.commit, e);
        } else {
                pthread_mutex_lock(&db->lock);
                (void)wal_rewind_to_captured(db);
                pthread_mutex_unlock(&db->lock);
        }
        free(w.buf);
        free(w.held);
        pthread_mutex_lock(&db->lock);
        describe_wal(db, ret);
        pthread_mutex_unlock(&db->lock);
        return end_apply(db, &c, r, e);
}

int
db_wal_frames(struct db *db, struct db_wal_applied *ret, struct err *e)
{
        int r = 0;

        *ret = (struct db_wal_applied){ 0 };
        pthread_mutex_lock(&db->lock);
        ret->n_frames = db->wal.n_captured;
        ret->first_frame = 1;
        describe_wal(db, ret);
        if (ret->n_frames > 0) {
                ret->pgnos = malloc(ret->n_frames * sizeof *ret->pgnos);
                if (ret->pgnos == NULL)
                        r = -ENOMEM;
                else
                        memcpy(ret->pgnos, db->wal.frames.pgnos, ret->n_frames * sizeof *ret->pgnos);
        }
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? err_set(e, r, "list the frames of the WAL") : 0;
}

int
db_wal_restart(struct db *db, struct err *e)
{
        struct wal_header h = { 0 };
        uint8_t buf[WAL_HEADER_SIZE];
        uint32_t salt;
        int r = 0;

        if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
                return err_set(e, -errno, "draw a salt");
        pthread_mutex_lock(&db->lock);
        if (db->wal.fd < 0 || db->page_size == 0)
                r = err_set(e, -ENOENT, "restart the WAL");
        else if (db->wal.frames.n_pending > 0)
                r = err_set(e, -EBUSY, "restart the WAL");
        else if (db->state == DB_CAPTURING)
                r = err_set(e, -EAGAIN, "restart the WAL");
        if (r == 0) {
                h.page_size = db->page_size;
                h.salt1 = db->wal.is_live ? db->wal.salt1 + 1 : ~salt;
                h.salt2 = salt;
                h.is_big_endian_cksum = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
                wal_header_encode(&h, buf);
                snapshot_save_wal(db);
                r = os_pwrite_all(db->env->os, "apply:wal", db->wal.fd, buf, sizeof buf, 0);
                if (r < 0)
                        err_set(e, r, "write the WAL's header");
                else
                        r = wal_begin_chain(db, buf);
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

bool
db_wal_has_pending(struct db *db)
{
        bool has;

        pthread_mutex_lock(&db->lock);
        has = db->wal.frames.n_pending > 0;
        pthread_mutex_unlock(&db->lock);
        return has;
}
