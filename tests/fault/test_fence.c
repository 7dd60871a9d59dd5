/* links: litefs_db sqlite3 */
/* The lease ends while a commit is on its way: after the record was written, or while it is made durable. The
 * application must not hear that it has committed. The transaction stays, for a replica may have it; SQLite goes on from
 * it, whichever way it was told. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

/* The host's, but the lease ends after a call with the tag. */
struct fencing_os {
        struct os os;
        const char *tag; /* NULL: it holds */
        struct db_driver *d;
};

static void
after(const struct os *os, const char *tag)
{
        const struct fencing_os *f = (const struct fencing_os *)os;

        if (f->tag != NULL && strcmp(tag, f->tag) == 0)
                db_driver_fence(f->d, true);
}

static ssize_t
fencing_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        ssize_t r = os_host()->pwrite(os_host(), tag, fd, buf, n, off);

        after(os, tag);
        return r;
}

static int
fencing_fdatasync(const struct os *os, const char *tag, int fd)
{
        int r = os_host()->fdatasync(os_host(), tag, fd);

        after(os, tag);
        return r;
}

struct fence_case {
        const char *mode, *synchronous, *tag, *sql;
};

#define SMALL "update t set x=randomblob(300) where id=3"
#define LARGE "update t set x=randomblob(2000)" /* captured by a worker */

static const struct fence_case cases[] = {
        { "wal", "normal", "txlog:append", SMALL },     { "wal", "full", "txlog:append", SMALL },
        { "wal", "full", "txlog:sync", SMALL },         { "wal", "full", "txlog:sync", LARGE },
        { "delete", "normal", "txlog:append", SMALL },  { "delete", "full", "txlog:append", SMALL },
        { "delete", "full", "txlog:sync", SMALL },      { "delete", "full", "txlog:sync", LARGE },
        { "truncate", "full", "txlog:sync", SMALL },    { "truncate", "full", "txlog:sync", LARGE },
        { "persist", "normal", "txlog:append", SMALL }, { "persist", "full", "txlog:sync", SMALL },
        { "off", "full", "txlog:sync", SMALL },
};

struct world {
        char *dir; /* the test's own */
        char root[256];
        struct fencing_os os;
        struct db_driver *d;
        sqlite3 *c;
};

static void
open_world(struct world *w)
{
        struct err e = ERR_INIT;

        ck_assert_msg(db_driver_open(&w->os.os, w->root, &w->d, &e) == 0, "%s", e.text);
        w->os.d = w->d;
        ck_assert_int_eq(db_driver_connect(w->d, 0, &w->c), SQLITE_OK);
}

static void
close_world(struct world *w)
{
        ck_assert_int_eq(sqlite3_close(w->c), SQLITE_OK);
        db_driver_close(w->d);
}

static void
set_mode(struct world *w, const struct fence_case *fc)
{
        char sql[128];

        snprintf(sql, sizeof sql, "pragma synchronous=%s", fc->synchronous);
        ck_assert_int_eq(db_driver_exec(w->c, sql), SQLITE_OK);
        if (strcmp(fc->mode, "off") == 0)
                ck_assert_int_eq(db_driver_exec(w->c, "pragma journal_mode=off"), SQLITE_OK);
        /* In WAL mode whoever syncs each time is synced for in advance, too. */
        ck_assert_int_eq(db_driver_exec(w->c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(w->c, SMALL), SQLITE_OK);
}

/* What the transaction makes of the database, and whether the application was told so. */
static int
commit_while_fenced(struct world *w, const struct fence_case *fc, uint64_t *ret_digest)
{
        int rc;

        ck_assert_int_eq(db_driver_exec(w->c, "begin immediate"), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(w->c, fc->sql), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w->c, ret_digest), SQLITE_OK);
        w->os.tag = fc->tag;
        rc = db_driver_exec(w->c, "commit");
        w->os.tag = NULL;
        if (!sqlite3_get_autocommit(w->c))
                (void)db_driver_exec(w->c, "rollback");
        return rc;
}

static void
check_state(struct world *w, uint64_t want)
{
        uint64_t got;
        sqlite3 *other;

        ck_assert_int_eq(db_driver_digest(w->c, &got), SQLITE_OK);
        ck_assert_uint_eq(got, want);
        ck_assert(db_driver_is_intact(w->c));
        ck_assert_int_eq(db_driver_connect(w->d, 0, &other), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(other, &got), SQLITE_OK);
        ck_assert_uint_eq(got, want);
        ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
}

static void
begin_world(struct world *w, const struct fence_case *fc)
{
        *w = (struct world){ .os = { .os = *os_host() } };
        w->os.os.pwrite = fencing_pwrite;
        w->os.os.fdatasync = fencing_fdatasync;
        w->dir = tmpdir_make();
        snprintf(w->root, sizeof w->root, "%s/data", w->dir);
        db_driver_make_template(w->root, strcmp(fc->mode, "off") == 0 ? "delete" : fc->mode, 700);
        open_world(w);
        set_mode(w, fc);
}

START_TEST(commit_is_not_acknowledged_after_the_lease)
{
        const struct fence_case *fc = &cases[_i];
        struct db_info before, info;
        struct world w;
        uint64_t want;
        int rc;

        begin_world(&w, fc);
        db_get_info(db_driver_db(w.d), &before);
        rc = commit_while_fenced(&w, fc, &want);
        ck_assert_msg(rc != SQLITE_OK, "%s %s: committed", fc->mode, fc->synchronous);
        db_get_info(db_driver_db(w.d), &info);
        ck_assert_uint_eq(info.pos.txid, before.pos.txid + 1); /* it was on its way */
        check_state(&w, want);
        ck_assert_int_ne(db_driver_exec(w.c, SMALL), SQLITE_OK);
        check_state(&w, want);
        /* The lease is this node's again: nobody has gone on without the transaction. */
        db_driver_fence(w.d, false);
        ck_assert_int_eq(db_driver_exec(w.c, SMALL), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(w.c, &want), SQLITE_OK);
        close_world(&w);
        open_world(&w);
        check_state(&w, want);
        close_world(&w);
        tmpdir_remove(w.dir);
}
END_TEST

/* A replica may checkpoint and sync: what it has is the cluster's. */
START_TEST(syncs_go_on_once_the_cluster_has_it)
{
        static const struct fence_case fc = { "wal", "full", "txlog:sync", SMALL };
        struct world w;
        uint64_t want;

        begin_world(&w, &fc);
        ck_assert_int_ne(commit_while_fenced(&w, &fc, &want), SQLITE_OK);
        ck_assert_int_eq(db_may_confirm(db_driver_db(w.d)), E_UNCONFIRMED);
        ck_assert_int_ne(sqlite3_wal_checkpoint_v2(w.c, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL),
                         SQLITE_OK);
        db_confirm(db_driver_db(w.d), UINT64_MAX);
        ck_assert_int_eq(sqlite3_wal_checkpoint_v2(w.c, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL),
                         SQLITE_OK);
        check_state(&w, want);
        close_world(&w);
        tmpdir_remove(w.dir);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("fence");

        log_configure(&(struct log_config){ .fd = -1 });
        db_driver_use_memory();
        tcase_set_timeout(tc, 60);
        tcase_add_loop_test(tc, commit_is_not_acknowledged_after_the_lease, 0, COUNT(cases));
        tcase_add_test(tc, syncs_go_on_once_the_cluster_has_it);
        return run_tests("fence", tc);
}
