/* links: litefs_base */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "tests/lib/run.h"

START_TEST(every_code_has_words_of_its_own)
{
#define ONE(name, value, text) \
        ck_assert_str_eq(err_code_text(name), text); \
        ck_assert_int_lt(name, -10000);
        ERR_CODES(ONE)
#undef ONE
        ck_assert_str_eq(err_code_text(-ENOSPC), strerror(ENOSPC));
        ck_assert_str_eq(err_code_text(0), "unknown error");
        ck_assert_str_eq(err_code_text(5), "unknown error");
        ck_assert_str_eq(err_code_text(-4000), "unknown error");
        ck_assert_str_eq(err_code_text(-99999), "unknown error");
}
END_TEST

START_TEST(levels_put_their_words_in_front)
{
        struct err e = ERR_INIT;

        ck_assert_int_eq(err_set(&e, -ENOSPC, "write page %d", 7), -ENOSPC);
        ck_assert_int_eq(err_prefix(&e, "apply %s", "00..3f"), -ENOSPC);
        ck_assert_str_eq(e.text, "apply 00..3f: write page 7: No space left on device");
        ck_assert_int_eq(e.code, -ENOSPC);
}
END_TEST

START_TEST(text_alone_has_no_words_of_the_code)
{
        struct err e = ERR_INIT;

        ck_assert_int_eq(err_text(&e, E_CORRUPT_DB, "%s is gone", "x"), E_CORRUPT_DB);
        ck_assert_str_eq(e.text, "x is gone");
        ck_assert_int_eq(e.code, E_CORRUPT_DB);
}
END_TEST

START_TEST(nobody_needs_to_want_the_words)
{
        ck_assert_int_eq(err_set(NULL, -EIO, "x"), -EIO);
        ck_assert_int_eq(err_text(NULL, -EIO, "x"), -EIO);
        ck_assert_int_eq(err_prefix(NULL, "x"), 0);
}
END_TEST

START_TEST(long_words_are_cut_at_the_end)
{
        struct err e = ERR_INIT;
        char longer[2 * sizeof e.text];

        for (size_t n = sizeof e.text - 40; n < sizeof longer; n++) {
                memset(longer, 'x', n);
                longer[n < sizeof longer - 1 ? n : sizeof longer - 1] = '\0';
                ck_assert_int_eq(err_set(&e, -EIO, "%s", longer), -EIO);
                ck_assert_uint_lt(strlen(e.text), sizeof e.text);
                ck_assert_int_eq(err_prefix(&e, "%s", "front"), -EIO);
                ck_assert_int_eq(strncmp(e.text, "front: xxx", 10), 0);
                ck_assert_uint_lt(strlen(e.text), sizeof e.text);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("err");

        tcase_add_test(tc, every_code_has_words_of_its_own);
        tcase_add_test(tc, levels_put_their_words_in_front);
        tcase_add_test(tc, text_alone_has_no_words_of_the_code);
        tcase_add_test(tc, nobody_needs_to_want_the_words);
        tcase_add_test(tc, long_words_are_cut_at_the_end);
        return run_tests("base_err", tc);
}
