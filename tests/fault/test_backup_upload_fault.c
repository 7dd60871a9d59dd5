/* links: litefs_backup sqlite3 */
/* A destination whose n-th call fails, once or from then on, while a database is uploaded to it, and while another node takes
 * over that has a different history. At each moment what is there leads to a state that was committed; and once the calls
 * succeed again, to the last one. */
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "tests/lib/backup_place.h"
#include "tests/lib/run.h"

static struct place place;
static struct writer a, b;

static void
fail_nth(int nth, bool is_for_ever)
{
        struct os_fault_plan plan = { .op = OS_ANY_OP,
                                      .nth = (uint64_t)nth,
                                      .is_for_ever = is_for_ever,
                                      .error = -EIO,
                                      .is_torn = true };

        os_fault_plan(&place.faults, &plan);
}

static void
step_and_check(struct writer *w, bool *was_there)
{
        struct backup_image_state s;
        int r;

        (void)writer_step(w);
        r = place_restore(&place, &s);
        ck_assert_msg(r == 0 || (r == E_NOT_FOUND && !*was_there), "nothing to restore");
        *was_there |= r == 0;
}

static void
finish(struct writer *w)
{
        struct backup_image_state s;
        int r = -EIO;

        os_fault_plan(&place.faults, NULL);
        for (int i = 0; i < 3 && r != 0; i++)
                r = writer_step(w);
        ck_assert_msg(r == 0, "%s", w->e.text);
        ck_assert_int_eq(writer_state(w), UPLOAD_FOLLOWING);
        ck_assert_int_eq(place_restore(&place, &s), 0);
        ck_assert_uint_eq(s.pos.txid, writer_pos(w).txid);
        ck_assert_uint_eq(s.pos.checksum, writer_pos(w).checksum);
        place_check_borders(&place);
}

static void
work(struct writer *w, int i, bool *was_there)
{
        static const char *const sql[] = {
                "insert into t(x) values(randomblob(3000))",
                "update t set x=randomblob(200) where id%2=1",
                "pragma page_size=1024; vacuum; pragma page_size=4096; vacuum",
                "delete from t where id%3=0",
        };

        writer_run(w, sql[i % COUNT(sql)]);
        place.now_ms += 20000;
        step_and_check(w, was_there);
}

/* Whether the plan's call came. */
static bool
upload_with_fault(int nth, bool is_for_ever)
{
        bool was_there = false, has_failed;

        place_open(&place);
        writer_open(&a, &place, "a", NULL);
        fail_nth(nth, is_for_ever);
        for (int i = 0; i < 8; i++)
                work(&a, i, &was_there);
        has_failed = os_fault_failed(&place.faults) > 0;
        finish(&a);
        writer_close(&a);
        place_close(&place);
        return has_failed;
}

static bool
take_over_with_fault(int nth, bool is_for_ever)
{
        bool was_there = false, has_failed;

        place_open(&place);
        writer_open(&a, &place, "a", NULL);
        for (int i = 0; i < 2; i++)
                work(&a, i, &was_there);
        sqlite3_close(a.c);
        a.c = NULL;
        writer_open(&b, &place, "b", &a);
        ck_assert_int_eq(db_driver_connect(a.driver, 0, &a.c), SQLITE_OK);
        for (int i = 0; i < 5; i++) /* what the cluster loses, a whole database among it */
                work(&a, i, &was_there);
        fail_nth(nth, is_for_ever);
        for (int i = 0; i < 4; i++)
                work(&b, i, &was_there);
        has_failed = os_fault_failed(&place.faults) > 0;
        finish(&b);
        writer_close(&b);
        writer_close(&a);
        place_close(&place);
        return has_failed;
}

#define STRIDE 4 /* tests of a loop, each of which takes every so many-th call */

static void
each_nth(bool (*run)(int nth, bool is_for_ever), int first)
{
        bool once = true, for_ever = true;
        int nth = first + 1;

        for (; once || for_ever; nth += STRIDE) {
                once = run(nth, false);
                for_ever = run(nth, true);
        }
        ck_assert_int_gt(nth, 40);
}

START_TEST(nth_call_of_an_upload_fails)
{
        each_nth(upload_with_fault, _i);
}
END_TEST

START_TEST(nth_call_of_a_take_over_fails)
{
        each_nth(take_over_with_fault, _i);
}
END_TEST

int
main(void)
{
        struct log_config quiet = { .format = LOG_TEXT, .fd = -1 };
        TCase *tc = tcase_create("upload");

        log_configure(&quiet);
        tcase_add_loop_test(tc, nth_call_of_an_upload_fails, 0, STRIDE);
        tcase_add_loop_test(tc, nth_call_of_a_take_over_fails, 0, STRIDE);
        return run_tests("backup_upload_fault", tc);
}
