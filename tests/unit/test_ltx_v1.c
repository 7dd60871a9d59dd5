/* links: litefs_ltx */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/ltx_read.h"
#include "tests/lib/run.h"

#define FLAG LTX_CHECKSUM_FLAG

static struct v1_file f;

static void
set_up(void)
{
        mem_sink_init(&f.out);
        mem_sink_init(&f.block);
}

static void
tear_down(void)
{
        v1_release(&f);
}

static struct ltx_header
header_of(uint32_t page_size, uint32_t commit, uint64_t min_txid, uint32_t flags)
{
        return (struct ltx_header){
                .flags = flags,
                .page_size = page_size,
                .commit = commit,
                .min_txid = min_txid,
                .max_txid = min_txid + 3,
                .timestamp_ms = 99,
                .pre_apply_checksum = min_txid == 1 ? 0 : FLAG | 0x123,
                .wal_offset = 32,
                .wal_size = 100,
                .wal_salt1 = 1,
                .wal_salt2 = 2,
                .node_id = 42,
        };
}

static struct ltx_header
write_v1(uint32_t page_size, uint32_t commit, uint64_t min_txid, uint32_t flags)
{
        struct ltx_header h = header_of(page_size, commit, min_txid, flags);
        uint8_t *page = malloc(page_size), buf[100];
        uint64_t sum = 0;

        v1_release(&f);
        ltx_header_encode(&h, buf);
        v1_begin(&f, buf);
        for (uint32_t pgno = 1; pgno <= commit; pgno += min_txid == 1 ? 1 : 2) {
                fill_page(page, page_size, pgno % PAGE_KINDS, pgno);
                sum ^= ltx_page_checksum(pgno, page, page_size);
                v1_page(&f, pgno, page, page_size);
        }
        v1_finish(&f, FLAG | sum);
        free(page);
        return h;
}

static int
read_it(struct ltx_content *c, struct err *e)
{
        return ltx_read_bytes(LTX_V1, f.out.data, f.out.n, c, e);
}

START_TEST(file_of_each_page_size_is_read)
{
        uint32_t page_size = 512u << _i;

        for (int variant = 0; variant < 4; variant++) {
                bool is_snapshot = variant & 1;
                struct ltx_header h = write_v1(page_size, 7, is_snapshot ? 1 : 9,
                                               variant & 2 ? LTX_FLAG_LZ4_V1 : 0);
                uint8_t *page = malloc(page_size);
                struct err e = ERR_INIT;
                struct ltx_content c;
                uint32_t n = 0;

                ck_assert_msg(read_it(&c, &e) == 0, "%u, %d: %s", page_size, variant, e.text);
                ck_assert(ltx_header_equal(&c.header, &h));
                for (uint32_t pgno = 1; pgno <= 7; pgno += is_snapshot ? 1 : 2, n++) {
                        const uint8_t *p = c.pages.data + n * (4 + page_size);

                        fill_page(page, page_size, pgno % PAGE_KINDS, pgno);
                        ck_assert_mem_eq(p, &pgno, 4);
                        ck_assert_mem_eq(p + 4, page, page_size);
                }
                ck_assert_uint_eq(c.n_pages, n);
                ltx_content_release(&c);
                free(page);
        }
}
END_TEST

START_TEST(source_may_give_any_number_of_bytes_at_a_time)
{
        for (uint32_t flags = 0; flags <= LTX_FLAG_LZ4_V1; flags++) {
                write_v1(4096, 40, 1, flags);
                for (size_t chunk = 1; chunk < 5000; chunk = chunk * 3 + 1) {
                        struct ltx_content c;
                        struct mem_src src;

                        mem_src_init(&src, f.out.data, f.out.n);
                        src.chunk = chunk;
                        ck_assert_int_eq(ltx_read(LTX_V1, &src.src, &c, NULL), 0);
                        ck_assert_uint_eq(c.n_pages, 40);
                        ltx_content_release(&c);
                }
        }
}
END_TEST

START_TEST(not_a_byte_behind_the_trailer_is_taken)
{
        for (uint32_t flags = 0; flags <= LTX_FLAG_LZ4_V1; flags++) {
                struct ltx_content c;
                struct mem_src src;
                size_t n;

                write_v1(4096, 40, 1, flags);
                n = f.out.n;
                f.out.sink.write(&f.out.sink, "behind the end of the file", 26);
                mem_src_init(&src, f.out.data, f.out.n);
                ck_assert_int_eq(ltx_read(LTX_V1, &src.src, &c, NULL), 0);
                ck_assert_uint_eq(src.off, n);
                ltx_content_release(&c);
        }
}
END_TEST

/* The writer of version 1 made 139 bytes of a compressed deletion. */
START_TEST(deletion_is_a_file_without_pages)
{
        for (uint32_t flags = 0; flags <= LTX_FLAG_LZ4_V1; flags++) {
                struct ltx_content c;

                write_v1(4096, 0, 9, flags);
                ck_assert_uint_eq(f.out.n, flags ? 139 : 120);
                ck_assert_int_eq(read_it(&c, NULL), 0);
                ck_assert_uint_eq(c.n_pages, 0);
                ck_assert_uint_eq(c.trailer.post_apply_checksum, FLAG);
                ltx_content_release(&c);
        }
}
END_TEST

START_TEST(file_cut_at_any_byte_is_refused)
{
        write_v1(512, 5, 1, (uint32_t)_i);
        for (size_t n = 0; n < f.out.n; n++) {
                struct err e = ERR_INIT;
                struct ltx_content c;

                ck_assert_int_eq(ltx_read_bytes(LTX_V1, f.out.data, n, &c, &e), E_FORMAT);
                ck_assert_msg(strstr(e.text, "ends early") != NULL, "%zu: %s", n, e.text);
                ltx_content_release(&c);
        }
}
END_TEST

START_TEST(read_error_at_any_byte_is_passed_on)
{
        write_v1(512, 3, 1, (uint32_t)_i);
        for (size_t n = 0; n < f.out.n; n++) {
                struct ltx_content c;
                struct mem_src src;

                mem_src_init(&src, f.out.data, n);
                src.error = -EIO;
                ck_assert_int_eq(ltx_read(LTX_V1, &src.src, &c, NULL), -EIO);
                ltx_content_release(&c);
        }
}
END_TEST

/* LZ4 has more than one way to write the same bytes: only such a change may pass. */
START_TEST(file_with_any_bit_changed_is_refused)
{
        struct ltx_content right, c;

        write_v1(512, 4, 1, (uint32_t)_i);
        ck_assert_int_eq(read_it(&right, NULL), 0);
        for (size_t at = 0; at < f.out.n; at++) {
                for (int bit = 0; bit < 8; bit++) {
                        struct err e = ERR_INIT;
                        int r;

                        f.out.data[at] ^= (uint8_t)(1 << bit);
                        r = read_it(&c, &e);
                        ck_assert_msg(r == E_FORMAT || r == E_CHECKSUM ||
                                              (r == 0 && _i == 1 && at >= 100 &&
                                               ltx_content_equal(&right, &c)),
                                      "bit %d of byte %zu: %d %s", bit, at, r, e.text);
                        ltx_content_release(&c);
                        f.out.data[at] ^= (uint8_t)(1 << bit);
                }
        }
        ltx_content_release(&right);
}
END_TEST

/* Two frames where one belongs: the second's pages are not the file's. */
START_TEST(second_frame_behind_the_first_is_refused)
{
        struct ltx_header h = header_of(512, 9, 9, LTX_FLAG_LZ4_V1);
        struct v1_file half[2];
        uint8_t page[512], buf[100], be[8];
        struct ltx_content c;
        uint64_t crc;

        ltx_header_encode(&h, buf);
        fill_page(page, sizeof page, PAGE_TEXT, 1);
        crc = ltx_crc64(0, buf, sizeof buf);
        f.out.sink.write(&f.out.sink, buf, sizeof buf);
        for (int i = 0; i < 2; i++) {
                v1_begin(&half[i], buf);
                v1_page(&half[i], (uint32_t)i + 1, page, sizeof page);
                crc = ltx_crc64(crc, half[i].block.data, half[i].block.n);
                if (i == 0)
                        v1_end_frame(&half[i]);
                else
                        v1_finish(&half[i], FLAG);
        }
        crc = ltx_crc64(crc, "\0\0\0\0", 4);
        f.out.sink.write(&f.out.sink, half[0].out.data, half[0].out.n);
        f.out.sink.write(&f.out.sink, half[1].out.data + 100, half[1].out.n - 116);
        put_be64(be, FLAG);
        crc = ltx_crc64(crc, be, 8);
        f.out.sink.write(&f.out.sink, be, 8);
        put_be64(be, FLAG | crc);
        f.out.sink.write(&f.out.sink, be, 8);
        ck_assert_int_eq(read_it(&c, NULL), E_FORMAT);
        ltx_content_release(&c);
        v1_release(&half[0]);
        v1_release(&half[1]);
}
END_TEST

START_TEST(data_between_last_page_and_end_of_frame_is_refused)
{
        struct ltx_header h = header_of(512, 9, 9, LTX_FLAG_LZ4_V1);
        struct err e = ERR_INIT;
        struct ltx_content c;
        uint8_t buf[100];

        ltx_header_encode(&h, buf);
        v1_begin(&f, buf);
        f.block.sink.write(&f.block.sink, "\0\0\0\0surplus", 11);
        v1_finish(&f, FLAG);
        ck_assert_int_eq(read_it(&c, &e), E_FORMAT);
        ck_assert_msg(strstr(e.text, "data behind the last page") != NULL, "%s", e.text);
        ltx_content_release(&c);
}
END_TEST

static const struct {
        const char *what;
        uint32_t commit;
        uint64_t min_txid;
        uint32_t pgnos[3];
        uint64_t post;
        int result;
} cases[] = {
        { "good", 9, 5, { 2, 4, 9 }, FLAG, 0 },
        { "above commit", 9, 5, { 2, 4, 10 }, FLAG, E_FORMAT },
        { "twice", 9, 5, { 2, 2, 9 }, FLAG, E_FORMAT },
        { "falling", 9, 5, { 4, 2, 9 }, FLAG, E_FORMAT },
        { "lock page", UINT32_MAX, 5, { 2, 2097153, 2097154 }, FLAG, E_FORMAT },
        { "last page number", UINT32_MAX, 5, { 2, 3, UINT32_MAX }, FLAG, 0 },
        { "no flag in post", 9, 5, { 2, 4, 9 }, FLAG - 1, E_FORMAT },
        { "hole in a snapshot", 4, 1, { 1, 2, 4 }, FLAG, E_FORMAT },
        { "snapshot of huge commit", UINT32_MAX, 1, { 1, 2, 3 }, FLAG, E_FORMAT },
        { "snapshot with another sum", 3, 1, { 1, 2, 3 }, FLAG | 1, E_CHECKSUM },
};

START_TEST(content_is_judged_when_all_checksums_hold)
{
        for (uint32_t flags = 0; flags <= LTX_FLAG_LZ4_V1; flags++) {
                struct ltx_header h = header_of(512, cases[_i].commit, cases[_i].min_txid, flags);
                uint8_t page[512], buf[100];
                struct err e = ERR_INIT;
                struct ltx_content c;
                int r;

                ltx_header_encode(&h, buf);
                fill_page(page, sizeof page, PAGE_TEXT, 1);
                v1_release(&f);
                v1_begin(&f, buf);
                for (int i = 0; i < 3; i++)
                        v1_page(&f, cases[_i].pgnos[i], page, sizeof page);
                v1_finish(&f, cases[_i].post);
                r = read_it(&c, &e);
                ck_assert_msg(r == cases[_i].result, "%s: %d %s", cases[_i].what, r, e.text);
                ltx_content_release(&c);
        }
}
END_TEST

/* Nothing on disk tells the versions apart: the wrong one has to fail, not to misread. */
START_TEST(file_read_as_the_other_version_is_refused)
{
        struct ltx_content c;

        write_v1(512, 4, 1, (uint32_t)_i);
        ck_assert_int_eq(ltx_read_bytes(LTX_V3, f.out.data, f.out.n, &c, NULL), E_FORMAT);
        ltx_content_release(&c);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("v1");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, file_of_each_page_size_is_read, 0, 8);
        tcase_add_test(tc, source_may_give_any_number_of_bytes_at_a_time);
        tcase_add_test(tc, not_a_byte_behind_the_trailer_is_taken);
        tcase_add_test(tc, deletion_is_a_file_without_pages);
        tcase_add_loop_test(tc, file_cut_at_any_byte_is_refused, 0, 2);
        tcase_add_loop_test(tc, read_error_at_any_byte_is_passed_on, 0, 2);
        tcase_add_loop_test(tc, file_with_any_bit_changed_is_refused, 0, 2);
        tcase_add_test(tc, second_frame_behind_the_first_is_refused);
        tcase_add_test(tc, data_between_last_page_and_end_of_frame_is_refused);
        tcase_add_loop_test(tc, content_is_judged_when_all_checksums_hold, 0, COUNT(cases));
        tcase_add_loop_test(tc, file_read_as_the_other_version_is_refused, 0, 2);
        return run_tests("ltx_v1", tc);
}
