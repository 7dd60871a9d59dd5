/* links: litefs_db sqlite3 */
/* Whether real SQLite syncs its commits, as lib/db tells from its calls (db/habit.h). */
#include <check.h>
#include <limits.h>
#include <stdio.h>

#include "db/habit.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *tmp;
static struct db_driver *d;

static void
set_up(void)
{
        struct err e = ERR_INIT;
        char root[PATH_MAX];

        tmp = tmpdir_make();
        snprintf(root, sizeof root, "%s/data", tmp);
        db_driver_make_template(root, "wal", 5);
        ck_assert_int_eq(db_driver_open(os_host(), root, &d, &e), 0);
}

static void
tear_down(void)
{
        db_driver_close(d);
        tmpdir_remove(tmp);
}

static void
run(sqlite3 *c, const char *sql)
{
        ck_assert_msg(db_driver_exec(c, sql) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(c));
}

static sqlite3 *
connect_with(const char *pragmas)
{
        sqlite3 *c;

        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        run(c, pragmas);
        return c;
}

static void
write_rows(sqlite3 *c, int n)
{
        for (int i = 0; i < n; i++)
                run(c, "insert into t values(null,'a')");
}

static uint64_t
count(enum db_counter what)
{
        return db_counter(db_driver_db(d), what);
}

/* The last commit is counted with the next one. */
START_TEST(full_syncs_each_commit_also_beside_checkpoints)
{
        sqlite3 *c = connect_with("pragma synchronous=full; pragma wal_autocheckpoint=10");

        write_rows(c, HABIT_SURE + 1);
        ck_assert_uint_eq(count(DB_COUNT_SYNCED), HABIT_SURE);
        ck_assert_uint_eq(count(DB_COUNT_UNSYNCED) + count(DB_COUNT_UNCLEAR), 0);
        ck_assert(db_syncs_each(db_driver_db(d)));
        run(c, "pragma synchronous=normal");
        write_rows(c, 3);
        ck_assert(!db_syncs_each(db_driver_db(d)));
        sqlite3_close(c);
}
END_TEST

START_TEST(normal_syncs_none)
{
        sqlite3 *c = connect_with("pragma synchronous=normal; pragma wal_autocheckpoint=0");

        write_rows(c, 21);
        ck_assert_uint_eq(count(DB_COUNT_UNSYNCED), 20);
        ck_assert_uint_eq(count(DB_COUNT_SYNCED) + count(DB_COUNT_UNCLEAR), 0);
        sqlite3_close(c);
}
END_TEST

/* A checkpoint's own sync comes where that of the commit would: such commits must not pass for synced ones. */
START_TEST(connection_for_each_commit_tells_nothing_with_normal)
{
        for (int i = 0; i < 20; i++) {
                sqlite3 *c = connect_with("pragma synchronous=normal");

                write_rows(c, 1);
                sqlite3_close(c);
        }
        ck_assert_uint_eq(count(DB_COUNT_SYNCED), 0);
        ck_assert_uint_eq(count(DB_COUNT_UNCLEAR), 20);
}
END_TEST

START_TEST(connection_for_each_commit_is_seen_to_sync_with_full)
{
        for (int i = 0; i < 20; i++) {
                sqlite3 *c = connect_with("pragma synchronous=full");

                write_rows(c, 1);
                sqlite3_close(c);
        }
        ck_assert_uint_eq(count(DB_COUNT_SYNCED), 20);
        ck_assert_uint_eq(count(DB_COUNT_UNSYNCED) + count(DB_COUNT_UNCLEAR), 0);
}
END_TEST

START_TEST(passed_through_commits_are_counted_by_their_syncs)
{
        sqlite3 *c;

        db_driver_set_passed(d, true);
        c = connect_with("pragma synchronous=full");
        write_rows(c, 10);
        run(c, "pragma synchronous=normal");
        write_rows(c, 3);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        ck_assert_uint_eq(count(DB_COUNT_SYNCED), 10);
        ck_assert_uint_eq(count(DB_COUNT_UNSYNCED), 3);
        c = connect_with("pragma locking_mode=exclusive; pragma synchronous=full");
        write_rows(c, 10);
        ck_assert_uint_eq(count(DB_COUNT_SYNCED), 20);
        ck_assert_uint_eq(count(DB_COUNT_UNSYNCED), 3);
        sqlite3_close(c);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("habit");

        db_driver_use_memory();
        tcase_set_timeout(tc, 120);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, full_syncs_each_commit_also_beside_checkpoints);
        tcase_add_test(tc, normal_syncs_none);
        tcase_add_test(tc, connection_for_each_commit_tells_nothing_with_normal);
        tcase_add_test(tc, connection_for_each_commit_is_seen_to_sync_with_full);
        tcase_add_test(tc, passed_through_commits_are_counted_by_their_syncs);
        return run_tests("habit", tc);
}
