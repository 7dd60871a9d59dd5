#include "backup/range.h"

#include <errno.h>
#include <stdlib.h>

#include "db/image/overlay.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"
#include "ltx/encoder.h"

#define MEMORY_CAP (4u << 20)
#define PAGE_MAX 65536u

typedef unsigned long long ull;

struct backup_range {
        struct overlay pages;
        struct ltx_header header;
        struct ltx_decoder *decoder;
        struct ltx_encoder *encoder;
        uint8_t *page;
};

int
backup_range_new(const struct os *os, const char *tmp_dir, bool is_compressed, struct backup_range **ret)
{
        struct backup_range *rg = calloc(1, sizeof *rg);
        int r = 0;

        if (rg == NULL)
                return -ENOMEM;
        overlay_init(&rg->pages, os, tmp_dir, MEMORY_CAP);
        rg->page = malloc(PAGE_MAX);
        if (rg->page == NULL)
                r = -ENOMEM;
        if (r == 0)
                r = ltx_decoder_new(&rg->decoder);
        if (r == 0)
                r = ltx_encoder_new(is_compressed, &rg->encoder);
        if (r < 0) {
                backup_range_free(rg);
                return r;
        }
        *ret = rg;
        return 0;
}

void
backup_range_free(struct backup_range *rg)
{
        if (rg == NULL)
                return;
        overlay_release(&rg->pages);
        ltx_decoder_free(rg->decoder);
        ltx_encoder_free(rg->encoder);
        free(rg->page);
        free(rg);
}

const struct ltx_header *
backup_range_header(const struct backup_range *rg)
{
        return &rg->header;
}

/* --- the log's transactions --- */

static int
take_range_pages(struct backup_range *rg, struct byte_src *src, struct err *e)
{
        struct ltx_header h;
        struct ltx_trailer t;
        uint32_t pgno = 0;
        int r = ltx_decoder_begin(rg->decoder, LTX_V3, src, &h, e);

        while (r == 0 && (r = ltx_decoder_next(rg->decoder, rg->page, &pgno, e)) > 0) {
                r = overlay_put(&rg->pages, pgno, rg->page);
                if (r < 0)
                        err_set(e, r, "keep page %u", pgno);
        }
        if (r == 0)
                r = ltx_decoder_finish(rg->decoder, &t, e);
        /* What the database has lost and got back comes again, for growth is always logged. */
        if (r == 0 && h.commit < rg->header.commit)
                overlay_drop_above(&rg->pages, h.commit);
        return r;
}

static void
begin_header(struct backup_range *rg, const struct txlog_record *record)
{
        rg->header = (struct ltx_header){ .flags = LTX_FLAG_NO_CHECKSUM,
                                          .page_size = record->page_size,
                                          .min_txid = record->min_txid,
                                          .chain_pre = record->pre_apply_checksum };
        overlay_set_page_size(&rg->pages, record->page_size);
}

static int
take_record(struct backup_range *rg, const struct txlog_record *record, struct byte_src *src,
            struct err *e)
{
        int r;

        if (rg->header.min_txid == 0)
                begin_header(rg, record);
        r = take_range_pages(rg, src, e);
        if (r < 0)
                return err_prefix(e, "transaction %016llx", (ull)record->max_txid);
        rg->header.max_txid = record->max_txid;
        rg->header.commit = record->commit;
        rg->header.timestamp_ms = record->timestamp_ms;
        rg->header.chain_post = record->post_apply_checksum;
        return 0;
}

/* Whether a file that follows another cannot have it. The first transaction of all is a whole database as well. */
static bool
is_break(const struct txlog_record *record, struct ltx_pos at)
{
        return record->commit == 0 || (record->min_txid == 1 && at.txid != 0);
}

static int
check_follows(const struct txlog_record *record, struct ltx_pos at, struct err *e)
{
        if (record->min_txid == at.txid + 1 && record->pre_apply_checksum == at.checksum)
                return 0;
        return err_text(e, E_POS_MISMATCH,
                        "the log's transaction %016llx does not follow %016llx/%016llx",
                        (ull)record->max_txid, (ull)at.txid, (ull)at.checksum);
}

static int
read_records(struct backup_range *rg, struct txlog_reader *reader, struct ltx_pos at, uint64_t max_txid,
             uint64_t max_bytes, struct txlog_record *ret_break, struct err *e)
{
        struct txlog_record record;
        struct byte_src *src;
        uint64_t bytes = 0;
        int r = 0;

        while (at.txid < max_txid && bytes < max_bytes &&
               (r = txlog_reader_next(reader, &record, &src, e)) > 0 && record.max_txid <= max_txid) {
                if (is_break(&record, at)) {
                        *ret_break = record;
                        r = rg->header.min_txid == 0 ? BACKUP_RANGE_BREAK : 1;
                        break;
                }
                r = check_follows(&record, at, e);
                if (r == 0)
                        r = take_record(rg, &record, src, e);
                if (r < 0)
                        break;
                at = (struct ltx_pos){ record.max_txid, record.post_apply_checksum };
                bytes += record.size_bytes;
        }
        return r < 0 || r == BACKUP_RANGE_BREAK ? r : rg->header.min_txid != 0;
}

int
backup_range_gather(struct backup_range *rg, struct txlog *log, struct ltx_pos from, uint64_t max_txid,
                    uint64_t max_bytes, struct txlog_record *ret_break, struct err *e)
{
        struct txlog_reader *reader = NULL;
        struct txlog_record last;
        int r;

        overlay_reset(&rg->pages);
        rg->header = (struct ltx_header){ 0 };
        /* A log that is empty has nothing of what led there, and one that ends before it has never had it. */
        if (!txlog_last(log, &last) || last.max_txid < from.txid)
                return err_text(e, E_NOT_FOUND, "the log does not have %016llx", (ull)from.txid);
        if (last.max_txid == from.txid || from.txid >= max_txid)
                return 0;
        r = txlog_reader_open(log, from.txid, &reader, e);
        if (r < 0)
                return r;
        r = read_records(rg, reader, from, max_txid, max_bytes, ret_break, e);
        txlog_reader_close(reader);
        return r;
}

/* --- the file --- */

int
backup_range_write(struct backup_range *rg, struct byte_sink *sink, struct err *e)
{
        uint32_t *pgnos = overlay_sorted_pgnos(&rg->pages);
        int r = pgnos == NULL && !overlay_is_empty(&rg->pages) ? err_set(e, -ENOMEM, "page numbers") : 0;

        if (r == 0)
                r = ltx_encoder_begin(rg->encoder, &rg->header, sink, e);
        for (uint32_t i = 0; i < rg->pages.n_pages && r == 0; i++) {
                const uint8_t *page = overlay_get(&rg->pages, pgnos[i], rg->page, &r);

                r = page == NULL ? err_set(e, r, "read page %u", pgnos[i])
                                 : ltx_encoder_page(rg->encoder, pgnos[i], page, e);
        }
        if (r == 0)
                r = ltx_encoder_finish(rg->encoder, 0, NULL, e);
        else
                ltx_encoder_abort(rg->encoder);
        free(pgnos);
        return r;
}
