/* links: litefs_base */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/run.h"

static int ends[2];
static char line[16384];

static void
setup(void)
{
        ck_assert_int_eq(pipe(ends), 0);
}

static void
teardown(void)
{
        close(ends[0]);
        close(ends[1]);
}

static void
configure(enum log_format format)
{
        struct log_config c = { .format = format, .fd = ends[1] };

        log_configure(&c);
}

static const char *
written(void)
{
        ssize_t n = read(ends[0], line, sizeof line - 1);

        ck_assert_int_gt(n, 0);
        line[n] = '\0';
        return line;
}

static const struct {
        const char *msg, *text, *json;
} cases[] = {
        { "plain", "level=INFO msg=\"plain\" db=\"a.db\"\n",
          "{\"level\":\"INFO\",\"msg\":\"plain\",\"db\":\"a.db\"}\n" },
        { "\"q\" \\ \n\t\x7f", "level=INFO msg=\"\\\"q\\\" \\\\ \\n\\u0009\\u007f\" db=\"a.db\"\n",
          "{\"level\":\"INFO\",\"msg\":\"\\\"q\\\" \\\\ \\n\\u0009\\u007f\",\"db\":\"a.db\"}\n" },
        { "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80",
          "level=INFO msg=\"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80\" db=\"a.db\"\n",
          "{\"level\":\"INFO\",\"msg\":\"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80\",\"db\":\"a.db\"}\n" },
        /* a lone lead, a lone tail, too long a form, a surrogate, beyond the last, one that is cut */
        { "\xc3!\x80\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82",
          "level=INFO msg=\"\\\\xc3!\\\\x80\\\\xc0\\\\x80\\\\xed\\\\xa0\\\\x80\\\\xf4\\\\x90\\\\x80\\\\x80\\\\xe2\\\\x82\" db=\"a.db\"\n",
          "{\"level\":\"INFO\",\"msg\":\"\\\\xc3!\\\\x80\\\\xc0\\\\x80\\\\xed\\\\xa0\\\\x80\\\\xf4\\\\x90\\\\x80\\\\x80\\\\xe2\\\\x82\",\"db\":\"a.db\"}\n" },
};

START_TEST(message_is_one_line)
{
        configure(LOG_TEXT);
        log_event(LOG_INFO, "a.db", "%s", cases[_i].msg);
        ck_assert_str_eq(written(), cases[_i].text);
        configure(LOG_JSON);
        log_event(LOG_INFO, "a.db", "%s", cases[_i].msg);
        ck_assert_str_eq(written(), cases[_i].json);
}
END_TEST

START_TEST(longest_message_is_still_json)
{
        char msg[4000], name[4000];
        const char *s;

        memset(msg, 1, sizeof msg - 1);
        memset(name, 2, sizeof name - 1);
        msg[sizeof msg - 1] = name[sizeof name - 1] = '\0';
        configure(LOG_JSON);
        log_event(LOG_ERROR, name, "%s", msg);
        s = written();
        ck_assert_uint_gt(strlen(s), 6 * 1500);
        ck_assert_str_eq(s + strlen(s) - 9, "\\u0002\"}\n");
        ck_assert_ptr_nonnull(strstr(s, "\\u0001\",\"db\":\"\\u0002"));
}
END_TEST

START_TEST(debug_is_silent_until_asked_for)
{
        struct log_config c = { .format = LOG_TEXT, .is_debug = true, .fd = ends[1] };

        configure(LOG_TEXT);
        log_debug("unseen");
        log_configure(&c);
        log_debug("seen");
        ck_assert_str_eq(written(), "level=DEBUG msg=\"seen\"\n");
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("log");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_loop_test(tc, message_is_one_line, 0, (int)(sizeof cases / sizeof cases[0]));
        tcase_add_test(tc, longest_message_is_still_json);
        tcase_add_test(tc, debug_is_silent_until_asked_for);
        return run_tests("log", tc);
}
