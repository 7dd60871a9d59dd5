/* links: litefs_cmd */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/flags.h"
#include "tests/lib/run.h"

#define WORDS_MAX 16

static bool verbose, has_dot;
static const char *path, *url;
static const struct flag flags[] = {
        { "v", NULL, "say more", &verbose, NULL },
        { "fuse.debug", NULL, "a dot in the name", &has_dot, NULL },
        { "config", "PATH", "a value", NULL, &path },
        { "url", "URL", "another value", NULL, &url },
        { 0 },
};

static struct flag_words words;
static struct err error;
static char *args[WORDS_MAX];

static void
setup(void)
{
        verbose = has_dot = false;
        path = url = NULL;
        error = (struct err)ERR_INIT;
}

/* Parses @line, words apart by single spaces; "" is an empty word. */
static int
parse(const char *line)
{
        static char copy[256];
        int n = 0;
        char *word, *rest = strcpy(copy, line);

        while ((word = strsep(&rest, " ")) != NULL)
                args[n++] = word;
        return flags_parse(flags, line[0] == '\0' ? 0 : n, args, &words, &error);
}

START_TEST(nothing_is_fine)
{
        ck_assert_int_eq(parse(""), 0);
        ck_assert_int_eq(words.n, 0);
        ck_assert_int_eq(words.n_rest, 0);
        ck_assert(!words.has_dashes);
}
END_TEST

static const char *const forms[] = {
        "-v -fuse.debug -config /x=y",
        "--v --fuse.debug --config /x=y",
        "-v=true -fuse.debug=1 -config=/x=y",
        "--config=/x=y --v=true --fuse.debug",
        "-config a -config /x=y -v=false -v -fuse.debug", /* the last one counts */
};

START_TEST(flag_takes_one_or_two_dashes_and_its_value_either_way)
{
        ck_assert_int_eq(parse(forms[_i]), 0);
        ck_assert(verbose);
        ck_assert(has_dot);
        ck_assert_str_eq(path, "/x=y");
        ck_assert_int_eq(words.n, 0);
}
END_TEST

START_TEST(switch_can_be_cleared)
{
        verbose = has_dot = true;
        ck_assert_int_eq(parse("-v=false --fuse.debug=0"), 0);
        ck_assert(!verbose);
        ck_assert(!has_dot);
}
END_TEST

START_TEST(value_may_be_empty_or_look_like_a_flag)
{
        ck_assert_int_eq(parse("-config= -url -v"), 0);
        ck_assert_str_eq(path, "");
        ck_assert_str_eq(url, "-v");
        ck_assert(!verbose);
}
END_TEST

START_TEST(other_words_may_stand_anywhere)
{
        ck_assert_int_eq(parse("one -v two - -config c three"), 0);
        ck_assert(verbose);
        ck_assert_str_eq(path, "c");
        ck_assert_int_eq(words.n, 4);
        ck_assert_str_eq(words.words[0], "one");
        ck_assert_str_eq(words.words[1], "two");
        ck_assert_str_eq(words.words[2], "-");
        ck_assert_str_eq(words.words[3], "three");
}
END_TEST

START_TEST(two_dashes_end_the_flags)
{
        ck_assert_int_eq(parse("-config c -- cmd -v -- -x"), 0);
        ck_assert(!verbose);
        ck_assert(words.has_dashes);
        ck_assert_int_eq(words.n, 0);
        ck_assert_int_eq(words.n_rest, 4);
        ck_assert_str_eq(words.rest[0], "cmd");
        ck_assert_str_eq(words.rest[1], "-v");
        ck_assert_str_eq(words.rest[2], "--");
        ck_assert_str_eq(words.rest[3], "-x");
}
END_TEST

START_TEST(two_dashes_at_the_end_leave_nothing)
{
        ck_assert_int_eq(parse("a --"), 0);
        ck_assert(words.has_dashes);
        ck_assert_int_eq(words.n, 1);
        ck_assert_int_eq(words.n_rest, 0);
}
END_TEST

static const char *const asks_for_help[] = { "-h", "--h", "-help", "--help", "-v -h -nonsense" };

START_TEST(help_is_asked_for)
{
        ck_assert_int_eq(parse(asks_for_help[_i]), 1);
}
END_TEST

START_TEST(help_behind_two_dashes_is_for_the_command)
{
        ck_assert_int_eq(parse("-- -h"), 0);
        ck_assert_int_eq(words.n_rest, 1);
}
END_TEST

static const struct {
        const char *line, *want;
} bad[] = {
        { "-x", "unknown flag -x" },
        { "--conf c", "unknown flag --conf (did you mean -config?)" }, /* no abbreviations */
        { "-configs=c", "unknown flag -configs=c (did you mean -config?)" },
        { "-cofnig c", "unknown flag -cofnig (did you mean -config?)" },
        { "-=c", "unknown flag -=c" },
        { "---v", "unknown flag ---v" },
        { "-config", "flag -config needs a value: PATH" },
        { "-config -- c", "flag -config needs a value: PATH" },
        { "-v=maybe", "flag -v takes true or false, not maybe" },
        { "-v=", "flag -v takes true or false, not " },
};

START_TEST(mistake_is_named)
{
        ck_assert_int_eq(parse(bad[_i].line), -EINVAL);
        ck_assert_str_eq(error.text, bad[_i].want);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("flags");

        tcase_add_checked_fixture(tc, setup, NULL);
        tcase_add_test(tc, nothing_is_fine);
        tcase_add_loop_test(tc, flag_takes_one_or_two_dashes_and_its_value_either_way, 0, COUNT(forms));
        tcase_add_test(tc, switch_can_be_cleared);
        tcase_add_test(tc, value_may_be_empty_or_look_like_a_flag);
        tcase_add_test(tc, other_words_may_stand_anywhere);
        tcase_add_test(tc, two_dashes_end_the_flags);
        tcase_add_test(tc, two_dashes_at_the_end_leave_nothing);
        tcase_add_loop_test(tc, help_is_asked_for, 0, COUNT(asks_for_help));
        tcase_add_test(tc, help_behind_two_dashes_is_for_the_command);
        tcase_add_loop_test(tc, mistake_is_named, 0, COUNT(bad));
        return run_tests("flags", tc);
}
