/* The pages of the request and those that the database grows by are walked in rising order; a page whose checksum did
 * not change is left out, so that a rollback, hot or not, makes no transaction. */
#include "db/record.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "ltx/checksum.h"

#define CHANGES_KEPT 4096u /* of the scratch: huge transactions leave a huge array behind */

struct record_change {
        uint64_t sum;
        uint32_t pgno;
};

int
recorder_init(struct recorder *rc, struct db_image *image, bool is_compressed)
{
        *rc = (struct recorder){ .image = image };
        return ltx_encoder_new(is_compressed, &rc->encoder);
}

void
recorder_release(struct recorder *rc)
{
        ltx_encoder_free(rc->encoder);
        free(rc->changes);
}

/* --- begin --- */

static void
record_fill_header(struct record *rec)
{
        const struct commit_request *rq = rec->rq;
        const struct record_context *cx = rec->cx;

        rec->header = (struct ltx_header){
                .page_size = rq->page_size,
                .commit = rq->commit,
                .min_txid = rq->is_snapshot ? 1 : cx->pos.txid + 1,
                .max_txid = cx->pos.txid + 1,
                .timestamp_ms = cx->timestamp_ms,
                .wal_offset = rq->wal_offset,
                .wal_size = rq->wal_size,
                .wal_salt1 = rq->wal_salt1,
                .wal_salt2 = rq->wal_salt2,
                .node_id = cx->node_id,
                .mark = rq->mark,
        };
        if (rec->header.min_txid > 1)
                rec->header.pre_apply_checksum = cx->pos.checksum;
        if (cx->given != NULL) {
                rec->header.min_txid = cx->record.min_txid;
                rec->header.max_txid = cx->record.max_txid;
                rec->header.timestamp_ms = cx->record.timestamp_ms;
                rec->header.pre_apply_checksum = cx->record.pre_apply_checksum;
        }
}

int
record_begin(struct record *rec, struct recorder *rc, const struct commit_request *rq,
             const struct record_context *cx, struct err *e)
{
        int r = 0;

        *rec = (struct record){ .rc = rc, .rq = rq, .cx = cx };
        rec->old_count = rq->is_snapshot ? 0 : rc->image->page_count;
        rec->xor_sum = rq->is_snapshot ? 0 : rc->image->sums.xor_sum;
        record_fill_header(rec);
        if (rq->is_snapshot)
                r = pagesum_resize(&rec->fresh, rq->commit);
        return r < 0 ? err_set(e, r, "make room for %u page checksums", rq->commit) : 0;
}

int
record_reserve(struct record *rec, struct err *e)
{
        int r = rec->rq->is_snapshot ? 0 : pagesum_reserve(&rec->rc->image->sums, rec->rq->commit);

        return r < 0 ? err_set(e, r, "make room for %u page checksums", rec->rq->commit) : 0;
}

/* --- write --- */

static int
write_to_both(struct byte_sink *sink, const void *buf, size_t n)
{
        struct record *rec = (struct record *)((char *)sink - offsetof(struct record, both));
        int r = rec->cx->copy->write(rec->cx->copy, buf, n);

        return r < 0 ? r : rec->log->write(rec->log, buf, n);
}

static int
open_record(struct record *rec, struct err *e)
{
        const struct record_context *cx = rec->cx;
        struct byte_sink *sink;
        int r;

        if (rec->is_open)
                return 0;
        if (cx->refusal != NULL)
                return err_text(e, cx->refusal->code, "%s", cx->refusal->text);
        rec->log = sink = txlog_append_begin(cx->log);
        if (sink == NULL)
                return err_set(e, -ENOMEM, "begin a log record");
        if (cx->copy != NULL) {
                rec->both.write = write_to_both;
                sink = &rec->both;
        }
        r = cx->given != NULL ? 0 : ltx_encoder_begin(rec->rc->encoder, &rec->header, sink, e);
        if (r < 0)
                txlog_append_abort(cx->log);
        rec->is_open = r == 0;
        return r;
}

static int
remember_change(struct record *rec, uint32_t pgno, uint64_t sum, struct err *e)
{
        struct recorder *rc = rec->rc;

        if (rec->n_changes == rc->changes_capacity) {
                uint32_t want = rc->changes_capacity == 0 ? 256 : rc->changes_capacity * 2;
                struct record_change *p = realloc(rc->changes, want * sizeof *p);

                if (p == NULL)
                        return err_set(e, -ENOMEM, "remember a changed page");
                rc->changes = p;
                rc->changes_capacity = want;
        }
        rc->changes[rec->n_changes++] = (struct record_change){ sum, pgno };
        return 0;
}

static int
record_add_page(struct record *rec, uint32_t pgno, const uint8_t *page, struct err *e)
{
        uint64_t sum = ltx_page_checksum(pgno, page, rec->rq->page_size);
        uint64_t old = pgno <= rec->old_count ? pagesum_get(&rec->rc->image->sums, pgno) : 0;
        int r;

        if (sum == old)
                return 0;
        r = open_record(rec, e);
        if (r == 0)
                r = rec->rq->is_snapshot ? 0 : remember_change(rec, pgno, sum, e);
        if (r == 0 && rec->cx->given == NULL)
                r = ltx_encoder_page(rec->rc->encoder, pgno, page, e);
        if (r < 0)
                return r;
        if (rec->rq->is_snapshot)
                pagesum_set(&rec->fresh, pgno, sum);
        rec->xor_sum ^= old ^ sum;
        return 0;
}

static int
add_requested_page(struct record *rec, uint32_t i, struct err *e)
{
        uint32_t pgno = rec->rq->pgnos[i];
        const uint8_t *page;
        int error = -EIO;

        page = rec->rq->get(rec->rq, i, rec->cx->room, &error);
        if (page == NULL)
                return err_set(e, error, "read page %u of the transaction", pgno);
        return record_add_page(rec, pgno, page, e);
}

static int
add_visible_page(struct record *rec, uint32_t pgno, struct err *e)
{
        const struct db_image *img = rec->rc->image;
        uint8_t *room = rec->cx->room;
        const uint8_t *page;
        int error = -EIO;

        /* What is open beside the WAL is no part of the WAL's transaction, and may never be committed. */
        page = rec->rq->wal_size > 0 ? image_committed_page(img, rec->rq->page_size, pgno, room, &error)
                                     : image_visible_page(img, rec->rq->page_size, pgno, room, &error);
        if (page == NULL)
                return err_set(e, error, "read page %u", pgno);
        return record_add_page(rec, pgno, page, e);
}

/* Every page of @rq->pgnos up to the new size, and every page that the database grows by. */
static int
walk_pages(struct record *rec, struct err *e)
{
        const struct commit_request *rq = rec->rq;
        uint32_t lock_pgno = ltx_lock_pgno(rq->page_size);
        uint32_t i = 0;
        uint64_t grown = (uint64_t)rec->old_count + 1;
        int r = 0;

        while (r == 0) {
                bool has_listed = i < rq->n_pgnos && rq->pgnos[i] <= rq->commit;
                uint32_t pgno = has_listed ? rq->pgnos[i] : UINT32_MAX;

                if (grown < pgno && grown <= rq->commit) {
                        if (grown != lock_pgno)
                                r = add_visible_page(rec, (uint32_t)grown, e);
                        grown++;
                        continue;
                }
                if (!has_listed)
                        break;
                if (pgno != lock_pgno)
                        r = add_requested_page(rec, i, e);
                if (pgno == grown)
                        grown++;
                i++;
        }
        return r;
}

/* Takes the checksums of pages beyond the new size out of the sum. */
static void
drop_cut_pages(struct record *rec)
{
        if (rec->rq->is_snapshot)
                return;
        for (uint32_t pgno = rec->rq->commit + 1; pgno <= rec->old_count && pgno != 0; pgno++)
                rec->xor_sum ^= pagesum_get(&rec->rc->image->sums, pgno);
}

/* The bytes as they came, once the pages that they made have the checksum that they promise. */
static int
copy_given(struct record *rec, struct err *e)
{
        uint8_t *buf = rec->cx->room;
        uint64_t off = 0;
        ssize_t n = 1;
        int r = 0;

        while (r == 0 && n > 0) {
                n = spool_read(rec->cx->given, buf, IMAGE_PAGE_MAX, off);
                if (n > 0)
                        r = rec->log->write(rec->log, buf, (size_t)n);
                off += n > 0 ? (uint64_t)n : 0;
        }
        if (r == 0 && n < 0)
                r = (int)n;
        return r < 0 ? err_set(e, r, "copy the transaction into the log") : 0;
}

static int
finish_record(struct record *rec, struct err *e)
{
        const struct txlog_record *given = &rec->cx->record;
        uint64_t post = rec->record.post_apply_checksum;

        if (rec->cx->given == NULL)
                return ltx_encoder_finish(rec->rc->encoder, post, NULL, e);
        if (post != given->post_apply_checksum)
                return err_text(e, E_CHECKSUM,
                                "transaction %016llx makes checksum %016llx here, not %016llx",
                                (unsigned long long)given->max_txid, (unsigned long long)post,
                                (unsigned long long)given->post_apply_checksum);
        return copy_given(rec, e);
}

int
record_write(struct record *rec, struct err *e)
{
        const struct commit_request *rq = rec->rq;
        const struct db_image *img = rec->rc->image;
        int r = walk_pages(rec, e);

        if (r < 0)
                return r;
        drop_cut_pages(rec);
        if (!rec->is_open && rq->commit == img->page_count && rq->page_size == img->page_size &&
            rec->cx->given == NULL)
                return 0;
        r = open_record(rec, e); /* a mere truncation has no pages */
        if (r < 0)
                return r;
        rec->record = (struct txlog_record){
                .min_txid = rec->header.min_txid,
                .max_txid = rec->header.max_txid,
                .pre_apply_checksum = rec->header.pre_apply_checksum,
                .post_apply_checksum = LTX_CHECKSUM_FLAG | rec->xor_sum,
                .timestamp_ms = rec->header.timestamp_ms,
                .page_size = rec->header.page_size,
                .commit = rec->header.commit,
        };
        r = finish_record(rec, e);
        return r < 0 ? r : 1;
}

/* --- in the log --- */

int
record_append(struct record *rec, struct err *e)
{
        rec->is_open = false;
        return txlog_append_commit(rec->cx->log, &rec->record, &rec->lsn, e);
}

int
record_undo(struct record *rec, struct err *e)
{
        return txlog_undo_last(rec->cx->log, rec->header.max_txid, e);
}

int
record_move(struct record *rec)
{
        struct db_image *img = rec->rc->image;
        int r = 0;

        if (rec->rq->is_snapshot) {
                pagesum_release(&img->sums);
                img->sums = rec->fresh;
                rec->fresh = (struct pagesum){ 0 };
        } else {
                r = pagesum_resize(&img->sums, rec->rq->commit); /* was reserved */
                for (uint32_t i = 0; i < rec->n_changes && r == 0; i++)
                        pagesum_set(&img->sums, rec->rc->changes[i].pgno, rec->rc->changes[i].sum);
        }
        img->page_size = rec->rq->page_size;
        img->page_count = rec->rq->commit;
        return pagesum_total(&img->sums) == rec->record.post_apply_checksum ? 0 : E_CHECKSUM;
}

void
record_end(struct record *rec)
{
        struct recorder *rc = rec->rc;

        if (rec->is_open) {
                if (rec->cx->given == NULL)
                        ltx_encoder_abort(rc->encoder);
                txlog_append_abort(rec->cx->log);
        }
        pagesum_release(&rec->fresh);
        if (rc->changes_capacity > CHANGES_KEPT) {
                free(rc->changes);
                rc->changes = NULL;
                rc->changes_capacity = 0;
        }
}
