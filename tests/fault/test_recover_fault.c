/* links: litefs_db sqlite3 -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* A database whose daemon ended at once is opened while the n-th call fails, or the power is lost in it. However
 * often that is begun again, the last committed state comes out. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/db_driver_fault.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

struct leftover {
        const char *mode;
        const char *sql; /* run ten times, or NULL: the database is deleted */
        uint64_t segment_bytes;
};

static const struct leftover leftovers[] = {
        { "delete", "update t set x=randomblob(300) where id%7=1", 0 },
        { "delete", "update t set x=randomblob(300) where id%7=1", 8192 },
        { "wal",
          "update t set x=randomblob(300) where id%7=1; insert into t(x) values(randomblob(3000))", 0 },
        { "wal", "update t set x=randomblob(300) where id%5=1", 8192 },
        { "truncate", "delete from t where id%10=3; vacuum", 0 },
        { "delete", "pragma page_size=2048; vacuum; update t set x=randomblob(200) where id=1", 8192 },
        { "delete", NULL, 0 },
};
#define N_LEFTOVERS ((int)(sizeof leftovers / sizeof leftovers[0]))

/* What is on disk while the daemon runs, with the last bytes of a record that was being written. */
static void
leave(const struct leftover *lo, const char *live, const char *template, struct expected_open *ret)
{
        struct err e = ERR_INIT;
        struct db_driver *d;
        struct db_info info;
        sqlite3 *c;

        db_driver_make_template(live, lo->mode, 60);
        ck_assert_msg(db_driver_open_with(os_host(), live, lo->segment_bytes, &d, &e) == 0, "%s",
                      e.text);
        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        for (int i = 0; i < 10 && lo->sql != NULL; i++)
                ck_assert_int_eq(db_driver_exec(c, lo->sql), SQLITE_OK);
        *ret = (struct expected_open){ .template = template, .segment_bytes = lo->segment_bytes };
        if (lo->sql != NULL)
                ck_assert_int_eq(db_driver_digest(c, &ret->state), SQLITE_OK);
        else
                ck_assert_int_eq(db_driver_drop(d, &e), 0);
        db_get_info(db_driver_db(d), &info);
        ret->txid = info.pos.txid;
        db_driver_copy_tree(live, template);
        sqlite3_close(c);
        db_driver_close(d);
}

struct place {
        char *dir;
        char live[PATH_MAX], template[PATH_MAX], root[PATH_MAX];
};

static void
place_init(struct place *p)
{
        p->dir = tmpdir_make();
        snprintf(p->live, sizeof p->live, "%s/live", p->dir);
        snprintf(p->template, sizeof p->template, "%s/template", p->dir);
        snprintf(p->root, sizeof p->root, "%s/root", p->dir);
}

START_TEST(nth_call_of_the_recovery_fails)
{
        struct err e = ERR_INIT;
        struct expected_open expected;
        struct place p;

        place_init(&p);
        leave(&leftovers[_i], p.live, p.template, &expected);
        ck_assert_msg(fail_each_open(p.root, &expected, &e) == 0, "%s", e.text);
        tmpdir_remove(p.dir);
}
END_TEST

START_TEST(power_is_lost_in_the_recovery)
{
        struct err e = ERR_INIT;
        struct expected_open expected;
        struct place p;
        const char *seed = getenv("SEED");

        place_init(&p);
        leave(&leftovers[_i], p.live, p.template, &expected);
        ck_assert_msg(
                cut_each_open(p.root, &expected, seed != NULL ? strtoull(seed, NULL, 0) : 1, 4, &e) == 0,
                "%s", e.text);
        tmpdir_remove(p.dir);
}
END_TEST

int
main(void)
{
        static const struct log_config quiet = { .fd = -1 };
        TCase *tc = tcase_create("recover_fault");

        log_configure(&quiet);
        db_driver_use_memory();
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, nth_call_of_the_recovery_fails, 0, N_LEFTOVERS);
        tcase_add_loop_test(tc, power_is_lost_in_the_recovery, 0, N_LEFTOVERS);
        return run_tests("recover_fault", tc);
}
