/* links: litefs_repl */
/* The terms that a node has asked for, in memory and in the file. */
#include <check.h>
#include <stdio.h>

#include "repl/term_file.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

START_TEST(a_claim_is_of_its_term_and_session)
{
        struct term_claims c = { .n = 0 };

        ck_assert(!term_claims_has(&c, 0, ""));
        ck_assert_uint_eq(term_claims_last(&c), 0);
        term_claims_add(&c, 7, "a");
        term_claims_add(&c, 5, "b");
        ck_assert(term_claims_has(&c, 7, "a"));
        ck_assert(term_claims_has(&c, 5, "b"));
        ck_assert(!term_claims_has(&c, 7, "b"));
        ck_assert(!term_claims_has(&c, 5, ""));
        ck_assert_uint_eq(term_claims_last(&c), 7);
        term_claims_prune(&c, 5);
        ck_assert(term_claims_has(&c, 7, "a"));
        ck_assert(!term_claims_has(&c, 5, "b"));
}
END_TEST

START_TEST(the_oldest_claim_is_forgotten_when_there_are_too_many)
{
        struct term_claims c = { .n = 0 };

        for (uint64_t term = 1; term <= TERM_CLAIMS_MAX + 1; term++)
                term_claims_add(&c, term, "s");
        ck_assert(!term_claims_has(&c, 1, "s"));
        ck_assert(term_claims_has(&c, 2, "s"));
        ck_assert(term_claims_has(&c, TERM_CLAIMS_MAX + 1, "s"));
}
END_TEST

START_TEST(the_file_keeps_all_of_them)
{
        char *dir = tmpdir_make(), session[LEASE_SESSION_SIZE];
        struct term_claims c = { .n = 0 }, read;
        struct err e = ERR_INIT;

        ck_assert_int_eq(term_claims_load(os_host(), dir, &read, &e), 0);
        ck_assert_uint_eq(read.n, 0);
        for (uint64_t term = 1; term <= TERM_CLAIMS_MAX; term++) {
                snprintf(session, sizeof session, "%0126llu", (unsigned long long)term);
                term_claims_add(&c, LEASE_TERM_MAX - term, session);
        }
        ck_assert_int_eq(term_claims_save(os_host(), dir, &c, &e), 0);
        ck_assert_int_eq(term_claims_load(os_host(), dir, &read, &e), 0);
        ck_assert_uint_eq(read.n, TERM_CLAIMS_MAX);
        for (unsigned i = 0; i < read.n; i++)
                ck_assert(term_claims_has(&c, read.v[i].term, read.v[i].session));
        tmpdir_remove(dir);
}
END_TEST

/* As earlier versions wrote it. */
START_TEST(one_line_is_one_claim)
{
        char *dir = tmpdir_make();
        struct term_claims c;
        struct err e = ERR_INIT;

        write_file(path_in(dir, "term-claim"), "23:adf4238a\n", 12);
        ck_assert_int_eq(term_claims_load(os_host(), dir, &c, &e), 0);
        ck_assert_uint_eq(c.n, 1);
        ck_assert(term_claims_has(&c, 23, "adf4238a"));
        tmpdir_remove(dir);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("term_file");

        tcase_add_test(tc, a_claim_is_of_its_term_and_session);
        tcase_add_test(tc, the_oldest_claim_is_forgotten_when_there_are_too_many);
        tcase_add_test(tc, the_file_keeps_all_of_them);
        tcase_add_test(tc, one_line_is_one_claim);
        return run_tests("term_file", tc);
}
