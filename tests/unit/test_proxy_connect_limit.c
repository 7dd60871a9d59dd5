/* links: litefs_proxy_message */
/* How many connections to the primary may be opened, when: lib/proxy/connect_limit.h. */
#include <check.h>
#include <errno.h>

#include "proxy/connect_limit.h"
#include "tests/lib/run.h"

#define A "a:1"
#define B "b:1"

static const struct err why = { -EPROTO, "its certificate" };

START_TEST(so_many_at_a_time_while_they_succeed)
{
        struct connect_limit g = { 0 };
        struct err e = ERR_INIT;

        for (unsigned i = 0; i < CONNECT_LIMIT_MAX; i++)
                ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), -EBUSY);
        ck_assert_int_eq(connect_limit_enter(&g, B, 0, &e), -EBUSY); /* in all */
        connect_limit_opened(&g, A);
        ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), 0);
        connect_limit_given_up(&g);
        ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), 0);
}
END_TEST

START_TEST(one_at_a_time_after_a_failure)
{
        struct connect_limit g = { 0 };
        struct err e = ERR_INIT;

        ck_assert_int_eq(connect_limit_enter(&g, A, 1000, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 1000, &e), 0);
        connect_limit_failed(&g, A, 1000, &why);
        ck_assert_int_eq(connect_limit_enter(&g, A, 2000, &e), -EBUSY); /* the other is on its way */
        ck_assert_str_eq(e.text, why.text);
        connect_limit_failed(&g, A, 2000, &why);
        ck_assert_int_eq(connect_limit_enter(&g, A, 2000 + CONNECT_LIMIT_PAUSE_MS - 1, &e), -EBUSY);
        ck_assert_int_eq(connect_limit_enter(&g, A, 2000 + CONNECT_LIMIT_PAUSE_MS, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 3000, &e), -EBUSY);
        connect_limit_given_up(&g); /* which says nothing */
        ck_assert_int_eq(connect_limit_enter(&g, A, 3000, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 3000, &e), -EBUSY);
        connect_limit_opened(&g, A);
        ck_assert_int_eq(connect_limit_enter(&g, A, 3000, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 3000, &e), 0);
}
END_TEST

START_TEST(another_primary_begins_anew)
{
        struct connect_limit g = { 0 };
        struct err e = ERR_INIT;

        ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), 0);
        ck_assert_int_eq(connect_limit_enter(&g, A, 0, &e), 0);
        connect_limit_failed(&g, A, 0, &why);
        ck_assert_int_eq(connect_limit_enter(&g, B, 0, &e), 0);
        connect_limit_failed(&g, A, 0, &why); /* late news of the old one */
        ck_assert_int_eq(connect_limit_enter(&g, B, 0, &e), 0);
        connect_limit_failed(&g, B, 0, &why);
        ck_assert_int_eq(connect_limit_enter(&g, B, 0, &e), -EBUSY);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("proxy_connect_limit");

        tcase_add_test(tc, so_many_at_a_time_while_they_succeed);
        tcase_add_test(tc, one_at_a_time_after_a_failure);
        tcase_add_test(tc, another_primary_begins_anew);
        return run_tests("proxy_connect_limit", tc);
}
