#include "db/received.h"

#include <errno.h>
#include <stdlib.h>

#include "db/db_internal.h"

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

int
page_reader_open(struct page_reader *pr, const struct received *rx, struct err *e)
{
        int r;

        *pr = (struct page_reader){ .src = spool_source(&rx->ltx) };
        r = ltx_decoder_new(&pr->decoder);
        if (r < 0)
                return err_set(e, r, "read a transaction");
        return ltx_decoder_begin(pr->decoder, LTX_V3, &pr->src.base, &pr->header, e);
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
        int r = ltx_decoder_next(rp->pr.decoder, page, ret_pgno, e);

        return r != 0 ? r : ltx_decoder_finish(rp->pr.decoder, &trailer, e);
}

void
received_pages_close(struct received_pages *rp)
{
        if (rp != NULL)
                page_reader_close(&rp->pr);
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
        r = page_reader_open(&pr, rx, e);
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
        page_reader_close(&pr);
        free(page);
        return r;
}
