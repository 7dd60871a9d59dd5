/* links: litefs_ltx */
/* LTX files. The first byte chooses:
 *   0  the rest is a file of version 3      1  the rest is a file of version 1
 *   2  the rest is a script for the encoder: what it accepts the decoder has to give back
 * What is decoded is held to the decoder's promises, and what it accepts is encoded anew. */
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/fuzz/target.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/ltx_read.h"

static uint32_t
pgno_at(const struct ltx_content *c, uint32_t i)
{
        uint32_t pgno;

        memcpy(&pgno, c->pages.data + i * (4 + (size_t)c->header.page_size), sizeof pgno);
        return pgno;
}

static void
check_pages(const struct ltx_content *c)
{
        uint32_t last = 0;

        for (uint32_t i = 0; i < c->n_pages; i++) {
                uint32_t pgno = pgno_at(c, i);

                FUZZ_CHECK(pgno > last && pgno <= c->header.commit);
                FUZZ_CHECK(pgno != ltx_lock_pgno(c->header.page_size));
                last = pgno;
        }
}

static void
check_same_again(struct ltx_content *c)
{
        struct ltx_content again;
        struct ltx_encoder *enc;
        struct mem_sink out;

        c->header.flags &= ~LTX_FLAG_LZ4_V1;
        mem_sink_init(&out);
        if (ltx_encoder_new(true, &enc) < 0)
                abort();
        FUZZ_CHECK(ltx_encoder_begin(enc, &c->header, &out.sink, NULL) == 0);
        for (uint32_t i = 0; i < c->n_pages; i++) {
                const uint8_t *p = c->pages.data + i * (4 + (size_t)c->header.page_size);

                FUZZ_CHECK(ltx_encoder_page(enc, pgno_at(c, i), p + 4, NULL) == 0);
        }
        FUZZ_CHECK(ltx_encoder_finish(enc, c->trailer.post_apply_checksum, &c->trailer, NULL) == 0);
        FUZZ_CHECK(ltx_read_bytes(LTX_V3, out.data, out.n, &again, NULL) == 0);
        FUZZ_CHECK(ltx_content_equal(c, &again));
        ltx_content_release(&again);
        ltx_encoder_free(enc);
        mem_sink_release(&out);
}

static void
decode(enum ltx_version version, const uint8_t *data, size_t size)
{
        struct err e = ERR_INIT;
        struct ltx_content c;
        int r = ltx_read_bytes(version, data, size, &c, &e);

        FUZZ_CHECK(r == 0 || (r == e.code && e.text[0] != '\0'));
        check_pages(&c);
        if (r == 0)
                check_same_again(&c);
        ltx_content_release(&c);
}

/* --- the script: 48 bytes of header, then 3 bytes a page --- */

#define SCRIPT_HEADER 48u

static struct ltx_header
script_header(const uint8_t *p)
{
        return (struct ltx_header){
                .page_size = 512u << (p[0] & 7),
                .flags = get_be32(p + 44),
                .commit = get_be32(p + 4),
                .min_txid = get_be64(p + 8),
                .max_txid = get_be64(p + 8) + get_be32(p + 16),
                .timestamp_ms = (int64_t)get_be64(p + 20),
                .pre_apply_checksum = get_be64(p + 28),
                .wal_offset = p[36],
                .wal_size = p[37],
                .wal_salt1 = p[38],
                .wal_salt2 = p[39],
                .node_id = p[1],
        };
}

/* The sum that the pages make, or what the script says. */
static uint64_t
script_post(const uint8_t *p, const struct ltx_header *h, uint64_t sum)
{
        if (p[2] & 1)
                return (uint64_t)p[3] << 56 | p[3];
        return h->flags & LTX_FLAG_NO_CHECKSUM ? 0 : LTX_CHECKSUM_FLAG | sum;
}

static void
encode(const uint8_t *p, size_t size)
{
        static uint8_t page[65536];
        struct ltx_header h = script_header(p);
        uint32_t pgno = 0, n_pages = 0;
        struct ltx_trailer t;
        struct ltx_encoder *enc;
        struct ltx_content c;
        struct mem_sink out;
        uint64_t sum = 0;
        int r;

        mem_sink_init(&out);
        if (ltx_encoder_new(p[2] & 2, &enc) < 0)
                abort();
        r = ltx_encoder_begin(enc, &h, &out.sink, NULL);
        for (size_t at = SCRIPT_HEADER; r == 0 && at + 3 <= size; at += 3) {
                pgno += p[at] < 250 ? p[at] : (uint32_t)p[at] << 16;
                fill_page(page, h.page_size, p[at + 1] % PAGE_KINDS, p[at + 2]);
                if (ltx_encoder_page(enc, pgno, page, NULL) < 0)
                        continue;
                sum ^= ltx_page_checksum(pgno, page, h.page_size);
                n_pages++;
        }
        if (r == 0)
                r = ltx_encoder_finish(enc, script_post(p, &h, sum), &t, NULL);
        if (r == 0) {
                r = ltx_read_bytes(LTX_V3, out.data, out.n, &c, NULL);
                FUZZ_CHECK(r == 0 || (r == E_CHECKSUM && ltx_header_is_snapshot(&h) && p[2] & 1));
                FUZZ_CHECK(ltx_header_equal(&c.header, &h) && c.n_pages == n_pages);
                FUZZ_CHECK(r < 0 || c.trailer.file_checksum == t.file_checksum);
                ltx_content_release(&c);
        }
        ltx_encoder_free(enc);
        mem_sink_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        if (data[0] <= 1)
                decode(data[0] == 0 ? LTX_V3 : LTX_V1, data + 1, size - 1);
        else if (data[0] == 2 && size > SCRIPT_HEADER && size < 2000)
                encode(data + 1, size - 1);
        return 0;
}
