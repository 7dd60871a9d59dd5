/* links: litefs_txlog */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/log_fixture.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"

/* --- readers --- */

START_TEST(reader_begins_behind_any_transaction)
{
        open_log(3000);
        append_range(10, 60);
        for (uint64_t after = 9; after <= 60; after++) {
                struct txlog_reader *r;
                struct txlog_record rec;
                struct byte_src *src;
                int want = after < 60;

                ck_assert_int_eq(txlog_reader_open(fx.tl, after, &r, &fx.e), 0);
                ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &fx.e), want);
                if (want)
                        ck_assert_uint_eq(rec.min_txid, after + 1);
                ck_assert_uint_eq(read_on(r), after < 59 ? 60 : 0);
                txlog_reader_close(r);
        }
        for (uint64_t after = 0; after < 9; after++) {
                struct txlog_reader *r;

                ck_assert_int_eq(txlog_reader_open(fx.tl, after, &r, &fx.e), E_NOT_FOUND);
        }
        txlog_reader_close(NULL);
}
END_TEST

START_TEST(reader_sees_what_comes_later)
{
        struct txlog_reader *r;

        open_log(2000);
        ck_assert_int_eq(txlog_reader_open(fx.tl, 0, &r, &fx.e), 0);
        ck_assert_uint_eq(read_on(r), 0);
        for (uint64_t txid = 1; txid < 100; txid += 7) {
                append_range(txid, txid + 6);
                ck_assert_uint_eq(read_on(r), txid + 6);
                ck_assert_uint_eq(read_on(r), 0);
        }
        txlog_reader_close(r);
}
END_TEST

/* The sparse index holds a place about every 256 KiB: with large records, one for each. A snapshot's own first
 * TXID is 1, which must not pass for "this is old enough". */
START_TEST(oldest_record_comes_first_also_before_a_snapshot)
{
        struct txlog_reader *r;
        struct txlog_record rec;
        struct byte_src *src;

        open_log(0);
        for (uint64_t txid = 1; txid <= 4; txid++)
                ck_assert_int_eq(append_as(txid, txid, 300000), 0);
        ck_assert_int_eq(append_as(1, 9, 300000), 0);
        ck_assert_int_eq(append_as(10, 10, 300000), 0);
        for (int round = 0; round < 2; round++) {
                for (uint64_t after = 0; after <= 9; after++) {
                        ck_assert_int_eq(txlog_reader_open(fx.tl, after, &r, &fx.e), 0);
                        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &fx.e), 1);
                        ck_assert_uint_eq(rec.max_txid, after < 4 ? after + 1 : after < 9 ? 9 : 10);
                        txlog_reader_close(r);
                }
                open_log(0);
        }
}
END_TEST

static atomic_bool is_appending;

static void *
read_along(void *arg)
{
        struct txlog_reader *r = arg;
        static _Thread_local struct err words;
        struct txlog_record rec;
        struct byte_src *src;
        uint64_t last = 0;
        bool was_appending;

        do {
                int rc;

                was_appending = is_appending;
                while ((rc = txlog_reader_next(r, &rec, &src, &words)) > 0) {
                        uint8_t got[400], want[400];
                        ssize_t n = byte_src_read_all(src, got, sizeof got);

                        fill_page(want, size_of(rec.max_txid), PAGE_NOISE, (uint32_t)rec.max_txid);
                        if (rec.min_txid != last + 1 || n != (ssize_t)size_of(rec.max_txid) ||
                            memcmp(got, want, (size_t)n) != 0)
                                return NULL;
                        last = rec.max_txid;
                }
                if (rc < 0)
                        return NULL;
        } while (was_appending);
        return (void *)(uintptr_t)last;
}

static void *
sync_along(void *arg)
{
        (void)arg;
        while (is_appending) {
                struct txlog_retention policy = { UINT64_MAX, 0, 0, 20000 };
                struct err ignored;

                if (txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &ignored) < 0 ||
                    txlog_make_space(fx.tl) < 0 || txlog_retain(fx.tl, &policy, &ignored) < 0)
                        return NULL;
        }
        return &is_appending;
}

START_TEST(readers_and_syncs_go_on_while_records_are_appended)
{
        struct txlog_reader *readers[3];
        pthread_t threads[5];
        void *ret;

        open_log(30000);
        is_appending = true;
        for (int i = 0; i < 3; i++) {
                ck_assert_int_eq(txlog_reader_open(fx.tl, 0, &readers[i], &fx.e), 0);
                pthread_create(&threads[i], NULL, read_along, readers[i]);
        }
        for (int i = 3; i < 5; i++)
                pthread_create(&threads[i], NULL, sync_along, NULL);
        append_range(1, 4000);
        is_appending = false;
        for (int i = 0; i < 3; i++) {
                pthread_join(threads[i], &ret);
                ck_assert_uint_eq((uintptr_t)ret, 4000);
                txlog_reader_close(readers[i]);
        }
        for (int i = 3; i < 5; i++) {
                pthread_join(threads[i], &ret);
                ck_assert_ptr_nonnull(ret);
        }
        open_log(30000);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(last_of(fx.tl), 4000);
        ck_assert_uint_eq(read_all(fx.tl, first_of() - 1), 4000);
}
END_TEST
/* --- looking only --- */

START_TEST(readonly_sees_the_records_and_changes_nothing)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs), after;
        struct txlog *look;

        write_file(segment_path(1), b.data, b.n - 20);
        ck_assert_msg(txlog_open_readonly(&fx.os, fx.log_dir, &look, &fx.e) == 0, "%s", fx.e.text);
        ck_assert_uint_eq(last_of(look), 2);
        ck_assert_uint_eq(read_all(look, 0), 2);
        txlog_close(look);
        after = read_file(segment_path(1));
        ck_assert_uint_eq(after.n, b.n - 20);
        ck_assert_mem_eq(after.data, b.data, after.n);
        free(after.data);
        free(b.data);
}
END_TEST

START_TEST(readonly_open_of_no_log_creates_none)
{
        struct txlog *look;

        ck_assert_int_eq(txlog_open_readonly(&fx.os, fx.log_dir, &look, &fx.e), -ENOENT);
        ck_assert_int_eq(access(fx.log_dir, F_OK), -1);
        ck_assert_msg(strstr(fx.e.text, fx.log_dir) != NULL, "%s", fx.e.text);
}
END_TEST

START_TEST(readonly_open_works_while_another_appends)
{
        struct txlog *look;
        pthread_t thread;
        void *ret;

        open_log(30000);
        append(1);
        is_appending = true;
        pthread_create(&thread, NULL, sync_along, NULL);
        for (uint64_t txid = 2; txid <= 400; txid++) {
                append(txid);
                if (txid % 10 != 0)
                        continue;
                ck_assert_msg(txlog_open_readonly(&fx.os, fx.log_dir, &look, &fx.e) == 0, "%s",
                              fx.e.text);
                ck_assert_uint_eq(last_of(look), txid);
                txlog_close(look);
        }
        is_appending = false;
        pthread_join(thread, &ret);
        ck_assert_ptr_nonnull(ret);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("txlog_reader");

        tcase_set_timeout(tc, 100);
        tcase_add_checked_fixture(tc, log_set_up, log_tear_down);
        tcase_add_test(tc, reader_begins_behind_any_transaction);
        tcase_add_test(tc, reader_sees_what_comes_later);
        tcase_add_test(tc, oldest_record_comes_first_also_before_a_snapshot);
        tcase_add_test(tc, readers_and_syncs_go_on_while_records_are_appended);
        tcase_add_test(tc, readonly_sees_the_records_and_changes_nothing);
        tcase_add_test(tc, readonly_open_of_no_log_creates_none);
        tcase_add_test(tc, readonly_open_works_while_another_appends);
        return run_tests("txlog_reader", tc);
}
