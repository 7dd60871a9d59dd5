/* links: litefs_db litefs_loop sqlite3 */
/* The thread of an event loop waits for no disk and no database: what it asks of a database is shown without the lock, and
 * a wait that it comes to all the same is told. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "db/access.h"
#include "db/apply.h"
#include "db/remote_commit.h"
#include "db/rename.h"
#include "net/loop.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static struct db_driver *driver;
static struct db *db;
static struct loop *loop;

static void
begin(void)
{
        struct err e = ERR_INIT;
        int fd;

        dir = tmpdir_make();
        fd = open(path_in(dir, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        log_configure(&(struct log_config){ .fd = fd });
        ck_assert_msg(db_driver_open(os_host(), dir, &driver, &e) == 0, "%s", e.text);
        db = db_driver_db(driver);
        ck_assert_msg(loop_new(&loop, &e) == 0, "%s", e.text);
}

static void
end(void)
{
        loop_stop(loop);
        loop_free(loop);
        db_driver_close(driver);
        tmpdir_remove(dir);
}

static int
look_at_database(void *arg)
{
        struct received rx = { .record.min_txid = 2 };
        struct db_info info;
        bool has_all;

        (void)arg;
        db_get_info(db, &info);
        (void)db_exists(db);
        (void)db_looks_busy(db);
        (void)db_is_committing(db);
        (void)db_has_unsynced(db);
        (void)db_replicable_txid(db);
        (void)db_durable_pos(db, &has_all);
        (void)db_is_receiving(db);
        (void)db_follows(db, &rx, NULL);
        db_pass_on(db);
        db_set_receiving(db, false);
        db_set_halted(db, false);
        return 77;
}

/* Would the loop wait for the lock, it would wait for ever. */
START_TEST(the_loop_looks_while_somebody_has_the_database)
{
        struct db_access a;

        begin();
        ck_assert_int_eq(db_access_begin(db, DB_BY_CALL, &a, NULL), 0);
        ck_assert_int_eq(loop_call(loop, look_at_database, NULL), 77);
        db_access_end(&a);
        ck_assert_int_eq(loop_call(loop, look_at_database, NULL), 77);
        end();
}
END_TEST

static int
take_lock(void *arg)
{
        struct stat st;

        (void)arg;
        (void)db_stat(db, &st);
        (void)db_stat(db, &st);
        return 0;
}

static int
wait_for_log(void *arg)
{
        (void)arg;
        return txlog_sync(db_log(db), txlog_end_lsn(db_log(db)) + 1, NULL);
}

static int
wait_for_disk(void *arg)
{
        return os_fsync(os_host(), "test", *(int *)arg);
}

static int
do_wait(int which)
{
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

        r = which == 0   ? loop_call(loop, take_lock, NULL)
            : which == 1 ? loop_call(loop, wait_for_log, NULL)
                         : loop_call(loop, wait_for_disk, &fd);
        close(fd);
        return r;
}

static size_t
count_reports(void)
{
        struct file_bytes log = read_file(path_in(dir, "log"));
        size_t n = 0;

        for (size_t i = 0; i + 14 <= log.n; i++)
                n += memcmp(log.data + i, "internal error", 14) == 0;
        free(log.data);
        return n;
}

/* Where invariants are checked it is the end of the program. */
START_TEST(a_wait_of_the_loop_is_told_once)
{
        begin();
        (void)take_lock(NULL);
        ck_assert_uint_eq(count_reports(), 0); /* another thread may */
        (void)do_wait(_i);
        ck_assert_uint_eq(count_reports(), 1);
        end();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("loop_waits");

        tcase_add_test(tc, the_loop_looks_while_somebody_has_the_database);
#ifdef LITEFS_INVARIANTS
        tcase_add_loop_test_raise_signal(tc, a_wait_of_the_loop_is_told_once, SIGABRT, 0, 3);
#else
        tcase_add_loop_test(tc, a_wait_of_the_loop_is_told_once, 0, 3);
#endif
        return run_tests("loop_waits", tc);
}
