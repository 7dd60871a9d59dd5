/* links: litefs_ltx */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"

#define FLAG LTX_CHECKSUM_FLAG

static struct ltx_encoder *enc;
static struct mem_sink out;
static uint8_t page[65536];

static void
set_up(void)
{
        ck_assert_int_eq(ltx_encoder_new(true, &enc), 0);
        mem_sink_init(&out);
        fill_page(page, sizeof page, PAGE_TEXT, 1);
}

static void
tear_down(void)
{
        ltx_encoder_free(enc);
        mem_sink_release(&out);
}

static struct ltx_header
header_of(uint64_t min_txid, uint32_t commit)
{
        return (struct ltx_header){
                .page_size = 512,
                .commit = commit,
                .min_txid = min_txid,
                .max_txid = min_txid,
                .timestamp_ms = 1234,
                .pre_apply_checksum = min_txid == 1 ? 0 : FLAG | 77,
        };
}

static void
begin(uint64_t min_txid, uint32_t commit)
{
        struct ltx_header h = header_of(min_txid, commit);
        struct err e = ERR_INIT;

        out.n = 0;
        ck_assert_msg(ltx_encoder_begin(enc, &h, &out.sink, &e) == 0, "%s", e.text);
}

/* The bytes as the format's description has them, computed here a second time. */
START_TEST(file_of_one_stored_page_has_the_described_bytes)
{
        uint8_t index[] = { 2, 100, 0xa2, 0x04, 0 }, crc_of[4096], be[8];
        struct ltx_trailer t = { 0, 0 };
        const uint8_t *p;
        size_t n = 0;
        uint64_t crc;

        ltx_encoder_free(enc);
        ck_assert_int_eq(ltx_encoder_new(false, &enc), 0);
        fill_page(page, 512, PAGE_NOISE, 5);
        begin(3, 2);
        ck_assert_int_eq(ltx_encoder_page(enc, 2, page, NULL), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG | 99, &t, NULL), 0);

        /* header, frame head, literals: token, 15 + 255 + 242 = 512, bytes; end; index; trailer */
        ck_assert_uint_eq(out.n, 100 + 10 + 3 + 512 + 6 + 5 + 8 + 16);
        p = out.data + 100;
        ck_assert_uint_eq(get_be32(p), 2);
        ck_assert_uint_eq(get_be16(p + 4), 1);
        ck_assert_uint_eq(get_be32(p + 6), 515);
        ck_assert_mem_eq(p + 10, "\xf0\xff\xf2", 3);
        ck_assert_mem_eq(p + 13, page, 512);
        p += 10 + 515;
        ck_assert_mem_eq(p, "\0\0\0\0\0\0", 6);
        index[2] = (uint8_t)(525 % 128 + 128);
        index[3] = 525 / 128;
        ck_assert_mem_eq(p + 6, index, sizeof index);
        ck_assert_uint_eq(get_be64(p + 11), sizeof index);
        ck_assert_uint_eq(get_be64(p + 19), FLAG | 99);

        memcpy(crc_of, out.data, 110), n = 110;
        memcpy(crc_of + n, page, 512), n += 512;
        memset(crc_of + n, 0, 6), n += 6;
        memcpy(crc_of + n, index, sizeof index), n += sizeof index;
        put_be64(be, sizeof index);
        memcpy(crc_of + n, be, 8), n += 8;
        put_be64(be, FLAG | 99);
        memcpy(crc_of + n, be, 8), n += 8;
        crc = FLAG | slow_crc64(0, crc_of, n);
        ck_assert_uint_eq(get_be64(p + 27), crc);
        ck_assert_uint_eq(t.file_checksum, crc);
        ck_assert_uint_eq(t.post_apply_checksum, FLAG | 99);
}
END_TEST

static uint32_t
block_size_of(enum page_kind kind)
{
        fill_page(page, 512, kind, 8);
        begin(3, 2);
        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, NULL), 0);
        ltx_encoder_abort(enc);
        return get_be32(out.data + 106);
}

START_TEST(page_that_does_not_shrink_is_stored)
{
        ck_assert_uint_lt(block_size_of(PAGE_ZEROS), 64);
        ck_assert_uint_lt(block_size_of(PAGE_TEXT), 512);
        ck_assert_uint_eq(block_size_of(PAGE_NOISE), 515);
}
END_TEST

START_TEST(page_numbers_rise_within_the_commit_and_skip_the_lock_page)
{
        uint32_t lock = ltx_lock_pgno(512);
        struct err e = ERR_INIT;

        begin(3, lock + 10);
        ck_assert_int_eq(ltx_encoder_page(enc, 0, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, lock, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, lock + 11, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, 7, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_page(enc, 7, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, 6, page, &e), E_FORMAT);
        ck_assert_str_eq(e.text, "page 6 after page 7: malformed data");
        ck_assert_int_eq(ltx_encoder_page(enc, lock - 1, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_page(enc, lock + 1, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_page(enc, lock + 10, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, &e), 0);
}
END_TEST

START_TEST(snapshot_has_every_page)
{
        struct err e = ERR_INIT;

        begin(1, 3);
        ck_assert_int_eq(ltx_encoder_page(enc, 2, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_page(enc, 3, page, &e), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, 2, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, &e), E_FORMAT);
        ck_assert_str_eq(e.text, "snapshot ends at page 2 of 3: malformed data");
        ltx_encoder_abort(enc);
        begin(1, 3);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, &e), E_FORMAT);
}
END_TEST

static int
finish_empty(uint32_t commit, uint32_t flags, uint64_t post)
{
        struct ltx_header h = header_of(3, commit);

        h.flags = flags;
        h.pre_apply_checksum = flags & LTX_FLAG_NO_CHECKSUM ? 0 : FLAG;
        ck_assert_int_eq(ltx_encoder_begin(enc, &h, &out.sink, NULL), 0);
        return ltx_encoder_finish(enc, post, NULL, NULL);
}

START_TEST(post_apply_checksum_is_what_the_flags_and_the_commit_ask_for)
{
        ck_assert_int_eq(finish_empty(2, 0, 0), E_FORMAT);
        ck_assert_int_eq(finish_empty(2, 0, FLAG - 1), E_FORMAT);
        ck_assert_int_eq(finish_empty(2, 0, FLAG), 0);
        ck_assert_int_eq(finish_empty(0, 0, FLAG | 1), E_FORMAT);
        ck_assert_int_eq(finish_empty(0, 0, FLAG), 0);
        ck_assert_int_eq(finish_empty(2, LTX_FLAG_NO_CHECKSUM, FLAG), E_FORMAT);
        ck_assert_int_eq(finish_empty(2, LTX_FLAG_NO_CHECKSUM, 0), 0);
}
END_TEST

START_TEST(calls_outside_a_file_are_refused)
{
        struct ltx_header bad = header_of(0, 2);

        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, NULL), -EINVAL);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, NULL), -EINVAL);
        ck_assert_int_eq(ltx_encoder_begin(enc, &bad, &out.sink, NULL), E_FORMAT);
        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, NULL), -EINVAL);
        begin(3, 2);
        ltx_encoder_abort(enc);
        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, NULL), -EINVAL);
        begin(3, 2);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, NULL), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, NULL), -EINVAL);
        ltx_encoder_free(NULL);
}
END_TEST

static int
write_three_pages(struct err *e)
{
        struct ltx_header h = header_of(1, 3);
        int r = ltx_encoder_begin(enc, &h, &out.sink, e);

        for (uint32_t pgno = 1; r == 0 && pgno <= 3; pgno++)
                r = ltx_encoder_page(enc, pgno, page, e);
        if (r == 0)
                r = ltx_encoder_finish(enc, FLAG, NULL, e);
        else
                ltx_encoder_abort(enc);
        return r;
}

START_TEST(sink_that_fails_at_any_byte_fails_the_file_and_leaves_the_encoder_usable)
{
        struct mem_sink whole;
        struct err e;

        ck_assert_int_eq(write_three_pages(NULL), 0);
        whole = out;
        for (size_t limit = 0; limit < whole.n; limit++) {
                mem_sink_init(&out);
                out.limit = limit;
                e = (struct err)ERR_INIT;
                ck_assert_int_eq(write_three_pages(&e), -ENOSPC);
                ck_assert_int_eq(strncmp(e.text, "write LTX at offset ", 20), 0);
                mem_sink_release(&out);
        }
        ck_assert_int_eq(write_three_pages(NULL), 0);
        ck_assert_uint_eq(out.n, whole.n);
        ck_assert_mem_eq(out.data, whole.data, whole.n);
        mem_sink_release(&whole);
}
END_TEST

/* The index takes a few bytes a page and grows by doubling; a file after a huge one starts small again. */
START_TEST(index_grows_over_many_pages_and_shrinks_after)
{
        fill_page(page, 512, PAGE_ZEROS, 0);
        for (int round = 0; round < 2; round++) {
                begin(1, 20000);
                for (uint32_t pgno = 1; pgno <= 20000; pgno++)
                        ck_assert_int_eq(ltx_encoder_page(enc, pgno, page, NULL), 0);
                ck_assert_int_eq(ltx_encoder_finish(enc, FLAG, NULL, NULL), 0);
                ck_assert_uint_gt(get_be64(out.data + out.n - 24), 65536);
                ck_assert_int_eq(write_three_pages(NULL), 0);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("encoder");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, file_of_one_stored_page_has_the_described_bytes);
        tcase_add_test(tc, page_that_does_not_shrink_is_stored);
        tcase_add_test(tc, page_numbers_rise_within_the_commit_and_skip_the_lock_page);
        tcase_add_test(tc, snapshot_has_every_page);
        tcase_add_test(tc, post_apply_checksum_is_what_the_flags_and_the_commit_ask_for);
        tcase_add_test(tc, calls_outside_a_file_are_refused);
        tcase_add_test(tc, sink_that_fails_at_any_byte_fails_the_file_and_leaves_the_encoder_usable);
        tcase_add_test(tc, index_grows_over_many_pages_and_shrinks_after);
        return run_tests("ltx_encoder", tc);
}
