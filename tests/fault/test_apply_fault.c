/* links: litefs_db sqlite3 */
/* Transactions of another node when the disk errs, or while others use what they replace. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "db/snapshot.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
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

static int
replace(struct world *w)
{
        int r = db_replace(db_of(w), &w->rx, close_both, NULL, &w->e);

        db_apply_shown(db_of(w));
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
        ck_assert_uint_eq(os_fault_failed(&w.os), 1);
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

int
main(void)
{
        TCase *tc = tcase_create("apply_fault");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, deletion_that_was_not_synced_stops_the_database);
        tcase_add_test(tc, snapshot_outlives_the_state_that_it_is_of);
        return run_tests("apply_fault", tc);
}
