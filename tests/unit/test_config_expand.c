/* links: litefs_cmd */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/expand.h"
#include "tests/lib/run.h"

static const char *
lookup(void *arg, const char *name)
{
        static const char *const vars[][2] = {
                { "A", "alpha" },    { "B", "beta" },          { "SAME", "alpha" }, { "EMPTY", "" },
                { "QUOTE", "it's" }, { "under_score9", "u9" }, { "DOLLAR", "$A" },  { "1", "one" },
        };

        ck_assert_str_eq(arg, "the argument");
        for (size_t i = 0; i < sizeof vars / sizeof vars[0]; i++)
                if (strcmp(vars[i][0], name) == 0)
                        return vars[i][1];
        return NULL;
}

static const struct {
        const char *text, *want;
} cases[] = {
        { "", "" },
        { "no variables: 10% & more", "no variables: 10% & more" },
        { "$A", "alpha" },
        { "${A}", "alpha" },
        { "${ A }", "alpha" },
        { "x$A/y", "xalpha/y" },
        { "x${A}y", "xalphay" },
        { "$A$B", "alphabeta" },
        { "$A-$B", "alpha-beta" },
        { "$under_score9.", "u9." },
        { "$UNSET|${UNSET}|", "||" },
        { "# a comment: $A", "# a comment: alpha" },
        { "$DOLLAR", "$A" }, /* what a variable holds is not expanded again */
        /* one special character, or a digit, is a name */
        { "$$A", "A" },
        { "$1", "one" },
        { "$12", "one2" },
        { "$?$!$*$#$@$-", "" },
        { "${1}", "one" },
        { "${$}x", "x" },
        /* no name at all */
        { "cost: $", "cost: $" },
        { "$ A", "$ A" },
        { "$/x", "$/x" },
        { "$\xc3\xa9", "$\xc3\xa9" },
        /* bad syntax is eaten */
        { "a${}b", "ab" },
        { "a${A", "aA" },
        { "a${", "a" },
        /* comparisons */
        { "${A == 'alpha'}", "true" },
        { "${A == \"alpha\"}", "true" },
        { "${A == 'beta'}", "false" },
        { "${A != 'beta'}", "true" },
        { "${A != \"alpha\"}", "false" },
        { "${A=='alpha'}", "true" },
        { "${ A  ==  'alpha' }", "true" },
        { "${A == SAME}", "true" },
        { "${A == B}", "false" },
        { "${A != B}", "true" },
        { "${UNSET == ''}", "true" },
        { "${UNSET == EMPTY}", "true" },
        { "${A == 'a == b'}", "false" },
        { "${QUOTE == 'it's'}", "true" },
        { "candidate: ${A == 'alpha'} # $B", "candidate: true # beta" },
        /* what looks like one but is not, is the name of a variable that nobody has */
        { "${'alpha' == A}", "" },
        { "${A = 'alpha'}", "" },
        { "${A == 'alpha\"}", "" },
        { "${A == }", "" },
        { "${== 'x'}", "" },
        { "${A B == 'x'}", "" },
        /* defaults */
        { "${UNSET:-x}", "x" },
        { "${EMPTY:-x}", "x" },
        { "${A:-x}", "alpha" },
        { "${UNSET:-}", "" },
        { "${UNSET:-http://host:8500}", "http://host:8500" },
        { "${UNSET:-a == b}", "a == b" },
        { "${UNSET:-$A}", "$A" },
        { "${UN SET:-x}", "" },
};

START_TEST(text_is_expanded)
{
        char *got = expand_text(cases[_i].text, lookup, (void *)"the argument");

        ck_assert_ptr_nonnull(got);
        ck_assert_msg(strcmp(got, cases[_i].want) == 0, "'%s' gives '%s', not '%s'", cases[_i].text, got,
                      cases[_i].want);
        free(got);
}
END_TEST

static const char *
lookup_long(void *arg, const char *name)
{
        (void)name;
        return arg;
}

START_TEST(expansion_that_grows_without_measure_is_refused)
{
        size_t n = 100000;
        char *value = malloc(n + 1), *text = malloc(2 * 1000 + 1);

        memset(value, 'x', n);
        value[n] = '\0';
        for (int i = 0; i < 1000; i++)
                memcpy(text + (ptrdiff_t)2 * i, "$A", 3);
        ck_assert_ptr_null(expand_text(text, lookup_long, value));
        free(value);
        free(text);
}
END_TEST

START_TEST(long_name_is_a_name)
{
        char text[1024], *got;

        memset(text, 'a', sizeof text);
        text[0] = '$';
        text[sizeof text - 1] = '\0';
        got = expand_text(text, lookup, (void *)"the argument");
        ck_assert_str_eq(got, "");
        free(got);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("expand");

        tcase_add_loop_test(tc, text_is_expanded, 0, sizeof cases / sizeof cases[0]);
        tcase_add_test(tc, expansion_that_grows_without_measure_is_refused);
        tcase_add_test(tc, long_name_is_a_name);
        return run_tests("expand", tc);
}
