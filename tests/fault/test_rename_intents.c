/* links: litefs_store litefs_lease sqlite3 */
/* A primary that is lost in the middle of a rename: what a replica, which has heard of a part of it, does when it leads. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/workers.h"
#include "store/rename_intents.h"
#include "store/renames.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/received.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static struct workers *workers;
static struct lease *lease;
static struct store *primary, *replica;
static char primary_root[256], replica_root[256]; /* the stores borrow them */
static struct err e;

static struct store *
open_node(const char *root)
{
        struct lease_state holder = { .has_holder = true, .term = 1 };
        struct store *s;

        ck_assert_msg(store_open(&(struct store_config){ .os = os_host(),
                                                         .clock = clock_host(),
                                                         .workers = workers,
                                                         .data_dir = root },
                                 lease, &s, &e) == 0,
                      "%s", e.text);
        store_set_role(s, true, &holder);
        return s;
}

static void
set_up(void)
{
        dir = tmpdir_make();
        e = (struct err)ERR_INIT;
        ck_assert_int_eq(lease_static_new(true, "n", "", &lease), 0);
        ck_assert_int_eq(workers_new(1, &workers), 0);
        snprintf(primary_root, sizeof primary_root, "%s/primary", dir);
        snprintf(replica_root, sizeof replica_root, "%s/replica", dir);
        primary = open_node(primary_root);
        replica = open_node(replica_root);
}

static void
tear_down(void)
{
        store_close(primary);
        store_close(replica);
        workers_free(workers);
        lease->ops->free(lease);
        tmpdir_remove(dir);
}

/* What the primary has of @name after the replica's position goes to that, @n transactions at most. */
static void
send_to_replica(const char *name, int n)
{
        struct db *from = store_find(primary, name), *to;
        struct txlog_reader *reader;
        struct txlog_record record;
        struct db_changes changes;
        struct byte_src *src;
        struct db_info info;

        ck_assert_int_eq(store_create_db(replica, name, &to, &e), 0);
        db_get_info(to, &info);
        ck_assert_int_eq(txlog_reader_open(db_log(from), info.pos.txid, &reader, &e), 0);
        while (n-- > 0 && txlog_reader_next(reader, &record, &src, &e) > 0) {
                struct received rx;

                received_copy(&rx, src, dir);
                ck_assert_msg(db_apply_direct(to, &rx, &changes, &e) == 0, "%s", e.text);
                db_apply_shown(to);
                os_close(os_host(), "t", changes.old_fd);
                os_close(os_host(), "t", changes.old_wal_fd);
                free(changes.pgnos);
                rename_intents_note(replica, to, &rx);
                received_release(&rx);
        }
        txlog_reader_close(reader);
}

/* On both. */
static void
make(const char *name, int rows)
{
        char path[300];
        struct db *db;

        snprintf(path, sizeof path, "%s/plain", dir);
        db_driver_make_plain_of(path, rows, 4096);
        ck_assert_int_eq(store_create_db(primary, name, &db, &e), 0);
        ck_assert_msg(db_adopt_file(db, path, &e) == 0, "%s", e.text);
        send_to_replica(name, 1);
}

static void
drop(struct store *s, const char *name)
{
        int fd = -1, wal_fd = -1;

        ck_assert_msg(db_drop(store_find(s, name), &fd, &wal_fd, &e) == 0, "%s", e.text);
        os_close(os_host(), "t", fd);
        os_close(os_host(), "t", wal_fd);
}

static void
rename_two(const char *from, const char *to, const char *from2, const char *to2)
{
        struct renames *rs;

        ck_assert_int_eq(renames_new(primary, 2, &rs), 0);
        ck_assert_int_eq(renames_add(rs, store_find(primary, from), to, &e), 0);
        if (from2 != NULL)
                ck_assert_int_eq(renames_add(rs, store_find(primary, from2), to2, &e), 0);
        ck_assert_int_eq(renames_begin(rs, NULL, &e), 0);
        ck_assert_msg(renames_perform(rs, NULL, &e) == 0, "%s", e.text);
        renames_free(rs);
}

static bool
is_there(const char *name)
{
        struct db *db = store_find(replica, name);

        return db != NULL && db_exists(db);
}

/* The replica leads. */
static void
finish(void)
{
        rename_intents_finish(replica, NULL);
        ck_assert(!rename_intents_are_wanted(replica));
}

START_TEST(the_source_goes_where_the_target_is)
{
        struct ltx_mark mark;
        struct db_info info;

        make("a.db", 10);
        make("other.db", 20);
        rename_two("a.db", "b.db", NULL, NULL);
        send_to_replica("b.db", 1);
        ck_assert(is_there("a.db") && rename_intents_are_wanted(replica));
        finish();
        ck_assert(!is_there("a.db") && is_there("b.db") && is_there("other.db"));
        /* Other replicas get the target first. */
        db_get_info(store_find(replica, "a.db"), &info);
        ck_assert_int_eq(db_read_mark(store_find(replica, "a.db"), info.pos.txid, &mark, &e), 0);
        ck_assert_uint_eq(mark.renamed_name, ltx_name_hash("b.db"));
        ck_assert_uint_eq(mark.renamed_at, 1);
}
END_TEST

START_TEST(nothing_is_left_to_do_where_all_has_come)
{
        make("a.db", 10);
        make("d/x.db", 11);
        rename_two("a.db", "b.db", "d/x.db", "e/x.db");
        send_to_replica("b.db", 1);
        send_to_replica("e/x.db", 1);
        send_to_replica("a.db", 1);
        ck_assert(rename_intents_are_wanted(replica));
        send_to_replica("d/x.db", 1);
        ck_assert(!rename_intents_are_wanted(replica));
}
END_TEST

START_TEST(half_a_directory_stays_where_it_is)
{
        make("d/x.db", 10);
        make("d/y.db", 20);
        rename_two("d/x.db", "e/x.db", "d/y.db", "e/y.db");
        send_to_replica("e/x.db", 1);
        finish();
        ck_assert(is_there("d/x.db") && is_there("d/y.db") && is_there("e/x.db"));
}
END_TEST

START_TEST(what_is_left_of_a_directory_goes)
{
        make("d/x.db", 10);
        make("d/y.db", 20);
        rename_two("d/x.db", "e/x.db", "d/y.db", "e/y.db");
        send_to_replica("e/x.db", 1);
        send_to_replica("e/y.db", 1);
        send_to_replica("d/x.db", 1);
        finish();
        ck_assert(!is_there("d/x.db") && !is_there("d/y.db"));
        ck_assert(is_there("e/x.db") && is_there("e/y.db"));
}
END_TEST

/* A rename that failed halfway was taken back by the primary: the source is all there is. */
START_TEST(the_source_of_a_target_that_is_gone_stays)
{
        make("a.db", 10);
        rename_two("a.db", "b.db", NULL, NULL);
        drop(primary, "b.db");
        send_to_replica("b.db", 2);
        finish();
        ck_assert(is_there("a.db"));
}
END_TEST

/* As it is made again and again, with the same content each time, by whoever replaces a database. */
START_TEST(a_source_that_was_made_anew_stays)
{
        make("new.db", 10);
        make("app.db", 20);
        rename_two("new.db", "app.db", NULL, NULL);
        send_to_replica("app.db", 1);
        send_to_replica("new.db", 1);
        make("new.db", 10);
        finish();
        ck_assert(is_there("new.db") && is_there("app.db"));
}
END_TEST

START_TEST(a_source_that_was_changed_since_stays)
{
        char path[300];

        make("a.db", 10);
        rename_two("a.db", "b.db", NULL, NULL);
        send_to_replica("b.db", 1);
        drop(replica, "a.db"); /* by an application of the new primary */
        snprintf(path, sizeof path, "%s/plain", dir);
        db_driver_make_plain_of(path, 30, 4096);
        ck_assert_int_eq(db_adopt_file(store_find(replica, "a.db"), path, &e), 0);
        finish();
        ck_assert(is_there("a.db"));
}
END_TEST

/* What peers can make it keep is bounded. */
START_TEST(the_oldest_are_forgotten)
{
        struct received rx = { .record = { .commit = 1, .min_txid = 2 } };
        struct db *db;

        make("a.db", 10);
        ck_assert_int_eq(store_create_db(replica, "b.db", &db, &e), 0);
        rx.mark.renamed_name = ltx_name_hash("a.db");
        rx.mark.renamed_count = 1;
        for (unsigned i = 0; i < 3 * RENAME_INTENTS_MAX; i++)
                rename_intents_note(replica, db, &rx);
        finish();
        ck_assert(is_there("a.db"));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("rename_intents");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        log_configure(&(struct log_config){ .fd = -1 });
        db_driver_use_memory();
        tcase_add_test(tc, the_source_goes_where_the_target_is);
        tcase_add_test(tc, nothing_is_left_to_do_where_all_has_come);
        tcase_add_test(tc, half_a_directory_stays_where_it_is);
        tcase_add_test(tc, what_is_left_of_a_directory_goes);
        tcase_add_test(tc, the_source_of_a_target_that_is_gone_stays);
        tcase_add_test(tc, a_source_that_was_made_anew_stays);
        tcase_add_test(tc, a_source_that_was_changed_since_stays);
        tcase_add_test(tc, the_oldest_are_forgotten);
        return run_tests("rename_intents", tc);
}
