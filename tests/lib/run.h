/* tests/lib/run.h - what every main() of a unit test does. */
#ifndef LITEFS_TESTS_RUN_H
#define LITEFS_TESTS_RUN_H

#include <check.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

/* Runs @tc as the suite @name: the exit status of the program. */
static inline int
run_tests(const char *name, TCase *tc)
{
        Suite *s = suite_create(name);
        SRunner *sr;
        int failed;

        suite_add_tcase(s, tc);
        sr = srunner_create(s);
        srunner_run_all(sr, CK_NORMAL);
        failed = srunner_ntests_failed(sr);
        srunner_free(sr);
        return failed ? 1 : 0;
}

#endif
