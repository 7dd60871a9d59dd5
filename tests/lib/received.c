#include "tests/lib/received.h"

#include <stdio.h>
#include <stdlib.h>

#include "ltx/checksum.h"
#include "ltx/encoder.h"

static void
require(int r, const struct err *e)
{
        if (r >= 0)
                return;
        fprintf(stderr, "a transaction could not be made: %s\n", e->text);
        abort();
}

struct spool_sink {
        struct byte_sink base;
        struct spool *spool;
};

static int
write_spool(struct byte_sink *sink, const void *buf, size_t n)
{
        struct spool *s = ((struct spool_sink *)sink)->spool;

        return spool_write(s, buf, n, s->size_bytes);
}

static struct spool_sink
begin(struct received *ret, const char *tmp_dir)
{
        received_init(ret, &(struct db_env){ .os = os_host(), .tmp_dir = tmp_dir });
        return (struct spool_sink){ { write_spool }, &ret->ltx };
}

int
received_read(struct received *ret, struct db_snapshot *snap, const char *tmp_dir, struct err *e)
{
        struct spool_sink sink = begin(ret, tmp_dir);
        int r;

        while ((r = db_snapshot_read(snap, 1 << 20, &sink.base, e)) > 0)
                ;
        db_snapshot_close(snap);
        return r < 0 ? r : received_verify(ret, e);
}

void
received_snapshot(struct received *ret, struct db *from, const char *tmp_dir)
{
        struct txlog_record record;
        struct db_snapshot *snap;
        struct err e = ERR_INIT;

        require(db_snapshot_open(from, &snap, &record, &e), &e);
        require(received_read(ret, snap, tmp_dir, &e), &e);
}

void
received_page(struct received *ret, const struct db_info *info, uint32_t pgno, const uint8_t *old,
              const uint8_t *page, const char *tmp_dir)
{
        struct spool_sink sink = begin(ret, tmp_dir);
        struct ltx_encoder *encoder;
        struct err e = ERR_INIT;
        struct ltx_header h = { .page_size = info->page_size,
                                .commit = info->page_count,
                                .min_txid = info->pos.txid + 1,
                                .max_txid = info->pos.txid + 1,
                                .timestamp_ms = info->timestamp_ms,
                                .pre_apply_checksum = info->pos.checksum,
                                .node_id = 2 };
        uint64_t change = ltx_page_checksum(pgno, old, info->page_size) ^
                          ltx_page_checksum(pgno, page, info->page_size);

        require(ltx_encoder_new(false, &encoder), &e);
        require(ltx_encoder_begin(encoder, &h, &sink.base, &e), &e);
        require(ltx_encoder_page(encoder, pgno, page, &e), &e);
        require(ltx_encoder_finish(encoder, LTX_CHECKSUM_FLAG | (info->pos.checksum ^ change), NULL, &e),
                &e);
        ltx_encoder_free(encoder);
        require(received_verify(ret, &e), &e);
}

void
received_copy(struct received *ret, struct byte_src *src, const char *tmp_dir)
{
        struct spool_sink sink = begin(ret, tmp_dir);
        struct err e = ERR_INIT;
        uint8_t buf[4096];
        ssize_t n;

        while ((n = byte_src_read_all(src, buf, sizeof buf)) > 0)
                require(sink.base.write(&sink.base, buf, (size_t)n), &e);
        require((int)n, &e);
        require(received_verify(ret, &e), &e);
}

void
received_drop(struct received *ret, struct db *db, const char *tmp_dir)
{
        struct spool_sink sink = begin(ret, tmp_dir);
        struct ltx_encoder *encoder;
        struct err e = ERR_INIT;
        struct ltx_header h;
        struct db_info info;

        db_get_info(db, &info);
        h = (struct ltx_header){ .page_size = info.page_size,
                                 .min_txid = info.pos.txid + 1,
                                 .max_txid = info.pos.txid + 1,
                                 .timestamp_ms = info.timestamp_ms,
                                 .pre_apply_checksum = info.pos.checksum };
        require(ltx_encoder_new(false, &encoder), &e);
        require(ltx_encoder_begin(encoder, &h, &sink.base, &e), &e);
        require(ltx_encoder_finish(encoder, LTX_CHECKSUM_FLAG, NULL, &e), &e);
        ltx_encoder_free(encoder);
        require(received_verify(ret, &e), &e);
}
