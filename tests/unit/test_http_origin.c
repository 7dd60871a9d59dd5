/* links: litefs_http */
#include <check.h>

#include "http/origin.h"
#include "tests/lib/run.h"

static const struct origin_names loopback = { "db1", "http://db1.example:20202", true };
static const struct origin_names open = { "db1", "http://db1.example:20202", false };

static const char *
refuse(const struct origin_names *names, const char *host, const char *origin, const char *site)
{
        struct origin_headers h = { host, origin, site };

        return origin_refuse(&h, names);
}

START_TEST(programs_are_let_through)
{
        static const char *const hosts[] = {
                "localhost:20202", "127.0.0.1:20202", "[::1]:20202", "[fe80::1%25eth0]:20202",
                "localhost",       "LOCALHOST",       "db1",         "DB1:20202",
                "db1.example",     "app.localhost:1", "10.0.0.1"
        };

        ck_assert_ptr_null(refuse(&loopback, NULL, NULL, NULL));
        for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
                ck_assert_msg(refuse(&loopback, hosts[i], NULL, NULL) == NULL, "%s", hosts[i]);
                ck_assert_msg(refuse(&open, hosts[i], NULL, NULL) == NULL, "%s", hosts[i]);
        }
        ck_assert_ptr_null(refuse(&open, "litefs.default.svc:20202", NULL, NULL));
}
END_TEST

START_TEST(pages_of_this_node_are_let_through)
{
        ck_assert_ptr_null(
                refuse(&loopback, "localhost:20202", "http://localhost:20202", "same-origin"));
        ck_assert_ptr_null(
                refuse(&open, "db1.example:20202", "https://db1.example:20202", "same-origin"));
        ck_assert_ptr_null(refuse(&open, "[::1]:20202", "http://[::1]:20202", NULL));
        ck_assert_ptr_null(refuse(&open, "10.0.0.1:20202", NULL, "none")); /* typed in */
}
END_TEST

START_TEST(other_pages_are_refused)
{
        static const struct {
                const char *origin, *site, *by;
        } cases[] = {
                { "http://evil.example", "cross-site", "Sec-Fetch-Site" },
                { NULL, "cross-site", "Sec-Fetch-Site" },
                { "http://localhost:3000", "same-site", "Sec-Fetch-Site" },
                { "http://evil.example", NULL, "Origin" },
                { "http://localhost:3000", NULL, "Origin" },
                { "http://localhost", NULL, "Origin" },
                { "http://localhost:20202.evil.example", NULL, "Origin" },
                { "null", NULL, "Origin" },
                { "", NULL, "Origin" },
        };

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                ck_assert_pstr_eq(refuse(&loopback, "localhost:20202", cases[i].origin, cases[i].site),
                                  cases[i].by);
                ck_assert_pstr_eq(refuse(&open, "localhost:20202", cases[i].origin, cases[i].site),
                                  cases[i].by);
        }
        ck_assert_pstr_eq(refuse(&open, NULL, "http://evil.example", NULL), "Origin");
}
END_TEST

/* The page's own name, which its owner has given this node's address. */
START_TEST(a_foreign_name_of_this_node_is_refused)
{
        static const char *const hosts[] = { "evil.example:20202",
                                             "evil.example",
                                             "",
                                             "localhost.evil",
                                             "evil-localhost:1",
                                             "db1.evil",
                                             "127.0.0.1.evil",
                                             "[::1].evil.example",
                                             "[evil]:1",
                                             "[",
                                             "[]:20202",
                                             ":20202" };

        for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
                char origin[128] = "http://";

                strcat(origin, hosts[i]);
                ck_assert_msg(refuse(&loopback, hosts[i], NULL, NULL) != NULL, "%s", hosts[i]);
                ck_assert_msg(refuse(&open, hosts[i], origin, "same-origin") != NULL, "%s", hosts[i]);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("origin");

        tcase_add_test(tc, programs_are_let_through);
        tcase_add_test(tc, pages_of_this_node_are_let_through);
        tcase_add_test(tc, other_pages_are_refused);
        tcase_add_test(tc, a_foreign_name_of_this_node_is_refused);
        return run_tests("http_origin", tc);
}
