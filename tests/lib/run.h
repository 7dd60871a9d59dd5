/* tests/lib/run.h - what every main() of a test with check does. */
#ifndef LITEFS_TESTS_RUN_H
#define LITEFS_TESTS_RUN_H

#include <check.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

/* Runs @s: the exit status of the program. */
static inline int
run_suite(Suite *s)
{
        SRunner *sr = srunner_create(s);
        int failed;

        srunner_run_all(sr, CK_NORMAL);
        failed = srunner_ntests_failed(sr);
        srunner_free(sr);
        return failed ? 1 : 0;
}

/* The same with @tc as the suite @name. */
static inline int
run_tests(const char *name, TCase *tc)
{
        Suite *s = suite_create(name);

        suite_add_tcase(s, tc);
        return run_suite(s);
}

#endif
