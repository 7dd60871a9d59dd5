/* links: litefs_store sqlite3 */
/* Who may change a database, and what those get who come when somebody has it. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

struct world {
        char *dir;
        struct db_driver *d;
        struct db *db;
        struct err e;
};

static void
begin(struct world *w)
{
        *w = (struct world){ .dir = tmpdir_make(), .e = ERR_INIT };
        db_driver_make_template(w->dir, "wal", 10);
        ck_assert_msg(db_driver_open(os_host(), w->dir, &w->d, &w->e) == 0, "%s", w->e.text);
        w->db = db_driver_db(w->d);
}

static void
end(struct world *w)
{
        db_driver_close(w->d);
        tmpdir_remove(w->dir);
}

static int
drop(struct db *db)
{
        int fd = -1, wal_fd = -1, r = db_drop(db, &fd, &wal_fd, NULL);

        os_close(os_host(), "", fd);
        os_close(os_host(), "", wal_fd);
        return r;
}

static int
call_none(struct db *db, int which)
{
        static const struct db_done done = { NULL, NULL };
        static const uint8_t page[4096] = { 1 };
        int fd;

        switch (which) {
        case 0:
                return db_write(db, page, sizeof page, 0, done);
        case 1:
                return db_truncate(db, 0);
        case 2:
                return db_fsync(db, done);
        case 3:
                return drop(db);
        case 4:
                return db_chmod(db, 0600);
        case 5:
                return db_chown(db, 1, 1);
        case 6:
                return db_journal_create(db);
        case 7:
                return db_journal_write(db, page, sizeof page, 0, done);
        case 8:
                return db_journal_truncate(db, 0, done);
        case 9:
                return db_journal_unlink(db, done);
        case 10:
                return db_journal_fsync(db, done);
        case 11:
                return db_wal_create(db, 0600);
        case 12:
                return db_wal_write(db, page, sizeof page, 0, done);
        case 13:
                return db_wal_truncate(db, 0);
        case 14:
                return db_wal_unlink(db, &fd);
        case 15:
                return db_wal_fsync(db, done);
        case 16:
                return db_adopt_file(db, "/nowhere", NULL);
        case 17:
                return db_may_close(db);
        default:
                return db_abandon(db);
        }
}

#define N_CALLS 19

START_TEST(nobody_changes_what_is_another_s)
{
        struct db_access a;
        struct db_info before, after;
        struct world w;
        char page[16];

        begin(&w);
        db_get_info(w.db, &before);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_ADOPTION, &a, &w.e), 0);
        for (int i = 0; i < N_CALLS; i++) {
                int r = call_none(w.db, i);

                ck_assert_msg(r == (i == N_CALLS - 1 ? -EAGAIN : E_BUSY), "call %d: %d", i, r);
        }
        ck_assert(db_looks_busy(w.db));
        ck_assert_int_eq(db_read(w.db, page, sizeof page, 0), sizeof page);
        db_access_end(&a);
        db_get_info(w.db, &after);
        ck_assert(!db_looks_busy(w.db));
        ck_assert_uint_eq(after.pos.txid, before.pos.txid);
        ck_assert_int_eq(db_chmod(w.db, 0600), 0);
        end(&w);
}
END_TEST

START_TEST(one_owner_at_a_time)
{
        struct db_access a, b;
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_APPLY, &a, &w.e), 0);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_REPLACEMENT, &b, &w.e), E_BUSY);
        ck_assert_str_eq(
                w.e.text,
                "a transaction that is applied has the database: the database is busy for a moment");
        db_access_end(&b); /* of one that was not given */
        ck_assert(db_looks_busy(w.db));
        db_access_end(&a);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_REPLACEMENT, &b, &w.e), 0);
        db_access_end(&b);
        end(&w);
}
END_TEST

/* Commits must not wait for housekeeping; who takes files away must. */
START_TEST(keeper_keeps_the_files_only)
{
        static const enum db_actor beside[] = { DB_BY_CALL, DB_BY_SYNC, DB_BY_CAPTURE, DB_BY_ADOPTION,
                                                DB_BY_APPLY };
        static const enum db_actor not_beside[] = { DB_BY_DROP, DB_BY_APPLIED_DROP, DB_BY_REPLACEMENT,
                                                    DB_BY_CLOSING, DB_BY_HOUSEKEEPING };
        struct db_access keeper, a;
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_HOUSEKEEPING, &keeper, &w.e), 0);
        for (int i = 0; i < COUNT(beside); i++) {
                ck_assert_int_eq(db_access_begin(w.db, beside[i], &a, &w.e), 0);
                db_access_end(&a);
        }
        for (int i = 0; i < COUNT(not_beside); i++)
                ck_assert_int_eq(db_access_begin(w.db, not_beside[i], &a, &w.e), E_BUSY);
        ck_assert_int_eq(drop(w.db), E_BUSY);
        db_access_end(&keeper);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_REPLACEMENT, &a, &w.e), 0);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_HOUSEKEEPING, &keeper, &w.e), E_BUSY);
        db_access_end(&a);
        ck_assert_int_eq(drop(w.db), 0);
        end(&w);
}
END_TEST

struct counted {
        struct db_waiter waiter;
        int n;
};

static void
count(struct db_waiter *w)
{
        ((struct counted *)w)->n++;
}

START_TEST(who_waits_is_called_once)
{
        struct counted first = { { NULL, count }, 0 }, second = { { NULL, count }, 0 };
        struct db_access a, b;
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_CAPTURE, &a, &w.e), 0);
        ck_assert_int_eq(db_access_begin_or_wait(w.db, DB_BY_CALL, &b, &first.waiter, NULL), E_BUSY);
        ck_assert_int_eq(db_access_begin_or_wait(w.db, DB_BY_ADOPTION, &b, &second.waiter, NULL),
                         E_BUSY);
        ck_assert_int_eq(first.n + second.n, 0);
        db_access_end(&a);
        ck_assert_int_eq(first.n, 1);
        ck_assert_int_eq(second.n, 1);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_CAPTURE, &a, &w.e), 0);
        db_access_end(&a);
        ck_assert_int_eq(first.n + second.n, 2);
        end(&w);
}
END_TEST

/* A hold that finds a transaction large gives what it has to a worker, and that one to the next. */
START_TEST(access_is_passed_on)
{
        struct db_access hold, worker, next;
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_CALL, &hold, &w.e), 0);
        ck_assert_int_eq(db_access_pass(&hold, DB_BY_CAPTURE, &worker), 0);
        db_access_end(&hold);
        ck_assert(db_looks_busy(w.db));
        ck_assert_int_eq(db_access_pass(&worker, DB_BY_CAPTURE, &next), 0);
        db_access_end(&worker);
        ck_assert(db_looks_busy(w.db));
        ck_assert_int_eq(db_chmod(w.db, 0600), E_BUSY);
        db_access_end(&next);
        ck_assert(!db_looks_busy(w.db));
        ck_assert_int_eq(db_chmod(w.db, 0600), 0);
        end(&w);
}
END_TEST

/* Whoever keeps an access longer than it lasts would change another's database: it stops instead, in a release build,
 * too. */
START_TEST(change_without_access_stops_the_database)
{
        struct db_access a, stale;
        struct db_info info;
        struct world w;

        begin(&w);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_CAPTURE, &a, &w.e), 0);
        stale = a;
        db_access_end(&a);
        ck_assert_int_eq(flush_writeback(&stale), -EIO);
        db_get_info(w.db, &info);
        ck_assert(info.is_failed);
        ck_assert_int_eq(db_access_begin(w.db, DB_BY_CALL, &a, &w.e), -EIO);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("access");

        log_configure(&(struct log_config){ .fd = -1 });
        tcase_add_test(tc, nobody_changes_what_is_another_s);
        tcase_add_test(tc, one_owner_at_a_time);
        tcase_add_test(tc, keeper_keeps_the_files_only);
        tcase_add_test(tc, who_waits_is_called_once);
        tcase_add_test(tc, access_is_passed_on);
        tcase_add_test(tc, change_without_access_stops_the_database);
        return run_tests("db_access", tc);
}
