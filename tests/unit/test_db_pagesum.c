/* links: litefs_image */
#include <stdlib.h>
#include <string.h>

#include "db/image/pagesum.h"
#include "ltx/checksum.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"

#define FLAG LTX_CHECKSUM_FLAG

static struct pagesum ps;

static void
tear_down(void)
{
        pagesum_release(&ps);
}

START_TEST(empty_database_has_the_flag_alone)
{
        ck_assert_uint_eq(pagesum_total(&ps), FLAG);
        ck_assert_uint_eq(pagesum_get(&ps, 0), 0);
        ck_assert_uint_eq(pagesum_get(&ps, 1), 0);
        ck_assert_uint_eq(pagesum_get(&ps, UINT32_MAX), 0);
}
END_TEST

START_TEST(total_is_the_sum_of_the_pages_after_any_change)
{
        static uint64_t model[3000];
        uint32_t n = 0;

        srand(7);
        for (int i = 0; i < 20000; i++) {
                uint64_t want = 0;

                if (rand() % 50 == 0) {
                        uint32_t to = (uint32_t)rand() % 3000;

                        ck_assert_int_eq(pagesum_resize(&ps, to), 0);
                        for (uint32_t p = n; p < to; p++)
                                model[p] = 0;
                        n = to;
                } else if (n > 0) {
                        uint32_t p = (uint32_t)rand() % n;

                        model[p] = rand() % 10 == 0 ? 0 : FLAG | slow_crc64(0, &i, sizeof i);
                        pagesum_set(&ps, p + 1, model[p]);
                        ck_assert_uint_eq(pagesum_get(&ps, p + 1), model[p]);
                }
                if (i % 37 != 0)
                        continue;
                for (uint32_t p = 0; p < n; p++)
                        want ^= model[p];
                ck_assert_uint_eq(pagesum_total(&ps), FLAG | want);
                ck_assert_uint_eq(pagesum_get(&ps, n + 1), 0);
        }
}
END_TEST

START_TEST(total_of_a_real_image_is_what_ltx_defines)
{
        uint8_t page[512];
        uint64_t want = 0;

        ck_assert_int_eq(pagesum_resize(&ps, 4), 0);
        for (uint32_t pgno = 4; pgno >= 1; pgno--) {
                fill_page(page, sizeof page, PAGE_NOISE, pgno);
                want ^= ltx_page_checksum(pgno, page, sizeof page);
                pagesum_set(&ps, pgno, ltx_page_checksum(pgno, page, sizeof page));
        }
        ck_assert_uint_eq(pagesum_total(&ps), FLAG | want);
}
END_TEST

START_TEST(pages_that_come_back_are_not_known)
{
        ck_assert_int_eq(pagesum_resize(&ps, 2), 0);
        pagesum_set(&ps, 2, FLAG | 5);
        ck_assert_int_eq(pagesum_resize(&ps, 1), 0);
        ck_assert_uint_eq(pagesum_total(&ps), FLAG);
        ck_assert_int_eq(pagesum_resize(&ps, 2), 0);
        ck_assert_uint_eq(pagesum_get(&ps, 2), 0);
}
END_TEST

START_TEST(room_that_was_reserved_is_used)
{
        uint64_t *sums;

        ck_assert_int_eq(pagesum_reserve(&ps, 1000), 0);
        ck_assert_uint_eq(ps.n_pages, 0);
        sums = ps.sums;
        ck_assert_int_eq(pagesum_resize(&ps, 1000), 0);
        ck_assert_ptr_eq(ps.sums, sums);
        ck_assert_int_eq(pagesum_reserve(&ps, 10), 0);
        ck_assert_uint_eq(ps.n_pages, 1000);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("pagesum");

        tcase_add_checked_fixture(tc, NULL, tear_down);
        tcase_add_test(tc, empty_database_has_the_flag_alone);
        tcase_add_test(tc, total_is_the_sum_of_the_pages_after_any_change);
        tcase_add_test(tc, total_of_a_real_image_is_what_ltx_defines);
        tcase_add_test(tc, pages_that_come_back_are_not_known);
        tcase_add_test(tc, room_that_was_reserved_is_used);
        return run_tests("db_pagesum", tc);
}
