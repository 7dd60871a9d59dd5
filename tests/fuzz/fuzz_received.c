/* links: litefs_db */
/* A received transaction against what is said of it. The input: page size, commit, the size of a database, then steps from
 * page to page. What is missing is counted anew here; completed, nothing beyond that size is. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "db/received.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/fuzz/target.h"

#define HEADER 9u

struct spool_sink {
        struct byte_sink base;
        struct spool *to;
};

static int
write_spool(struct byte_sink *sink, const void *buf, size_t n)
{
        struct spool *to = ((struct spool_sink *)sink)->to;

        return spool_write(to, buf, n, to->size_bytes);
}

/* The transaction that @data tells of, and what is its highest missing page. */
static bool
make(struct received *rx, const struct ltx_header *h, const uint8_t *data, size_t size,
     uint32_t *ret_missing)
{
        static uint8_t page[65536];
        struct spool_sink sink = { { write_spool }, &rx->ltx };
        uint32_t lock = ltx_lock_pgno(h->page_size), pgno = 0, last = 0;
        struct ltx_encoder *enc;
        bool is_made;

        if (ltx_encoder_new(true, &enc) < 0)
                abort();
        is_made = ltx_encoder_begin(enc, h, &sink.base, NULL) == 0;
        *ret_missing = 0;
        for (size_t i = 0; is_made && i + 2 <= size && i < 2000; i += 2) {
                pgno += get_be16(data + i);
                is_made = ltx_encoder_page(enc, pgno, page, NULL) == 0;
                for (uint32_t p = last + 1; is_made && p < pgno; p++)
                        *ret_missing = p == lock ? *ret_missing : p;
                last = pgno;
        }
        if (h->commit > last && (h->commit != lock || last + 1 < lock))
                *ret_missing = h->commit == lock ? lock - 1 : h->commit;
        is_made = is_made && ltx_encoder_finish(enc, LTX_CHECKSUM_FLAG, NULL, NULL) == 0;
        ltx_encoder_free(enc);
        return is_made;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct db_env env = { .os = os_host(), .tmp_dir = "/tmp" };
        struct received rx;
        struct err e = ERR_INIT;
        struct ltx_header h;
        uint32_t base, missing;

        if (size < HEADER)
                return 0;
        h = (struct ltx_header){ .page_size = 512u << (data[0] & 7),
                                 .commit = get_be32(data + 1),
                                 .min_txid = 2,
                                 .max_txid = 2,
                                 .timestamp_ms = 1,
                                 .pre_apply_checksum = LTX_CHECKSUM_FLAG };
        base = get_be32(data + 5);
        received_init(&rx, &env);
        if (make(&rx, &h, data + HEADER, size - HEADER, &missing)) {
                FUZZ_CHECK(received_verify(&rx, &e) == 0);
                FUZZ_CHECK(rx.last_missing == missing);
                if (received_fill(&rx, base, &env, &e) == 0)
                        FUZZ_CHECK(rx.last_missing <= base);
                else
                        FUZZ_CHECK(e.code == E_FORMAT && rx.last_missing == missing);
        }
        received_release(&rx);
        return 0;
}
