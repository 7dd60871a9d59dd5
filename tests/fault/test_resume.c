/* links: litefs_store sqlite3 */
/* A database that another program takes over while connections have it open, with real SQLite: between any two statements, also
 * in the middle of transactions that have spilled, and in WAL mode beside a reader of an older state. None of them may notice,
 * and the log must lead to what they see. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "db/snapshot.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define N_STEPS 400

struct world {
        char *dir;
        struct db_driver *d;
        sqlite3 *writer, *reader, *watcher;
        unsigned seed;
        bool is_writing; /* the writer has begun a transaction */
        bool is_reading; /* the reader has, and saw: */
        uint64_t digest;
        struct err e;
};

static void
begin(struct world *w, unsigned seed, const char *mode)
{
        *w = (struct world){ .dir = tmpdir_make(), .seed = seed, .e = ERR_INIT };
        db_driver_make_template(w->dir, mode, 40);
        ck_assert_msg(db_driver_open_with(os_host(), w->dir, 64 << 10, &w->d, &w->e) == 0, "%s",
                      w->e.text);
        ck_assert_int_eq(db_driver_connect(w->d, 6, &w->writer), SQLITE_OK);
        ck_assert_int_eq(db_driver_connect(w->d, 6, &w->reader), SQLITE_OK);
        ck_assert_int_eq(db_driver_connect(w->d, 6, &w->watcher), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(w->writer, "pragma wal_autocheckpoint=40"), SQLITE_OK);
}

static void
require(struct world *w, sqlite3 *c, const char *sql)
{
        int rc = db_driver_exec(c, sql);

        ck_assert_msg(rc == SQLITE_OK, "seed %u, %s: %s", w->seed, sql, sqlite3_errmsg(c));
}

static void
resume(struct world *w)
{
        struct db_info before, after;

        db_get_info(db_driver_db(w->d), &before);
        ck_assert_msg(db_driver_resume(w->d, &w->e) == 0, "%s", w->e.text);
        db_get_info(db_driver_db(w->d), &after);
        ck_assert_msg(before.pos.txid == after.pos.txid && before.pos.checksum == after.pos.checksum,
                      "at %llx before, at %llx now", (unsigned long long)before.pos.txid,
                      (unsigned long long)after.pos.txid);
}

static void
look_at_old_state(struct world *w)
{
        uint64_t digest;

        ck_assert_int_eq(db_driver_digest(w->reader, &digest), SQLITE_OK);
        ck_assert_msg(digest == w->digest, "seed %u: a reader's state has changed", w->seed);
}

static void
change(struct world *w)
{
        char sql[200];
        int n = rand_r(&w->seed) % 8 == 0 ? 60 : 1 + rand_r(&w->seed) % 4;

        switch (rand_r(&w->seed) % 4) {
        case 0:
                snprintf(sql, sizeof sql, "update t set x=randomblob(300) where id %% 7 = %u",
                         rand_r(&w->seed) % 7);
                break;
        case 1:
                snprintf(sql, sizeof sql,
                         "delete from t where id in (select id from t order by random() limit %d)", n);
                break;
        default:
                snprintf(sql, sizeof sql,
                         "with recursive c(n) as (select 1 union all select n+1 from c where n<%d) "
                         "insert into t(x) select randomblob(300) from c",
                         n);
        }
        require(w, w->writer, sql);
}

static void
step(struct world *w)
{
        static const char *const checkpoints[] = { "pragma wal_checkpoint(passive)",
                                                   "pragma wal_checkpoint(restart)",
                                                   "pragma wal_checkpoint(truncate)" };

        switch (rand_r(&w->seed) % 9) {
        case 0:
                resume(w);
                break;
        case 1:
                if (!w->is_writing)
                        require(w, w->writer, "begin immediate");
                w->is_writing = true;
                break;
        case 2:
                if (w->is_writing)
                        require(w, w->writer, rand_r(&w->seed) % 3 == 0 ? "rollback" : "commit");
                w->is_writing = false;
                break;
        case 3:
                if (w->is_reading) {
                        look_at_old_state(w);
                        require(w, w->reader, "rollback");
                } else {
                        require(w, w->reader, "begin");
                        ck_assert_int_eq(db_driver_digest(w->reader, &w->digest), SQLITE_OK);
                }
                w->is_reading = !w->is_reading;
                break;
        case 4:
                if (!w->is_writing)
                        (void)db_driver_exec(w->watcher, checkpoints[rand_r(&w->seed) % 3]);
                break;
        case 5:
                ck_assert_msg(db_driver_tick(w->d, 1, &w->e) == 0, "%s", w->e.text);
                break;
        case 6:
                if (!w->is_writing && rand_r(&w->seed) % 4 == 0 && !w->is_reading)
                        require(w, w->writer, "vacuum");
                break;
        default:
                change(w);
        }
        if (w->is_reading)
                look_at_old_state(w);
}

static bool
never_rests(void *arg)
{
        (void)arg;
        return true;
}

static void
check_end(struct world *w)
{
        uint64_t seen, reopened;

        if (w->is_writing)
                require(w, w->writer, "commit");
        if (w->is_reading)
                require(w, w->reader, "rollback");
        ck_assert_msg(db_driver_is_intact(w->watcher), "seed %u: not intact", w->seed);
        ck_assert_int_eq(db_driver_digest(w->watcher, &seen), SQLITE_OK);
        ck_assert_msg(db_verify(db_driver_db(w->d), &(struct db_pace){ NULL, never_rests }, &w->e) == 0,
                      "%s", w->e.text);
        sqlite3_close(w->writer);
        sqlite3_close(w->reader);
        sqlite3_close(w->watcher);
        db_driver_close(w->d);
        /* As after a kill: from the log alone. */
        ck_assert_msg(db_driver_open(os_host(), w->dir, &w->d, &w->e) == 0, "%s", w->e.text);
        ck_assert_msg(db_driver_check_files(w->d, w->dir, NULL, 0, &w->e) >= 0 ||
                              w->e.code == E_NOT_FOUND,
                      "%s", w->e.text);
        ck_assert_int_eq(db_driver_connect(w->d, 0, &w->writer), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w->writer, &reopened), SQLITE_OK);
        ck_assert_msg(seen == reopened, "seed %u: another content after a restart", w->seed);
        sqlite3_close(w->writer);
        db_driver_close(w->d);
        tmpdir_remove(w->dir);
}

START_TEST(connections_do_not_notice)
{
        struct world w;

        begin(&w, (unsigned)_i + 1, "wal");
        for (int i = 0; i < N_STEPS; i++)
                step(&w);
        check_end(&w);
}
END_TEST

/* --- rollback modes --- */

static void
set_mode(struct world *w, const char *mode)
{
        char sql[64];

        snprintf(sql, sizeof sql, "pragma journal_mode=%s", mode);
        require(w, w->writer, sql);
}

static void
write_and_resume(struct world *w)
{
        for (int n = 1 + rand_r(&w->seed) % 4; n > 0; n--) {
                change(w);
                if (rand_r(&w->seed) % 2 == 0)
                        resume(w);
        }
}

/* Without a journal a transaction cannot be rolled back. */
static void
end_and_resume(struct world *w, bool may_roll_back)
{
        uint64_t before = w->digest;
        bool rolls_back = may_roll_back && rand_r(&w->seed) % 3 == 0;

        require(w, w->writer, rolls_back ? "rollback" : "commit");
        if (rand_r(&w->seed) % 2 == 0)
                resume(w);
        ck_assert_int_eq(db_driver_digest(w->watcher, &w->digest), SQLITE_OK);
        ck_assert_msg(!rolls_back || w->digest == before, "seed %u: not rolled back", w->seed);
        ck_assert_msg(db_driver_is_intact(w->watcher), "seed %u: not intact", w->seed);
}

START_TEST(journals_are_handed_over)
{
        static const char *const modes[] = { "delete", "truncate", "persist", "memory", "off" };
        const char *mode = modes[_i % 5];
        struct world w;

        begin(&w, (unsigned)_i + 1, "delete");
        set_mode(&w, mode);
        ck_assert_int_eq(db_driver_digest(w.watcher, &w.digest), SQLITE_OK);
        for (int i = 0; i < N_STEPS / 8; i++) {
                require(&w, w.writer, "begin immediate");
                if (rand_r(&w.seed) % 4 == 0)
                        resume(&w);
                write_and_resume(&w);
                end_and_resume(&w, strcmp(mode, "off") != 0);
        }
        check_end(&w);
}
END_TEST

/* A commit whose application is still to be told: the lease may be lost from one program to the next. */
START_TEST(what_is_unconfirmed_stays_so)
{
        struct world w;

        begin(&w, 1, "wal");
        require(&w, w.writer, "insert into t(x) values(randomblob(300))");
        resume(&w);
        ck_assert_int_eq(db_may_confirm(db_driver_db(w.d)), 0);
        db_driver_fence(w.d, true);
        ck_assert_int_eq(db_may_confirm(db_driver_db(w.d)), E_UNCONFIRMED);
        resume(&w);
        ck_assert_int_eq(db_may_confirm(db_driver_db(w.d)), E_UNCONFIRMED);
        db_driver_fence(w.d, false);
        check_end(&w);
}
END_TEST

int
main(int argc, char **argv)
{
        TCase *tc = tcase_create("resume");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 120);
        tcase_add_loop_test(tc, connections_do_not_notice, 0, argc > 1 ? atoi(argv[1]) : 10);
        tcase_add_loop_test(tc, journals_are_handed_over, 0, argc > 1 ? atoi(argv[1]) : 10);
        tcase_add_test(tc, what_is_unconfirmed_stays_so);
        return run_tests("resume", tc);
}
