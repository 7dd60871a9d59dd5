/* links: litefs_store sqlite3 */
/* What a deleted database keeps: as much of its log as any other one that is not written any more. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define SEGMENT_BYTES (64u << 10)

struct world {
        char *dir;
        char root[256];
        struct os_fault os;
        struct db_driver *d;
        struct err e;
};

static void
open_node(struct world *w)
{
        ck_assert_msg(db_driver_open_with(&w->os.os, w->root, SEGMENT_BYTES, &w->d, &w->e) == 0, "%s",
                      w->e.text);
}

static struct db_info
info(struct world *w)
{
        struct db_info ret;

        db_get_info(db_driver_db(w->d), &ret);
        return ret;
}

static uint32_t
segments(struct world *w)
{
        struct txlog_stat st;

        txlog_get_stat(db_log(db_driver_db(w->d)), &st);
        return st.segments;
}

/* Retention of a millisecond, a little later. */
static void
retain(struct world *w)
{
        nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
        ck_assert_msg(db_driver_tick(w->d, 1, &w->e) == 0, "%s", w->e.text);
}

static void
update_often(sqlite3 *c)
{
        for (int i = 0; i < 40; i++)
                ck_assert_int_eq(db_driver_exec(c, "update t set x=randomblob(300)"), SQLITE_OK);
}

/* A database whose log is far longer than its base says, and begins later than the database, deleted. */
static void
begin(struct world *w)
{
        sqlite3 *c;

        *w = (struct world){ .dir = tmpdir_make(), .e = ERR_INIT };
        snprintf(w->root, sizeof w->root, "%s/node", w->dir);
        db_driver_make_template(w->root, "delete", 100);
        os_fault_init(&w->os, os_host());
        w->os.skips_sync = true;
        open_node(w);
        ck_assert_int_eq(db_driver_connect(w->d, 0, &c), SQLITE_OK);
        update_often(c);
        retain(w);
        update_often(c);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        ck_assert_msg(db_driver_drop(w->d, &w->e) == 0, "%s", w->e.text);
        ck_assert_uint_gt(segments(w), 10);
}

static void
end(struct world *w)
{
        db_driver_close(w->d);
        os_fault_release(&w->os);
        tmpdir_remove(w->dir);
}

static void
restart(struct world *w)
{
        db_driver_close(w->d);
        open_node(w);
}

/* Without the end's housekeeping, as a kill leaves it. */
static void
crash(struct world *w)
{
        char copy[300];

        snprintf(copy, sizeof copy, "%s/copy", w->dir);
        db_driver_copy_tree(w->root, copy);
        db_driver_close(w->d);
        db_driver_remove_tree(w->root);
        ck_assert_int_eq(rename(copy, w->root), 0);
        open_node(w);
}

/* The next database of the name follows the one before. */
static struct ltx_pos
make_anew(struct world *w, struct ltx_pos before)
{
        char path[300];
        struct ltx_pos made;

        snprintf(path, sizeof path, "%s/plain.db", w->dir);
        db_driver_make_plain(path, 1);
        ck_assert_msg(db_driver_adopt(w->d, path, &w->e) == 0, "%s", w->e.text);
        made = info(w).pos;
        ck_assert_uint_eq(made.txid, before.txid + 1);
        return made;
}

static void
check_made(struct world *w, struct ltx_pos made)
{
        ck_assert_uint_eq(info(w).pos.txid, made.txid);
        ck_assert_uint_eq(info(w).pos.checksum, made.checksum);
        ck_assert(db_exists(db_driver_db(w->d)));
}

START_TEST(retention_takes_the_log_of_a_deleted_database)
{
        struct ltx_pos pos, made;
        struct world w;

        begin(&w);
        pos = info(&w).pos;
        retain(&w);
        ck_assert_uint_eq(segments(&w), 1);
        restart(&w);
        ck_assert_uint_eq(info(&w).pos.txid, pos.txid);
        ck_assert_uint_eq(info(&w).pos.checksum, pos.checksum);
        ck_assert(!db_exists(db_driver_db(w.d)));
        retain(&w);
        ck_assert_uint_eq(segments(&w), 1);
        made = make_anew(&w, pos);
        restart(&w);
        check_made(&w, made);
        end(&w);
}
END_TEST

START_TEST(retention_takes_it_after_a_restart)
{
        struct ltx_pos pos, made;
        struct world w;

        begin(&w);
        pos = info(&w).pos;
        restart(&w);
        retain(&w);
        ck_assert_uint_eq(segments(&w), 1);
        made = make_anew(&w, pos);
        restart(&w);
        check_made(&w, made);
        end(&w);
}
END_TEST

/* A start that finds the deletion in the log alone, and then the next database before any housekeeping. */
START_TEST(next_one_may_come_before_retention)
{
        struct ltx_pos made;
        struct world w;

        begin(&w);
        crash(&w);
        made = make_anew(&w, info(&w).pos);
        retain(&w);
        crash(&w);
        check_made(&w, made);
        retain(&w);
        restart(&w);
        check_made(&w, made);
        end(&w);
}
END_TEST

/* Whatever of the three steps fails or comes last before the end: the next start knows of the deletion. */
START_TEST(base_of_a_deleted_database_fails_or_stands)
{
        static const struct os_fault_plan plans[] = {
                { .op = OS_PWRITE, .tag = "base:write", .nth = 1, .error = -ENOSPC },
                { .op = OS_FDATASYNC, .tag = "base:write", .nth = 1, .error = -EIO },
                { .op = OS_RENAME, .tag = "base:publish", .nth = 1, .error = -EIO },
                { .op = OS_FSYNC, .tag = "base:publish", .nth = 1, .error = -EIO },
        };
        struct ltx_pos pos, made;
        struct world w;

        begin(&w);
        pos = info(&w).pos;
        os_fault_plan(&w.os, &plans[_i]);
        nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
        (void)db_driver_tick(w.d, 1, &w.e);
        os_fault_plan(&w.os, NULL);
        restart(&w);
        ck_assert_uint_eq(info(&w).pos.txid, pos.txid);
        ck_assert(!db_exists(db_driver_db(w.d)));
        retain(&w);
        ck_assert_uint_eq(segments(&w), 1);
        made = make_anew(&w, pos);
        restart(&w);
        check_made(&w, made);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("deleted");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, retention_takes_the_log_of_a_deleted_database);
        tcase_add_test(tc, retention_takes_it_after_a_restart);
        tcase_add_test(tc, next_one_may_come_before_retention);
        tcase_add_loop_test(tc, base_of_a_deleted_database_fails_or_stands, 0, 4);
        return run_tests("db_deleted", tc);
}
