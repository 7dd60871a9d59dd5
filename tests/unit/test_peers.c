/* links: litefs_repl */
/* The other nodes that may lead: as they come, and in the file. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/peers.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static void
check_urls(struct peers *p, unsigned n, const char *const *want)
{
        unsigned n_found;
        peer_url *urls = peers_copy(p, &n_found);

        ck_assert_uint_eq(n_found, n);
        for (unsigned i = 0; i < n; i++)
                ck_assert_str_eq(urls[i], want[i]);
        free(urls);
}

/* Who was on it may follow the primary again by now. */
START_TEST(a_list_goes_before_those_that_came_earlier)
{
        struct peers p;

        peers_init(&p);
        check_urls(&p, 0, NULL);
        ck_assert(!peers_add(&p, "http://a", true, false));
        ck_assert(peers_add(&p, "http://b", false, true));
        check_urls(&p, 2, (const char *const[]){ "http://a", "http://b" });
        ck_assert(!peers_add(&p, "http://a", true, false)); /* the same once more */
        ck_assert(!peers_add(&p, "http://b", false, true));
        check_urls(&p, 2, (const char *const[]){ "http://a", "http://b" });
        ck_assert(peers_add(&p, "https://c:1", true, true));
        check_urls(&p, 3, (const char *const[]){ "https://c:1", "http://a", "http://b" });
        ck_assert(peers_add(&p, "", true, true));
        check_urls(&p, 3, (const char *const[]){ "https://c:1", "http://a", "http://b" });
        ck_assert(peers_add(&p, "http://b", true, true)); /* it is back */
        check_urls(&p, 3, (const char *const[]){ "http://b", "https://c:1", "http://a" });
        peers_release(&p);
}
END_TEST

START_TEST(a_list_is_bounded)
{
        struct peers p;
        unsigned n;
        char url[40];

        peers_init(&p);
        for (int i = 0; i < PEERS_MAX + 10; i++) {
                snprintf(url, sizeof url, "http://node%d", i);
                (void)peers_add(&p, url, i == 0, false);
        }
        free(peers_copy(&p, &n));
        ck_assert_uint_eq(n, PEERS_MAX);
        ck_assert(peers_add(&p, "http://a", true, true));
        free(peers_copy(&p, &n));
        ck_assert_uint_eq(n, 1 + PEERS_FORMER_MAX);
        peers_release(&p);
}
END_TEST

START_TEST(the_file_keeps_it)
{
        char *dir = tmpdir_make();
        struct peers p, q;
        struct err e = ERR_INIT;

        peers_init(&p);
        peers_init(&q);
        ck_assert_int_eq(peers_load(&q, os_host(), dir, &e), 0);
        check_urls(&q, 0, NULL);
        (void)peers_add(&p, "http://a", true, false);
        (void)peers_add(&p, "http://b/x", false, true);
        ck_assert_int_eq(peers_save(&p, os_host(), dir, &e), 0);
        ck_assert_int_eq(peers_load(&q, os_host(), dir, &e), 0);
        check_urls(&q, 2, (const char *const[]){ "http://a", "http://b/x" });
        ck_assert(!peers_add(&q, "http://a", true, false));
        ck_assert(!peers_add(&q, "http://b/x", false, true));
        (void)peers_add(&p, "", true, true);
        ck_assert_int_lt(peers_save(&p, os_host(), path_in(dir, "none"), &e), 0);
        ck_assert(peers_add(&p, "", true, true));
        ck_assert_int_eq(peers_save(&p, os_host(), dir, &e), 0);
        peers_release(&q);
        peers_init(&q);
        ck_assert_int_eq(peers_load(&q, os_host(), dir, &e), 0);
        check_urls(&q, 2, (const char *const[]){ "http://a", "http://b/x" });
        peers_release(&q);
        peers_init(&q);
        write_file(path_in(dir, "peers"), "\n\nhttp://c\n", 11);
        ck_assert_int_eq(peers_load(&q, os_host(), dir, &e), 0);
        check_urls(&q, 1, (const char *const[]){ "http://c" });
        peers_release(&p);
        peers_release(&q);
        tmpdir_remove(dir);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("peers");

        tcase_add_test(tc, a_list_goes_before_those_that_came_earlier);
        tcase_add_test(tc, a_list_is_bounded);
        tcase_add_test(tc, the_file_keeps_it);
        return run_tests("peers", tc);
}
