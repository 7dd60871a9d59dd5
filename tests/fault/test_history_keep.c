/* links: litefs_history sqlite3 */
/* Whole databases that are kept beside a log which loses its beginning again and again: every state from the oldest of them
 * on can be read, and is what was committed; also when calls fail, and never from a file that is damaged. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "db/snapshot.h"
#include "history/images.h"
#include "history/keep.h"
#include "history/moment.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define STATES_MAX 2000u
#define SEGMENT_BYTES 20000u

static struct os_fault faults;
static char *top;
static char root[200], dir[300];
static struct db_driver *driver;
static sqlite3 *c;
static struct err e;
static struct keep_policy policy;
static struct clock fake_clock;
static int64_t fake_ms;

static struct {
        uint8_t *image; /* bytes 18 and 19 are 1 */
        size_t size;
} states[STATES_MAX]; /* [txid] */

static int64_t
read_fake_clock(const struct clock *clock)
{
        (void)clock;
        return fake_ms;
}

static bool
always(void *arg)
{
        (void)arg;
        return true;
}

static struct db *
the_db(void)
{
        return db_driver_db(driver);
}

static void
run_sql(const char *sql)
{
        ck_assert_msg(sqlite3_exec(c, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql,
                      sqlite3_errmsg(c));
}

static void
set_up(void)
{
        const struct log_config silent = { .fd = -1 };

        log_configure(&silent);
        os_fault_init(&faults, os_host());
        faults.skips_sync = true;
        top = tmpdir_make();
        snprintf(root, sizeof root, "%s/data", top);
        snprintf(dir, sizeof dir, "%s/dbs/t.db/" HISTORY_DIR, root);
        db_driver_make_template(root, "delete", 1);
        ck_assert_msg(db_driver_open_with(&faults.os, root, SEGMENT_BYTES, &driver, &e) == 0, "%s",
                      e.text);
        ck_assert_int_eq(db_driver_connect(driver, 0, &c), SQLITE_OK);
        fake_clock = (struct clock){ read_fake_clock, read_fake_clock };
        fake_ms = clock_wall_ms(clock_host());
        policy = (struct keep_policy){ .os = &faults.os,
                                       .clock = &fake_clock,
                                       .keep_ms = 3600000,
                                       .max_bytes = UINT64_MAX,
                                       .every = 3 * SEGMENT_BYTES,
                                       .goes_on = always };
}

static void
tear_down(void)
{
        os_fault_plan(&faults, NULL);
        sqlite3_close(c);
        db_driver_close(driver);
        os_fault_release(&faults);
        tmpdir_remove(top);
        for (unsigned i = 0; i < STATES_MAX; i++)
                free(states[i].image);
}

static uint64_t
last_txid(void)
{
        struct db_info info;

        db_get_info(the_db(), &info);
        return info.pos.txid;
}

static void
note_state(void)
{
        uint64_t txid = last_txid();
        size_t size = db_size_bytes(the_db());

        ck_assert_uint_lt(txid, STATES_MAX);
        free(states[txid].image);
        states[txid].image = malloc(size + 1);
        states[txid].size = size;
        ck_assert_int_eq(db_read(the_db(), states[txid].image, size, 0), (ssize_t)size);
        if (size > 0)
                states[txid].image[18] = states[txid].image[19] = 1;
}

/* A transaction, then what the timers do: the base moves, and segments behind it go at once. */
static void
work(int i)
{
        char sql[200];

        snprintf(sql, sizeof sql,
                 i % 50 == 49 ? "delete from t where id %% 3 = %d"
                              : "insert or replace into t values(abs(random()) %% 60, randomblob(%d))",
                 i % 50 == 49 ? i % 3 : 100 + rand() % 3000);
        run_sql(sql);
        note_state();
        (void)db_driver_tick(driver, 1, NULL);
}

static int
keep(void)
{
        int r;

        db_driver_drain(driver);
        r = history_keep(&policy, the_db(), dir, &e);
        (void)db_driver_tick(driver, 1, NULL);
        return r;
}

static int
open_state(uint64_t txid, struct moment **ret)
{
        struct moment_spec spec = { .txid = txid };
        struct moment_info info;
        int r = moment_find(db_log(the_db()), &spec, last_txid(), &info, &e);

        return r < 0 ? r : moment_open(&faults.os, db_log(the_db()), dir, &info, ret, &e);
}

/* The memory that the state after @txid takes which begins with a base of @base_size bytes. */
static void
check_cost(uint64_t txid, size_t base_size)
{
        struct moment *m = NULL;

        ck_assert_msg(open_state(txid, &m) == 0, "%s", e.text);
        ck_assert_uint_eq(moment_bytes(m),
                          (states[txid].size + base_size) / moment_get_info(m)->page_size * 8);
        moment_close(m);
}

/* What is read of it is what was committed. 0, or why not all of it could be read. */
static int
check_state(uint64_t txid)
{
        uint8_t *got = malloc(states[txid].size + 1);
        struct moment *m = NULL;
        int r = open_state(txid, &m);
        ssize_t n = r < 0 ? r : moment_read(m, got, states[txid].size + 1, 0, &e);

        if (n >= 0) {
                ck_assert_int_eq(n, (ssize_t)states[txid].size);
                ck_assert_mem_eq(got, states[txid].image, (size_t)n);
        }
        moment_close(m);
        free(got);
        return n < 0 ? (int)n : 0;
}

static uint64_t
first_in_log(void)
{
        struct txlog_record first;

        ck_assert(txlog_first(db_log(the_db()), &first));
        return first.min_txid;
}

/* Every state is there from the oldest base on. The number of those. */
static unsigned
check_all(void)
{
        uint64_t begin = history_images_begin(&faults.os, dir), first = first_in_log();
        unsigned n = 0;

        for (uint64_t txid = first == 1 ? 1 : begin; txid <= last_txid(); txid++) {
                if (states[txid].image == NULL || txid < first)
                        continue;
                ck_assert_msg(check_state(txid) == 0, "%llu of %llu: %s", (unsigned long long)txid,
                              (unsigned long long)last_txid(), e.text);
                n++;
        }
        return n;
}

static size_t
count_images(void)
{
        struct history_images l;
        size_t n;

        ck_assert_int_eq(history_images_list(&faults.os, dir, &l, &e), 0);
        n = l.n;
        history_images_release(&l);
        return n;
}

START_TEST(all_states_are_there_however_much_is_written)
{
        int n_made = 0;

        for (int i = 0; i < 150; i++) {
                work(i);
                if (i % 10 == 0) {
                        int r = keep();

                        ck_assert_msg(r >= 0, "%s", e.text);
                        n_made += r;
                }
        }
        ck_assert_int_gt(n_made, 3);
        ck_assert_uint_eq(first_in_log(), 1);
        ck_assert_uint_gt(check_all(), 145);
        for (uint64_t txid = 1; txid <= last_txid(); txid++)
                if (states[txid].image != NULL)
                        ck_assert_int_eq(check_state(txid), 0);

        /* An hour and a bit later only the newest of the bases is needed, and the log in front of it is not. */
        fake_ms += 3700000;
        ck_assert_int_ge(keep(), 0);
        ck_assert_uint_le(count_images(), 2); /* and perhaps one that was due */
        (void)db_driver_tick(driver, 1, NULL);
        ck_assert_uint_gt(first_in_log(), 1);
        ck_assert_int_eq(check_state(2), E_NOT_FOUND);
        ck_assert_uint_gt(check_all(), 5);
}
END_TEST

START_TEST(log_without_its_beginning_gets_a_base_at_once)
{
        uint64_t base_txid;

        for (int i = 0; i < 100; i++)
                work(i);
        db_keep_log(the_db(), UINT64_MAX);
        for (int i = 0; i < 50; i++)
                work(i);
        ck_assert_uint_gt(first_in_log(), 1);
        ck_assert_int_eq(check_state(last_txid()), E_NOT_FOUND);
        ck_assert_int_eq(keep(), 1);
        base_txid = last_txid();
        ck_assert_int_eq(keep(), 0);
        for (int i = 0; i < 20; i++)
                work(i);
        ck_assert_uint_ge(check_all(), 20);
        run_sql("delete from t");
        run_sql("vacuum");
        note_state();
        check_cost(last_txid(), states[base_txid].size);
}
END_TEST

START_TEST(space_is_bounded_and_the_oldest_states_go)
{
        struct txlog_stat stat;
        struct history_images l;
        uint64_t bytes;

        policy.max_bytes = 400000;
        for (int i = 0; i < 300; i++) {
                work(i % 49);
                if (i % 10 == 0)
                        ck_assert_msg(keep() >= 0, "%s", e.text);
        }
        txlog_get_stat(db_log(the_db()), &stat);
        ck_assert_int_eq(history_images_list(&faults.os, dir, &l, &e), 0);
        bytes = stat.bytes;
        for (size_t i = 0; i < l.n; i++)
                bytes += l.items[i].size_bytes;
        history_images_release(&l);
        ck_assert_uint_lt(bytes, policy.max_bytes * 2);
        ck_assert_uint_gt(check_all(), 10);

        policy.max_bytes = 1000;
        for (int i = 0; i < 300 && keep() >= 0; i++)
                work(i % 49);
        ck_assert_msg(strstr(e.text, "data.history-size") != NULL, "%s", e.text);
}
END_TEST

static uint64_t
log_bytes(void)
{
        struct txlog_stat stat;

        txlog_get_stat(db_log(the_db()), &stat);
        return stat.bytes;
}

static void
work_and_keep(int n)
{
        for (int i = 0; i < n; i++) {
                work(i % 49);
                if (i % 10 == 0)
                        (void)keep();
        }
}

/* States from now on are kept again. */
static void
check_keeps_again(void)
{
        ck_assert_msg(keep() >= 0, "%s", e.text);
        for (int i = 0; i < 20; i++)
                work(i);
        ck_assert_int_ge(keep(), 0);
        ck_assert_uint_ge(check_all(), 20);
}

/* No call of that kind works any more, while much is written. */
START_TEST(log_is_bounded_while_calls_fail)
{
        static const char *const tags[] = { "history:list", "history:remove", "history:write",
                                            "history:prove" };
        struct os_fault_plan plan = {
                .op = OS_ANY_OP, .tag = tags[_i], .nth = 1, .is_for_ever = true, .error = -EIO
        };

        policy.max_bytes = 400000;
        work_and_keep(60);
        os_fault_plan(&faults, &plan);
        work_and_keep(250);
        ck_assert_uint_gt(os_fault_failed(&faults), 0);
        os_fault_plan(&faults, NULL);
        ck_assert_uint_lt(log_bytes(), policy.max_bytes + 4 * SEGMENT_BYTES);
        check_keeps_again();
}
END_TEST

START_TEST(log_is_bounded_when_the_database_is_too_large_to_be_kept)
{
        policy.max_bytes = 400000;
        work_and_keep(60);
        policy.max_bytes = 2 * db_size_bytes(the_db()) - 1;
        work_and_keep(250);
        ck_assert_int_eq(keep(), -EFBIG);
        ck_assert_uint_eq(count_images(), 0);
        ck_assert_uint_lt(log_bytes(), policy.max_bytes + 4 * SEGMENT_BYTES);
        policy.max_bytes = 400000;
        check_keeps_again();
}
END_TEST

START_TEST(log_does_not_fill_a_disk_without_room_for_a_base)
{
        work_and_keep(60);
        policy.free_bytes = 1;
        work_and_keep(150);
        ck_assert_uint_lt(log_bytes(), policy.every + 4 * SEGMENT_BYTES);
        /* What the log does not lead on from takes no room either. */
        ck_assert_int_eq(keep(), -ENOSPC);
        ck_assert_uint_eq(count_images(), 0);
        policy.free_bytes = 0;
        check_keeps_again();
}
END_TEST

/* A segment with nothing but the whole database, as a replica's log begins with: nothing follows in it that is kept. */
START_TEST(base_that_is_the_beginning_of_the_log_stays)
{
        uint64_t txid;

        run_sql("insert or replace into t values(1000, randomblob(25000))");
        run_sql("pragma page_size = 8192");
        run_sql("vacuum");
        note_state();
        txid = last_txid();
        db_keep_log(the_db(), txid - 1);
        for (int i = 0; i < 40; i++)
                work(i);
        ck_assert_uint_eq(first_in_log(), 1);
        ck_assert_int_eq(check_state(txid), 0);
        work_and_keep(100);
        ck_assert_uint_eq(first_in_log(), 1);
        for (; txid <= last_txid(); txid++)
                ck_assert_int_eq(check_state(txid), 0);
}
END_TEST

static bool
try_a_snapshot(void *arg)
{
        struct db_snapshot *snap = NULL;
        struct txlog_record rec;

        *(bool *)arg |= db_snapshot_open(the_db(), &snap, &rec, NULL) == 0;
        db_snapshot_close(snap);
        return true;
}

/* A replica, or a backup, waits for the copy alone. */
START_TEST(snapshot_is_to_be_had_while_a_base_is_proved)
{
        bool had_one = false;

        run_sql("insert or replace into t values(1000, randomblob(3000000))");
        note_state();
        db_keep_log(the_db(), UINT64_MAX);
        for (int i = 0; i < 40; i++)
                work(i);
        ck_assert_uint_gt(first_in_log(), 1);
        policy.goes_on = try_a_snapshot;
        policy.arg = &had_one;
        ck_assert_int_eq(keep(), 1);
        ck_assert(had_one);
        ck_assert_int_eq(check_state(last_txid()), 0);
}
END_TEST

START_TEST(deleted_database_keeps_its_past_for_as_long_as_is_wanted)
{
        for (int i = 0; i < 120; i++) {
                work(i);
                if (i % 20 == 0)
                        ck_assert_int_ge(keep(), 0);
        }
        sqlite3_close(c);
        c = NULL;
        ck_assert_int_eq(db_driver_drop(driver, &e), 0);
        ck_assert_int_eq(keep(), 0);
        ck_assert_uint_gt(check_all(), 100);
        fake_ms += 3700000;
        ck_assert_int_eq(keep(), 0);
        ck_assert_uint_eq(count_images(), 0);
}
END_TEST

/* Each call fails in its turn, once or from then on: no state goes that is to be there, and none is wrong. */
START_TEST(nth_call_fails)
{
        struct os_fault_plan plan = { .op = OS_ANY_OP,
                                      .tag = "history:",
                                      .nth = (uint64_t)_i / 2 + 1,
                                      .is_for_ever = _i % 2,
                                      .error = _i % 3 == 0 ? -ENOSPC : -EIO,
                                      .is_torn = true };

        srand((unsigned)_i);
        for (int i = 0; i < 60; i++)
                work(i);
        ck_assert_int_ge(keep(), 0);
        for (int i = 0; i < 4; i++) {
                fake_ms += i == 2 ? 3700000 : 0;
                os_fault_plan(&faults, &plan);
                (void)keep();
                os_fault_plan(&faults, NULL);
                check_all();
                for (int k = 0; k < 20; k++)
                        work(k);
        }
        ck_assert_msg(keep() >= 0, "%s", e.text);
        ck_assert_uint_gt(check_all(), 0);
}
END_TEST

/* One bit of the file: nothing is read from it that is not right. */
START_TEST(damaged_base_is_never_read)
{
        struct history_images l;
        char path[400];
        unsigned n_told = 0;
        int fd;

        for (int i = 0; i < 100; i++)
                work(i);
        db_keep_log(the_db(), UINT64_MAX);
        for (int i = 0; i < 30; i++)
                work(i);
        ck_assert_int_eq(keep(), 1);
        work(0);
        ck_assert_int_eq(check_state(last_txid()), 0);
        ck_assert_int_eq(history_images_list(&faults.os, dir, &l, &e), 0);
        ck_assert_uint_eq(l.n, 1);
        snprintf(path, sizeof path, "%s/%016llx-%016llx-%016llx.ltx", dir,
                 (unsigned long long)l.items[0].pos.txid, (unsigned long long)l.items[0].pos.checksum,
                 (unsigned long long)l.items[0].time_ms);
        fd = open(path, O_RDWR);
        ck_assert_int_ge(fd, 0);
        for (int i = 0; i < 500; i++) {
                off_t at = rand() % (off_t)l.items[0].size_bytes;
                uint8_t byte, other;

                ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
                other = byte ^ (uint8_t)(1 << rand() % 8);
                ck_assert_int_eq(pwrite(fd, &other, 1, at), 1);
                n_told += check_state(last_txid()) < 0;
                ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        }
        ck_assert_uint_gt(n_told, 350);
        close(fd);
        history_images_release(&l);
        ck_assert_int_eq(check_state(last_txid()), 0);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("history_keep");

        db_driver_use_memory();
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, all_states_are_there_however_much_is_written);
        tcase_add_test(tc, log_without_its_beginning_gets_a_base_at_once);
        tcase_add_test(tc, space_is_bounded_and_the_oldest_states_go);
        tcase_add_loop_test(tc, log_is_bounded_while_calls_fail, 0, 4);
        tcase_add_test(tc, log_is_bounded_when_the_database_is_too_large_to_be_kept);
        tcase_add_test(tc, log_does_not_fill_a_disk_without_room_for_a_base);
        tcase_add_test(tc, base_that_is_the_beginning_of_the_log_stays);
        tcase_add_test(tc, snapshot_is_to_be_had_while_a_base_is_proved);
        tcase_add_test(tc, deleted_database_keeps_its_past_for_as_long_as_is_wanted);
        tcase_add_test(tc, damaged_base_is_never_read);
        tcase_add_loop_test(tc, nth_call_fails, 0, 60);
        return run_tests("history_keep", tc);
}
