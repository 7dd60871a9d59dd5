/* links: litefs_db sqlite3 */
/* Transactions of another node when the disk errs, or while others use what they replace. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
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

int
main(void)
{
        TCase *tc = tcase_create("apply_fault");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, deletion_that_was_not_synced_stops_the_database);
        return run_tests("apply_fault", tc);
}
