/* links: litefs_store sqlite3 */
/* What takes its time behind the applications' backs holds none of them up: a call to the disk in the midst of it does not
 * return before another thread has done what it may do beside it. Whoever held the database's lock meanwhile would wait here
 * until the test gives up.
 *
 * The two threads tell each other nothing that would order what they do (relaxed atomics): so the thread sanitizer sees a value
 * that both use without the lock, in one run. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "db/apply.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_no_sync.h"
#include "tests/lib/received.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define SEGMENT_BYTES (64u << 10)
#define PAGE_SIZE 1024
#define GIVE_UP_MS 20000

enum moment { NEVER, BASE_WRITTEN, STATE_OPENED };

static struct {
        struct os host, os;
        atomic_uint n_begun;  /* of its calls */
        atomic_uint n_beside; /* of what the other one has done */
        atomic_bool is_over, has_waited_in_vain;
        enum moment moment;
        bool is_swapped; /* the worker's: the new state is where the old one was */
} w;

static _Thread_local bool is_worker; /* whose calls wait */
static char *dir;
static char root[300];
static struct db_driver *driver;

/* --- the disk --- */

static void
look_again_soon(void)
{
        nanosleep(&(struct timespec){ 0, 200000 }, NULL);
}

/* By the worker, in a call to the disk: until the other one has begun and ended something. */
static void
let_other_go(void)
{
        unsigned first = atomic_load_explicit(&w.n_beside, memory_order_relaxed);

        atomic_fetch_add_explicit(&w.n_begun, 1, memory_order_relaxed);
        for (int i = 0; i < GIVE_UP_MS * 5; i++) {
                if (atomic_load_explicit(&w.n_beside, memory_order_relaxed) >= first + 2)
                        return;
                look_again_soon();
        }
        atomic_store_explicit(&w.has_waited_in_vain, true, memory_order_relaxed);
}

static bool
is_now(enum moment moment)
{
        return w.moment == moment && is_worker &&
               !atomic_load_explicit(&w.has_waited_in_vain, memory_order_relaxed);
}

static int
close_beside(const struct os *os, const char *tag, int fd)
{
        if (is_now(BASE_WRITTEN) && strcmp(tag, "base:write") == 0)
                let_other_go();
        return w.host.close(os, tag, fd);
}

static int
rename_beside(const struct os *os, const char *tag, const char *from, const char *to)
{
        if (is_now(STATE_OPENED) && strcmp(tag, "replace:swap") == 0)
                w.is_swapped = true;
        return w.host.rename(os, tag, from, to);
}

static ssize_t
pread_beside(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        if (is_now(STATE_OPENED) && w.is_swapped)
                let_other_go();
        return w.host.pread(os, tag, fd, buf, n, off);
}

/* --- a database --- */

static void
begin(enum moment moment)
{
        struct err e = ERR_INIT;

        memset(&w, 0, sizeof w);
        w.host = w.os = os_no_sync();
        w.os.close = close_beside;
        w.os.rename = rename_beside;
        w.os.pread = pread_beside;
        dir = tmpdir_make();
        snprintf(root, sizeof root, "%s/node", dir);
        db_driver_make_template(root, "delete", 60);
        ck_assert_msg(db_driver_open_with(&w.os, root, SEGMENT_BYTES, &driver, &e) == 0, "%s", e.text);
        w.moment = moment;
}

static void
end(void)
{
        w.moment = NEVER;
        db_driver_close(driver);
        tmpdir_remove(dir);
}

static void
update(sqlite3 *c)
{
        ck_assert_int_eq(db_driver_exec(c, "update t set x=randomblob(300) where id<5"), SQLITE_OK);
}

/* --- the base --- */

static void *
move_the_base(void *arg)
{
        struct db_retention keep = { 0 };

        is_worker = true;
        (void)db_housekeep(db_driver_db(driver), &keep, arg);
        atomic_store_explicit(&w.is_over, true, memory_order_relaxed);
        return NULL;
}

START_TEST(commits_go_on_while_the_base_is_written)
{
        struct err e = ERR_INIT;
        struct db_info info;
        pthread_t keeper;
        sqlite3 *c;

        begin(BASE_WRITTEN);
        ck_assert_int_eq(db_driver_connect(driver, 0, &c), SQLITE_OK);
        for (int i = 0; i < 40; i++)
                update(c);
        ck_assert_int_eq(pthread_create(&keeper, NULL, move_the_base, &e), 0);
        while (!atomic_load_explicit(&w.is_over, memory_order_relaxed)) {
                if (atomic_load_explicit(&w.n_begun, memory_order_relaxed) > 0) {
                        update(c);
                        atomic_fetch_add_explicit(&w.n_beside, 1, memory_order_relaxed);
                }
                look_again_soon();
        }
        ck_assert_int_eq(pthread_join(keeper, NULL), 0);
        ck_assert_msg(e.code == 0, "%s", e.text);
        ck_assert_uint_eq(w.n_begun, 1);
        ck_assert(!w.has_waited_in_vain);
        db_get_info(db_driver_db(driver), &info);
        ck_assert_uint_gt(info.base_txid, 1);
        ck_assert_uint_lt(info.base_txid, info.pos.txid);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        end();
}
END_TEST

/* --- another history --- */

static void
make_other_history(struct received *ret)
{
        struct db_driver *theirs;
        struct err e = ERR_INIT;
        char path[320];

        snprintf(path, sizeof path, "%s/theirs", dir);
        db_driver_make_template(path, "delete", 30);
        ck_assert_msg(db_driver_open(&w.host, path, &theirs, &e) == 0, "%s", e.text);
        received_snapshot(ret, db_driver_db(theirs), dir);
        ret->history = TXLOG_HISTORY_OTHER;
        db_driver_close(theirs);
}

static void
close_old(void *arg, int fd, int wal_fd)
{
        os_close(arg, "", fd);
        os_close(arg, "", wal_fd);
}

struct replacing {
        struct received other;
        struct err e;
};

static void *
replace(void *arg)
{
        struct replacing *p = arg;

        is_worker = true;
        (void)db_replace(db_driver_db(driver), &p->other, close_old, (void *)os_host(), &p->e);
        db_apply_shown(db_driver_db(driver));
        atomic_store_explicit(&w.is_over, true, memory_order_relaxed);
        return NULL;
}

START_TEST(reads_go_on_while_another_history_is_opened)
{
        struct replacing p = { .e = ERR_INIT };
        struct db *db;
        struct db_info info;
        uint8_t old[PAGE_SIZE], page[PAGE_SIZE];
        pthread_t replacer;

        begin(STATE_OPENED);
        db = db_driver_db(driver);
        make_other_history(&p.other);
        ck_assert_int_eq(db_read(db, old, sizeof old, PAGE_SIZE), PAGE_SIZE);
        ck_assert_int_eq(pthread_create(&replacer, NULL, replace, &p), 0);
        while (!atomic_load_explicit(&w.is_over, memory_order_relaxed)) {
                ck_assert_int_eq(db_read(db, page, sizeof page, PAGE_SIZE), PAGE_SIZE);
                atomic_fetch_add_explicit(&w.n_beside, 1, memory_order_relaxed);
                look_again_soon();
        }
        ck_assert_int_eq(pthread_join(replacer, NULL), 0);
        ck_assert_msg(p.e.code == 0, "%s", p.e.text);
        ck_assert_uint_gt(w.n_begun, 0);
        ck_assert(!w.has_waited_in_vain);
        db_get_info(db, &info);
        ck_assert_uint_eq(info.pos.checksum, p.other.record.post_apply_checksum);
        ck_assert_int_eq(db_read(db, page, sizeof page, PAGE_SIZE), PAGE_SIZE);
        ck_assert(memcmp(page, old, sizeof page) != 0);
        received_release(&p.other);
        end();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("beside");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, commits_go_on_while_the_base_is_written);
        tcase_add_test(tc, reads_go_on_while_another_history_is_opened);
        return run_tests("db_beside", tc);
}
