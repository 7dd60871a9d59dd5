/* Where a request goes: lib/proxy/route.h and pattern.h. */
/* links: litefs_proxy_message */
#include <string.h>

#include "proxy/pattern.h"
#include "proxy/route.h"
#include "tests/lib/run.h"

static struct slice
text(const char *s)
{
        return (struct slice){ s, strlen(s) };
}

static const char *const passthrough[] = { "*.css", "/static/*" };
static const char *const always[] = { "/admin/*/save", "/exact" };
static const struct route_rules rules = { passthrough, 2, always, 2, false };
static const struct route_rules fly = { .is_fly_replay = true };

START_TEST(pattern_matches_the_whole_path)
{
        static const struct {
                const char *pattern, *path;
                bool is_match;
        } cases[] = {
                { "/a", "/a", true },
                { "/a", "/ab", false },
                { "/a", "/", false },
                { "*", "", true },
                { "*", "/any/thing", true },
                { "*.css", "/x/y.css", true },
                { "*.css", "/y.css.gz", false },
                { "/a*c", "/abcbc", true },
                { "/a*c", "/abcbd", false },
                { "/*/b", "/x/y/b", true },
                { "", "", true },
                { "", "/", false },
                { "**a**", "/bab", true },
                { "/a?", "/ab", false },
        };

        for (int i = 0; i < COUNT(cases); i++)
                ck_assert_msg(pattern_matches(cases[i].pattern, text(cases[i].path)) ==
                                      cases[i].is_match,
                              "%s and %s", cases[i].pattern, cases[i].path);
}
END_TEST

START_TEST(many_stars_take_no_time)
{
        char path[4000];

        memset(path, 'a', sizeof path);
        ck_assert(!pattern_matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
                                   (struct slice){ path, sizeof path }));
}
END_TEST

static void
check_path(const char *target, const char *want)
{
        char buf[100];
        struct slice s = pattern_path(text(target), buf);

        ck_assert_msg(s.n == strlen(want) && memcmp(s.p, want, s.n) == 0, "%s: %.*s", target, (int)s.n,
                      s.p);
}

START_TEST(path_is_decoded_and_without_query)
{
        check_path("/a/b?c=d", "/a/b");
        check_path("/%61%2Fb", "/a/b");
        check_path("/100%", "/100%");
        check_path("/%4", "/%4");
        check_path("/%zz", "/%zz");
        check_path("/a#b", "/a");
        check_path("*", "*");
}
END_TEST

START_TEST(kinds)
{
        ck_assert_int_eq(route_classify(&rules, false, text("/x.css"), false), ROUTE_PASSTHROUGH);
        ck_assert_int_eq(route_classify(&rules, true, text("/static/a/b"), false), ROUTE_PASSTHROUGH);
        ck_assert_int_eq(route_classify(&rules, true, text("/litefs/health"), false), ROUTE_HEALTH);
        ck_assert_int_eq(route_classify(&rules, false, text("/litefs/health"), false), ROUTE_WRITE);
        ck_assert_int_eq(route_classify(&rules, true, text("/"), false), ROUTE_READ);
        ck_assert_int_eq(route_classify(&rules, false, text("/"), false), ROUTE_WRITE);
        ck_assert_int_eq(route_classify(&rules, true, text("/exact"), false), ROUTE_WRITE);
        ck_assert_int_eq(route_classify(&rules, true, text("/admin/7/save"), false), ROUTE_WRITE);
        /* Another node's rules made it a write. */
        ck_assert_int_eq(route_classify(&rules, true, text("/"), true), ROUTE_WRITE);
}
END_TEST

START_TEST(reads_wait_for_positions_on_replicas_only)
{
        struct route_view v = { 0 };

        ck_assert_int_eq(route_decide(&rules, ROUTE_READ, &v), ROUTE_WAIT_TXID);
        v.knows_primary = true;
        ck_assert_int_eq(route_decide(&rules, ROUTE_READ, &v), ROUTE_WAIT_TXID);
        v.has_positions = true;
        ck_assert_int_eq(route_decide(&rules, ROUTE_READ, &v), ROUTE_TO_APPLICATION);
        v = (struct route_view){ .is_primary = true };
        ck_assert_int_eq(route_decide(&rules, ROUTE_READ, &v), ROUTE_TO_APPLICATION);
        ck_assert_int_eq(route_decide(&rules, ROUTE_PASSTHROUGH, &(struct route_view){ 0 }),
                         ROUTE_TO_APPLICATION);
}
END_TEST

START_TEST(a_change_of_the_primary_holds_writes)
{
        struct route_view v = { .is_primary = true, .is_held = true };

        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_WAIT_PRIMARY);
        ck_assert_int_eq(route_decide(&fly, ROUTE_WRITE, &v), ROUTE_WAIT_PRIMARY);
        ck_assert_int_eq(route_decide(&rules, ROUTE_READ, &v), ROUTE_TO_APPLICATION);
        ck_assert_int_eq(route_decide(&rules, ROUTE_PASSTHROUGH, &v), ROUTE_TO_APPLICATION);
        v = (struct route_view){ .knows_primary = true, .is_held = true };
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_TO_PRIMARY);
        /* What another node took to be for us. */
        v = (struct route_view){ .knows_primary = true, .is_sent_on = true, .wants_moved = true };
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_MOVED);
        ck_assert_int_eq(route_decide(&fly, ROUTE_WRITE, &v), ROUTE_MOVED);
        v.knows_primary = false; /* it may become this node */
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_WAIT_PRIMARY);
}
END_TEST

START_TEST(where_the_application_goes_nothing_is_begun)
{
        static const enum route_kind all[] = { ROUTE_PASSTHROUGH, ROUTE_READ, ROUTE_WRITE };

        for (int i = 0; i < COUNT(all); i++) {
                struct route_view v = { .is_leaving = true, .is_primary = true, .has_positions = true };

                ck_assert_int_eq(route_decide(&rules, all[i], &v), ROUTE_REFUSED);
                v.is_primary = false;
                ck_assert_int_eq(route_decide(&rules, all[i], &v), ROUTE_WAIT_PRIMARY);
                v.knows_primary = true;
                ck_assert_int_eq(route_decide(&rules, all[i], &v), ROUTE_TO_PRIMARY);
                ck_assert_int_eq(route_decide(&fly, all[i], &v), ROUTE_FLY_REPLAY);
        }
}
END_TEST

START_TEST(writes_go_to_the_primary_once)
{
        struct route_view v = { .is_primary = true };

        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_TO_APPLICATION);
        ck_assert_int_eq(route_decide(&fly, ROUTE_WRITE, &v), ROUTE_TO_APPLICATION);
        v = (struct route_view){ .knows_primary = true };
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_TO_PRIMARY);
        ck_assert_int_eq(route_decide(&fly, ROUTE_WRITE, &v), ROUTE_FLY_REPLAY);
        v.is_sent_on = true;
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_WAIT_PRIMARY);
        v = (struct route_view){ 0 };
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_WAIT_PRIMARY);
        v = (struct route_view){ .is_primary = true, .is_sent_on = true };
        ck_assert_int_eq(route_decide(&rules, ROUTE_WRITE, &v), ROUTE_TO_APPLICATION);
}
END_TEST

START_TEST(primary_is_its_host_and_our_port_or_its_url_with_tls)
{
        static const struct {
                const char *url, *address;
                bool is_node;
        } cases[] = {
                { "http://node1:20202", "node1:8080", false },
                { "http://node1/x", "node1:8080", false },
                { "http://10.0.0.1", "10.0.0.1:8080", false },
                { "http://[fd00::1]:20202", "[fd00::1]:8080", false },
                { "node1:20202", "node1:8080", false },
                { "https://node1:20202", "node1:20202", true },
                { "HTTPS://node1:20202/x", "node1:20202", true },
                { "https://[fd00::1]:443", "[fd00::1]:443", true },
                { "https://node1", "node1:443", true },
                { "https://node1:0", NULL, false },
                { "https://node1:70000", NULL, false },
                { "https://node1/:20202", "node1:443", true },
                { "http://", NULL, false },
                { "", NULL, false },
                { "http://[fd00::1", NULL, false },
                { "http://u:p@node1", NULL, false },
                { "http://:20202", NULL, false },
        };

        for (int i = 0; i < COUNT(cases); i++) {
                struct destination got = { "", false };
                int r = route_primary(cases[i].url, 8080, &got);

                if (cases[i].address == NULL) {
                        ck_assert_msg(r < 0, "%s: %s", cases[i].url, got.address);
                        continue;
                }
                ck_assert_int_eq(r, 0);
                ck_assert_str_eq(got.address, cases[i].address);
                ck_assert(got.is_node == cases[i].is_node);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("proxy_route");

        tcase_add_test(tc, pattern_matches_the_whole_path);
        tcase_add_test(tc, many_stars_take_no_time);
        tcase_add_test(tc, path_is_decoded_and_without_query);
        tcase_add_test(tc, kinds);
        tcase_add_test(tc, reads_wait_for_positions_on_replicas_only);
        tcase_add_test(tc, writes_go_to_the_primary_once);
        tcase_add_test(tc, a_change_of_the_primary_holds_writes);
        tcase_add_test(tc, where_the_application_goes_nothing_is_begun);
        tcase_add_test(tc, primary_is_its_host_and_our_port_or_its_url_with_tls);
        return run_tests("proxy_route", tc);
}
