/* One transaction into the log.
 *
 * The pages of the request and those that the database grows by are walked in rising order; a page whose
 * checksum did not change is left out, so that a rollback, hot or not, makes no transaction. Nothing of the
 * database's state moves before the record is in the log, and after that nothing can fail. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"

struct builder {
        const struct capturer *c;
        struct db *db;
        const struct commit_request *rq;
        struct ltx_header header;
        uint32_t old_count; /* pages that keep their place; 0 for a snapshot */
        uint32_t n_changes;
        uint64_t xor_sum; /* of the new image, as far as walked */
        bool has_begun;
        struct pagesum fresh; /* the checksums of a snapshot */
        struct byte_sink *sink;
        struct forwarding forwarding; /* to whom it goes first */
};

/* The bytes as they came, once the pages that they made have the checksum that they promise. */
static int
copy_received(struct builder *b, struct err *e)
{
        const struct received *rx = b->rq->received;
        uint8_t *buf = b->c->page;
        uint64_t off = 0;
        ssize_t n = 1;
        int r = 0;

        while (r == 0 && n > 0) {
                n = spool_read(&rx->ltx, buf, DB_PAGE_BUF, off);
                if (n > 0)
                        r = b->sink->write(b->sink, buf, (size_t)n);
                off += n > 0 ? (uint64_t)n : 0;
        }
        if (r == 0 && n < 0)
                r = (int)n;
        return r < 0 ? err_set(e, r, "copy the transaction into the log") : 0;
}

static int
may_commit(const struct builder *b)
{
        const struct db_forward *to = b->forwarding.to;

        if (to != NULL && !b->c->is_worker)
                return E_NOT_PRIMARY; /* nobody here may wait for the network: forward.h */
        if (to != NULL && b->rq->is_snapshot)
                return -ENOTSUP;
        return db_may_commit_as(b->db, to);
}

static int
begin_record(struct builder *b, struct err *e)
{
        struct db *db = b->db;
        int r = 0;

        if (b->has_begun)
                return 0;
        /* Only now, when something has changed: a rollback is nobody's to refuse. */
        if (b->rq->received == NULL)
                r = may_commit(b);
        if (r < 0)
                return r == -ENOTSUP ? err_text(e, r, "only the primary can change the page size")
                                     : err_set(e, r, "commit");
        b->sink = txlog_append_begin(db->log);
        if (b->sink == NULL)
                return err_set(e, -ENOMEM, "begin a log record");
        if (b->forwarding.to != NULL)
                b->sink = forwarding_begin(&b->forwarding, db, b->sink);
        r = b->rq->received != NULL ? 0 : ltx_encoder_begin(db->encoder, &b->header, b->sink, e);
        if (r < 0) {
                txlog_append_abort(db->log);
                return r;
        }
        b->has_begun = true;
        return 0;
}

static int
remember_change(struct builder *b, uint32_t pgno, uint64_t sum, struct err *e)
{
        struct db *db = b->db;

        if (b->n_changes == db->changes_capacity) {
                uint32_t want = db->changes_capacity == 0 ? 256 : db->changes_capacity * 2;
                struct commit_change *p = realloc(db->changes, want * sizeof *p);

                if (p == NULL)
                        return err_set(e, -ENOMEM, "remember a changed page");
                db->changes = p;
                db->changes_capacity = want;
        }
        db->changes[b->n_changes++] = (struct commit_change){ sum, pgno };
        return 0;
}

static int
add_page(struct builder *b, uint32_t pgno, const uint8_t *page, struct err *e)
{
        uint64_t sum = ltx_page_checksum(pgno, page, b->rq->page_size);
        uint64_t old = pgno <= b->old_count ? pagesum_get(&b->db->sums, pgno) : 0;
        int r;

        if (sum == old)
                return 0;
        r = begin_record(b, e);
        if (r == 0)
                r = b->rq->is_snapshot ? 0 : remember_change(b, pgno, sum, e);
        if (r == 0 && b->rq->received == NULL)
                r = ltx_encoder_page(b->db->encoder, pgno, page, e);
        if (r < 0)
                return r;
        if (b->rq->is_snapshot)
                pagesum_set(&b->fresh, pgno, sum);
        b->xor_sum ^= old ^ sum;
        return 0;
}

static int
add_requested(struct builder *b, uint32_t i, struct err *e)
{
        uint32_t pgno = b->rq->pgnos[i];
        const uint8_t *page;
        int error = -EIO;

        page = b->rq->get(b->c, b->rq, i, &error);
        if (page == NULL)
                return err_set(e, error, "read page %u of the transaction", pgno);
        return add_page(b, pgno, page, e);
}

static int
add_visible(struct builder *b, uint32_t pgno, struct err *e)
{
        const uint8_t *page;
        int error = -EIO;

        page = db_visible_page(b->c, b->rq->page_size, pgno, &error);
        if (page == NULL)
                return err_set(e, error, "read page %u", pgno);
        return add_page(b, pgno, page, e);
}

/* Every page of @rq->pgnos up to the new size, and every page that the database grows by. */
static int
walk_pages(struct builder *b, struct err *e)
{
        const struct commit_request *rq = b->rq;
        uint32_t lock_pgno = ltx_lock_pgno(rq->page_size);
        uint32_t i = 0;
        uint64_t grown = (uint64_t)b->old_count + 1;
        int r = 0;

        while (r == 0) {
                bool has_listed = i < rq->n_pgnos && rq->pgnos[i] <= rq->commit;
                uint32_t pgno = has_listed ? rq->pgnos[i] : UINT32_MAX;

                if (grown < pgno && grown <= rq->commit) {
                        if (grown != lock_pgno)
                                r = add_visible(b, (uint32_t)grown, e);
                        grown++;
                        continue;
                }
                if (!has_listed)
                        break;
                if (pgno != lock_pgno)
                        r = add_requested(b, i, e);
                if (pgno == grown)
                        grown++;
                i++;
        }
        return r;
}

/* Takes the checksums of pages beyond the new size out of the sum. */
static void
drop_cut_pages(struct builder *b)
{
        if (b->rq->is_snapshot)
                return;
        for (uint32_t pgno = b->rq->commit + 1; pgno <= b->old_count && pgno != 0; pgno++)
                b->xor_sum ^= pagesum_get(&b->db->sums, pgno);
}

static void
fill_header(struct builder *b)
{
        struct db *db = b->db;
        const struct commit_request *rq = b->rq;

        b->header = (struct ltx_header){
                .page_size = rq->page_size,
                .commit = rq->commit,
                .min_txid = rq->is_snapshot ? 1 : db->pos.txid + 1,
                .max_txid = db->pos.txid + 1,
                .timestamp_ms = clock_wall_ms(db->env->clock),
                .wal_offset = rq->wal_offset,
                .wal_size = rq->wal_size,
                .wal_salt1 = rq->wal_salt1,
                .wal_salt2 = rq->wal_salt2,
                .node_id = db->env->node_id,
        };
        if (b->header.min_txid > 1)
                b->header.pre_apply_checksum = db->pos.checksum;
        if (rq->received != NULL) {
                b->header.min_txid = rq->received->record.min_txid;
                b->header.max_txid = rq->received->record.max_txid;
                b->header.timestamp_ms = rq->received->record.timestamp_ms;
                b->header.pre_apply_checksum = rq->received->record.pre_apply_checksum;
        }
}

/* What ends the record: ours is finished and the lease asked, a received one must be what it says. */
static int
finish_record(struct builder *b, const struct txlog_record *record, struct err *e)
{
        const struct received *rx = b->rq->received;
        uint64_t post = record->post_apply_checksum;
        int r;

        if (rx == NULL) {
                r = ltx_encoder_finish(b->db->encoder, post, NULL, e);
                /* Asked last, when the work is done: the lease must hold now, not when it began. */
                if (r == 0 && (r = may_commit(b)) < 0)
                        err_set(e, r, "commit");
                if (r == 0 && b->forwarding.to != NULL)
                        r = forwarding_send(&b->forwarding, b->db, record, e);
                return r;
        }
        if (post != rx->record.post_apply_checksum)
                return err_text(e, E_CHECKSUM,
                                "transaction %016llx makes checksum %016llx here, not %016llx",
                                (unsigned long long)rx->record.max_txid, (unsigned long long)post,
                                (unsigned long long)rx->record.post_apply_checksum);
        r = copy_received(b, e);
        if (r == 0 && rx->is_local) {
                r = b->db->env->may_commit(b->db->env->arg);
                if (r < 0)
                        err_set(e, r, "commit");
        }
        return r;
}

static int
append_record(struct builder *b, uint64_t post, struct err *e)
{
        struct db *db = b->db;
        struct txlog_record record = {
                .min_txid = b->header.min_txid,
                .max_txid = b->header.max_txid,
                .pre_apply_checksum = b->header.pre_apply_checksum,
                .post_apply_checksum = post,
                .timestamp_ms = b->header.timestamp_ms,
                .page_size = b->header.page_size,
                .commit = b->header.commit,
        };
        int r;

        r = finish_record(b, &record, e);
        if (r < 0) {
                txlog_append_abort(db->log);
                return r;
        }
        return txlog_append_commit(db->log, &record, &db->last_lsn, e);
}

static void
move_state(struct builder *b, uint64_t post)
{
        bool is_ours = b->rq->received == NULL || b->rq->received->is_local;
        struct db *db = b->db;
        int r;

        capturer_lock(b->c);
        if (b->rq->is_snapshot) {
                pagesum_release(&db->sums);
                db->sums = b->fresh;
                b->fresh = (struct pagesum){ 0 };
        } else {
                r = pagesum_resize(&db->sums, b->rq->commit); /* was reserved */
                assert(r == 0);
                (void)r;
                for (uint32_t i = 0; i < b->n_changes; i++)
                        pagesum_set(&db->sums, db->changes[i].pgno, db->changes[i].sum);
        }
        assert(pagesum_total(&db->sums) == post);
        db->page_size = b->rq->page_size;
        db->page_count = b->rq->commit;
        db->pos = (struct ltx_pos){ b->header.max_txid, post };
        db->timestamp_ms = b->header.timestamp_ms;
        /* What the primary has committed for us, it has confirmed. */
        db->is_unconfirmed = is_ours && b->forwarding.to == NULL;
        db->apply_lag_ms = is_ours ? 0 : clock_wall_ms(db->env->clock) - b->header.timestamp_ms;
        if (db->env->committed != NULL)
                db->env->committed(db->env->arg, db);
        capturer_unlock(b->c);
}

static int
reserve_sums(struct builder *b)
{
        int r;

        capturer_lock(b->c); /* the array may move under a reader of checksums */
        r = pagesum_reserve(&b->db->sums, b->rq->commit);
        capturer_unlock(b->c);
        return r;
}

static int
prepare(struct builder *b, struct err *e)
{
        int r;

        if (b->rq->is_snapshot)
                r = pagesum_resize(&b->fresh, b->rq->commit);
        else
                r = reserve_sums(b);
        return r < 0 ? err_set(e, r, "make room for %u page checksums", b->rq->commit) : 0;
}

/* Huge transactions leave a huge array behind; small ones reuse it. */
static void
trim_changes(struct db *db)
{
        if (db->changes_capacity <= 4096)
                return;
        free(db->changes);
        db->changes = NULL;
        db->changes_capacity = 0;
}

static int
build(struct builder *b, struct err *e)
{
        struct db *db = b->db;
        const struct commit_request *rq = b->rq;
        uint64_t post;
        int r;

        r = walk_pages(b, e);
        if (r < 0)
                return r;
        drop_cut_pages(b);
        post = LTX_CHECKSUM_FLAG | b->xor_sum;
        if (!b->has_begun && rq->commit == db->page_count && rq->page_size == db->page_size &&
            rq->received == NULL)
                return 0;
        r = begin_record(b, e); /* a mere truncation has no pages */
        if (r < 0)
                return r;
        r = append_record(b, post, e);
        if (r < 0) {
                b->has_begun = false; /* aborted already */
                return r;
        }
        move_state(b, post);
        db_count(db,
                 rq->received == NULL || rq->received->is_local ? DB_COUNT_COMMITS : DB_COUNT_APPLIED);
        if (rq->received != NULL && !rq->received->is_local && rq->received->record.min_txid == 1)
                db_count(db, DB_COUNT_RECEIVED_SNAPSHOTS);
        return 1;
}

static void
count_error(const struct builder *b, int r)
{
        const struct db_env *env = b->db->env;

        if (r == E_NOT_PRIMARY || r == E_FENCED)
                db_meter_error(env, DB_ERROR_REFUSED);
        else if (b->rq->received == NULL || b->rq->received->is_local)
                db_meter_error(env, DB_ERROR_COMMIT);
        else if (r == E_CHECKSUM)
                db_meter_error(env, DB_ERROR_CHECKSUM);
        else
                db_meter_error(env, DB_ERROR_APPLY);
}

/* A rollback counts as nothing, and another node's transaction took its time there. */
static void
measure(const struct builder *b, uint64_t begin_ns, int r)
{
        struct db_meters *m = b->db->env->meters;

        if (r < 0)
                count_error(b, r);
        else if (r > 0 && m != NULL && b->rq->received == NULL)
                histogram_add(&m->commit, histogram_now_ns() - begin_ns);
}

int
commit_transaction(const struct capturer *c, const struct commit_request *rq, struct err *e)
{
        struct db *db = c->db;
        struct builder b = { .c = c, .db = db, .rq = rq };
        uint64_t begin_ns = histogram_now_ns();
        int r;

        if (db->state == DB_FAILED)
                return err_set(e, -EIO, "the database is stopped after an earlier error");
        if (rq->received == NULL)
                b.forwarding.to = db_forward_of(db);
        b.old_count = rq->is_snapshot ? 0 : db->page_count;
        b.xor_sum = rq->is_snapshot ? 0 : db->sums.xor_sum;
        fill_header(&b);
        r = prepare(&b, e);
        if (r == 0)
                r = build(&b, e);
        if (r < 0 && b.has_begun) {
                if (rq->received == NULL)
                        ltx_encoder_abort(db->encoder);
                txlog_append_abort(db->log);
        }
        measure(&b, begin_ns, r);
        forwarding_end(&b.forwarding);
        pagesum_release(&b.fresh);
        trim_changes(db);
        return r;
}
