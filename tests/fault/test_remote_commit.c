/* links: litefs_db sqlite3 */
/* Transactions that another node commits first (db/remote_commit.h): SQLite commits when it has said so, and what it refuses
 * has not happened here. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "db/remote_commit.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static const char *const modes[] = { "wal", "delete", "truncate", "persist" };

#define SMALL "update t set x=randomblob(300) where id=3"
#define LARGE "update t set x=randomblob(2000)"
#define SHRINK "delete from t where id > 5; vacuum"

struct world {
        char *dir;
        char root[256];
        struct db_driver *d;
        sqlite3 *c;
        struct db_remote_commit remote_commit;
        int verdict; /* of the other node */
        unsigned n_sent;
        struct txlog_record last;
};

static int
may_commit(void *arg)
{
        (void)arg;
        return 0;
}

/* What comes is whole, and follows what this node has. */
static int
send_there(void *arg, struct db *db, const struct received *rx, struct err *e)
{
        struct world *w = arg;
        struct received copy;
        struct db_info info;
        uint8_t buf[4096];
        uint64_t off = 0;
        ssize_t n;

        db_get_info(db, &info);
        received_init(&copy, &(struct db_env){ .os = os_host(), .tmp_dir = w->dir });
        while ((n = spool_read(&rx->ltx, buf, sizeof buf, off)) > 0) {
                ck_assert_int_eq(spool_write(&copy.ltx, buf, (size_t)n, off), 0);
                off += (uint64_t)n;
        }
        ck_assert_msg(received_verify(&copy, e) == 0, "%s", e->text);
        ck_assert_uint_eq(copy.record.min_txid, info.pos.txid + 1);
        ck_assert_uint_eq(copy.record.pre_apply_checksum, info.pos.checksum);
        ck_assert_uint_eq(copy.record.post_apply_checksum, rx->record.post_apply_checksum);
        w->last = copy.record;
        received_release(&copy);
        w->n_sent++;
        return w->verdict < 0 ? err_set(e, w->verdict, "the other node") : 0;
}

static void
begin_world(struct world *w, const char *mode)
{
        struct err e = ERR_INIT;

        *w = (struct world){ .dir = tmpdir_make(), .remote_commit = { w, may_commit, send_there } };
        snprintf(w->root, sizeof w->root, "%s/data", w->dir);
        db_driver_make_template(w->root, mode, 700);
        ck_assert_msg(db_driver_open(os_host(), w->root, &w->d, &e) == 0, "%s", e.text);
        ck_assert_int_eq(db_driver_connect(w->d, 0, &w->c), SQLITE_OK);
        db_driver_fence(w->d, true); /* a replica, by itself */
        ck_assert_int_ne(db_driver_exec(w->c, SMALL), SQLITE_OK);
        db_set_remote_commit(db_driver_db(w->d), &w->remote_commit);
}

static void
end_world(struct world *w)
{
        ck_assert_int_eq(sqlite3_close(w->c), SQLITE_OK);
        db_driver_close(w->d);
        tmpdir_remove(w->dir);
}

static void
check_state(struct world *w, uint64_t want, uint64_t want_txid)
{
        struct db_info info;
        uint64_t got;
        sqlite3 *other;

        db_get_info(db_driver_db(w->d), &info);
        ck_assert_uint_eq(info.pos.txid, want_txid);
        ck_assert_int_eq(db_driver_connect(w->d, 0, &other), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(other, &got), SQLITE_OK);
        ck_assert_uint_eq(got, want);
        ck_assert(db_driver_is_intact(other));
        ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
}

static uint64_t
txid_of(struct world *w)
{
        struct db_info info;

        db_get_info(db_driver_db(w->d), &info);
        return info.pos.txid;
}

START_TEST(commits_are_the_other_nodes_first)
{
        static const char *const statements[] = { SMALL, LARGE, SHRINK, SMALL };
        struct world w;
        uint64_t digest, before;

        begin_world(&w, modes[_i]);
        for (size_t i = 0; i < COUNT(statements); i++) {
                before = txid_of(&w);
                w.n_sent = 0;
                ck_assert_int_eq(db_driver_exec(w.c, statements[i]), SQLITE_OK);
                ck_assert_uint_ge(w.n_sent, 1);
                ck_assert_uint_eq(txid_of(&w), before + w.n_sent);
                ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
                check_state(&w, digest, before + w.n_sent);
        }
        /* A rollback is nobody's business. */
        w.n_sent = 0;
        ck_assert_int_eq(db_driver_exec(w.c, "begin; " LARGE "; rollback"), SQLITE_OK);
        ck_assert_uint_eq(w.n_sent, 0);
        check_state(&w, digest, txid_of(&w));
        /* The lock is gone. */
        db_set_remote_commit(db_driver_db(w.d), NULL);
        before = txid_of(&w);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_uint_eq(w.n_sent, 0);
        check_state(&w, digest, before);
        end_world(&w);
}
END_TEST

START_TEST(what_is_refused_has_not_happened)
{
        static const char *const statements[] = { SMALL, LARGE };
        struct world w;
        uint64_t digest, before;

        begin_world(&w, modes[_i]);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        before = txid_of(&w);
        for (size_t i = 0; i < COUNT(statements); i++) {
                w.n_sent = 0;
                w.verdict = -ECONNRESET;
                ck_assert_int_eq(db_driver_exec(w.c, "begin immediate"), SQLITE_OK);
                ck_assert_int_eq(db_driver_exec(w.c, statements[i]), SQLITE_OK);
                ck_assert_int_ne(db_driver_exec(w.c, "commit"), SQLITE_OK);
                ck_assert_uint_ge(w.n_sent, 1);
                if (!sqlite3_get_autocommit(w.c))
                        (void)db_driver_exec(w.c, "rollback");
                check_state(&w, digest, before);
        }
        w.verdict = 0;
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        check_state(&w, digest, before + 1);
        end_world(&w);
}
END_TEST

/* The kernel may cut the commit's write in two, and then has SQLite repeat what follows the first part. */
START_TEST(rest_of_a_refused_commit_is_refused)
{
        static const uint8_t rest[100];
        struct db_done none = { 0 };
        struct world w;
        struct stat st;
        uint64_t digest, before;

        begin_world(&w, "wal");
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        before = txid_of(&w);
        w.verdict = -ECONNRESET;
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_wal_stat(db_driver_db(w.d), &st), 0);
        w.verdict = 0;
        ck_assert_int_eq(db_wal_write(db_driver_db(w.d), rest, sizeof rest,
                                      (uint64_t)st.st_size - sizeof rest, none),
                         -EIO);
        check_state(&w, digest, before);
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        check_state(&w, digest, before + 1);
        end_world(&w);
}
END_TEST

/* There is no call that could fail when it commits. */
START_TEST(without_a_journal_nothing_begins)
{
        struct world w;
        uint64_t digest, before;

        begin_world(&w, "delete");
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        before = txid_of(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "pragma journal_mode=off"), SQLITE_OK);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_uint_eq(w.n_sent, 0);
        check_state(&w, digest, before);
        end_world(&w);
}
END_TEST

START_TEST(page_size_is_the_primarys)
{
        struct world w;
        uint64_t digest, before;

        begin_world(&w, "delete");
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        before = txid_of(&w);
        ck_assert_int_eq(db_driver_exec(w.c, "pragma page_size=8192"), SQLITE_OK);
        ck_assert_int_ne(db_driver_exec(w.c, "vacuum"), SQLITE_OK);
        check_state(&w, digest, before);
        end_world(&w);
}
END_TEST

/* Our own transactions, as they come back by the stream. */
START_TEST(own_transactions_are_known)
{
        struct received rx = { 0 };
        struct world w;

        begin_world(&w, "wal");
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        rx.record = w.last;
        ck_assert(db_has_transaction(db_driver_db(w.d), &rx));
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert(db_has_transaction(db_driver_db(w.d), &rx)); /* an older one, too */
        rx.record.post_apply_checksum ^= 1;
        ck_assert(!db_has_transaction(db_driver_db(w.d), &rx));
        rx.record = w.last;
        rx.record.post_apply_checksum ^= 1;
        ck_assert(!db_has_transaction(db_driver_db(w.d), &rx));
        rx.record = w.last;
        rx.record.min_txid = ++rx.record.max_txid;
        ck_assert(!db_has_transaction(db_driver_db(w.d), &rx));
        rx.record = w.last;
        rx.record.min_txid = 1; /* a snapshot is there to replace what one has */
        ck_assert(!db_has_transaction(db_driver_db(w.d), &rx));
        end_world(&w);
}
END_TEST

/* Whoever takes no lock is refused on the primary. */
START_TEST(halted_database_takes_no_commit)
{
        struct world w;
        struct err e = ERR_INIT;
        uint64_t digest, before;

        begin_world(&w, "delete");
        db_set_remote_commit(db_driver_db(w.d), NULL);
        db_driver_fence(w.d, false);
        ck_assert_int_eq(db_driver_digest(w.c, &digest), SQLITE_OK);
        before = txid_of(&w);
        db_set_halted(db_driver_db(w.d), true);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_lt(db_driver_drop(w.d, &e), 0);
        check_state(&w, digest, before);
        db_set_halted(db_driver_db(w.d), false);
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        end_world(&w);
}
END_TEST

/* The node that commits, with a disk of its own. */
struct primary {
        struct db_driver *d;
        struct os_fault os;
        const char *dir;
        int result; /* of the last transaction */
};

static int
commit_there(void *arg, struct db *db, const struct received *rx, struct err *e)
{
        struct primary *p = arg;
        struct db_changes changes;
        struct received copy;
        uint8_t buf[4096];
        uint64_t off = 0;
        ssize_t n;

        (void)db;
        received_init(&copy, &(struct db_env){ .os = os_host(), .tmp_dir = p->dir });
        while ((n = spool_read(&rx->ltx, buf, sizeof buf, off)) > 0) {
                ck_assert_int_eq(spool_write(&copy.ltx, buf, (size_t)n, off), 0);
                off += (uint64_t)n;
        }
        ck_assert_int_eq(received_verify(&copy, e), 0);
        copy.is_local = true;
        p->result = db_apply_direct(db_driver_db(p->d), &copy, &changes, e);
        db_apply_shown(db_driver_db(p->d));
        free(changes.pgnos);
        received_release(&copy);
        return p->result;
}

/* What the primary cannot make durable it must not confirm. */
START_TEST(primary_that_cannot_sync_says_so)
{
        const struct os_fault_plan once = {
                .op = OS_FDATASYNC, .tag = "txlog:sync", .nth = 1, .error = -EIO
        };
        struct primary p = { 0 };
        struct err e = ERR_INIT;
        char root[256];
        struct world w;

        begin_world(&w, "delete");
        snprintf(root, sizeof root, "%s/primary", w.dir);
        db_driver_copy_tree(w.root, root);
        os_fault_init(&p.os, os_host());
        p.dir = w.dir;
        ck_assert_msg(db_driver_open(&p.os.os, root, &p.d, &e) == 0, "%s", e.text);
        w.remote_commit = (struct db_remote_commit){ &p, may_commit, commit_there };
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        os_fault_plan(&p.os, &once);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_lt(p.result, 0);
        os_fault_plan(&p.os, NULL);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        db_driver_close(p.d);
        os_fault_release(&p.os);
        end_world(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("remote_commit");

        log_configure(&(struct log_config){ .fd = -1 });
        db_driver_use_memory();
        tcase_set_timeout(tc, 60);
        tcase_add_loop_test(tc, commits_are_the_other_nodes_first, 0, COUNT(modes));
        tcase_add_loop_test(tc, what_is_refused_has_not_happened, 0, COUNT(modes));
        tcase_add_test(tc, rest_of_a_refused_commit_is_refused);
        tcase_add_test(tc, without_a_journal_nothing_begins);
        tcase_add_test(tc, page_size_is_the_primarys);
        tcase_add_test(tc, own_transactions_are_known);
        tcase_add_test(tc, halted_database_takes_no_commit);
        tcase_add_test(tc, primary_that_cannot_sync_says_so);
        return run_tests("remote_commit", tc);
}
