/* links: litefs_db sqlite3 */
/* A WAL that connections write to without lib/db (db/passed.h), which sees their syncs alone: what is captured and when, and
 * what becomes of a commit whose writer dies before the wal-index shows it. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "db/passed.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *tmp, root[PATH_MAX];
static struct db_driver *d;
static struct err e;

static void
set_up(void)
{
        e = (struct err)ERR_INIT;
        tmp = tmpdir_make();
        snprintf(root, sizeof root, "%s/data", tmp);
        db_driver_make_template(root, "wal", 5);
        ck_assert_int_eq(db_driver_open(os_host(), root, &d, &e), 0);
        db_driver_set_passed(d, true);
}

static void
tear_down(void)
{
        db_driver_close(d);
        tmpdir_remove(tmp);
}

static sqlite3 *
connect_db(void)
{
        sqlite3 *c;

        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        ck_assert_int_ge(db_driver_int(c, "select count(*) from t"), 0);
        return c;
}

static uint64_t
position(void)
{
        struct db_info info;

        db_get_info(db_driver_db(d), &info);
        return info.pos.txid;
}

/* The first after the WAL has begun anew syncs the header by itself. */
static void
write_first(sqlite3 *c, uint64_t *before)
{
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(50,'first')"), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "delete from t where id=50"), SQLITE_OK);
        *before += 2;
}

/* Of a database that is opened anew: the log is all that there is then. */
static void
check_log(const char *want)
{
        sqlite3 *c;
        char sql[200];

        ck_assert_int_eq(db_driver_check_position(d, root, &e), 0);
        db_driver_close(d);
        ck_assert_int_eq(db_driver_open(os_host(), root, &d, &e), 0);
        ck_assert_msg(db_driver_check_files(d, root, NULL, 0, &e) == 0, "%s", e.text);
        db_driver_set_passed(d, true);
        c = connect_db();
        snprintf(sql, sizeof sql,
                 "select group_concat(x, ' ') = '%s' from (select x from t where id>100)", want);
        ck_assert_msg(db_driver_int(c, sql) == 1, "not %s", want);
        ck_assert(db_driver_is_intact(c));
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
}

START_TEST(synced_commit_is_captured_and_shown_once_it_is_published)
{
        sqlite3 *c = connect_db();
        uint64_t before = position();
        bool has_all;

        ck_assert_int_eq(db_driver_exec(c, "insert into t values(101,'a')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(102,'b')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 2);
        ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
        ck_assert_uint_eq(db_replicable_txid(db_driver_db(d)), before + 2);
        ck_assert_uint_eq(db_durable_pos(db_driver_db(d), &has_all).txid, before + 2);
        ck_assert_uint_eq(db_counter(db_driver_db(d), DB_COUNT_UNSYNCED), 0);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        check_log("a b");
}
END_TEST

/* The worker that has made it durable may still be on its way out: a while. */
static bool
is_over(struct db *db)
{
        for (int i = 0; i < 10000 && db_is_committing(db); i++)
                nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
        return !db_is_committing(db);
}

START_TEST(commit_that_was_not_published_is_told_to_nobody)
{
        sqlite3 *c = connect_db(), *other = connect_db();
        uint64_t before = position();
        struct db_look look;
        bool has_all;

        write_first(c, &before);
        db_driver_die_at_sync(d, false);
        ck_assert_int_ne(db_driver_exec(c, "insert into t values(101,'a')"), SQLITE_OK);
        ck_assert_int_eq(db_wal_look(db_driver_db(d), &look), 0);
        ck_assert(look.is_prepared);
        ck_assert_uint_eq(position(), before);
        ck_assert_uint_eq(db_replicable_txid(db_driver_db(d)), before);
        ck_assert_uint_eq(db_durable_pos(db_driver_db(d), &has_all).txid, before);
        ck_assert(db_is_committing(db_driver_db(d)));
        ck_assert_int_eq(db_driver_int(other, "select count(*) from t where id=101"), 0);
        db_driver_decide(d); /* nobody else writes: it stands */
        ck_assert_uint_eq(position(), before + 1);
        ck_assert(is_over(db_driver_db(d)));
        ck_assert_int_eq(db_driver_int(other, "select count(*) from t where id=101"), 1);
        sqlite3_close(c);
        sqlite3_close(other);
        check_log("a");
}
END_TEST

/* The dangerous case: the other connection does not know of the commit, and writes over its frames. */
static void
write_over(const char *dead, const char *alive, const char *want)
{
        sqlite3 *c = connect_db(), *other = connect_db();
        uint64_t before = position();

        write_first(c, &before);
        db_driver_die_at_sync(d, false);
        ck_assert_int_ne(db_driver_exec(c, dead), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(other, alive), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
        ck_assert_uint_eq(position(), before + 1);
        ck_assert_uint_eq(db_replicable_txid(db_driver_db(d)), before + 1);
        ck_assert_int_eq(db_driver_int(other, "select count(*) from t where x='dead'"), 0);
        sqlite3_close(c);
        sqlite3_close(other);
        check_log(want);
}

START_TEST(commit_whose_frames_are_written_over_is_undone)
{
        write_over("insert into t values(101,'dead')", "insert into t values(102,'alive')", "alive");
        write_over("with recursive r(i) as (select 1 union all select i+1 from r where i<400) "
                   "insert into t select 200+i,'dead' from r",
                   "insert into t values(103,'alive')", "alive alive");
        write_over("insert into t values(104,'dead')",
                   "with recursive r(i) as (select 1 union all select i+1 from r where i<3) "
                   "insert into t select 300+i,printf('%d',i) from r",
                   "alive alive 1 2 3");
}
END_TEST

START_TEST(large_commit_is_a_workers)
{
        sqlite3 *c = connect_db();
        uint64_t before = position();
        const char *rows = "with recursive r(i) as (select 1 union all select i+1 from r where i<2000) "
                           "insert into t select 1000+i,randomblob(900) from r";

        ck_assert_int_eq(db_driver_exec(c, rows), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        ck_assert_int_eq(db_driver_exec(c, "pragma synchronous=normal; delete from t where id>1000"),
                         SQLITE_OK);
        ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
        ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
        ck_assert_uint_eq(position(), before + 2);
        ck_assert_uint_eq(db_counter(db_driver_db(d), DB_COUNT_UNSYNCED), 1);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(101,'a')"), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        check_log("a");
}
END_TEST

START_TEST(unsynced_commits_are_captured_before_a_checkpoint)
{
        sqlite3 *c = connect_db();
        uint64_t before = position();

        ck_assert_int_eq(db_driver_exec(c, "pragma synchronous=normal; pragma wal_autocheckpoint=0"),
                         SQLITE_OK);
        for (int round = 0; round < 5; round++) {
                ck_assert_int_eq(
                        db_driver_exec(c,
                                       "insert into t values(null,'a'); update t set x='b' where x='a'"),
                        SQLITE_OK);
                ck_assert_int_eq(db_driver_exec(c, "pragma wal_checkpoint(restart)"), SQLITE_OK);
        }
        ck_assert_uint_eq(position(), before + 10);
        ck_assert_uint_eq(db_counter(db_driver_db(d), DB_COUNT_UNSYNCED), 10);
        ck_assert_int_eq(db_driver_exec(c, "delete from t where x='b'; insert into t values(101,'a')"),
                         SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK); /* a checkpoint, and the WAL goes */
        ck_assert_uint_eq(position(), before + 12);
        check_log("a");
}
END_TEST

START_TEST(commit_without_the_lease_fails_and_comes_back_to_nobody)
{
        sqlite3 *c = connect_db(), *other = connect_db();
        uint64_t before = position();

        db_driver_fence(d, true);
        ck_assert_int_ne(db_driver_exec(c, "insert into t values(101,'a')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before);
        db_driver_decide(d); /* SQLite reads the WAL anew */
        ck_assert_int_eq(db_driver_int(other, "select count(*) from t where id=101"), 0);
        db_driver_fence(d, false);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(102,'b')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        sqlite3_close(c);
        sqlite3_close(other);
        check_log("b");
}
END_TEST

START_TEST(exclusive_connection_without_a_wal_index)
{
        sqlite3 *c;
        uint64_t before = position();

        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "pragma locking_mode=exclusive"), SQLITE_OK);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(db_driver_exec(c, "insert into t values(null,'x')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 3);
        ck_assert_int_eq(db_driver_exec(c, "delete from t where x='x'; insert into t values(101,'a')"),
                         SQLITE_OK);
        ck_assert_uint_eq(position(), before + 5);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        check_log("a");
}
END_TEST

/* The copy of a node that was killed at that moment goes on. */
static void
go_on_with_copy(void)
{
        db_driver_close(d);
        ck_assert_int_lt(snprintf(root, sizeof root, "%s/copy", tmp), (int)sizeof root);
        ck_assert_int_eq(db_driver_open(os_host(), root, &d, &e), 0);
}

/* Killed: what was not looked at is in the WAL alone. */
START_TEST(unsynced_commits_survive_a_kill)
{
        char copy[PATH_MAX + 8];
        sqlite3 *c = connect_db();
        uint64_t before = position();

        snprintf(copy, sizeof copy, "%s/copy", tmp);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(101,'a'); pragma synchronous=normal"),
                         SQLITE_OK);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(db_driver_exec(c, "insert into t select 200+count(*),'b' from t"),
                                 SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "begin; insert into t values(400,'open')"), SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        db_driver_copy_tree(root, copy);
        sqlite3_close(c);
        go_on_with_copy();
        ck_assert_uint_eq(position(), before + 4);
        check_log("a b b b");
        ck_assert_uint_eq(position(), before + 4);
}
END_TEST

/* Its salts are drawn anew then, and so are none that the log knows. */
START_TEST(unsynced_commits_of_a_new_wal_survive_a_kill)
{
        char copy[PATH_MAX + 8];
        sqlite3 *c = connect_db();
        uint64_t before = position();

        snprintf(copy, sizeof copy, "%s/copy", tmp);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(101,'a')"), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK); /* the WAL goes */
        c = connect_db();
        ck_assert_int_eq(db_driver_exec(c, "pragma synchronous=normal; insert into t values(102,'b')"),
                         SQLITE_OK);
        ck_assert_uint_eq(position(), before + 1);
        db_driver_copy_tree(root, copy);
        sqlite3_close(c);
        go_on_with_copy();
        ck_assert_uint_eq(position(), before + 2);
        check_log("a b");
}
END_TEST

/* As after a power cut: that the WAL was removed did not get to the disk, what was committed without one since did. */
static void
bring_back_a_wal(bool begins_another)
{
        char was[PATH_MAX + 8], copy[PATH_MAX + 8], cmd[4 * PATH_MAX];
        sqlite3 *c = connect_db();
        uint64_t before;

        snprintf(was, sizeof was, "%s/was", tmp);
        snprintf(copy, sizeof copy, "%s/copy", tmp);
        ck_assert_int_eq(
                db_driver_exec(c, "insert into t values(101,'a'); insert into t values(102,'a')"),
                SQLITE_OK);
        db_driver_copy_tree(root, was);
        ck_assert_int_eq(db_driver_exec(c, "pragma journal_mode=delete; update t set x='b' where x='a'"),
                         SQLITE_OK);
        if (begins_another)
                ck_assert_int_eq(
                        db_driver_exec(c, "pragma journal_mode=wal; update t set x='c' where x='b'"),
                        SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        before = position();
        db_driver_copy_tree(root, copy);
        snprintf(cmd, sizeof cmd, "cp %s/dbs/t.db/wal %s/dbs/t.db/passed %s/dbs/t.db", was, was, copy);
        ck_assert_int_eq(system(cmd), 0);
        go_on_with_copy();
        ck_assert_uint_eq(position(), before);
        check_log(begins_another ? "c c" : "b b");
}

START_TEST(wal_that_was_removed_stays_so)
{
        bring_back_a_wal(false);
}
END_TEST

START_TEST(wal_that_another_followed_stays_removed)
{
        bring_back_a_wal(true);
}
END_TEST

/* SQLite before 3.42: the commit's chain has gaps (lib/db/wal/chain.c). Whatever this version does, it must be captured. */
START_TEST(savepoint_that_was_rolled_back_over_rewritten_frames)
{
        sqlite3 *c;

        ck_assert_int_eq(db_driver_connect(d, 1, &c), SQLITE_OK);
        ck_assert_int_eq(
                db_driver_exec(
                        c, "pragma cache_spill=1; begin; "
                           "with recursive r(i) as (select 1 union all select i+1 from r where i<60) "
                           "insert into t select 1000+i,randomblob(900) from r; savepoint s; "
                           "update t set x=randomblob(900) where id>1000; rollback to s; "
                           "update t set x=randomblob(800) where id>1010; delete from t where id>1000; "
                           "insert into t values(101,'a'); commit"),
                SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "insert into t values(102,'b')"), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        check_log("a b");
}
END_TEST

/* --- at random --- */

#define N_CONNECTIONS 3

struct killer {
        uint64_t rng;
        sqlite3 *c[N_CONNECTIONS];
        int next_id;
};

static unsigned
below(struct killer *k, unsigned n)
{
        k->rng = k->rng * 6364136223846793005u + 1442695040888963407u;
        return (unsigned)(k->rng >> 33) % n;
}

static void
write_something(struct killer *k, sqlite3 *c)
{
        static const int sizes[] = { 10, 10, 10, 3000, 300 };
        char sql[400];
        int n = below(k, 10) == 0 ? 700 : (int)below(k, 4) + 1;

        snprintf(
                sql, sizeof sql,
                "pragma synchronous=%s; begin immediate; "
                "with recursive r(i) as (select 1 union all select i+1 from r where i<%d) "
                "insert into t select %d+i,randomblob(%d) from r; delete from t where id %% 7 = %u; commit",
                below(k, 4) == 0 ? "normal" : "full", n, k->next_id, sizes[below(k, 5)], below(k, 7));
        k->next_id += n;
        if (db_driver_exec(c, sql) != SQLITE_OK)
                (void)db_driver_exec(c, "rollback");
}

static void
step(struct killer *k)
{
        unsigned i = below(k, N_CONNECTIONS);
        static const char *const checkpoints[] = { "passive", "full", "restart", "truncate" };
        char sql[80];

        switch (below(k, 10)) {
        case 0: /* and it is gone, with its locks */
        case 1:
                db_driver_die_at_sync(d, below(k, 2) == 0);
                write_something(k, k->c[i]);
                ck_assert_int_eq(sqlite3_close(k->c[i]), SQLITE_OK);
                k->c[i] = connect_db();
                break;
        case 2:
                snprintf(sql, sizeof sql, "pragma wal_checkpoint(%s)", checkpoints[below(k, 4)]);
                (void)db_driver_exec(k->c[i], sql);
                break;
        case 3:
                ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
                break;
        case 4:
                db_driver_decide(d);
                break;
        case 5:
                db_driver_fence(d, true);
                write_something(k, k->c[i]);
                db_driver_fence(d, false);
                break;
        default:
                write_something(k, k->c[i]);
                break;
        }
}

/* What live connections see is what the log makes, and each commit that was told of is in it. */
START_TEST(killed_writers_at_random)
{
        struct killer k = { .rng = (uint64_t)_i + 1, .next_id = 1000 };
        uint64_t live, logged;

        for (int i = 0; i < N_CONNECTIONS; i++)
                k.c[i] = connect_db();
        for (int n = 0; n < 40; n++)
                step(&k);
        db_driver_decide(d);
        ck_assert_int_eq(db_driver_tick(d, 0, &e), 0);
        ck_assert_int_eq(db_driver_digest(k.c[0], &live), 0);
        ck_assert_int_eq(db_driver_check_position(d, root, &e), 0);
        for (int i = 0; i < N_CONNECTIONS; i++)
                ck_assert_int_eq(sqlite3_close(k.c[i]), SQLITE_OK);
        db_driver_close(d);
        ck_assert_int_eq(db_driver_open(os_host(), root, &d, &e), 0);
        ck_assert_msg(db_driver_check_files(d, root, NULL, 0, &e) == 0, "%s", e.text);
        k.c[0] = connect_db();
        ck_assert_int_eq(db_driver_digest(k.c[0], &logged), 0);
        ck_assert_msg(live == logged, "seed %d: the log has another state than its connections", _i);
        ck_assert(db_driver_is_intact(k.c[0]));
        ck_assert_int_eq(sqlite3_close(k.c[0]), SQLITE_OK);
}
END_TEST

int
main(void)
{
        const char *n_runs = getenv("RUNS");
        TCase *tc = tcase_create("passed");

        db_driver_use_memory();
        tcase_set_timeout(tc, 300);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, synced_commit_is_captured_and_shown_once_it_is_published);
        tcase_add_test(tc, commit_that_was_not_published_is_told_to_nobody);
        tcase_add_test(tc, commit_whose_frames_are_written_over_is_undone);
        tcase_add_test(tc, large_commit_is_a_workers);
        tcase_add_test(tc, unsynced_commits_are_captured_before_a_checkpoint);
        tcase_add_test(tc, commit_without_the_lease_fails_and_comes_back_to_nobody);
        tcase_add_test(tc, exclusive_connection_without_a_wal_index);
        tcase_add_test(tc, unsynced_commits_survive_a_kill);
        tcase_add_test(tc, unsynced_commits_of_a_new_wal_survive_a_kill);
        tcase_add_test(tc, wal_that_was_removed_stays_so);
        tcase_add_test(tc, wal_that_another_followed_stays_removed);
        tcase_add_test(tc, savepoint_that_was_rolled_back_over_rewritten_frames);
        tcase_add_loop_test(tc, killed_writers_at_random, 0, n_runs != NULL ? atoi(n_runs) : 30);
        return run_tests("passed", tc);
}
