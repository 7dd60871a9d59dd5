/* links: litefs_ltx */
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/ltx_read.h"
#include "tests/lib/run.h"

#define FLAG LTX_CHECKSUM_FLAG
#define TEST_TIMEOUT_S 60

static struct mem_sink file;

static void
set_up(void)
{
        mem_sink_init(&file);
}

static void
tear_down(void)
{
        mem_sink_release(&file);
}

/* Pages 1..@commit of every kind in turn; a snapshot when @min_txid is 1, else every second page. */
static struct ltx_header
write_v3(uint32_t page_size, uint32_t commit, uint64_t min_txid, bool compress, uint32_t flags)
{
        bool has_none = flags & LTX_FLAG_NO_CHECKSUM;
        struct ltx_header h = {
                .flags = flags,
                .page_size = page_size,
                .commit = commit,
                .min_txid = min_txid,
                .max_txid = min_txid + 3,
                .timestamp_ms = -5,
                .pre_apply_checksum = min_txid == 1 || has_none ? 0 : FLAG | 0x123,
                .node_id = 42,
        };
        uint8_t *page = malloc(page_size);
        struct ltx_encoder *enc;
        uint64_t sum = 0;

        file.n = 0;
        ck_assert_int_eq(ltx_encoder_new(compress, &enc), 0);
        ck_assert_int_eq(ltx_encoder_begin(enc, &h, &file.sink, NULL), 0);
        for (uint32_t pgno = 1; pgno <= commit; pgno += min_txid == 1 ? 1 : 2) {
                fill_page(page, page_size, pgno % PAGE_KINDS, pgno);
                sum ^= ltx_page_checksum(pgno, page, page_size);
                ck_assert_int_eq(ltx_encoder_page(enc, pgno, page, NULL), 0);
        }
        ck_assert_int_eq(ltx_encoder_finish(enc, has_none ? 0 : FLAG | sum, NULL, NULL), 0);
        ltx_encoder_free(enc);
        free(page);
        return h;
}

static void
check_content(const struct ltx_content *c, const struct ltx_header *h, uint32_t step)
{
        uint8_t *page = malloc(h->page_size);
        uint32_t n = 0;

        ck_assert(ltx_header_equal(&c->header, h));
        for (uint32_t pgno = 1; pgno <= h->commit; pgno += step, n++) {
                const uint8_t *p = c->pages.data + n * (4 + h->page_size);

                fill_page(page, h->page_size, pgno % PAGE_KINDS, pgno);
                ck_assert_mem_eq(p, &pgno, 4);
                ck_assert_mem_eq(p + 4, page, h->page_size);
        }
        ck_assert_uint_eq(c->n_pages, n);
        free(page);
}

START_TEST(round_trip_of_each_page_size)
{
        uint32_t page_size = 512u << _i;

        for (int variant = 0; variant < 8; variant++) {
                bool is_snapshot = variant & 1;
                struct ltx_header h = write_v3(page_size, 7, is_snapshot ? 1 : 9, variant & 2,
                                               variant & 4 ? LTX_FLAG_NO_CHECKSUM : 0);
                struct err e = ERR_INIT;
                struct ltx_content c;

                ck_assert_msg(ltx_read_bytes(LTX_V3, file.data, file.n, &c, &e) == 0, "%s", e.text);
                check_content(&c, &h, is_snapshot ? 1 : 2);
                ck_assert_uint_eq(c.trailer.post_apply_checksum, get_be64(file.data + file.n - 16));
                ck_assert_uint_eq(c.trailer.file_checksum, get_be64(file.data + file.n - 8));
                ltx_content_release(&c);
        }
}
END_TEST

START_TEST(source_may_give_a_byte_at_a_time)
{
        struct ltx_header h = write_v3(1024, 5, 1, true, 0);
        struct ltx_content c;
        struct mem_src src;

        mem_src_init(&src, file.data, file.n);
        src.chunk = 1;
        ck_assert_int_eq(ltx_read(LTX_V3, &src.src, &c, NULL), 0);
        check_content(&c, &h, 1);
        ltx_content_release(&c);
}
END_TEST

START_TEST(deletion_is_a_file_without_pages)
{
        struct ltx_header h = write_v3(4096, 0, 9, true, 0);
        struct ltx_content c;

        ck_assert_int_eq(ltx_read_bytes(LTX_V3, file.data, file.n, &c, NULL), 0);
        ck_assert_uint_eq(c.n_pages, 0);
        ck_assert_uint_eq(c.header.commit, 0);
        ck_assert(ltx_header_equal(&c.header, &h));
        ck_assert_uint_eq(c.trailer.post_apply_checksum, FLAG);
        ltx_content_release(&c);
}
END_TEST

START_TEST(file_cut_at_any_byte_is_refused)
{
        struct err e;

        write_v3(512, 5, 1, true, 0);
        for (size_t n = 0; n < file.n; n++) {
                struct ltx_content c;

                e = (struct err)ERR_INIT;
                ck_assert_int_eq(ltx_read_bytes(LTX_V3, file.data, n, &c, &e), E_FORMAT);
                ck_assert_msg(strstr(e.text, "the file ends early") != NULL, "%s", e.text);
                ltx_content_release(&c);
        }
}
END_TEST

START_TEST(read_error_at_any_byte_is_passed_on)
{
        write_v3(512, 3, 1, true, 0);
        for (size_t n = 0; n < file.n; n++) {
                struct ltx_content c;
                struct mem_src src;

                mem_src_init(&src, file.data, n);
                src.error = -EIO;
                ck_assert_int_eq(ltx_read(LTX_V3, &src.src, &c, NULL), -EIO);
                ltx_content_release(&c);
        }
}
END_TEST

/* LZ4 has more than one way to write a page, so a change within a block may decode to the very same page: the
 * one change that may pass, for it is none. */
static void
check_each_changed_byte(const struct ltx_content *right, int *ret_n_passed)
{
        for (size_t at = 0; at < file.n; at++) {
                for (int bit = 0; bit < 8; bit++) {
                        struct err e = ERR_INIT;
                        struct ltx_content c;
                        int r;

                        file.data[at] ^= (uint8_t)(1 << bit);
                        r = ltx_read_bytes(LTX_V3, file.data, file.n, &c, &e);
                        ck_assert_msg(r == E_FORMAT || r == E_CHECKSUM ||
                                              (r == 0 && at >= 110 && ltx_content_equal(right, &c)),
                                      "bit %d of byte %zu: %d %s", bit, at, r, e.text);
                        *ret_n_passed += r == 0;
                        ltx_content_release(&c);
                        file.data[at] ^= (uint8_t)(1 << bit);
                }
        }
}

START_TEST(file_with_any_bit_changed_is_refused)
{
        struct ltx_content right;
        int n_passed = 0;

        write_v3(512, 4, _i == 0 ? 1 : 9, true, 0);
        ck_assert_int_eq(ltx_read_bytes(LTX_V3, file.data, file.n, &right, NULL), 0);
        check_each_changed_byte(&right, &n_passed);
        ck_assert_int_lt(n_passed, 300);
        ltx_content_release(&right);
}
END_TEST

START_TEST(error_names_the_offset)
{
        struct err e = ERR_INIT;
        struct ltx_content c;

        write_v3(512, 3, 1, true, 0);
        put_be32(file.data + 106, 0x7fffffff); /* the first block's size */
        ck_assert_int_eq(ltx_read_bytes(LTX_V3, file.data, file.n, &c, &e), E_FORMAT);
        ck_assert_str_eq(e.text, "LTX at offset 110: size of a page's LZ4 block: malformed data");
        ltx_content_release(&c);
}
END_TEST

/* --- files that no encoder writes, with checksums that hold --- */

struct raw {
        struct mem_sink index;
        uint64_t crc;
};

static void
raw_put(struct raw *raw, const void *crc_of, size_t crc_n, const void *buf, size_t n)
{
        raw->crc = slow_crc64(raw->crc, crc_of, crc_n);
        ck_assert_int_eq(file.sink.write(&file.sink, buf, n), 0);
}

static void
put_uvarint(struct mem_sink *s, uint64_t v)
{
        for (; v >= 128; v >>= 7)
                s->sink.write(&s->sink, &(uint8_t){ (uint8_t)(v | 128) }, 1);
        s->sink.write(&s->sink, &(uint8_t){ (uint8_t)v }, 1);
}

static void
raw_begin(struct raw *raw, uint32_t commit, uint64_t min_txid)
{
        struct ltx_header h = { .page_size = 512,
                                .commit = commit,
                                .min_txid = min_txid,
                                .max_txid = 20,
                                .pre_apply_checksum = min_txid == 1 ? 0 : FLAG };
        uint8_t buf[100];

        file.n = 0;
        *raw = (struct raw){ .crc = 0 };
        mem_sink_init(&raw->index);
        ltx_header_encode(&h, buf);
        raw_put(raw, buf, sizeof buf, buf, sizeof buf);
}

static void
raw_page(struct raw *raw, uint32_t pgno, uint16_t flags, const uint8_t *page)
{
        uint8_t head[10], block[LZ4_COMPRESSBOUND(512)];
        int n = LZ4_compress_default((const char *)page, (char *)block, 512, sizeof block);
        uint64_t at = file.n;

        put_be32(head, pgno);
        put_be16(head + 4, flags);
        put_be32(head + 6, (uint32_t)n);
        raw_put(raw, head, sizeof head, head, sizeof head);
        raw_put(raw, page, 512, block, (size_t)n);
        put_uvarint(&raw->index, pgno);
        put_uvarint(&raw->index, at);
        put_uvarint(&raw->index, file.n - at);
}

static int
raw_finish(struct raw *raw, uint64_t post, struct err *e)
{
        uint8_t zeros[6] = { 0 }, be[8];
        struct ltx_content c;
        int r;

        raw_put(raw, zeros, 6, zeros, 6);
        put_uvarint(&raw->index, 0);
        raw_put(raw, raw->index.data, raw->index.n, raw->index.data, raw->index.n);
        put_be64(be, raw->index.n);
        raw_put(raw, be, 8, be, 8);
        put_be64(be, post);
        raw_put(raw, be, 8, be, 8);
        put_be64(be, FLAG | raw->crc);
        raw_put(raw, be, 0, be, 8);
        mem_sink_release(&raw->index);
        r = ltx_read_bytes(LTX_V3, file.data, file.n, &c, e);
        ltx_content_release(&c);
        return r;
}

static const struct {
        const char *what;
        uint32_t commit;
        uint64_t min_txid;
        uint32_t pgnos[3];
        uint16_t flags;
        uint64_t post;
        int result;
} raws[] = {
        { "good", 9, 5, { 2, 4, 9 }, 1, FLAG, 0 },
        { "above commit", 9, 5, { 2, 4, 10 }, 1, FLAG, E_FORMAT },
        { "twice", 9, 5, { 2, 2, 9 }, 1, FLAG, E_FORMAT },
        { "falling", 9, 5, { 4, 2, 9 }, 1, FLAG, E_FORMAT },
        { "lock page", UINT32_MAX, 5, { 2, 2097153, 2097154 }, 1, FLAG, E_FORMAT },
        { "around the lock page", UINT32_MAX, 5, { 2, 2097152, 2097154 }, 1, FLAG, 0 },
        { "last page number", UINT32_MAX, 5, { 2, 3, UINT32_MAX }, 1, FLAG, 0 },
        { "frame without a size", 9, 5, { 2, 4, 9 }, 0, FLAG, E_FORMAT },
        { "unknown frame flags", 9, 5, { 2, 4, 9 }, 3, FLAG, E_FORMAT },
        { "no flag in post", 9, 5, { 2, 4, 9 }, 1, FLAG - 1, E_FORMAT },
        { "hole in a snapshot", 4, 1, { 1, 2, 4 }, 1, FLAG, E_FORMAT },
        { "snapshot ends early", 4, 1, { 1, 2, 3 }, 1, FLAG, E_FORMAT },
        { "snapshot of huge commit", UINT32_MAX, 1, { 1, 2, 3 }, 1, FLAG, E_FORMAT },
        { "snapshot with another sum", 3, 1, { 1, 2, 3 }, 1, FLAG | 1, E_CHECKSUM },
};

START_TEST(content_is_judged_when_all_checksums_hold)
{
        uint8_t page[512];
        struct err e = ERR_INIT;
        struct raw raw;
        int r;

        fill_page(page, sizeof page, PAGE_TEXT, 1);
        raw_begin(&raw, raws[_i].commit, raws[_i].min_txid);
        for (int i = 0; i < 3; i++)
                raw_page(&raw, raws[_i].pgnos[i], raws[_i].flags, page);
        r = raw_finish(&raw, raws[_i].post, &e);
        ck_assert_msg(r == raws[_i].result, "%s: %d %s", raws[_i].what, r, e.text);
}
END_TEST

START_TEST(snapshot_with_the_sum_of_its_pages_is_taken)
{
        uint8_t page[512];
        uint64_t sum = 0;
        struct raw raw;

        raw_begin(&raw, 2, 1);
        for (uint32_t pgno = 1; pgno <= 2; pgno++) {
                fill_page(page, sizeof page, PAGE_TEXT, pgno);
                sum ^= ltx_page_checksum(pgno, page, sizeof page);
                raw_page(&raw, pgno, 1, page);
        }
        ck_assert_int_eq(raw_finish(&raw, FLAG | sum, NULL), 0);
}
END_TEST

START_TEST(deletion_with_a_sum_is_refused)
{
        struct raw raw;

        raw_begin(&raw, 0, 5);
        ck_assert_int_eq(raw_finish(&raw, FLAG | 1, NULL), E_FORMAT);
        raw_begin(&raw, 0, 5);
        ck_assert_int_eq(raw_finish(&raw, FLAG, NULL), 0);
}
END_TEST

START_TEST(index_that_does_not_fit_the_frames_is_refused)
{
        uint8_t page[512];
        struct err e = ERR_INIT;
        struct raw raw;

        fill_page(page, sizeof page, PAGE_TEXT, 1);
        raw_begin(&raw, 2, 5);
        raw_page(&raw, 1, 1, page);
        raw.index.data[1]++;
        ck_assert_int_eq(raw_finish(&raw, FLAG, &e), E_FORMAT);
        ck_assert_msg(strstr(e.text, "page index") != NULL, "%s", e.text);
}
END_TEST

/* A block is at most what a page of 64 KiB can become; nothing of a larger claim is read or allocated. */
START_TEST(block_size_is_bounded_before_anything_is_read)
{
        static const uint32_t sizes[] = { 0, LZ4_COMPRESSBOUND(65536) + 1, 0x80000000u, UINT32_MAX };
        struct ltx_content c;
        struct mem_src src;

        write_v3(65536, 1, 1, true, 0);
        for (int i = 0; i < COUNT(sizes); i++) {
                put_be32(file.data + 106, sizes[i]);
                mem_src_init(&src, file.data, file.n);
                ck_assert_int_eq(ltx_read(LTX_V3, &src.src, &c, NULL), E_FORMAT);
                ck_assert_uint_eq(src.off, 110);
                ltx_content_release(&c);
        }
}
END_TEST

START_TEST(block_that_decodes_to_another_length_is_refused)
{
        uint8_t page[1024], block[LZ4_COMPRESSBOUND(1024)];

        fill_page(page, sizeof page, PAGE_TEXT, 1);
        for (int n = 510; n <= 514; n++) {
                int size = LZ4_compress_default((const char *)page, (char *)block, n, sizeof block);
                struct ltx_content c;

                write_v3(512, 0, 9, true, 0);
                put_be32(file.data + 12, 1);
                file.n = 100;
                file.sink.write(&file.sink, "\0\0\0\1\0\1\0\0\0", 9);
                file.sink.write(&file.sink, &(uint8_t){ (uint8_t)size }, 1);
                file.sink.write(&file.sink, block, (size_t)size);
                ck_assert_int_eq(ltx_read_bytes(LTX_V3, file.data, file.n, &c, NULL), E_FORMAT);
                ck_assert_uint_eq(c.n_pages, n == 512 ? 1 : 0);
                ltx_content_release(&c);
        }
}
END_TEST

/* --- order of calls --- */

START_TEST(calls_out_of_order_are_refused)
{
        struct ltx_trailer t;
        struct ltx_decoder *d;
        struct ltx_header h;
        struct mem_src src;
        uint8_t page[512];
        uint32_t pgno = 77;

        write_v3(512, 1, 1, true, 0);
        mem_src_init(&src, file.data, file.n);
        ck_assert_int_eq(ltx_decoder_new(&d), 0);
        ck_assert_int_eq(ltx_decoder_next(d, page, &pgno, NULL), -EINVAL);
        ck_assert_int_eq(ltx_decoder_finish(d, &t, NULL), -EINVAL);
        ck_assert_int_eq(ltx_decoder_begin(d, LTX_V3, &src.src, &h, NULL), 0);
        ck_assert_int_eq(ltx_decoder_finish(d, &t, NULL), -EINVAL);
        ck_assert_int_eq(ltx_decoder_next(d, page, &pgno, NULL), 1);
        pgno = 77;
        ck_assert_int_eq(ltx_decoder_next(d, page, &pgno, NULL), 0);
        ck_assert_int_eq(ltx_decoder_next(d, page, &pgno, NULL), 0);
        ck_assert_uint_eq(pgno, 77);
        ck_assert_int_eq(ltx_decoder_finish(d, &t, NULL), 0);
        ck_assert_int_eq(ltx_decoder_finish(d, &t, NULL), -EINVAL);
        ltx_decoder_free(d);
        ltx_decoder_free(NULL);
}
END_TEST

START_TEST(decoder_is_usable_again_after_an_error)
{
        struct ltx_header h, good = write_v3(512, 3, 9, true, 0);
        struct ltx_trailer t;
        struct ltx_decoder *d;
        struct mem_src src;
        uint8_t page[512];
        uint32_t pgno = 5;

        ck_assert_int_eq(ltx_decoder_new(&d), 0);
        mem_src_init(&src, file.data, 150);
        ck_assert_int_eq(ltx_decoder_begin(d, LTX_V3, &src.src, &h, NULL), 0);
        while (ltx_decoder_next(d, page, &pgno, NULL) > 0)
                ;
        ck_assert_int_eq(ltx_decoder_next(d, page, &pgno, NULL), -EINVAL);
        mem_src_init(&src, file.data, file.n);
        ck_assert_int_eq(ltx_decoder_begin(d, LTX_V3, &src.src, &h, NULL), 0);
        ck_assert(ltx_header_equal(&h, &good));
        while (ltx_decoder_next(d, page, &pgno, NULL) > 0)
                ;
        ck_assert_int_eq(ltx_decoder_finish(d, &t, NULL), 0);
        ltx_decoder_free(d);
}
END_TEST

START_TEST(bytes_behind_the_trailer_are_left_in_the_source)
{
        struct ltx_content c;
        struct mem_src src;
        size_t n;

        write_v3(512, 3, 1, true, 0);
        n = file.n;
        file.sink.write(&file.sink, "more", 4);
        mem_src_init(&src, file.data, file.n);
        ck_assert_int_eq(ltx_read(LTX_V3, &src.src, &c, NULL), 0);
        ck_assert_uint_eq(src.off, n);
        ltx_content_release(&c);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("decoder");

        tcase_set_timeout(tc, TEST_TIMEOUT_S);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, round_trip_of_each_page_size, 0, 8);
        tcase_add_test(tc, source_may_give_a_byte_at_a_time);
        tcase_add_test(tc, deletion_is_a_file_without_pages);
        tcase_add_test(tc, file_cut_at_any_byte_is_refused);
        tcase_add_test(tc, read_error_at_any_byte_is_passed_on);
        tcase_add_loop_test(tc, file_with_any_bit_changed_is_refused, 0, 2);
        tcase_add_test(tc, error_names_the_offset);
        tcase_add_loop_test(tc, content_is_judged_when_all_checksums_hold, 0, COUNT(raws));
        tcase_add_test(tc, snapshot_with_the_sum_of_its_pages_is_taken);
        tcase_add_test(tc, deletion_with_a_sum_is_refused);
        tcase_add_test(tc, index_that_does_not_fit_the_frames_is_refused);
        tcase_add_test(tc, block_size_is_bounded_before_anything_is_read);
        tcase_add_test(tc, block_that_decodes_to_another_length_is_refused);
        tcase_add_test(tc, calls_out_of_order_are_refused);
        tcase_add_test(tc, decoder_is_usable_again_after_an_error);
        tcase_add_test(tc, bytes_behind_the_trailer_are_left_in_the_source);
        return run_tests("ltx_decoder", tc);
}
