#include "db/received.h"

#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"

void
received_init(struct received *rx, const struct db_env *env)
{
        *rx = (struct received){ 0 };
        rx->is_ending = env->is_ending;
        spool_init(&rx->ltx, env->os, env->tmp_dir, RECEIVED_CAP);
}

void
received_release(struct received *rx)
{
        free(rx->ownership);
        rx->ownership = NULL;
        spool_reset(&rx->ltx);
        free(rx->ltx.chunks);
        rx->ltx.chunks = NULL;
}

int
page_reader_open(struct page_reader *pr, const struct received *rx, struct err *e)
{
        int r;

        *pr = (struct page_reader){ .src = spool_source(&rx->ltx), .is_ending = rx->is_ending };
        r = ltx_decoder_new(&pr->decoder);
        if (r < 0)
                return err_set(e, r, "read a transaction");
        return ltx_decoder_begin(pr->decoder, LTX_V3, &pr->src.base, &pr->header, e);
}

int
page_reader_next(struct page_reader *pr, uint8_t *page, uint32_t *ret_pgno, struct err *e)
{
        if (pr->is_ending != NULL && atomic_load_explicit(pr->is_ending, memory_order_relaxed))
                return err_text(e, -ECANCELED, "the node ends");
        return ltx_decoder_next(pr->decoder, page, ret_pgno, e);
}

void
page_reader_close(struct page_reader *pr)
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
        int r = rp == NULL ? err_set(e, -ENOMEM, "read a transaction")
                           : page_reader_open(&rp->pr, rx, e);

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
        int r = page_reader_next(&rp->pr, page, ret_pgno, e);

        return r != 0 ? r : ltx_decoder_finish(rp->pr.decoder, &trailer, e);
}

void
received_pages_close(struct received_pages *rp)
{
        if (rp != NULL)
                page_reader_close(&rp->pr);
        free(rp);
}

/* The highest page between @a and @b, without them, that a transaction can have; @otherwise: there is none. */
static uint32_t
last_between(const struct ltx_header *h, uint32_t a, uint64_t b, uint32_t otherwise)
{
        uint64_t pgno = b - 1;

        if (pgno == ltx_lock_pgno(h->page_size))
                pgno--;
        return pgno > a ? (uint32_t)pgno : otherwise;
}

int
received_verify(struct received *rx, struct err *e)
{
        struct page_reader pr;
        struct ltx_trailer trailer;
        uint32_t pgno, last = 0, missing = 0, n_pages = 0;
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        int r;

        if (page == NULL)
                return err_set(e, -ENOMEM, "verify a transaction");
        r = page_reader_open(&pr, rx, e);
        while (r == 0 && (r = page_reader_next(&pr, page, &pgno, e)) > 0) {
                missing = last_between(&pr.header, last, pgno, missing);
                last = pgno;
                n_pages++;
                r = 0;
        }
        if (r == 0)
                r = ltx_decoder_finish(pr.decoder, &trailer, e);
        if (r == 0 && pr.src.off != rx->ltx.size_bytes)
                r = err_text(e, E_FORMAT, "%llu bytes follow the end of the transaction",
                             (unsigned long long)(rx->ltx.size_bytes - pr.src.off));
        rx->last_missing =
                r == 0 ? last_between(&pr.header, last, (uint64_t)pr.header.commit + 1, missing) : 0;
        rx->n_pages = n_pages;
        rx->mark = r == 0 ? pr.header.mark : (struct ltx_mark){ 0 };
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
        page_reader_close(&pr);
        free(page);
        return r;
}

/* --- what it leaves out --- */

struct fill {
        struct byte_sink sink;
        struct spool to;
        struct ltx_encoder *encoder;
        uint8_t *zeros;
        uint32_t next; /* the first page that is to be there */
        unsigned n;    /* that were not */
};

static int
write_filled(struct byte_sink *sink, const void *buf, size_t n)
{
        struct fill *f = (struct fill *)sink;

        return spool_write(&f->to, buf, n, f->to.size_bytes);
}

static int
lacks_too_many(uint32_t page_size, struct err *e)
{
        return err_text(e, E_FORMAT, "it lacks more than %u of the pages by which it grows",
                        RECEIVED_FILL_MAX / page_size);
}

/* Those before @pgno. */
static int
put_zeros(struct fill *f, const struct ltx_header *h, uint64_t pgno, struct err *e)
{
        int r = 0;

        for (; r == 0 && f->next < pgno; f->next++) {
                if (f->next == ltx_lock_pgno(h->page_size))
                        continue;
                if (f->n++ == RECEIVED_FILL_MAX / h->page_size)
                        return lacks_too_many(h->page_size, e);
                r = ltx_encoder_page(f->encoder, f->next, f->zeros, e);
        }
        return r;
}

static int
fill_pages(struct fill *f, struct page_reader *pr, struct err *e)
{
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "complete a transaction") : 0;

        while (r == 0 && (r = page_reader_next(pr, page, &pgno, e)) > 0) {
                r = put_zeros(f, &pr->header, pgno, e);
                if (r == 0)
                        r = ltx_encoder_page(f->encoder, pgno, page, e);
                if (pgno >= f->next)
                        f->next = pgno + 1;
        }
        free(page);
        return r < 0 ? r : put_zeros(f, &pr->header, (uint64_t)pr->header.commit + 1, e);
}

int
received_fill(struct received *rx, uint32_t n_pages, const struct db_env *env, struct err *e)
{
        struct fill f = { .sink = { write_filled }, .next = n_pages + 1 };
        struct page_reader pr;
        int r;

        if (rx->last_missing <= n_pages)
                return 0;
        if (rx->record.commit - n_pages > rx->n_pages + RECEIVED_FILL_MAX / rx->record.page_size)
                return lacks_too_many(rx->record.page_size, e); /* without the work of it */
        spool_init(&f.to, env->os, env->tmp_dir, RECEIVED_CAP);
        f.zeros = calloc(1, IMAGE_PAGE_MAX);
        r = f.zeros == NULL ? -ENOMEM : ltx_encoder_new(env->is_compressed, &f.encoder);
        if (r < 0)
                err_set(e, r, "complete a transaction");
        if (r == 0)
                r = page_reader_open(&pr, rx, e);
        if (r == 0) {
                r = ltx_encoder_begin(f.encoder, &pr.header, &f.sink, e);
                if (r == 0)
                        r = fill_pages(&f, &pr, e);
                if (r == 0)
                        r = ltx_encoder_finish(f.encoder, rx->record.post_apply_checksum, NULL, e);
                page_reader_close(&pr);
        }
        ltx_encoder_free(f.encoder);
        free(f.zeros);
        if (r == 0) {
                struct spool was = rx->ltx;

                rx->ltx = f.to;
                f.to = was;
        }
        spool_reset(&f.to);
        free(f.to.chunks);
        return r < 0 ? r : received_verify(rx, e);
}
