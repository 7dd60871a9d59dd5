/* links: litefs_cmd */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/token.h"
#include "cmd/litefs/access.h"
#include "cmd/litefs/config.h"
#include "tests/lib/run.h"

START_TEST(only_this_machine_is_loopback)
{
        static const struct {
                const char *address;
                bool is_loopback;
        } cases[] = {
                { "127.0.0.1:20202", true }, { "127.9.9.9:1", true },
                { "localhost:20202", true }, { "[::1]:20202", true },
                { ":20202", false },         { "0.0.0.0:20202", false },
                { "[::]:20202", false },     { "localhost.evil.com:1", false },
                { "10.0.0.1:20202", false }, { "[::1:2]:20202", false },
                { "1270.0.1:20202", false },
        };

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                ck_assert_msg(access_is_loopback(cases[i].address) == cases[i].is_loopback, "%s",
                              cases[i].address);
}
END_TEST

static void
parse(struct config *c, const char *text)
{
        struct err e = ERR_INIT;

        ck_assert_int_eq(config_init(c), 0);
        ck_assert_msg(config_parse(c, "litefs.yml", text, true, &e) == 0, "%s", e.text);
}

START_TEST(token_comes_from_key_or_file)
{
        char path[] = "/tmp/test-access-XXXXXX", text[200], buf[TOKEN_SIZE];
        struct token *token;
        struct config c;
        int fd = mkstemp(path);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, "from-file \r\n", 12), 12);
        snprintf(text, sizeof text, "lease: {type: static}\nhttp: {token-file: %s}\n", path);
        parse(&c, text);
        ck_assert_int_eq(access_open_token(&c, &token, NULL), 0);
        token_get(token, buf);
        ck_assert_str_eq(buf, "from-file");
        token_free(token);
        ck_assert_int_eq(ftruncate(fd, 0), 0);
        ck_assert_int_eq(access_open_token(&c, &token, NULL), E_CONFIG); /* empty is not "none" */
        config_release(&c);
        close(fd);
        unlink(path);

        parse(&c, "lease: {type: static}\nhttp: {token: abc}\n");
        ck_assert_int_eq(access_open_token(&c, &token, NULL), 0);
        token_get(token, buf);
        ck_assert_str_eq(buf, "abc");
        token_free(token);
        config_release(&c);
        parse(&c, "lease: {type: static}\nhttp: {token: \"a\\nb\"}\n");
        ck_assert_int_eq(access_open_token(&c, &token, NULL), E_CONFIG);
        config_release(&c);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("access");

        tcase_add_test(tc, only_this_machine_is_loopback);
        tcase_add_test(tc, token_comes_from_key_or_file);
        return run_tests("access", tc);
}
