/* The cookie __txid, and which databases it names: lib/proxy/cookie.h and recent.h. */
/* links: litefs_proxy_message */
#include <stdio.h>
#include <string.h>

#include "proxy/cookie.h"
#include "proxy/recent.h"
#include "tests/lib/run.h"

static struct slice
text(const char *s)
{
        return (struct slice){ s, strlen(s) };
}

START_TEST(one_position_is_that_of_litefs)
{
        struct cookie c;
        char s[COOKIE_VALUE_SIZE];

        ck_assert(cookie_parse(text("00000000000000fF"), &c));
        ck_assert_uint_eq(c.n, 1);
        ck_assert_uint_eq(c.dbs[0].hash, COOKIE_ANY_DB);
        ck_assert_uint_eq(c.dbs[0].txid, 255);
        cookie_format(&c, s);
        ck_assert_str_eq(s, "00000000000000ff");
}
END_TEST

START_TEST(many_positions_round_trip)
{
        struct cookie c = { 0 }, back;
        char s[COOKIE_VALUE_SIZE];

        for (unsigned i = 1; i <= COOKIE_MAX_DBS + 3; i++)
                cookie_set(&c, i, UINT64_MAX - i);
        ck_assert_uint_eq(c.n, COOKIE_MAX_DBS);
        ck_assert_uint_eq(c.dbs[0].hash, 4); /* the first ones went */
        cookie_set(&c, 10, 7);
        ck_assert_uint_eq(c.n, COOKIE_MAX_DBS);
        ck_assert_uint_eq(c.dbs[c.n - 1].hash, 10);
        cookie_format(&c, s);
        ck_assert_uint_eq(strlen(s), COOKIE_VALUE_SIZE - 2);
        ck_assert(cookie_parse(text(s), &back));
        ck_assert_uint_eq(back.n, c.n);
        ck_assert_mem_eq(back.dbs, c.dbs, sizeof c.dbs);
}
END_TEST

START_TEST(what_is_no_cookie_is_refused)
{
        static const char *const bad[] = {
                "",
                "1",
                "000000000000000g",
                "00000000000000001",
                "0000000000000001:",
                "&",
                "0000000000000001:0000000000000002&&",
                "0000000000000000:0000000000000002",
                "0000000000000001:0000000000000002,0000000000000001:0000000000000002",
                "-000000000000001",
        };
        struct cookie c;

        for (int i = 0; i < COUNT(bad); i++)
                ck_assert_msg(!cookie_parse(text(bad[i]), &c), "%s", bad[i]);
}
END_TEST

static void
add(struct head *h, const char *name, const char *value)
{
        ck_assert_int_eq(head_add_name(h, name, strlen(name)), 0);
        ck_assert_int_eq(head_add_value(h, value, strlen(value)), 0);
}

START_TEST(cookie_is_found_among_others)
{
        struct head h = { 0 };
        struct cookie c;

        add(&h, "Accept", "__txid=0000000000000001");
        ck_assert(!cookie_find(&h, &c));
        add(&h, "Cookie", "a=b; __txids=0000000000000001; x__txid=0000000000000001");
        ck_assert(!cookie_find(&h, &c));
        add(&h, "cookie", " a=b ;__txid=0000000000000009; c");
        ck_assert(cookie_find(&h, &c));
        ck_assert_uint_eq(c.dbs[0].txid, 9);
        ck_assert_uint_eq(c.term, 0);
        add(&h, "cookie", "__txid_term=000000000000001f");
        ck_assert(cookie_find(&h, &c));
        ck_assert_uint_eq(c.dbs[0].txid, 9);
        ck_assert_uint_eq(c.term, 0x1f);
        add(&h, "cookie", "__txid_term=1f"); /* no term, but no reason to forget the position */
        ck_assert(cookie_find(&h, &c));
        ck_assert_uint_eq(c.term, 0);
        head_release(&h);
}
END_TEST

START_TEST(field_expires_in_five_minutes)
{
        struct cookie c = { .n = 1, .dbs = { { COOKIE_ANY_DB, 3 } } };
        char s[COOKIE_FIELD_SIZE];

        cookie_format_field(&c, 1763693999000, s);
        ck_assert_str_eq(
                s, "__txid=0000000000000003; Path=/; Expires=Fri, 21 Nov 2025 03:04:59 GMT; HttpOnly");
}
END_TEST

static struct db *
fake_db(uintptr_t n)
{
        return (struct db *)n;
}

START_TEST(recent_are_those_marked_since)
{
        struct recent_entry e[8];
        struct recent *r;
        uint64_t then;

        ck_assert_int_eq(recent_new(&r), 0);
        for (uintptr_t i = 1; i <= 1000; i++)
                ck_assert_int_eq(recent_add(r, i * 64, fake_db(i)), 0);
        ck_assert_uint_eq(recent_since(r, 0, e, 8), 0);
        recent_mark(r, 5 * 64, fake_db(5));
        then = recent_now(r);
        ck_assert_uint_eq(recent_since(r, then, e, 8), 0);
        recent_mark(r, 7 * 64, fake_db(7));
        recent_mark(r, 5 * 64, fake_db(5));
        recent_mark(r, 7 * 64, fake_db(7));
        recent_mark(r, 5001 * 64, fake_db(5001)); /* a new one */
        ck_assert_uint_eq(recent_since(r, then, e, 8), 3);
        ck_assert_ptr_eq(e[0].db, fake_db(5001));
        ck_assert_ptr_eq(e[1].db, fake_db(7));
        ck_assert_ptr_eq(e[2].db, fake_db(5));
        ck_assert_uint_eq(recent_since(r, then, e, 2), 2);
        for (uintptr_t i = 1; i <= 1000; i++)
                ck_assert_ptr_eq(recent_find(r, i * 64), fake_db(i));
        ck_assert_ptr_null(recent_find(r, 1));
        recent_free(r);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("proxy_cookie");

        tcase_add_test(tc, one_position_is_that_of_litefs);
        tcase_add_test(tc, many_positions_round_trip);
        tcase_add_test(tc, what_is_no_cookie_is_refused);
        tcase_add_test(tc, cookie_is_found_among_others);
        tcase_add_test(tc, field_expires_in_five_minutes);
        tcase_add_test(tc, recent_are_those_marked_since);
        return run_tests("proxy_cookie", tc);
}
