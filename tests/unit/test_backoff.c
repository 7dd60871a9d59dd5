/* links: litefs_base */
#include <check.h>
#include <stdint.h>
#include <string.h>

#include "base/backoff.h"
#include "tests/lib/run.h"

/* All of the range is used, and none beyond it. */
START_TEST(waits_are_spread_up_to_a_bound_that_doubles)
{
        static const int64_t bounds[] = { 100, 200, 400, 800, 1000, 1000, 1000 };
        struct backoff b;

        for (unsigned i = 0; i < sizeof bounds / sizeof *bounds; i++) {
                int64_t min = INT64_MAX, max = 0;

                for (uint64_t seed = 0; seed < 1000; seed++) {
                        int64_t ms = 0;

                        backoff_init(&b, 100, 1000, seed);
                        for (unsigned k = 0; k <= i; k++)
                                ms = backoff_next_ms(&b);
                        min = ms < min ? ms : min;
                        max = ms > max ? ms : max;
                }
                ck_assert_int_ge(min, 1);
                ck_assert_int_le(max, bounds[i]);
                ck_assert_int_lt(min, bounds[i] / 20);
                ck_assert_int_gt(max, bounds[i] - bounds[i] / 20);
        }
}
END_TEST

START_TEST(success_starts_it_again)
{
        struct backoff b;

        backoff_init(&b, 10, 10000, 1);
        for (int i = 0; i < 30; i++)
                backoff_next_ms(&b);
        backoff_reset(&b);
        ck_assert_int_le(backoff_next_ms(&b), 10);
}
END_TEST

/* However often, and whatever the bounds. */
START_TEST(numbers_do_not_overflow)
{
        struct backoff b;

        backoff_init(&b, INT64_MAX / 3, INT64_MAX, 7);
        for (int i = 0; i < 200; i++)
                ck_assert_int_ge(backoff_next_ms(&b), 1);
        b.n_failures = UINT32_MAX;
        ck_assert_int_ge(backoff_next_ms(&b), 1);
        ck_assert_uint_eq(b.n_failures, UINT32_MAX);
        backoff_init(&b, 0, 0, 7);
        ck_assert_int_eq(backoff_next_ms(&b), 1);
}
END_TEST

START_TEST(the_log_gets_one_line_and_then_a_count)
{
        struct trouble t = { 0 };
        char count[TROUBLE_COUNT_SIZE];
        int n_lines = 0;

        ck_assert(!trouble_end(&t, 0, count));
        for (int64_t ms = 0; ms < 10 * TROUBLE_REPEAT_MS; ms += 10) {
                bool is_line = trouble_note(&t, 5000 + ms, -5, count);

                if (ms == 0)
                        ck_assert_str_eq(count, "");
                if (ms == TROUBLE_REPEAT_MS)
                        ck_assert_str_eq(count, " (failure 6001 in 60 s)");
                n_lines += is_line;
        }
        ck_assert_int_eq(n_lines, 10);
        ck_assert(trouble_end(&t, 5000 + 10 * TROUBLE_REPEAT_MS, count));
        ck_assert_str_eq(count, "60000 failures in 600 s");
        ck_assert(!trouble_end(&t, 0, count));
        ck_assert(trouble_note(&t, 0, -5, count));
        ck_assert_str_eq(count, "");
}
END_TEST

/* Another cause is news; two that take turns are not, each time. */
START_TEST(another_cause_is_said_at_once_but_not_without_end)
{
        struct trouble t = { 0 };
        char count[TROUBLE_COUNT_SIZE];
        int n_lines = 0;

        ck_assert(trouble_note(&t, 0, -5, count));
        ck_assert(trouble_note(&t, TROUBLE_CHANGE_MS, -111, count));
        ck_assert_str_eq(count, " (failure 2 in 1 s)");
        for (int64_t ms = 0; ms < 10000; ms += 10)
                n_lines += trouble_note(&t, 2 * TROUBLE_CHANGE_MS + ms, ms % 20 == 0 ? -5 : -111, count);
        ck_assert_int_le(n_lines, 10);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("backoff");

        tcase_add_test(tc, waits_are_spread_up_to_a_bound_that_doubles);
        tcase_add_test(tc, success_starts_it_again);
        tcase_add_test(tc, numbers_do_not_overflow);
        tcase_add_test(tc, the_log_gets_one_line_and_then_a_count);
        tcase_add_test(tc, another_cause_is_said_at_once_but_not_without_end);
        return run_tests("backoff", tc);
}
