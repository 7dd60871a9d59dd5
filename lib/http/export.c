/* /export: the database file as of one position, while writers go on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/snapshot.h"
#include "http/api_internal.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"

#define CHUNK_BYTES (256u * 1024)
#define RETRY_MS 10

/* The snapshot is a byte stream of LTX, which the decoder turns into pages. */
struct export
{
        struct byte_src src;   /* first: the decoder's */
        struct byte_sink sink; /* the snapshot's */
        struct api *api;
        char *name;
        struct db_snapshot *snapshot;
        struct ltx_decoder *decoder;
        struct text ltx; /* from the snapshot, not yet decoded */
        size_t off;
        bool is_end; /* of the snapshot */
        struct txlog_record record;
        uint32_t next_pgno;
        unsigned waited_ms;
};

static struct export *
of_sink(struct byte_sink *sink)
{
        return (struct export *)((char *)sink - offsetof(struct export, sink));
}

static int
take_ltx(struct byte_sink *sink, const void *buf, size_t n)
{
        struct export *x = of_sink(sink);

        text_add(&x->ltx, buf, n);
        return x->ltx.is_cut ? -ENOMEM : 0;
}

static ssize_t
give_ltx(struct byte_src *src, void *buf, size_t n)
{
        struct export *x = (struct export *)src;
        struct err e = ERR_INIT;

        if (x->off == x->ltx.n && !x->is_end) {
                int r;

                x->off = x->ltx.n = 0;
                r = db_snapshot_read(x->snapshot, CHUNK_BYTES, &x->sink, &e);
                if (r < 0) {
                        log_event(LOG_WARN, x->name, "export: %s", e.text);
                        return r;
                }
                x->is_end = r == 0;
        }
        if (n > x->ltx.n - x->off)
                n = x->ltx.n - x->off;
        memcpy(buf, x->ltx.s + x->off, n);
        x->off += n;
        return (ssize_t)n;
}

static void
free_export(void *data)
{
        struct export *x = data;

        db_snapshot_close(x->snapshot);
        ltx_decoder_free(x->decoder);
        text_release(&x->ltx);
        free(x->name);
        free(x);
}

/* Into @page; the lock page, which no LTX has, is zeros. */
static int
next_page(struct export *x, uint8_t *page, struct err *e)
{
        uint32_t pgno = 0;
        int r;

        if (x->next_pgno == ltx_lock_pgno(x->record.page_size)) {
                memset(page, 0, x->record.page_size);
                return 0;
        }
        r = ltx_decoder_next(x->decoder, page, &pgno, e);
        if (r > 0 && pgno == x->next_pgno)
                return 0;
        return r < 0 ? r : err_text(e, E_FORMAT, "page %u is missing", x->next_pgno);
}

/* Before the last page goes out: only now are all of them known to be right. */
static int
finish_export(struct export *x, uint8_t *scratch, struct err *e)
{
        struct ltx_trailer trailer;
        uint32_t pgno;
        int r = ltx_decoder_next(x->decoder, scratch, &pgno, e);

        if (r > 0)
                return err_text(e, E_FORMAT, "page %u is too many", pgno);
        if (r == 0)
                r = ltx_decoder_finish(x->decoder, &trailer, e);
        if (r == 0 && trailer.post_apply_checksum != x->record.post_apply_checksum)
                r = err_text(e, E_CHECKSUM, "the pages are not those of the position");
        return r;
}

static ssize_t
read_pages(void *data, void *buf, size_t n)
{
        struct export *x = data;
        uint32_t page_size = x->record.page_size;
        struct err e = ERR_INIT;
        uint8_t *scratch;
        size_t done = 0;
        int r = 0;

        while (r == 0 && x->next_pgno <= x->record.commit && done + page_size <= n) {
                r = next_page(x, (uint8_t *)buf + done, &e);
                done += page_size;
                x->next_pgno++;
        }
        if (r == 0 && done > 0 && x->next_pgno > x->record.commit) {
                scratch = malloc(page_size);
                r = scratch == NULL ? err_set(&e, -ENOMEM, "export") : finish_export(x, scratch, &e);
                free(scratch);
        }
        if (r < 0) {
                log_event(LOG_WARN, x->name, "export cut off: %s", e.text);
                return r;
        }
        return (ssize_t)done;
}

static int
open_export_snapshot(struct export *x, struct db *db, struct err *e)
{
        int r = db_snapshot_open(db, &x->snapshot, &x->record, e);

        /* What was not durable could be gone again while the copy is kept. */
        return r < 0 ? r : txlog_sync(db_log(db), txlog_end_lsn(db_log(db)), e);
}

static void
begin_export(struct http_call *call, void *data)
{
        struct export *x = data;
        struct db *db = store_find(x->api->config.store, x->name);
        struct ltx_header header;
        struct err e = ERR_INIT;
        int r;

        if (db == NULL || !db_exists(db)) {
                api_reply_error(call, 404, "database not found");
                return;
        }
        r = open_export_snapshot(x, db, &e);
        if (r == -EAGAIN && x->waited_ms < API_WAIT_MS) { /* another snapshot is under way */
                x->waited_ms += RETRY_MS;
                http_call_run_again(call, RETRY_MS);
                return;
        }
        if (r == 0 && x->record.commit == 0)
                r = err_text(&e, -ENOENT, "database not found");
        if (r == 0 && (r = ltx_decoder_new(&x->decoder)) < 0)
                err_set(&e, r, "export");
        if (r == 0)
                r = ltx_decoder_begin(x->decoder, LTX_V3, &x->src, &header, &e);
        if (r == -EAGAIN)
                http_call_add_header(call, "Retry-After", "1");
        if (r < 0)
                api_reply_error(call, api_status(r), "write snapshot: %s", e.text);
        else
                http_call_stream(call, 200, "application/octet-stream",
                                 (int64_t)x->record.commit * x->record.page_size, read_pages);
}

void
api_export(struct api *a, struct http_call *call)
{
        const char *name = api_database_name(call);
        struct export *x;

        if (name == NULL)
                return;
        x = calloc(1, sizeof *x);
        if (x == NULL || (x->name = strdup(name)) == NULL) {
                free(x);
                api_reply_error(call, 500, "out of memory");
                return;
        }
        x->src.read = give_ltx;
        x->sink.write = take_ltx;
        x->api = a;
        x->next_pgno = 1;
        http_call_set_data(call, x, free_export);
        http_call_run(call, begin_export);
}
