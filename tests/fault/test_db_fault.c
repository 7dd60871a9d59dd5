/* links: litefs_db sqlite3 -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* Each scenario is a transaction (or checkpoint, or close) in which the n-th call of one kind fails, once or from
 * then on, for each n until nothing fails any more. Whatever happens, the application sees an error or success,
 * and the database is in the state before or after; see check_aftermath(). */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/db_driver_fault.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

struct run {
        const char *root;
        struct os_fault fault;
        struct db_driver *d;
        sqlite3 *c;
        uint64_t old_state, new_state;
        bool has_new; /* new_state is known: from here on the commit may have happened */
        bool is_left; /* nobody writes any more before the restart */
};

struct scenario {
        const char *name;
        const char *mode; /* journal mode */
        int cache_pages;
        int n_rows;
        int max_points; /* calls of one kind that are failed; more are sampled */
        bool is_killed; /* the application ends without a checkpoint: the next one reads the WAL anew */
        /* Without faults, with the connection. */
        void (*prepare)(struct run *run);
        /* With faults: an SQLite code, or what the driver says. */
        int (*act)(struct run *run);
};

/* --- what is done --- */

/* A transaction whose result is noted before its commit. */
static int
transact(struct run *run, const char *sql)
{
        int rc = db_driver_exec(run->c, "begin immediate");

        if (rc == SQLITE_OK)
                rc = db_driver_exec(run->c, sql);
        if (rc == SQLITE_OK)
                rc = db_driver_digest(run->c, &run->new_state);
        if (rc == SQLITE_OK) {
                run->has_new = true;
                rc = db_driver_exec(run->c, "commit");
        }
        if (rc != SQLITE_OK && !sqlite3_get_autocommit(run->c))
                (void)db_driver_exec(run->c, "rollback");
        return rc;
}

static int
small_transaction(struct run *run)
{
        return transact(run, "update t set x=randomblob(300) where id in (3,20);"
                             "insert into t(x) values(randomblob(2000)); delete from t where id=7");
}

/* In WAL mode one frame, which is the commit frame. */
static int
one_page(struct run *run)
{
        return transact(run, "update t set x=randomblob(300) where id=3");
}

/* Past every threshold: captured by a worker, overlay and journal spill to files, several log writes. */
static int
large_transaction(struct run *run)
{
        return transact(run, "update t set x=randomblob(900)");
}

static int
shrinking_transaction(struct run *run)
{
        return transact(run, "delete from t where id>5; pragma incremental_vacuum");
}

static int
vacuum(struct run *run)
{
        run->new_state = run->old_state;
        return db_driver_exec(run->c, "vacuum");
}

static int
vacuum_with_new_page_size(struct run *run)
{
        int rc = db_driver_exec(run->c, "pragma page_size=4096");

        return rc == SQLITE_OK ? vacuum(run) : rc;
}

/* Until what is remembered of frames fills its first array: the next frame has to make room. */
static void
write_64_frames(struct run *run)
{
        struct db_wal_mark mark = { 0 };

        while (mark.n_frames < 64) {
                ck_assert_int_eq(one_page(run), SQLITE_OK);
                ck_assert(db_wal_captured(db_driver_db(run->d), &mark));
        }
        ck_assert_uint_eq(mark.n_frames, 64);
        run->old_state = run->new_state;
        run->has_new = false;
}

static void
pad_frames(struct run *run)
{
        sqlite3_close(run->c);
        db_driver_set_padded(run->d, true); /* SQLite asks when it opens the WAL */
        ck_assert_int_eq(db_driver_connect(run->d, 0, &run->c), SQLITE_OK);
}

static void
fill_wal(struct run *run)
{
        ck_assert_int_eq(db_driver_exec(run->c, "pragma wal_autocheckpoint=0"), SQLITE_OK);
        for (int i = 0; i < 5; i++)
                ck_assert_int_eq(db_driver_exec(run->c, "update t set x=randomblob(400) where id%3=0"),
                                 SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(run->c, "delete from t where id>30"), SQLITE_OK);
        ck_assert_int_eq(db_driver_digest(run->c, &run->old_state), SQLITE_OK);
}

static int
checkpoint(struct run *run)
{
        int64_t busy = db_driver_int(run->c, "pragma wal_checkpoint(truncate)");

        run->new_state = run->old_state;
        return busy == 0 ? SQLITE_OK : SQLITE_IOERR;
}

static int
checkpoint_then_write(struct run *run)
{
        (void)checkpoint(run);
        return small_transaction(run);
}

static int
leave_wal(struct run *run)
{
        run->new_state = run->old_state;
        return db_driver_exec(run->c, "pragma journal_mode=delete");
}

static int
enter_wal(struct run *run)
{
        int rc = db_driver_exec(run->c, "pragma journal_mode=wal");

        run->new_state = run->old_state;
        return rc == SQLITE_OK ? small_transaction(run) : rc;
}

/* Late pages are written, space is made, and at the close the base moves. */
static int
housekeep_and_close(struct run *run)
{
        int rc = small_transaction(run);

        (void)db_driver_tick(run->d, 1, NULL);
        sqlite3_close(run->c);
        run->c = NULL;
        db_driver_close(run->d);
        run->d = NULL;
        return rc;
}

static int
unjournaled_transaction(struct run *run)
{
        int rc = small_transaction(run);

        /* Without a journal SQLite leaves behind what it had written when it failed, here as anywhere. */
        if (rc == SQLITE_OK && db_driver_tick(run->d, 0, NULL) < 0)
                rc = SQLITE_IOERR;
        return rc;
}

static const struct scenario scenarios[] = {
        { "delete", "delete", 0, 60, 100, false, NULL, small_transaction },
        { "truncate", "truncate", 0, 60, 100, false, NULL, small_transaction },
        { "persist", "persist", 0, 60, 100, false, NULL, small_transaction },
        { "memory", "memory", 0, 60, 100, false, NULL, unjournaled_transaction },
        { "off", "off", 0, 60, 100, false, NULL, unjournaled_transaction },
        { "wal, killed", "wal", 0, 60, 100, true, NULL, small_transaction },
        { "wal", "wal", 0, 60, 100, false, NULL, small_transaction },
        { "wal, padded", "wal", 0, 60, 100, true, pad_frames, small_transaction },
        { "one frame", "wal", 0, 60, 100, true, write_64_frames, one_page },
        { "one frame, clean end", "wal", 0, 60, 100, false, NULL, one_page },
        { "wal with spills, killed", "wal", 4, 60, 100, true, NULL, small_transaction },
        { "wal with spills", "wal", 4, 60, 100, false, NULL, small_transaction },
        { "delete with spills", "delete", 4, 60, 100, false, NULL, small_transaction },
        { "shrink in delete", "delete", 0, 60, 100, false, NULL, shrinking_transaction },
        { "shrink in wal", "wal", 0, 60, 100, false, NULL, shrinking_transaction },
        { "large in delete", "delete", 50, 2200, 1, false, NULL, large_transaction },
        { "large in wal", "wal", 50, 2200, 1, true, NULL, large_transaction },
        { "vacuum in delete", "delete", 0, 60, 50, false, NULL, vacuum },
        { "vacuum in wal", "wal", 0, 60, 50, false, NULL, vacuum },
        { "new page size", "delete", 0, 60, 50, false, NULL, vacuum_with_new_page_size },
        { "checkpoint", "wal", 0, 60, 50, false, fill_wal, checkpoint },
        { "write after checkpoint", "wal", 0, 60, 50, false, fill_wal, checkpoint_then_write },
        { "wal to delete", "wal", 0, 60, 50, false, fill_wal, leave_wal },
        { "delete to wal", "delete", 0, 60, 50, false, NULL, enter_wal },
        { "close in delete", "delete", 0, 60, 100, false, NULL, housekeep_and_close },
        { "close in wal", "wal", 0, 60, 100, false, NULL, housekeep_and_close },
};

/* --- what must hold afterwards --- */

static char context[256];

#define REQUIRE(x, ...) \
        do { \
                if (!(x)) { \
                        char require_text[512]; \
                        snprintf(require_text, sizeof require_text, __VA_ARGS__); \
                        ck_abort_msg("%s: %s", context, require_text); \
                } \
        } while (0)

struct states {
        uint64_t list[4];
        int n;
};

static void
allow(struct states *s, uint64_t state)
{
        s->list[s->n++] = state;
}

static bool
is_allowed(const struct states *s, uint64_t state)
{
        for (int i = 0; i < s->n; i++)
                if (s->list[i] == state)
                        return true;
        return false;
}

static void
check_content(sqlite3 *c, struct states *s, const char *when)
{
        uint64_t state;
        int rc = db_driver_digest(c, &state);

        REQUIRE(rc == SQLITE_OK, "%s: cannot be read: %s", when, sqlite3_errmsg(c));
        REQUIRE(is_allowed(s, state), "%s: a state that nobody committed", when);
        REQUIRE(db_driver_is_intact(c), "%s: integrity_check", when);
        *s = (struct states){ { state }, 1 };
}

/* The same daemon goes on: unless it has stopped writing it must serve a right state and take commits. */
static void
check_in_place(struct run *run, const struct scenario *sc, struct states *s)
{
        struct err e = ERR_INIT;
        struct db_info info;
        char sql[64];
        int rc;

        snprintf(sql, sizeof sql, "pragma journal_mode=%s", sc->mode);
        db_get_info(db_driver_db(run->d), &info);
        rc = db_driver_connect(run->d, 0, &run->c);
        REQUIRE(rc == SQLITE_OK || info.is_failed, "cannot be opened again");
        if (rc != SQLITE_OK || info.is_failed) {
                sqlite3_close(run->c);
                run->c = NULL;
                return;
        }
        check_content(run->c, s, "in place");
        REQUIRE(db_driver_check_position(run->d, run->root, &e) == 0, "in place: %s", e.text);
        if (!run->is_left) {
                (void)db_driver_exec(run->c, sql);
                run->has_new = false;
                rc = small_transaction(run);
                if (rc == SQLITE_OK && db_driver_tick(run->d, 0, &e) == 0)
                        *s = (struct states){ { run->new_state }, 1 };
                else if (run->has_new)
                        allow(s, run->new_state);
        }
        REQUIRE(sqlite3_close(run->c) == SQLITE_OK, "connection not closed");
        run->c = NULL;
}

static void
check_reopened(struct run *run, struct states *s)
{
        struct err e = ERR_INIT;
        sqlite3 *c;
        int r;

        r = db_driver_open(&run->fault.os, run->root, &run->d, &e);
        REQUIRE(r == 0, "does not open: %s", e.text);
        r = db_driver_check_files(run->d, run->root, NULL, 0, &e);
        REQUIRE(r == 0, "reopened: %s", e.text);
        REQUIRE(db_driver_connect(run->d, 0, &c) == SQLITE_OK, "reopened: no connection");
        check_content(c, s, "reopened");
        run->c = c;
        REQUIRE(small_transaction(run) == SQLITE_OK, "reopened: not writable: %s", sqlite3_errmsg(c));
        sqlite3_close(c);
        db_driver_close(run->d);
}

static void
check_aftermath(struct run *run, const struct scenario *sc, int rc)
{
        bool has_journal = strcmp(sc->mode, "off") != 0 && strcmp(sc->mode, "memory") != 0;
        struct states s = { 0 };

        if (rc != SQLITE_OK || !run->has_new)
                allow(&s, run->old_state);
        if (run->has_new)
                allow(&s, run->new_state);
        if (run->c != NULL)
                REQUIRE(sqlite3_close(run->c) == SQLITE_OK, "connection not closed");
        run->c = NULL;
        /* Without a journal SQLite itself cannot take back what it has written; here the restart does. */
        if (run->d != NULL && (rc == SQLITE_OK || has_journal))
                check_in_place(run, sc, &s);
        if (run->d != NULL)
                db_driver_close(run->d);
        check_reopened(run, &s);
}

/* --- the loops --- */

static void
begin(struct run *run, const struct scenario *sc, const char *template, const char *root)
{
        struct err e = ERR_INIT;
        char sql[64];

        memset(run, 0, sizeof *run);
        run->root = root;
        db_driver_remove_tree(root);
        db_driver_copy_tree(template, root);
        os_fault_init(&run->fault, os_host());
        run->fault.skips_sync = true;
        REQUIRE(db_driver_open(&run->fault.os, root, &run->d, &e) == 0, "open: %s", e.text);
        REQUIRE(db_driver_connect(run->d, sc->cache_pages, &run->c) == SQLITE_OK, "connect");
        snprintf(sql, sizeof sql, "pragma journal_mode=%s", sc->mode);
        REQUIRE(db_driver_exec(run->c, sql) == SQLITE_OK, "%s", sql);
        REQUIRE(db_driver_digest(run->c, &run->old_state) == SQLITE_OK, "digest");
        if (sc->prepare != NULL)
                sc->prepare(run);
        if (sc->is_killed)
                sqlite3_db_config(run->c, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

struct variant {
        bool is_for_ever;
        bool is_left;
};

/* One run: whether anything failed. */
static bool
run_once(const struct scenario *sc, const struct fault_kind *kind, uint64_t nth,
         const struct variant *variant, const char *template, const char *root)
{
        struct run run;
        uint64_t n_failed;
        int rc;

        snprintf(context, sizeof context, "%s: %s fails at call %llu%s%s", sc->name, kind->name,
                 (unsigned long long)nth, variant->is_for_ever ? " and for ever" : "",
                 variant->is_left ? ", then a restart" : "");
        begin(&run, sc, template, root);
        run.is_left = variant->is_left;
        fault_arm(&run.fault, kind, nth, variant->is_for_ever);
        rc = sc->act(&run);
        n_failed = fault_disarm(&run.fault, kind);
        REQUIRE(n_failed > 0 || rc == SQLITE_OK, "an error without a fault: %d", rc);
        check_aftermath(&run, sc, rc);
        os_fault_release(&run.fault);
        return n_failed > 0;
}

#ifdef __SANITIZE_ADDRESS__
#define N_LONG_VARIANTS 1
#define POINTS(n) ((uint64_t)(n) / 10 + 1)
#else
#define N_LONG_VARIANTS 2
#define POINTS(n) ((uint64_t)(n))
#endif

/* Finds the last call that happens by doubling, so that a long scenario is sampled evenly. */
static void
run_kind(const struct scenario *sc, const struct fault_kind *kind, const struct variant *variant,
         const char *template, const char *root)
{
        uint64_t n = 1, step = 1, points = 0;

        while (run_once(sc, kind, n, variant, template, root)) {
                if (++points % POINTS(sc->max_points) == 0)
                        step *= sc->n_rows > 1000 ? 4 : 2;
                n += step;
        }
}

static const struct variant variants[] = {
        { false, false },
        { true, true },
#ifndef __SANITIZE_ADDRESS__ /* which is slow: half of it has to do */
        { false, true },
        { true, false },
#endif
};

static void
run_scenario(const struct scenario *sc)
{
        char *dir = tmpdir_make();
        char template[PATH_MAX], root[PATH_MAX];

        snprintf(template, sizeof template, "%s/template", dir);
        snprintf(root, sizeof root, "%s/root", dir);
        db_driver_make_template(template, sc->mode, sc->n_rows);
        for (size_t i = 0; i < n_fault_kinds; i++)
                for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
                        if (variants[v].is_for_ever && fault_kinds[i].plan.error == -EINTR)
                                continue; /* it would be retried for ever */
                        if (v >= N_LONG_VARIANTS && sc->n_rows > 1000)
                                continue; /* a long scenario is run less often */
                        run_kind(sc, &fault_kinds[i], &variants[v], template, root);
                }
        tmpdir_remove(dir);
}

/* FAULT=NAME runs only the scenario of that name. */
START_TEST(nth_call_fails)
{
        const char *only = getenv("FAULT");

        if (only == NULL || strcmp(only, scenarios[_i].name) == 0)
                run_scenario(&scenarios[_i]);
}
END_TEST

/* The second part of a padding frame brings what the WAL's earlier use has left there. */
START_TEST(padding_over_an_older_wal_is_no_error)
{
        struct scenario sc = { .name = "padding", .mode = "wal" };
        struct states s = { 0 };
        char *dir = tmpdir_make();
        char template[PATH_MAX], root[PATH_MAX], sql[80];
        struct run run;

        snprintf(template, sizeof template, "%s/template", dir);
        snprintf(root, sizeof root, "%s/root", dir);
        db_driver_make_template(template, sc.mode, 60);
        begin(&run, &sc, template, root);
        pad_frames(&run);
        for (int i = 0; i < 300; i++) {
                snprintf(sql, sizeof sql, "update t set x=randomblob(300) where id=%d", 1 + i / 30);
                ck_assert_int_eq(transact(&run, sql), SQLITE_OK);
                if (i % 10 == 9)
                        ck_assert_int_eq(db_driver_int(run.c, "pragma wal_checkpoint(restart)"), 0);
        }
        allow(&s, run.new_state);
        check_content(run.c, &s, "padded");
        sqlite3_close(run.c);
        db_driver_close(run.d);
        check_reopened(&run, &s);
        os_fault_release(&run.fault);
        tmpdir_remove(dir);
}
END_TEST

int
main(void)
{
        const struct log_config quiet = { .fd = getenv("FAULT") != NULL ? 2 : -1 };
        TCase *tc = tcase_create("db_fault");

        log_configure(&quiet);
        db_driver_use_memory();
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, nth_call_fails, 0, (int)(sizeof scenarios / sizeof scenarios[0]));
        tcase_add_test(tc, padding_over_an_older_wal_is_no_error);
        return run_tests("db_fault", tc);
}
