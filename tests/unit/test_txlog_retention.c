/* links: litefs_txlog */
#include <unistd.h>

#include "txlog/segment.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/run.h"

/* --- retention --- */

static int
retain(uint64_t keep_after, int64_t now_ms, int64_t max_age_ms, uint64_t max_bytes)
{
        struct txlog_retention policy = { keep_after, now_ms, max_age_ms, max_bytes };

        return txlog_retain(fx.tl, &policy, &fx.e);
}

static void
make_old_segments(void)
{
        open_log(SEGMENT_HEADER_SIZE + 1); /* a record fills a segment */
        append_range(1, 10);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_eq(count_segments(), 10);
}

START_TEST(retention_by_age)
{
        make_old_segments(); /* record n is of n seconds */
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 0, 0), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 14000, 10000, 0), 3);
        ck_assert_uint_eq(first_of(), 4);
        ck_assert_int_eq(access(segment_path(3), F_OK), -1);
        ck_assert_int_eq(access(segment_path(4), F_OK), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 14000, 10000, 0), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 0), 6); /* never the last */
        ck_assert_uint_eq(first_of(), 10);
        ck_assert_uint_eq(read_all(fx.tl, 9), 10);
        open_log(0);
        ck_assert_uint_eq(first_of(), 10);
        append(11);
}
END_TEST

START_TEST(retention_by_size)
{
        struct txlog_stat st;
        uint64_t all;

        make_old_segments();
        txlog_get_stat(fx.tl, &st);
        all = st.bytes;
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all - 1), 1);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all / 2), 4);
        ck_assert_uint_eq(first_of(), 6);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, 1), 4);
        ck_assert_uint_eq(first_of(), 10);
}
END_TEST

START_TEST(retention_keeps_what_is_needed)
{
        struct txlog_reader *r;

        make_old_segments();
        ck_assert_int_eq(retain(0, 100000, 1, 1), 0);
        ck_assert_int_eq(retain(2, 100000, 1, 1), 2);
        ck_assert_int_eq(txlog_reader_open(fx.tl, 5, &r, &fx.e), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 3);
        ck_assert_uint_eq(first_of(), 6);
        ck_assert_uint_eq(read_on(r), 10);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 4);
        txlog_reader_close(r);
        ck_assert_int_eq(txlog_reader_open(fx.tl, 5, &r, &fx.e), E_NOT_FOUND);
}
END_TEST

START_TEST(retention_leaves_segments_that_are_not_durable)
{
        open_log(SEGMENT_HEADER_SIZE + 1);
        append_range(1, 10);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 0);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 9);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("txlog_retention");

        tcase_set_timeout(tc, 100);
        tcase_add_checked_fixture(tc, log_set_up, log_tear_down);
        tcase_add_test(tc, retention_by_age);
        tcase_add_test(tc, retention_by_size);
        tcase_add_test(tc, retention_keeps_what_is_needed);
        tcase_add_test(tc, retention_leaves_segments_that_are_not_durable);
        return run_tests("txlog_retention", tc);
}
