/* links: litefs_backup sqlite3 */
/* A database's way to a place: what is there after each step can be restored, and is what was committed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/head.h"
#include "base/log.h"
#include "tests/lib/backup_place.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"

static struct place place;
static struct writer a, b;

static void
set_up(void)
{
        place_open(&place);
        writer_open(&a, &place, "a", NULL);
}

static void
tear_down(void)
{
        writer_close(&a);
        place_close(&place);
}

static void
step(struct writer *w)
{
        ck_assert_msg(writer_step(w) == 0, "%s", w->e.text);
        ck_assert_int_eq(writer_state(w), UPLOAD_FOLLOWING);
}

/* What the place leads to is what @w has now. */
static void
check_is_at(struct writer *w)
{
        struct backup_image_state s;

        ck_assert_int_eq(place_restore(&place, &s), 0);
        ck_assert_uint_eq(s.pos.txid, writer_pos(w).txid);
        ck_assert_uint_eq(s.pos.checksum, writer_pos(w).checksum);
}

START_TEST(place_follows_the_database)
{
        step(&a);
        ck_assert_uint_eq(place_count(&place, 9), 1);
        ck_assert_uint_eq(place_count(&place, 0), 0);
        check_is_at(&a);
        for (int i = 0; i < 10; i++) {
                writer_run(
                        &a,
                        "insert into t(x) values(randomblob(5000)); update t set x=randomblob(50) where id%2=0");
                step(&a);
                check_is_at(&a);
        }
        ck_assert_uint_eq(place_count(&place, 9), 1);
        ck_assert_uint_eq(place_count(&place, 0), 10); /* one for each step, not for each transaction */
        ck_assert_uint_eq(place_check_borders(&place), 11);
}
END_TEST

START_TEST(idle_database_makes_no_request)
{
        uint64_t n;

        writer_run(&a, "insert into t(x) values(1)");
        for (int i = 0; i < 3; i++) {
                step(&a);
                place.now_ms += 3600000;
        }
        n = atomic_load(&place.dest->counters.n_requests);
        for (int i = 0; i < 50; i++) {
                step(&a);
                place.now_ms += 3600000;
        }
        ck_assert_uint_eq(atomic_load(&place.dest->counters.n_requests), n);
        ck_assert_int_eq(upload_due_ms(a.upload), INT64_MAX);
}
END_TEST

START_TEST(pieces_get_longer_and_go)
{
        for (int i = 0; i < 400; i++) {
                writer_run(&a, "insert into t(x) values(randomblob(100))");
                step(&a);
                place.now_ms += 5000;
        }
        ck_assert_uint_gt(place_count(&place, 1), 40);
        ck_assert_uint_ge(place_count(&place, 2), 6);
        /* Those of the last five minutes, and of the piece that is not made yet. */
        ck_assert_uint_lt(place_count(&place, 0), 85);
        check_is_at(&a);
        place_check_borders(&place);
}
END_TEST

/* The times of whole databases become what they would be had each been made a day after the one before. */
static void
set_times(void)
{
        char path[400], name[BACKUP_NAME_SIZE];
        struct backup_objects l;
        int64_t age_days = (int64_t)place_count(&place, 9);

        place_list(&place, &l);
        for (size_t i = 0; i < l.n; i++) {
                struct timespec t[2];

                if (l.items[i].level != 9)
                        continue;
                backup_object_name(place.reader->layout, &l.items[i], name);
                snprintf(path, sizeof path, "%s/backup/t.db/%s", place.dir, name);
                t[0] = t[1] = (struct timespec){ place.now_ms / 1000 - age_days-- * 86400, 0 };
                ck_assert_int_eq(utimensat(AT_FDCWD, path, t, 0), 0);
        }
        backup_objects_release(&l);
}

START_TEST(whole_databases_come_and_go)
{
        a.config.keep_ms = 0;
        for (int i = 0; i < 15; i++) {
                writer_run(&a, "insert into t(x) values(randomblob(100))");
                step(&a);
                place.now_ms += 8 * 3600000;
        }
        ck_assert_uint_ge(place_count(&place, 9), 4);
        ck_assert_uint_eq(place_check_borders(&place),
                          place_count(&place, 0) + place_count(&place, 1) + place_count(&place, 2) +
                                  place_count(&place, 3) + place_count(&place, 9));
        set_times();
        a.config.keep_ms = 2 * 86400000 + 1000;
        upload_forget(a.upload);
        writer_run(&a, "insert into t(x) values(randomblob(100))");
        step(&a);
        /* Of now, of a day ago, of two days ago, and one for the states before that. */
        ck_assert_uint_eq(place_count(&place, 9), 4);
        check_is_at(&a);
        place_check_borders(&place);
}
END_TEST

START_TEST(page_size_and_deletion_begin_anew)
{
        struct backup_image_state s;
        struct backup_head head;
        char etag[DEST_ETAG_SIZE];

        step(&a);
        writer_run(
                &a,
                "insert into t(x) values(randomblob(9000)); pragma page_size=1024; vacuum; insert into t(x) values(2)");
        step(&a);
        check_is_at(&a);
        ck_assert_uint_eq(place_count(&place, 9), 2);
        writer_run(&a, "insert into t(x) values(3)");
        writer_delete(&a);
        step(&a);
        ck_assert_int_eq(place_restore(&place, &s), 0);
        ck_assert_uint_eq(s.pos.txid, writer_pos(&a).txid - 1); /* what it was last */
        ck_assert_int_eq(backup_head_read(place.reader, "t.db", &head, etag, NULL), 0);
        ck_assert(head.is_deleted);
        ck_assert_uint_eq(head.pos.txid, writer_pos(&a).txid);
}
END_TEST

/* --- another node leads --- */

/* @b has what @a has now. */
static void
fail_over(void)
{
        sqlite3_close(a.c);
        a.c = NULL;
        writer_open(&b, &place, "b", &a);
        ck_assert_int_eq(db_driver_connect(a.driver, 0, &a.c), SQLITE_OK);
}

START_TEST(new_primary_goes_on_where_the_place_ends)
{
        step(&a);
        for (int i = 0; i < 3; i++)
                writer_run(&a, "insert into t(x) values(randomblob(100))");
        step(&a);
        writer_run(&a, "insert into t(x) values(randomblob(100))"); /* not uploaded, but replicated */
        fail_over();
        writer_run(&b, "insert into t(x) values('b')");
        step(&b);
        check_is_at(&b);
        ck_assert_uint_eq(place_count(&place, 9), 1);
        ck_assert_uint_eq(place_count(&place, 0), 2);
        writer_close(&b);
}
END_TEST

START_TEST(place_that_is_ahead_is_cut_back)
{
        struct backup_head head;
        char etag[DEST_ETAG_SIZE];

        step(&a);
        writer_run(&a, "insert into t(x) values(randomblob(100))");
        step(&a);
        fail_over();
        for (int i = 0; i < 4; i++) { /* uploaded, but not replicated */
                writer_run(&a, "insert into t(x) values('lost')");
                step(&a);
        }
        step(&b); /* nothing committed yet */
        check_is_at(&b);
        writer_run(&b, "insert into t(x) values('b')");
        step(&b);
        check_is_at(&b);
        place_check_borders(&place);
        ck_assert_int_eq(backup_head_read(place.reader, "t.db", &head, etag, NULL), 0);
        ck_assert_uint_eq(head.epoch, 1);
        ck_assert_str_eq(head.writer, "b");
        ck_assert_uint_eq(head.superseded_to - head.superseded_from, 3);
        writer_close(&b);
}
END_TEST

START_TEST(place_that_has_another_whole_database_is_cut_back)
{
        step(&a);
        fail_over();
        writer_run(&a, "insert into t(x) values('lost')");
        step(&a);
        place.now_ms += 2 * 86400000ll;
        writer_run(&a, "insert into t(x) values('lost, too')");
        step(&a); /* with a whole database of that */
        writer_run(&a, "insert into t(x) values('and this')");
        step(&a);
        ck_assert_uint_ge(place_count(&place, 9), 2);
        writer_run(&b,
                   "insert into t(x) values('b'); insert into t(x) values('b')"); /* at the same TXID */
        step(&b);
        writer_run(&b, "insert into t(x) values('b')");
        step(&b);
        check_is_at(&b);
        place_check_borders(&place);
        writer_close(&b);
}
END_TEST

/* As object lock has it. */
START_TEST(what_cannot_be_removed_is_passed_by)
{
        struct os_fault_plan plan = {
                .op = OS_UNLINK, .tag = "backup:unlink", .nth = 1, .is_for_ever = true, .error = -EACCES
        };
        struct backup_image_state s;

        step(&a);
        fail_over();
        for (int i = 0; i < 4; i++) {
                writer_run(&a, "insert into t(x) values('lost')");
                step(&a);
        }
        os_fault_plan(&place.faults, &plan);
        for (int i = 0; i < 6; i++) {
                writer_run(&b, "insert into t(x) values('b')");
                step(&b);
                ck_assert_int_eq(place_restore(&place, &s), 0);
        }
        check_is_at(&b);
        os_fault_plan(&place.faults, NULL);
        writer_close(&b);
}
END_TEST

START_TEST(old_primary_that_still_writes_is_stopped)
{
        step(&a);
        fail_over();
        writer_run(&b, "insert into t(x) values('b')");
        step(&b);
        writer_run(&a, "insert into t(x) values('a')"); /* at the same TXID, so under the same name */
        ck_assert_int_eq(writer_step(&a), 0);
        ck_assert_int_eq(writer_state(&a), UPLOAD_BLOCKED);
        check_is_at(&b);
        writer_run(&a, "insert into t(x) values('a'); insert into t(x) values('a')");
        place.now_ms += 86400000;
        ck_assert_int_eq(writer_step(&a), 0);
        check_is_at(&b);
        writer_close(&b);
}
END_TEST

START_TEST(place_of_another_cluster_is_left_alone)
{
        step(&a);
        writer_open(&b, &place, "b", NULL);
        strcpy(b.lineage, "another cluster");
        writer_run(&b, "insert into t(x) values('b')");
        ck_assert_int_eq(writer_step(&b), 0);
        ck_assert_int_eq(writer_state(&b), UPLOAD_BLOCKED);
        check_is_at(&a);
        writer_close(&b);
}
END_TEST

START_TEST(place_that_others_have_written_is_left_alone)
{
        step(&a);
        ck_assert_int_eq(remove(path_in(place.dir, "backup/t.db/litefs.json")), 0);
        fail_over();
        ck_assert_int_eq(writer_step(&b), 0);
        ck_assert_int_eq(writer_state(&b), UPLOAD_BLOCKED);
        writer_close(&b);
}
END_TEST

START_TEST(log_that_does_not_reach_back_makes_a_whole_database_due)
{
        struct upload_status s;
        struct err e = ERR_INIT;

        step(&a);
        for (int i = 0; i < 20; i++) {
                writer_run(&a, "insert into t(x) values(randomblob(1000000))");
                db_driver_tick(a.driver, 1, &e);
        }
        /* What is held for the backup stays. */
        step(&a);
        upload_get_status(a.upload, &s);
        ck_assert_uint_eq(s.n_gaps, 0);
        check_is_at(&a);
        upload_forget(a.upload);
        for (int i = 0; i < 120; i++)
                writer_run(&a, "insert into t(x) values(randomblob(1000000)); delete from t");
        db_driver_tick(a.driver, 1, &e);
        db_driver_tick(a.driver, 1, &e);
        step(&a);
        upload_get_status(a.upload, &s);
        ck_assert_uint_eq(s.n_gaps, 1);
        check_is_at(&a);
}
END_TEST

int
main(void)
{
        struct log_config quiet = { .format = LOG_TEXT, .fd = -1 };
        TCase *tc = tcase_create("upload");

        log_configure(&quiet);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, place_follows_the_database);
        tcase_add_test(tc, idle_database_makes_no_request);
        tcase_add_test(tc, pieces_get_longer_and_go);
        tcase_add_test(tc, whole_databases_come_and_go);
        tcase_add_test(tc, page_size_and_deletion_begin_anew);
        tcase_add_test(tc, new_primary_goes_on_where_the_place_ends);
        tcase_add_test(tc, place_that_is_ahead_is_cut_back);
        tcase_add_test(tc, place_that_has_another_whole_database_is_cut_back);
        tcase_add_test(tc, what_cannot_be_removed_is_passed_by);
        tcase_add_test(tc, old_primary_that_still_writes_is_stopped);
        tcase_add_test(tc, place_of_another_cluster_is_left_alone);
        tcase_add_test(tc, place_that_others_have_written_is_left_alone);
        tcase_add_test(tc, log_that_does_not_reach_back_makes_a_whole_database_due);
        return run_tests("backup_upload", tc);
}
