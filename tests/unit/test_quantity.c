/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "base/rfc3339.h"
#include "cmd/litefs/quantity.h"
#include "tests/lib/run.h"

#define MS 1000000LL
#define S (1000 * MS)

static const struct {
        const char *text;
        int64_t ns;
} durations[] = {
        { "0", 0 },
        { "-0", 0 },
        { "+0", 0 },
        { "0s", 0 },
        { "10s", 10 * S },
        { "1m30s", 90 * S },
        { "100ms", 100 * MS },
        { "1h", 3600 * S },
        { "1h1m1s1ms1us1ns", 3661 * S + MS + 1001 },
        { "1.5h", 5400 * S },
        { "1.s", S },
        { ".5s", S / 2 },
        { "0.3s", 300 * MS },
        { "1\xc2\xb5s", 1000 }, /* the micro sign */
        { "1\xce\xbcs", 1000 }, /* the Greek letter */
        { "7ns", 7 },
        { "-2s", -2 * S },
        { "+2s", 2 * S },
        { "2562047h", 2562047 * (3600 * S) },
};

START_TEST(duration_is_read_as_go_reads_it)
{
        int64_t ns = -1;

        ck_assert_msg(quantity_parse_duration(durations[_i].text, &ns) == 0, "%s", durations[_i].text);
        ck_assert_msg(ns == durations[_i].ns, "%s is %lld", durations[_i].text, (long long)ns);
}
END_TEST

static const char *const bad_durations[] = {
        "",
        "10",
        "3600",
        "-",
        "+",
        ".s",
        "s",
        "10 s",
        " 10s",
        "10s ",
        "10sec",
        "1d",
        "1e3s",
        "--1s",
        "1s-",
        "2562048h",
        "0x1s",
        "1:30",
        "1..5s",
        "9223372036854775808ns",
        "99999999999999999999s",
        "10S",
};

START_TEST(duration_without_a_known_unit_is_refused)
{
        int64_t ns = 42;

        ck_assert_msg(quantity_parse_duration(bad_durations[_i], &ns) == -EINVAL, "'%s'",
                      bad_durations[_i]);
        ck_assert_int_eq(ns, 42);
}
END_TEST

static const struct {
        const char *text;
        int64_t bytes;
} sizes[] = {
        { "0", 0 },
        { "64", 64LL << 20 }, /* a bare number counts in the key's unit */
        { "64B", 64 },
        { "64b", 64 },
        { "64MB", 64LL << 20 },
        { "64 MB", 64LL << 20 },
        { "64mb", 64LL << 20 },
        { "64MiB", 64LL << 20 },
        { "64M", 64LL << 20 },
        { "3KB", 3LL << 10 },
        { "2GB", 2LL << 30 },
        { "1TB", 1LL << 40 },
};

START_TEST(size_is_read_with_its_unit)
{
        int64_t bytes = -1;

        ck_assert_msg(quantity_parse_size(sizes[_i].text, 1 << 20, &bytes) == 0, "%s", sizes[_i].text);
        ck_assert_msg(bytes == sizes[_i].bytes, "%s is %lld", sizes[_i].text, (long long)bytes);
}
END_TEST

static const char *const bad_sizes[] = {
        "",
        "MB",
        "-1",
        "+1",
        "1.5MB",
        "64XB",
        "64MBx",
        "64iB",
        "64Mi b",
        "64 ",
        "9223372036854775807KB",
        "99999999999999999999",
        "0x40",
};

START_TEST(size_that_is_none_is_refused)
{
        int64_t bytes = 42;

        ck_assert_msg(quantity_parse_size(bad_sizes[_i], 1, &bytes) == -EINVAL, "'%s'", bad_sizes[_i]);
        ck_assert_int_eq(bytes, 42);
}
END_TEST

static const struct {
        const char *text;
        int64_t ms; /* -1: it is none */
} times[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-01-02T03:04:05Z", 1767323045000 },
        { "2026-01-02T03:04:05.25Z", 1767323045250 },
        { "2026-01-02 03:04:05.123999z", 1767323045123 },
        { "2026-01-02T05:04:05+02:00", 1767323045000 },
        { "2026-01-01T22:04:05-05:00", 1767323045000 },
        { "2024-02-29T00:00:00Z", 1709164800000 },
        { "2026-02-29T00:00:00Z", -1 },
        { "2026-01-02T24:00:00Z", -1 },
        { "2026-01-02T03:04:05", -1 },
        { "2026-01-02T03:04:05.Z", -1 },
        { "2026-01-02T03:04Z", -1 },
        { "2026-01-02T03:04:05+2:00", -1 },
        { "2026-01-02T03:04:05Zx", -1 },
        { "26-01-02T03:04:05Z", -1 },
        { "", -1 },
};

START_TEST(time_is_rfc_3339)
{
        int64_t ms = -1;

        ck_assert_msg((rfc3339_parse(times[_i].text, &ms) == 0) == (times[_i].ms >= 0), "%s",
                      times[_i].text);
        ck_assert_int_eq(ms, times[_i].ms);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("quantity");

        tcase_add_loop_test(tc, duration_is_read_as_go_reads_it, 0, COUNT(durations));
        tcase_add_loop_test(tc, duration_without_a_known_unit_is_refused, 0, COUNT(bad_durations));
        tcase_add_loop_test(tc, size_is_read_with_its_unit, 0, COUNT(sizes));
        tcase_add_loop_test(tc, size_that_is_none_is_refused, 0, COUNT(bad_sizes));
        tcase_add_loop_test(tc, time_is_rfc_3339, 0, COUNT(times));
        return run_tests("quantity", tc);
}
