/* links: litefs_store sqlite3 */
/* Transactions of another node when the disk errs, or while others use what they replace. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "db/snapshot.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "store/orphans.h"
#include "tests/lib/os_crash.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/received.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

/* A node's database, and a received transaction for it. */
struct world {
        char *dir; /* the test's own */
        char root[256];
        struct os_fault os;
        struct db_driver *d;
        struct received rx;
        struct err e;
};

static struct db *
db_of(struct world *w)
{
        return db_driver_db(w->d);
}

static struct db_info
info(struct world *w)
{
        struct db_info ret;

        db_get_info(db_of(w), &ret);
        return ret;
}

static void
open_node(struct world *w)
{
        ck_assert_msg(db_driver_open(&w->os.os, w->root, &w->d, &w->e) == 0, "%s", w->e.text);
}

static void
begin(struct world *w)
{
        *w = (struct world){ .dir = tmpdir_make(), .e = ERR_INIT };
        snprintf(w->root, sizeof w->root, "%s/node", w->dir);
        db_driver_make_template(w->root, "wal", 100);
        os_fault_init(&w->os, os_host());
        w->os.skips_sync = true;
        open_node(w);
}

static void
end(struct world *w)
{
        received_release(&w->rx);
        db_driver_close(w->d);
        os_fault_release(&w->os);
        tmpdir_remove(w->dir);
}

/* A commit that stays in the WAL: nobody checkpoints when the connection ends. */
static void
commit_to_wal(struct db_driver *d, const char *sql)
{
        sqlite3 *c;

        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        ck_assert_int_eq(sqlite3_db_config(c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, sql), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
}

static void
close_both(void *arg, int fd, int wal_fd)
{
        (void)arg;
        if (fd >= 0)
                close(fd);
        if (wal_fd >= 0)
                close(wal_fd);
}

/* This node has a transaction that the cluster does not have, in its WAL; the cluster has another one instead. */
static void
diverge(struct world *w)
{
        char root[300];
        struct db_driver *theirs;

        snprintf(root, sizeof root, "%s/theirs", w->dir);
        db_driver_copy_tree(w->root, root);
        ck_assert_int_eq(db_driver_open(os_host(), root, &theirs, &w->e), 0);
        commit_to_wal(theirs, "update t set x='theirs'; delete from t where id > 50");
        received_snapshot(&w->rx, db_driver_db(theirs), w->dir);
        w->rx.history = TXLOG_HISTORY_OTHER;
        db_driver_close(theirs);
        commit_to_wal(w->d, "update t set x='ours'");
        ck_assert(db_needs_replacing(db_of(w), &w->rx));
}

/* Once the sync is over that was begun for the last commit. */
static int
replace(struct world *w)
{
        int r;

        do {
                r = db_replace(db_of(w), &w->rx, close_both, NULL, &w->e);
                db_apply_shown(db_of(w));
        } while (r == -EAGAIN && sched_yield() == 0);
        return r;
}

/* The record is in the log, but not for ever: nothing may follow it. */
START_TEST(deletion_that_was_not_synced_stops_the_database)
{
        const struct os_fault_plan once = {
                .op = OS_FDATASYNC, .tag = "txlog:sync", .nth = 1, .error = -EIO
        };
        struct db_changes ch;
        struct world w;

        begin(&w);
        received_drop(&w.rx, db_of(&w), w.dir);
        os_fault_plan(&w.os, &once);
        ck_assert_int_lt(db_apply_direct(db_of(&w), &w.rx, &ch, &w.e), 0);
        db_apply_shown(db_of(&w));
        ck_assert_msg(os_fault_failed(&w.os) == 1, "%s", w.e.text);
        os_fault_plan(&w.os, NULL);
        ck_assert(info(&w).is_failed);
        ck_assert(db_exists(db_of(&w)));
        free(ch.pgnos);
        end(&w);
}
END_TEST

/* Whoever reads all of the old state goes on doing so. */
START_TEST(snapshot_outlives_the_state_that_it_is_of)
{
        struct txlog_record record;
        struct db_snapshot *snap;
        struct received got;
        struct world w;

        begin(&w);
        diverge(&w);
        ck_assert_int_eq(db_snapshot_open(db_of(&w), &snap, &record, &w.e), 0);
        commit_to_wal(w.d, "delete from t where id > 5; vacuum"); /* no checkpoint copies what is cut */
        ck_assert_msg(replace(&w) == 0, "%s", w.e.text);
        ck_assert_uint_eq(info(&w).pos.checksum, w.rx.record.post_apply_checksum);
        /* The files of the new state take the numbers of the old ones. */
        commit_to_wal(w.d, "update t set x='later'");
        ck_assert_msg(received_read(&got, snap, w.dir, &w.e) == 0, "%s", w.e.text);
        ck_assert_uint_eq(got.record.max_txid, record.max_txid);
        ck_assert_uint_eq(got.record.post_apply_checksum, record.post_apply_checksum);
        received_release(&got);
        end(&w);
}
END_TEST

struct toucher {
        pthread_t thread;
        struct db *db;
        atomic_bool is_over;
        int error; /* of a call that found another file, or none */
};

static void *
touch(void *arg)
{
        struct toucher *t = arg;
        struct txlog_reader *reader;
        struct txlog_stat log;
        struct stat st;

        while (!atomic_load(&t->is_over)) {
                const int results[] = {
                        db_stat(t->db, &st),
                        db_chmod(t->db, 0644),
                        db_chown(t->db, -1, -1),
                        db_wal_stat(t->db, &st),
                };

                for (int i = 0; i < COUNT(results); i++)
                        if (results[i] != 0 && results[i] != -ENOENT && results[i] != E_BUSY)
                                t->error = results[i];
                txlog_get_stat(db_log(t->db), &log);
                (void)txlog_sync(db_log(t->db), txlog_end_lsn(db_log(t->db)), NULL);
                if (txlog_reader_open(db_log(t->db), 0, &reader, NULL) == 0)
                        txlog_reader_close(reader);
        }
        return NULL;
}

/* Others set the files' attributes and ask for the log while it is replaced: they find one state or the other, not what
 * is opened next under an old file's number. The races as such are for the thread sanitizer. */
START_TEST(others_go_on_while_it_is_replaced)
{
        struct toucher t = { 0 };
        struct world w;

        begin(&w);
        diverge(&w);
        t.db = db_of(&w);
        ck_assert_int_eq(pthread_create(&t.thread, NULL, touch, &t), 0);
        for (int i = 0; i < 20; i++) {
                ck_assert_msg(replace(&w) == 0, "%s", w.e.text);
                commit_to_wal(w.d, "update t set x='ours'");
        }
        atomic_store(&t.is_over, true);
        ck_assert_int_eq(pthread_join(t.thread, NULL), 0);
        ck_assert_int_eq(t.error, 0);
        end(&w);
}
END_TEST

/* --- the state that is set aside --- */

static void
orphan_path(struct world *w, struct ltx_pos old, const char *suffix, char *buf, size_t size)
{
        snprintf(buf, size, "%s/orphans/t.db-%016llx-%016llx%s", w->root, (unsigned long long)old.txid,
                 (unsigned long long)old.checksum, suffix);
}

/* The old file, as it lies there, by itself. */
static int64_t
orphaned(struct world *w, struct ltx_pos old, const char *sql)
{
        char dir[400], path[420];
        sqlite3 *c;
        int64_t n;

        orphan_path(w, old, "", dir, sizeof dir);
        snprintf(path, sizeof path, "%s/database", dir);
        if (sqlite3_open_v2(path, &c, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
                n = -1;
        else
                n = db_driver_int(c, sql);
        sqlite3_close(c);
        return n;
}

#define OURS "select count(*) from t where x='ours'"

/* A disk that errs while the old file is completed: it is not set aside as if it were. */
START_TEST(old_file_is_complete_or_stays)
{
        const struct os_fault_plan plans[] = {
                { .op = OS_FDATASYNC, .tag = "db:base", .nth = 1, .error = -EIO },
                { .op = OS_PWRITE, .tag = "replace:copy", .nth = 1, .error = -ENOSPC },
                { .op = OS_PWRITE, .tag = "db:checkpoint", .nth = 2, .error = -ENOSPC },
        };
        struct ltx_pos old;
        struct world w;
        bool must_restart = _i == 0;

        begin(&w);
        diverge(&w);
        old = info(&w).pos;
        os_fault_plan(&w.os, &plans[_i]);
        ck_assert_int_lt(replace(&w), 0);
        ck_assert_msg(os_fault_failed(&w.os) == 1, "%s", w.e.text);
        os_fault_plan(&w.os, NULL);
        ck_assert_uint_eq(info(&w).pos.checksum, old.checksum);
        ck_assert_int_eq(info(&w).is_failed, must_restart);
        if (must_restart) {
                db_driver_close(w.d);
                open_node(&w);
                ck_assert_uint_eq(info(&w).pos.checksum, old.checksum);
        }
        ck_assert_msg(replace(&w) == 0, "%s", w.e.text);
        ck_assert_int_eq(orphaned(&w, old, OURS), 100);
        end(&w);
}
END_TEST

START_TEST(same_state_is_set_aside_again)
{
        struct ltx_pos old;
        struct stat st;
        char dir[400];
        struct world w;

        begin(&w);
        diverge(&w);
        old = info(&w).pos;
        orphan_path(&w, old, "/log", dir, sizeof dir);
        ck_assert_int_eq(os_mkdir_all(os_host(), "", dir, 0700), 0);
        ck_assert_msg(replace(&w) == 0, "%s", w.e.text);
        orphan_path(&w, old, "-2/database", dir, sizeof dir);
        ck_assert_int_eq(stat(dir, &st), 0);
        end(&w);
}
END_TEST

/* What is renamed when: each step that fails leaves the old state, in use, or the new one. */
START_TEST(swap_that_fails_leaves_a_database)
{
        static const struct {
                struct os_fault_plan plan;
                bool is_stopped;
        } cases[] = {
                { { .op = OS_RENAME, .tag = "replace:stage", .nth = 1, .error = -EIO }, false },
                { { .op = OS_RENAME, .tag = "replace:orphan", .nth = 1, .error = -EIO }, false },
                { { .op = OS_RENAME, .tag = "replace:swap", .nth = 1, .error = -EIO }, false },
                { { .op = OS_FSYNC, .tag = "replace:sync", .nth = 1, .error = -EIO }, false },
                { { .op = OS_FSYNC, .tag = "replace:sync", .nth = 2, .error = -EIO }, false },
                { { .op = OS_FSYNC, .tag = "replace:sync", .nth = 3, .error = -EIO }, false },
                { { .op = OS_FSYNC, .tag = "replace:sync", .nth = 4, .error = -EIO }, true },
        };
        struct ltx_pos old;
        struct world w;

        begin(&w);
        diverge(&w);
        old = info(&w).pos;
        os_fault_plan(&w.os, &cases[_i].plan);
        ck_assert_int_lt(replace(&w), 0);
        ck_assert_msg(os_fault_failed(&w.os) == 1, "%s", w.e.text);
        os_fault_plan(&w.os, NULL);
        ck_assert_int_eq(info(&w).is_failed, cases[_i].is_stopped);
        ck_assert_uint_eq(info(&w).pos.checksum, old.checksum);
        if (cases[_i].is_stopped) {
                db_driver_close(w.d);
                open_node(&w);
                ck_assert_uint_eq(info(&w).pos.checksum, w.rx.record.post_apply_checksum);
        } else {
                ck_assert_msg(replace(&w) == 0, "%s", w.e.text);
        }
        ck_assert_int_eq(orphaned(&w, old, OURS), 100);
        end(&w);
}
END_TEST

/* After a start: one state or the other, whole, and the old one not lost. */
static void
check_after_crash(struct world *w, struct ltx_pos old, uint64_t n, uint64_t seed)
{
        struct err e = ERR_INIT;
        uint64_t got;

        orphans_settle(os_host(), w->root);
        w->os.under = os_host();
        w->d = NULL;
        ck_assert_msg(db_driver_open(&w->os.os, w->root, &w->d, &e) == 0, "call %d, seed %d: %s", (int)n,
                      (int)seed, e.text);
        got = info(w).pos.checksum;
        ck_assert_msg(got == old.checksum || got == w->rx.record.post_apply_checksum,
                      "call %d, seed %d: neither state", (int)n, (int)seed);
        if (got != old.checksum)
                ck_assert_msg(orphaned(w, old, OURS) == 100, "call %d, seed %d: the old state is lost",
                              (int)n, (int)seed);
        else
                ck_assert_msg(replace(w) == 0, "call %d, seed %d: %s", (int)n, (int)seed, w->e.text);
}

/* Cuts the power in the n-th call of the replacement. False: there are not so many. */
static bool
crash_once(struct world *w, const char *template, struct ltx_pos old, uint64_t n, uint64_t seed)
{
        struct os_crash *disk;
        bool is_dead;

        db_driver_remove_tree(w->root);
        db_driver_copy_tree(template, w->root);
        disk = os_crash_new(w->root, seed);
        w->os.under = os_crash_os(disk);
        open_node(w);
        os_crash_after(disk, n);
        (void)replace(w);
        is_dead = os_crash_is_dead(disk);
        if (!is_dead)
                os_crash_now(disk); /* at any time later */
        db_driver_close(w->d);
        os_crash_free(disk);
        check_after_crash(w, old, n, seed);
        db_driver_close(w->d);
        return is_dead;
}

START_TEST(power_is_lost_in_a_replacement)
{
        struct ltx_pos old;
        char template[300];
        struct world w;

        begin(&w);
        diverge(&w);
        old = info(&w).pos;
        db_driver_close(w.d);
        w.os.skips_sync = false; /* the disk must hear of them */
        snprintf(template, sizeof template, "%s/template", w.dir);
        db_driver_copy_tree(w.root, template);
        for (uint64_t n = 1; crash_once(&w, template, old, n, 0); n++)
                for (uint64_t seed = 1; seed < 8; seed++)
                        (void)crash_once(&w, template, old, n, seed);
        open_node(&w);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("apply_fault");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, deletion_that_was_not_synced_stops_the_database);
        tcase_add_test(tc, snapshot_outlives_the_state_that_it_is_of);
        tcase_add_test(tc, others_go_on_while_it_is_replaced);
        tcase_add_loop_test(tc, old_file_is_complete_or_stays, 0, 3);
        tcase_add_test(tc, same_state_is_set_aside_again);
        tcase_add_loop_test(tc, swap_that_fails_leaves_a_database, 0, 7);
        tcase_add_test(tc, power_is_lost_in_a_replacement);
        return run_tests("apply_fault", tc);
}
