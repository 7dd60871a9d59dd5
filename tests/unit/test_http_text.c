/* links: litefs_http */
/* What the API's answers are made of: text that grows, times as Go writes them, Prometheus' format, statuses. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rfc3339.h"
#include "http/api_internal.h"
#include "http/prom.h"
#include "tests/lib/run.h"

START_TEST(text_grows_and_stays_terminated)
{
        struct text t = { 0 };

        for (int i = 0; i < 10000; i++)
                text_printf(&t, "%d,", i % 10);
        text_add(&t, "end", 3);
        ck_assert(!t.is_cut);
        ck_assert_uint_eq(t.n, 20003);
        ck_assert_uint_eq(strlen(t.s), 20003);
        ck_assert_str_eq(t.s + 19996, "8,9,end");
        text_release(&t);
        ck_assert_ptr_null(t.s);
}
END_TEST

START_TEST(text_takes_bytes_of_any_length)
{
        struct text t = { 0 };

        for (size_t n = 0; n < 3000; n++) {
                char *piece = malloc(n + 1);

                memset(piece, 'a' + (int)(n % 26), n);
                text_add(&t, piece, n);
                ck_assert_uint_eq(t.s[t.n], '\0');
                free(piece);
        }
        ck_assert_uint_eq(t.n, 2999u * 3000 / 2);
        text_release(&t);
}
END_TEST

START_TEST(histogram_has_bounds_of_powers_of_two)
{
        ck_assert_uint_eq(histogram_bucket(0), 0);
        ck_assert_uint_eq(histogram_bucket(1000), 0);
        ck_assert_uint_eq(histogram_bucket(1001), 1);
        ck_assert_uint_eq(histogram_bucket(2000), 1);
        ck_assert_uint_eq(histogram_bucket(2001), 2);
        ck_assert_uint_eq(histogram_bucket((1ull << 23) * 1000), 23);
        ck_assert_uint_eq(histogram_bucket((1ull << 23) * 1000 + 1), 24);
        ck_assert_uint_eq(histogram_bucket(UINT64_MAX - 1000), 24);
}
END_TEST

START_TEST(prom_histogram_is_cumulative)
{
        struct text t = { 0 };
        struct prom p = { &t, NULL };
        struct histogram h = { 0 };

        histogram_add(&h, 500);
        histogram_add(&h, 1500);
        histogram_add(&h, 1800);
        histogram_add(&h, 60000000000);
        prom_histogram(&p, "x_seconds", "Help.", &h);
        ck_assert_ptr_nonnull(strstr(t.s, "# TYPE x_seconds histogram\n"));
        ck_assert_ptr_nonnull(strstr(t.s, "x_seconds_bucket{le=\"1e-06\"} 1\n"));
        ck_assert_ptr_nonnull(strstr(t.s, "x_seconds_bucket{le=\"2e-06\"} 3\n"));
        ck_assert_ptr_nonnull(strstr(t.s, "x_seconds_bucket{le=\"8.388608\"} 3\n"));
        ck_assert_ptr_nonnull(strstr(t.s, "x_seconds_bucket{le=\"+Inf\"} 4\n"));
        ck_assert_ptr_nonnull(strstr(t.s, "x_seconds_sum 60.0000038\nx_seconds_count 4\n"));
        text_release(&t);
}
END_TEST

START_TEST(time_is_as_go_writes_it)
{
        static const struct {
                int64_t ms;
                const char *text;
        } cases[] = {
                { 0, "1970-01-01T00:00:00Z" },
                { 1795225039595, "2026-11-21T01:37:19.595Z" },
                { 1795225039620, "2026-11-21T01:37:19.62Z" },
                { 1795225039600, "2026-11-21T01:37:19.6Z" },
                { 1795225039000, "2026-11-21T01:37:19Z" },
                { 1795225039001, "2026-11-21T01:37:19.001Z" },
                { -1, "1969-12-31T23:59:59.999Z" },
        };
        char buf[RFC3339_SIZE];

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                rfc3339_format(cases[i].ms, buf);
                ck_assert_str_eq(buf, cases[i].text);
        }
        rfc3339_format(INT64_MAX, buf); /* nonsense in, something bounded out */
        ck_assert_uint_lt(strlen(buf), sizeof buf);
}
END_TEST

START_TEST(metrics_are_prometheus_text)
{
        struct text t = { 0 };
        struct prom p = { &t, NULL };

        prom_family(&p, "a_total", "counter", "Help.");
        prom_int(&p, UINT64_MAX, NULL);
        prom_int(&p, 0, PROM_LABELS("db", "a\"b\\c\nd", "type", "ltx:snapshot"));
        prom_family(&p, "b_seconds", "gauge", "More.");
        prom_real(&p, 0.25, NULL);
        prom_real(&p, 1e-9, NULL);
        prom_real(&p, INFINITY, NULL);
        prom_real(&p, -INFINITY, NULL);
        ck_assert_str_eq(t.s, "# HELP a_total Help.\n"
                              "# TYPE a_total counter\n"
                              "a_total 18446744073709551615\n"
                              "a_total{db=\"a\\\"b\\\\c\\nd\",type=\"ltx:snapshot\"} 0\n"
                              "# HELP b_seconds More.\n"
                              "# TYPE b_seconds gauge\n"
                              "b_seconds 0.25\n"
                              "b_seconds 1e-09\n"
                              "b_seconds +Inf\n"
                              "b_seconds -Inf\n");
        text_release(&t);
}
END_TEST

START_TEST(errors_have_a_status)
{
        ck_assert_int_eq(api_status(0), 200);
        ck_assert_int_eq(api_status(E_FORMAT), 400);
        ck_assert_int_eq(api_status(E_NOT_FOUND), 404);
        ck_assert_int_eq(api_status(-EFBIG), 413);
        ck_assert_int_eq(api_status(-ENOTSUP), 501);
        ck_assert_int_eq(api_status(E_NOT_PRIMARY), 503);
        ck_assert_int_eq(api_status(E_FENCED), 503);
        ck_assert_int_eq(api_status(-ENOSPC), 507);
        ck_assert_int_eq(api_status(-EIO), 500);
        ck_assert_int_eq(api_status(E_CHECKSUM), 500);
}
END_TEST

START_TEST(boot_id_is_upper_case_hex)
{
        char id[17];

        api_format_boot_id(0xdeadbeef, id);
        ck_assert_str_eq(id, "00000000DEADBEEF");
        api_format_boot_id(UINT64_MAX, id);
        ck_assert_str_eq(id, "FFFFFFFFFFFFFFFF");
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("text");

        tcase_add_test(tc, text_grows_and_stays_terminated);
        tcase_add_test(tc, text_takes_bytes_of_any_length);
        tcase_add_test(tc, histogram_has_bounds_of_powers_of_two);
        tcase_add_test(tc, prom_histogram_is_cumulative);
        tcase_add_test(tc, time_is_as_go_writes_it);
        tcase_add_test(tc, metrics_are_prometheus_text);
        tcase_add_test(tc, errors_have_a_status);
        tcase_add_test(tc, boot_id_is_upper_case_hex);
        return run_tests("http_text", tc);
}
