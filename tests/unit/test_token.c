/* links: litefs_base */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/token.h"
#include "tests/lib/run.h"

static char path[] = "/tmp/test-token-XXXXXX";

/* As operators do it: a new file takes the old one's place. */
static void
put(const char *text, size_t n)
{
        char next[sizeof path + 4];
        FILE *f;

        snprintf(next, sizeof next, "%s.new", path);
        f = fopen(next, "we");
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(fwrite(text, 1, n, f), n);
        ck_assert_int_eq(fclose(f), 0);
        ck_assert_int_eq(rename(next, path), 0);
}

static void
put_text(const char *text)
{
        put(text, strlen(text));
}

static void
make_path(void)
{
        strcpy(path + strlen(path) - 6, "XXXXXX");
        int fd = mkstemp(path);

        ck_assert_int_ge(fd, 0);
        close(fd);
}

static void
remove_path(void)
{
        unlink(path);
}

START_TEST(text_must_fit_a_header)
{
        char longest[TOKEN_SIZE + 1];
        struct token *t;

        memset(longest, 'x', sizeof longest);
        longest[TOKEN_SIZE] = '\0';
        ck_assert_int_eq(token_new(longest, &t, NULL), E_CONFIG);
        ck_assert_int_eq(token_new("a b", &t, NULL), E_CONFIG);
        longest[TOKEN_SIZE - 1] = '\0';
        ck_assert_int_eq(token_new(longest, &t, NULL), 0);
        token_free(t);
        ck_assert_int_eq(token_new("", &t, NULL), 0);
        ck_assert(token_matches(t, NULL));
        token_free(t);
        ck_assert(token_matches(NULL, NULL));
}
END_TEST

START_TEST(a_changed_file_is_read_again)
{
        char text[TOKEN_SIZE];
        struct token *t;

        put_text("one\n");
        ck_assert_int_eq(token_open(path, &t, NULL), 0);
        ck_assert(token_matches(t, "Bearer one"));
        put_text("two\n");
        ck_assert(!token_matches(t, "Bearer one"));
        ck_assert(token_matches(t, "Bearer two"));
        token_get(t, text);
        ck_assert_str_eq(text, "two");
        token_free(t);
}
END_TEST

START_TEST(what_cannot_be_used_changes_nothing)
{
        static const struct {
                const char *text;
                size_t n;
        } bad[] = { { "", 0 }, { "\r\n", 2 }, { "a b", 3 }, { "a\0b", 3 }, { "a\nb\n", 4 } };
        struct token *t;

        put_text("one");
        ck_assert_int_eq(token_open(path, &t, NULL), 0);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                put(bad[i].text, bad[i].n);
                ck_assert(!token_matches(t, NULL));
                ck_assert(token_matches(t, "Bearer one"));
        }
        unlink(path);
        ck_assert(!token_matches(t, NULL));
        ck_assert(token_matches(t, "Bearer one"));
        put_text("two");
        ck_assert(token_matches(t, "Bearer two"));
        token_free(t);
}
END_TEST

START_TEST(opening_names_what_is_wrong)
{
        struct err e = ERR_INIT;
        struct token *t;

        put_text("\n");
        ck_assert_int_eq(token_open(path, &t, &e), E_CONFIG);
        ck_assert_ptr_nonnull(strstr(e.text, path));
        unlink(path);
        ck_assert_int_eq(token_open(path, &t, &e), -ENOENT);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("token");

        tcase_add_checked_fixture(tc, make_path, remove_path);
        tcase_add_test(tc, text_must_fit_a_header);
        tcase_add_test(tc, a_changed_file_is_read_again);
        tcase_add_test(tc, what_cannot_be_used_changes_nothing);
        tcase_add_test(tc, opening_names_what_is_wrong);
        return run_tests("token", tc);
}
