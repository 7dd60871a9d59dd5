/* links: litefs_base */
#include <check.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "tests/lib/run.h"

START_TEST(a_quarter_is_kept_within_bounds)
{
        ck_assert_uint_eq(descriptors_for_files(200), 150);
        ck_assert_uint_eq(descriptors_for_files(100), 68);
        ck_assert_uint_eq(descriptors_for_files(1048576), 1048576 - 1024);
        ck_assert_uint_eq(descriptors_for_files(32), 0);
        ck_assert_uint_eq(descriptors_for_files(3), 0);
}
END_TEST

START_TEST(what_is_open_is_counted_wherever_it_lies)
{
        unsigned before = descriptors_counted();
        int low = open("/dev/null", O_RDONLY), high = fcntl(low, F_DUPFD, 100);

        ck_assert_uint_eq(descriptors_counted(), before + 2);
        ck_assert(descriptors_told() == 0 || descriptors_told() == before + 2);
        close(low);
        ck_assert_uint_eq(descriptors_counted(), before + 1);
        ck_assert(descriptors_told() == 0 || descriptors_told() == before + 1);
        close(high);
}
END_TEST

START_TEST(without_one_left_all_count_as_open)
{
        struct rlimit rl;
        int fd, last = -1;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
        rl.rlim_cur = 64;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
        while ((fd = open("/dev/null", O_RDONLY)) >= 0)
                last = fd;
        ck_assert_uint_eq(descriptors_limit(), 64);
        ck_assert_uint_eq(descriptors_counted(), 64);
        close(last); /* who looks for leaks as the test ends needs one */
        close(last - 1);
        close(last - 2);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("descriptors");

        tcase_add_test(tc, a_quarter_is_kept_within_bounds);
        tcase_add_test(tc, what_is_open_is_counted_wherever_it_lies);
        tcase_add_test(tc, without_one_left_all_count_as_open);
        return run_tests("descriptors", tc);
}
