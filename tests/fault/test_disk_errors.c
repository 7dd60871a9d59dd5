/* links: litefs_db sqlite3 */
/* Errors of the disk that come once and are over: what was not written then must not count as written later, and what
 * was refused then must be possible again. And what others write to the database's file beside its WAL. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

struct world {
        char *dir; /* the test's own */
        char root[256];
        struct os_fault os;
        struct db_driver *d;
        sqlite3 *c;
};

static void
open_driver(struct world *w)
{
        struct err e = ERR_INIT;

        ck_assert_msg(db_driver_open_with(&w->os.os, w->root, 16384, &w->d, &e) == 0, "%s", e.text);
        ck_assert_int_eq(db_driver_connect(w->d, 0, &w->c), SQLITE_OK);
}

static void
close_driver(struct world *w)
{
        sqlite3_close(w->c);
        db_driver_close(w->d);
}

/* A database with a base. */
static void
begin_in(struct world *w, const char *mode)
{
        *w = (struct world){ .dir = tmpdir_make() };
        snprintf(w->root, sizeof w->root, "%s/node", w->dir);
        db_driver_make_template(w->root, mode, 100);
        os_fault_init(&w->os, os_host());
        w->os.skips_sync = true;
        open_driver(w);
}

static void
begin(struct world *w)
{
        begin_in(w, "wal");
}

static void
end(struct world *w)
{
        close_driver(w);
        os_fault_release(&w->os);
        tmpdir_remove(w->dir);
}

static struct db_info
info(struct world *w)
{
        struct db_info ret;

        db_get_info(db_driver_db(w->d), &ret);
        return ret;
}

/* The kernel tells of a write that was lost once, and its pages count as written from then on. */
START_TEST(test_base_stays_where_the_file_was_not_synced)
{
        const struct os_fault_plan once = {
                .op = OS_FDATASYNC, .tag = "db:base", .nth = 1, .error = -EIO
        };
        struct err e = ERR_INIT;
        uint64_t base, digest, after;
        struct world w;

        begin(&w);
        base = info(&w).base_txid;
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=randomblob(300)"), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(w.c, "pragma wal_checkpoint"), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        os_fault_plan(&w.os, &once);
        ck_assert_int_lt(db_driver_tick(w.d, 0, &e), 0);
        ck_assert_uint_eq(os_fault_failed(&w.os), 1);
        os_fault_plan(&w.os, NULL);
        (void)db_driver_tick(w.d, 0, NULL);
        ck_assert_uint_eq(info(&w).base_txid, base);
        close_driver(&w);

        /* The log has it all. */
        open_driver(&w);
        ck_assert_int_eq(db_driver_digest(w.c, &after), SQLITE_OK);
        ck_assert_uint_eq(after, digest);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=1"), SQLITE_OK);
        end(&w);
}
END_TEST

/* Not even the mark that a record is void finds room. */
START_TEST(test_writing_goes_on_when_the_disk_has_room_again)
{
        const struct os_fault_plan full = {
                .op = OS_PWRITE, .tag = "txlog:", .nth = 1, .is_for_ever = true, .error = -ENOSPC
        };
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=1 where id=1"), SQLITE_OK);
        os_fault_plan(&w.os, &full);
        ck_assert_int_ne(db_driver_exec(w.c, "update t set x=2 where id=1"), SQLITE_OK);
        ck_assert_int_ne(db_driver_exec(w.c, "update t set x=3 where id=1"), SQLITE_OK);
        ck_assert_uint_gt(os_fault_failed(&w.os), 1);
        os_fault_plan(&w.os, NULL);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=4 where id=1"), SQLITE_OK);
        ck_assert_int_eq(db_driver_int(w.c, "select x from t where id=1"), 4);
        close_driver(&w);
        open_driver(&w);
        ck_assert_int_eq(db_driver_int(w.c, "select x from t where id=1"), 4);
        end(&w);
}
END_TEST

/* What SQLite copies from the WAL while another program writes to the database beside it: SQLite counts it as copied. */
START_TEST(test_base_does_not_pass_a_checkpoint_that_came_amiss)
{
        struct err e = ERR_INIT;
        struct db_done none = { 0 };
        uint64_t digest, after;
        uint8_t page[1024];
        struct world w, killed;
        sqlite3 *other;

        begin(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=randomblob(300)"), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        for (uint64_t off = sizeof page; off <= 2 * sizeof page; off += sizeof page) {
                /* As it was, so not from the WAL: a page that the WAL has not, and one that it has. */
                ck_assert_int_eq(db_read(db_driver_db(w.d), page, sizeof page, off), sizeof page);
                ck_assert_int_eq(db_write(db_driver_db(w.d), page, sizeof page, off, none), 0);
        }
        ck_assert_int_eq(db_driver_exec(w.c, "pragma wal_checkpoint"), SQLITE_OK);
        ck_assert_msg(db_driver_tick(w.d, 0, &e) == 0, "%s", e.text);

        ck_assert_int_eq(db_driver_connect(w.d, 0, &other), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(other, &after), SQLITE_OK);
        ck_assert_uint_eq(after, digest);

        killed = w;
        snprintf(killed.root, sizeof killed.root, "%s/copy", w.dir);
        db_driver_copy_tree(w.root, killed.root);
        sqlite3_close(other);
        close_driver(&w);
        open_driver(&killed);
        ck_assert_int_eq(db_driver_digest(killed.c, &after), SQLITE_OK);
        ck_assert_uint_eq(after, digest);
        ck_assert_int_eq(db_driver_check_files(killed.d, killed.root, NULL, 0, &e), 0);
        end(&killed);
}
END_TEST

static bool
goes_on(void *arg)
{
        (void)arg;
        return true;
}

/* A backup is copied back, and the WAL still has the frames that it was made of. */
START_TEST(test_old_page_of_the_wal_is_no_checkpoint)
{
        const struct db_pace pace = { NULL, goes_on };
        struct err e = ERR_INIT;
        struct db_done none = { 0 };
        uint8_t frame[24 + 1024]; /* the first, behind the header of 32 bytes */
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=1 where id=1"), SQLITE_OK);
        ck_assert_int_eq(db_wal_read(db_driver_db(w.d), frame, sizeof frame, 32), sizeof frame);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=2 where id=1; pragma wal_checkpoint"),
                         SQLITE_OK);
        ck_assert_int_eq(
                db_write(db_driver_db(w.d), frame + 24, 1024, (get_be32(frame) - 1) * 1024ull, none), 0);
        ck_assert_msg(db_driver_tick(w.d, 0, &e) == 0, "%s", e.text);
        ck_assert_msg(db_verify(db_driver_db(w.d), &pace, &e) == 0, "%s", e.text);
        end(&w);
}
END_TEST

/* Committed pages wait in memory, and past a bound in a file, for which there is no room. */
START_TEST(test_pages_that_wait_need_no_room_once_they_are_committed)
{
        const struct os_fault_plan full = {
                .op = OS_PWRITE, .tag = "spool", .nth = 1, .is_for_ever = true, .error = -ENOSPC
        };
        char sql[128];
        struct world w;

        begin_in(&w, "delete");
        ck_assert_int_eq(db_driver_exec(w.c, "pragma page_size=8192; vacuum; pragma synchronous=off; "
                                             "pragma cache_size=2000"),
                         SQLITE_OK);
        os_fault_plan(&w.os, &full);
        for (int i = 1; i <= 12; i++) {
                snprintf(sql, sizeof sql, "insert into t values(%d, zeroblob(500000))", 1000 + i);
                ck_assert_int_eq(db_driver_exec(w.c, sql), SQLITE_OK);
        }
        ck_assert(!info(&w).is_failed);
        ck_assert_int_eq(db_driver_int(w.c, "select count(*) from t where id > 1000"), 12);
        end(&w);
}
END_TEST

/* The deletion is in the log, but not for ever: nobody may take it for done. */
START_TEST(test_deletion_that_was_not_synced_is_not_done)
{
        const struct os_fault_plan once = {
                .op = OS_FDATASYNC, .tag = "txlog:sync", .nth = 1, .error = -EIO
        };
        struct err e = ERR_INIT;
        struct world w;

        begin(&w);
        sqlite3_close(w.c);
        w.c = NULL;
        os_fault_plan(&w.os, &once);
        ck_assert_int_lt(db_driver_drop(w.d, &e), 0);
        os_fault_plan(&w.os, NULL);
        ck_assert_int_lt(db_driver_drop(w.d, &e), 0);
        ck_assert(db_exists(db_driver_db(w.d)));
        ck_assert(info(&w).is_failed);
        end(&w);
}
END_TEST

/* The first commit of a WAL whose header was synced is expected to be, too: it is not sent before, nor when that fails. */
START_TEST(test_commit_that_was_not_synced_is_not_sent)
{
        const struct os_fault_plan no_sync = {
                .op = OS_FDATASYNC, .tag = "txlog:sync", .nth = 1, .is_for_ever = true, .error = -EIO
        };
        struct world w;
        uint64_t txid;

        begin(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "pragma synchronous=normal"), SQLITE_OK);
        txid = info(&w).pos.txid;
        os_fault_plan(&w.os, &no_sync);
        ck_assert_int_eq(db_driver_exec(w.c, "update t set x=1 where id=1"), SQLITE_OK);
        ck_assert_uint_eq(db_replicable_txid(db_driver_db(w.d)), txid);
        for (int i = 0; i < 10000 && !info(&w).is_failed; i++)
                usleep(1000);
        ck_assert(info(&w).is_failed);
        ck_assert_uint_eq(info(&w).pos.txid, txid + 1);
        ck_assert_uint_eq(db_replicable_txid(db_driver_db(w.d)), txid);
        os_fault_plan(&w.os, NULL);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("disk_errors");

        db_driver_use_memory();
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, test_base_stays_where_the_file_was_not_synced);
        tcase_add_test(tc, test_writing_goes_on_when_the_disk_has_room_again);
        tcase_add_test(tc, test_base_does_not_pass_a_checkpoint_that_came_amiss);
        tcase_add_test(tc, test_old_page_of_the_wal_is_no_checkpoint);
        tcase_add_test(tc, test_pages_that_wait_need_no_room_once_they_are_committed);
        tcase_add_test(tc, test_deletion_that_was_not_synced_is_not_done);
        tcase_add_test(tc, test_commit_that_was_not_synced_is_not_sent);
        return run_tests("disk_errors", tc);
}
