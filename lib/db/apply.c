#include "db/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"

#define FRAMES_AT_ONCE (256u << 10) /* bytes of WAL written by one call */

/* --- the bytes --- */

void
received_init(struct received *rx, const struct db_env *env)
{
        *rx = (struct received){ 0 };
        spool_init(&rx->ltx, env->os, env->tmp_dir, RECEIVED_CAP);
}

void
received_release(struct received *rx)
{
        spool_reset(&rx->ltx);
        free(rx->ltx.chunks);
        rx->ltx.chunks = NULL;
}

/* Reads the pages of a received transaction one after the other. */
struct page_reader {
        struct spool_src src;
        struct ltx_decoder *decoder;
        struct ltx_header header;
};

static int
open_pages(struct page_reader *pr, const struct received *rx, struct err *e)
{
        int r;

        *pr = (struct page_reader){ .src = spool_source(&rx->ltx) };
        r = ltx_decoder_new(&pr->decoder);
        if (r < 0)
                return err_set(e, r, "read a transaction");
        return ltx_decoder_begin(pr->decoder, LTX_V3, &pr->src.base, &pr->header, e);
}

static void
close_pages(struct page_reader *pr)
{
        ltx_decoder_free(pr->decoder);
        pr->decoder = NULL;
}

struct received_pages {
        struct page_reader pr;
};

int
received_pages_open(const struct received *rx, struct received_pages **ret,
                    struct ltx_header *ret_header, struct err *e)
{
        struct received_pages *rp = calloc(1, sizeof *rp);
        int r = rp == NULL ? err_set(e, -ENOMEM, "read a transaction") : open_pages(&rp->pr, rx, e);

        if (r < 0) {
                received_pages_close(rp);
                return r;
        }
        *ret = rp;
        *ret_header = rp->pr.header;
        return 0;
}

int
received_pages_next(struct received_pages *rp, uint8_t *page, uint32_t *ret_pgno, struct err *e)
{
        struct ltx_trailer trailer;
        int r = ltx_decoder_next(rp->pr.decoder, page, ret_pgno, e);

        return r != 0 ? r : ltx_decoder_finish(rp->pr.decoder, &trailer, e);
}

void
received_pages_close(struct received_pages *rp)
{
        if (rp != NULL)
                close_pages(&rp->pr);
        free(rp);
}

int
received_verify(struct received *rx, struct err *e)
{
        struct page_reader pr;
        struct ltx_trailer trailer;
        uint32_t pgno;
        uint8_t *page = malloc(DB_PAGE_BUF);
        int r;

        if (page == NULL)
                return err_set(e, -ENOMEM, "verify a transaction");
        r = open_pages(&pr, rx, e);
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0)
                r = 0;
        if (r == 0)
                r = ltx_decoder_finish(pr.decoder, &trailer, e);
        if (r == 0 && pr.src.off != rx->ltx.size_bytes)
                r = err_text(e, E_FORMAT, "%llu bytes follow the end of the transaction",
                             (unsigned long long)(rx->ltx.size_bytes - pr.src.off));
        if (r == 0)
                rx->record = (struct txlog_record){
                        .min_txid = pr.header.min_txid,
                        .max_txid = pr.header.max_txid,
                        .pre_apply_checksum = pr.header.pre_apply_checksum,
                        .post_apply_checksum = trailer.post_apply_checksum,
                        .timestamp_ms = pr.header.timestamp_ms,
                        .page_size = pr.header.page_size,
                        .commit = pr.header.commit,
                        .size_bytes = rx->ltx.size_bytes,
                };
        close_pages(&pr);
        free(page);
        return r;
}

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
        r = open_pages(&pr, rx, e);
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
        close_pages(&pr);
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

static int
add_changed(struct db_changes *ch, uint32_t *capacity, uint32_t pgno)
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
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : open_pages(&pr, rx, e);

        if (page == NULL)
                return r;
        ret->page_size = pr.header.page_size;
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0) {
                uint64_t off = (uint64_t)(pgno - 1) * pr.header.page_size;

                pthread_mutex_lock(&db->lock);
                r = db_write_open(db, page, pr.header.page_size, off);
                pthread_mutex_unlock(&db->lock);
                if (r == 0)
                        r = add_changed(ret, &capacity, pgno);
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
        close_pages(&pr);
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

/* --- into the WAL --- */

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
        r = add_changed(&list, &w->capacity, w->held_pgno);
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
        int r = open_pages(&pr, rx, e);

        if (r == 0)
                r = ltx_decoder_next(pr.decoder, page, &pgno, e);
        close_pages(&pr);
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
        int r = page == NULL ? err_set(e, -ENOMEM, "apply") : open_pages(&pr, rx, e);

        if (page == NULL)
                return r;
        while (r == 0 && (r = ltx_decoder_next(pr.decoder, page, &pgno, e)) > 0) {
                if (rx->record.min_txid == 1 && is_same(w->db, pgno, page))
                        r = 0;
                else if ((r = put_page(w, pgno, page)) < 0)
                        err_set(e, r, "write a frame for page %u", pgno);
        }
        close_pages(&pr);
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

/* --- from the WAL into the database file --- */

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
                        r = add_changed(ret, &capacity, list[i].pgno);
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
