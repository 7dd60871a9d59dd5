/* links: litefs_ltx */
#include <stdlib.h>
#include <string.h>

#include "ltx/checksum.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"

START_TEST(crc_has_the_published_check_value)
{
        ck_assert_uint_eq(ltx_crc64(0, "123456789", 9), 0xb90956c775a41001u);
        ck_assert_uint_eq(ltx_crc64(0, "", 0), 0);
}
END_TEST

START_TEST(crc_agrees_with_the_definition_at_every_length_and_alignment)
{
        uint8_t buf[600];

        fill_page(buf, sizeof buf, PAGE_NOISE, 3);
        for (size_t n = 0; n <= 560; n++)
                for (size_t at = 0; at < 9; at += 4)
                        ck_assert_uint_eq(ltx_crc64(0, buf + at, n), slow_crc64(0, buf + at, n));
}
END_TEST

START_TEST(crc_continues_over_any_split)
{
        uint8_t buf[300];
        uint64_t whole;

        fill_page(buf, sizeof buf, PAGE_NOISE, 4);
        whole = ltx_crc64(0, buf, sizeof buf);
        for (size_t cut = 0; cut <= sizeof buf; cut++)
                ck_assert_uint_eq(ltx_crc64(ltx_crc64(0, buf, cut), buf + cut, sizeof buf - cut), whole);
}
END_TEST

START_TEST(page_checksum_covers_the_number_and_the_page)
{
        uint8_t buf[4 + 512] = { 0x01, 0x02, 0x03, 0x04 };
        uint64_t want;

        fill_page(buf + 4, 512, PAGE_TEXT, 1);
        want = slow_crc64(0, buf, sizeof buf) | (uint64_t)1 << 63;
        ck_assert_uint_eq(ltx_page_checksum(0x01020304, buf + 4, 512), want);
        ck_assert_uint_ne(ltx_page_checksum(0x01020305, buf + 4, 512), want);
        buf[515] ^= 1;
        ck_assert_uint_ne(ltx_page_checksum(0x01020304, buf + 4, 512), want);
}
END_TEST

START_TEST(lock_page_holds_the_byte_at_one_gibibyte)
{
        for (uint32_t size = 512; size <= 65536; size *= 2) {
                uint64_t first = (uint64_t)(ltx_lock_pgno(size) - 1) * size;

                ck_assert(first <= 0x40000000 && 0x40000000 < first + size);
        }
}
END_TEST

START_TEST(page_sizes_are_powers_of_two_from_512_to_65536)
{
        int n = 0;

        for (uint32_t size = 0; size < 200000; size++)
                n += ltx_is_page_size(size) != 0;
        ck_assert_int_eq(n, 8);
        ck_assert(ltx_is_page_size(512) && ltx_is_page_size(65536));
        ck_assert(!ltx_is_page_size(0x80000000u) && !ltx_is_page_size(UINT32_MAX));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("checksum");

        tcase_add_test(tc, crc_has_the_published_check_value);
        tcase_add_test(tc, crc_agrees_with_the_definition_at_every_length_and_alignment);
        tcase_add_test(tc, crc_continues_over_any_split);
        tcase_add_test(tc, page_checksum_covers_the_number_and_the_page);
        tcase_add_test(tc, lock_page_holds_the_byte_at_one_gibibyte);
        tcase_add_test(tc, page_sizes_are_powers_of_two_from_512_to_65536);
        return run_tests("ltx_checksum", tc);
}
