/* links: litefs_repl */
/* The nodes that have left: as they go and come, and in the file. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/members.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static struct member
node(const char *hostname, const char *url, int64_t seen_ms)
{
        struct member who = { .boot_id = 0xabcdef0123456789u, .seen_ms = seen_ms };

        snprintf(who.hostname, sizeof who.hostname, "%s", hostname);
        snprintf(who.advertise_url, sizeof who.advertise_url, "%s", url);
        return who;
}

static void
leave(struct members *m, const char *hostname, const char *url, int64_t seen_ms)
{
        struct member who = node(hostname, url, seen_ms);

        ck_assert(members_left(m, &who));
}

START_TEST(who_left_last_comes_first_and_who_joins_is_gone_no_more)
{
        struct member nameless = node("x", "", 1);
        struct members m = { 0 };

        leave(&m, "a", "http://a:1", 1000);
        leave(&m, "b", "http://b:1", 2000);
        leave(&m, "a", "http://a:1", 3000);
        ck_assert(!members_left(&m, &nameless));
        ck_assert_uint_eq(m.n, 2);
        ck_assert_str_eq(m.v[0].hostname, "a");
        ck_assert_int_eq(m.v[0].seen_ms, 3000);
        ck_assert(!members_joined(&m, "http://c:1"));
        ck_assert(members_joined(&m, "http://a:1"));
        ck_assert_uint_eq(m.n, 1);
        ck_assert_str_eq(m.v[0].hostname, "b");
        members_release(&m);
}
END_TEST

START_TEST(the_list_is_bounded_and_forgets)
{
        struct members m = { 0 };
        char url[40];

        for (unsigned i = 0; i < MEMBERS_MAX + 5; i++) {
                snprintf(url, sizeof url, "http://node%u:1", i);
                leave(&m, "n", url, 1000 + i);
        }
        ck_assert_uint_eq(m.n, MEMBERS_MAX);
        ck_assert_str_eq(m.v[0].advertise_url, url);
        ck_assert(!members_forget(&m, 1005 + MEMBERS_FORGET_MS));
        ck_assert(members_forget(&m, 1000 + MEMBERS_MAX + MEMBERS_FORGET_MS));
        ck_assert_uint_eq(m.n, 5);
        members_release(&m);
}
END_TEST

START_TEST(the_file_keeps_them)
{
        char *dir = tmpdir_make(), *text;
        struct members m = { 0 }, read = { 0 };
        struct err e = ERR_INIT;
        size_t n;

        ck_assert_int_eq(members_load(&read, os_host(), dir, &e), 0);
        ck_assert_uint_eq(read.n, 0);
        leave(&m, "a", "http://a:1", 1000);
        leave(&m, "two words", "https://[::1]:1/x", 2000);
        leave(&m, "", "http://c:1", 3000);
        text = members_format(&m, &n);
        ck_assert_int_eq(members_save(os_host(), dir, text, n, &e), 0);
        free(text);
        ck_assert_int_eq(members_load(&read, os_host(), dir, &e), 0);
        ck_assert_uint_eq(read.n, m.n);
        for (unsigned i = 0; i < m.n; i++) {
                ck_assert_str_eq(read.v[i].hostname, m.v[i].hostname);
                ck_assert_str_eq(read.v[i].advertise_url, m.v[i].advertise_url);
                ck_assert_int_eq(read.v[i].seen_ms, m.v[i].seen_ms);
                ck_assert(read.v[i].boot_id == m.v[i].boot_id);
        }
        members_release(&read);
        write_file(path_in(dir, "members"), "x\n1 2\nx 1 http://a:1 a\n7 1 http://a:1 a\n", 40);
        ck_assert_int_eq(members_load(&read, os_host(), dir, &e), 0);
        ck_assert_uint_eq(read.n, 1);
        ck_assert_int_eq(read.v[0].seen_ms, 7);
        members_release(&read);
        members_release(&m);
        tmpdir_remove(dir);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("members");

        tcase_add_test(tc, who_left_last_comes_first_and_who_joins_is_gone_no_more);
        tcase_add_test(tc, the_list_is_bounded_and_forgets);
        tcase_add_test(tc, the_file_keeps_them);
        return run_tests("members", tc);
}
