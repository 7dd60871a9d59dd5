/* links: litefs_db sqlite3 -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* A data directory of LiteFS 0.5 is taken over while the n-th call fails, or the power is lost in it. However often
 * that is begun again, its last replicated state comes out. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/db_driver_fault.h"
#include "tests/lib/db_driver_legacy.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

struct place {
        char *dir;
        char template[PATH_MAX], root[PATH_MAX];
};

static void
place_init(struct place *p, enum legacy_kind kind, struct expected_open *ret)
{
        p->dir = tmpdir_make();
        snprintf(p->template, sizeof p->template, "%s/template", p->dir);
        snprintf(p->root, sizeof p->root, "%s/root", p->dir);
        *ret = (struct expected_open){ .template = p->template };
        legacy_make(p->template, kind, &ret->txid, &ret->state);
}

START_TEST(take_over_without_faults)
{
        struct err e = ERR_INIT;
        struct expected_open expected;
        struct place p;
        bool is_open;

        place_init(&p, (enum legacy_kind)_i, &expected);
        db_driver_copy_tree(p.template, p.root);
        ck_assert_msg(check_open(os_host(), p.root, &expected, &is_open, &e) == 0, "%s: %s",
                      legacy_kind_name((enum legacy_kind)_i), e.text);
        tmpdir_remove(p.dir);
}
END_TEST

START_TEST(nth_call_of_the_take_over_fails)
{
        struct err e = ERR_INIT;
        struct expected_open expected;
        struct place p;

        place_init(&p, (enum legacy_kind)_i, &expected);
        ck_assert_msg(fail_each_open(p.root, &expected, &e) == 0, "%s: %s",
                      legacy_kind_name((enum legacy_kind)_i), e.text);
        tmpdir_remove(p.dir);
}
END_TEST

START_TEST(power_is_lost_in_the_take_over)
{
        struct err e = ERR_INIT;
        struct expected_open expected;
        struct place p;
        const char *seed = getenv("SEED");

        place_init(&p, (enum legacy_kind)_i, &expected);
        ck_assert_msg(
                cut_each_open(p.root, &expected, seed != NULL ? strtoull(seed, NULL, 0) : 1, 4, &e) == 0,
                "%s: %s", legacy_kind_name((enum legacy_kind)_i), e.text);
        tmpdir_remove(p.dir);
}
END_TEST

int
main(void)
{
        static const struct log_config quiet = { .fd = -1 };
        TCase *tc = tcase_create("adopt_fault");

        log_configure(&quiet);
        db_driver_use_memory();
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, take_over_without_faults, 0, LEGACY_N);
        tcase_add_loop_test(tc, nth_call_of_the_take_over_fails, 0, LEGACY_N);
        tcase_add_loop_test(tc, power_is_lost_in_the_take_over, 0, LEGACY_N);
        return run_tests("adopt_fault", tc);
}
