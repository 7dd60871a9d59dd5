/* links: litefs_base */
#include <check.h>

#include "base/token.h"
#include "tests/lib/run.h"

START_TEST(only_the_token_matches)
{
        static const char *const wrong[] = { "",
                                             "Bearer",
                                             "Bearer ",
                                             "Bearer s",
                                             "Bearer s3cre",
                                             "Bearer s3cretx",
                                             "Basic s3cret",
                                             "s3cret",
                                             "Bearer S3cret",
                                             "Bearer  s3cret",
                                             "Bearer s3crets3cret" };

        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
                ck_assert_msg(!bearer_matches(wrong[i], "s3cret"), "%s", wrong[i]);
        ck_assert(!bearer_matches(NULL, "s3cret"));
        ck_assert(bearer_matches("Bearer s3cret", "s3cret"));
        ck_assert(bearer_matches("bearer s3cret", "s3cret"));
}
END_TEST

START_TEST(without_a_token_all_match)
{
        ck_assert(bearer_matches(NULL, NULL));
        ck_assert(bearer_matches(NULL, ""));
        ck_assert(bearer_matches("Bearer x", ""));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("bearer");

        tcase_add_test(tc, only_the_token_matches);
        tcase_add_test(tc, without_a_token_all_match);
        return run_tests("bearer", tc);
}
