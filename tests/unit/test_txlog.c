/* links: litefs_txlog */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "txlog/segment.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/run.h"

/* --- appending and opening again --- */

START_TEST(new_log_is_empty)
{
        struct txlog_record r;
        struct txlog_stat st;

        open_log(0);
        ck_assert(!txlog_first(fx.tl, &r) && !txlog_last(fx.tl, &r));
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 0);
        ck_assert_uint_eq(read_all(fx.tl, 1000), 0);
        txlog_get_stat(fx.tl, &st);
        ck_assert_uint_eq(st.bytes, 0);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 0);
}
END_TEST

START_TEST(records_are_there_after_opening_again)
{
        static const uint64_t segment_bytes[] = { 0, 5000, 1 };
        struct txlog_record first;

        open_log(segment_bytes[_i]);
        append_range(1, 100);
        ck_assert_uint_eq(read_all(fx.tl, 0), 100);
        for (uint64_t last = 100; last <= 130; last += 10) {
                open_log(segment_bytes[_i]);
                ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
                ck_assert_uint_eq(last_of(fx.tl), last);
                ck_assert(txlog_first(fx.tl, &first) && first.min_txid == 1);
                ck_assert_uint_eq(read_all(fx.tl, 0), last);
                append_range(last + 1, last + 10);
                ck_assert_uint_eq(read_all(fx.tl, 0), last + 10);
        }
        ck_assert_uint_ge(count_segments(), _i == 0 ? 1 : _i == 1 ? 7 : 140);
}
END_TEST

START_TEST(log_may_begin_at_any_transaction_and_then_has_no_gaps)
{
        open_log(0);
        ck_assert_int_eq(append_as(500, 510, 10), 0);
        ck_assert_int_eq(append_as(512, 512, 10), E_POS_MISMATCH);
        ck_assert_int_eq(append_as(510, 512, 10), E_POS_MISMATCH);
        ck_assert_int_eq(append_as(1, 510, 10), E_POS_MISMATCH);
        ck_assert_int_eq(append_as(511, 511, 10), 0);
        ck_assert_int_eq(append_as(1, 600, 10), 0); /* a snapshot */
        ck_assert_int_eq(append_as(601, 601, 0), 0);
        open_log(0);
        ck_assert_uint_eq(read_all(fx.tl, 499), 601);
        ck_assert_int_eq(append_as(602, 602, 10), 0);
}
END_TEST

START_TEST(record_that_no_reader_would_take_is_refused)
{
        open_log(0);
        ck_assert_int_eq(append_as(0, 5, 10), E_FORMAT);
        ck_assert_int_eq(append_as(5, 4, 10), E_FORMAT);
        ck_assert_int_eq(append_as(0, 0, 10), E_FORMAT);
        ck_assert_int_eq(append_as(4, 5, 10), 0);
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 5);
}
END_TEST

START_TEST(long_records_go_out_as_they_come)
{
        static const uint32_t sizes[] = { (1 << 20) - 80, (1 << 20) - 79, 1 << 20, (3 << 20) + 5 };

        open_log(_i == 0 ? 0 : 100000);
        for (uint64_t i = 0; i < 4; i++) {
                ck_assert_int_eq(append_as(2 * i + 1, 2 * i + 1, sizes[i]), 0);
                append(2 * i + 2);
        }
        ck_assert_uint_eq(read_all(fx.tl, 0), 8);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 8);
}
END_TEST

START_TEST(aborted_record_leaves_nothing)
{
        uint32_t size = _i == 0 ? 100 : 3 << 20;
        uint8_t *p = calloc(1, size);
        struct byte_sink *sink;
        uint64_t end;

        open_log(0);
        append_range(1, 3);
        end = txlog_end_lsn(fx.tl);
        sink = txlog_append_begin(fx.tl);
        ck_assert_int_eq(sink->write(sink, p, size / 2), 0);
        ck_assert_int_eq(sink->write(sink, p, size / 2), 0);
        txlog_append_abort(fx.tl);
        ck_assert_uint_eq(txlog_end_lsn(fx.tl), end);
        ck_assert_uint_eq(read_all(fx.tl, 0), 3);
        append(4);
        open_log(0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 4);
        free(p);
}
END_TEST

START_TEST(sync_reaches_what_was_asked_for)
{
        open_log(5000);
        append_range(1, 50);
        ck_assert_uint_lt(txlog_synced_lsn(fx.tl), txlog_end_lsn(fx.tl));
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_ge(txlog_synced_lsn(fx.tl), txlog_end_lsn(fx.tl));
        append(51);
        ck_assert_uint_lt(txlog_synced_lsn(fx.tl), txlog_end_lsn(fx.tl));
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 51);
}
END_TEST

static int
count_name(void *arg, const char *name)
{
        (void)name;
        ++*(int *)arg;
        return 0;
}

static int
count_fds(void)
{
        int n = 0;

        ck_assert_int_eq(os_list_dir(&fx.os, "t", "/proc/self/fd", count_name, &n), 0);
        return n;
}

START_TEST(log_that_rests_holds_no_descriptor_and_goes_on_where_it_was)
{
        int n = count_fds();

        open_log(0);
        ck_assert(!txlog_rest(fx.tl)); /* there is nothing yet */
        append_range(1, 10);
        ck_assert(!txlog_rest(fx.tl)); /* it is not durable */
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert(txlog_rest(fx.tl));
        ck_assert_int_eq(count_fds(), n);
        ck_assert(!txlog_rest(fx.tl)); /* it does already */
        ck_assert_int_eq(txlog_make_space(fx.tl), 0);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 10);
        ck_assert_int_eq(count_fds(), n);
        append_range(11, 20);
        ck_assert_int_eq(count_fds(), n + 1);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        open_log(0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 20);
}
END_TEST

START_TEST(segments_that_are_durable_hold_no_descriptor)
{
        int n;

        open_log(SEGMENT_HEADER_SIZE + 1); /* a record fills a segment */
        append(1);
        n = count_fds();
        /* Synced while it is the last one, and synced later. */
        for (uint64_t txid = 2; txid <= 20; txid++) {
                ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
                append(txid);
        }
        append_range(21, 40);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_eq(count_segments(), 40);
        ck_assert_int_eq(count_fds(), n);
        ck_assert_uint_eq(read_all(fx.tl, 0), 40);
}
END_TEST

START_TEST(space_ahead_is_used_and_is_no_torn_tail)
{
        struct txlog_stat before, after;

        open_log(1 << 20);
        ck_assert(!txlog_wants_space(fx.tl));
        append(1);
        ck_assert(!txlog_wants_space(fx.tl)); /* nobody syncs, so nothing is gained */
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert(txlog_wants_space(fx.tl));
        ck_assert_int_eq(txlog_make_space(fx.tl), 0);
        ck_assert(!txlog_wants_space(fx.tl));
        txlog_get_stat(fx.tl, &before);
        ck_assert_uint_gt(before.allocated_bytes, before.bytes + 10000);
        append_range(2, 30);
        txlog_get_stat(fx.tl, &after);
        ck_assert_uint_eq(after.allocated_bytes, before.allocated_bytes);
        ck_assert_uint_eq(read_all(fx.tl, 0), 30);
        open_log(1 << 20);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        txlog_get_stat(fx.tl, &after);
        ck_assert_uint_eq(after.allocated_bytes, before.allocated_bytes);
        append_range(31, 400);
        open_log(1 << 20);
        ck_assert_uint_eq(read_all(fx.tl, 0), 400);
}
END_TEST

static sem_t is_syncing, may_end;
static bool was_waited_for;

static int
slow_fdatasync(const struct os *self, const char *tag, int fd)
{
        struct timespec end;

        (void)self, (void)fd;
        if (strcmp(tag, "txlog:space") != 0)
                return 0;
        sem_post(&is_syncing);
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 20;
        was_waited_for = sem_timedwait(&may_end, &end) < 0;
        return 0;
}

static void *
make_space(void *log)
{
        return (void *)(intptr_t)txlog_make_space(log);
}

/* Whoever appends holds its database's lock, which everybody wants. */
START_TEST(space_ahead_that_is_synced_holds_nobody_up)
{
        struct txlog_retention all = { UINT64_MAX, 1000000000, 1, 0 };
        pthread_t thread;
        void *ret;
        int fds;

        sem_init(&is_syncing, 0, 0);
        sem_init(&may_end, 0, 0);
        open_log(30000);
        append(1);
        fds = count_fds();
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert(txlog_wants_space(fx.tl));
        fx.os.fdatasync = slow_fdatasync;
        pthread_create(&thread, NULL, make_space, fx.tl);
        sem_wait(&is_syncing);
        append_range(2, 400); /* into the space, and into more segments */
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_gt(count_segments(), 2);
        ck_assert_int_eq(txlog_retain(fx.tl, &all, &fx.e), 0); /* the first is worked on */
        ck_assert_uint_eq(read_all(fx.tl, 0), 400);
        sem_post(&may_end);
        pthread_join(thread, &ret);
        ck_assert(ret == NULL && !was_waited_for);
        ck_assert_int_eq(count_fds(), fds);
        ck_assert_int_gt(txlog_retain(fx.tl, &all, &fx.e), 1);
        open_log(30000);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(read_all(fx.tl, first_of() - 1), 400);
}
END_TEST

static bool was_told[1024];

/* A write was lost: the kernel says so to each descriptor, once. */
static int
fdatasync_after_loss(const struct os *self, const char *tag, int fd)
{
        (void)self;
        if (was_told[fd])
                return 0;
        was_told[fd] = true;
        if (strcmp(tag, "txlog:space") == 0) {
                sem_post(&is_syncing);
                sem_wait(&may_end);
        }
        return -EIO;
}

START_TEST(sync_of_space_hears_of_no_loss_in_place_of_a_commit)
{
        pthread_t thread;
        void *ret;
        int r;

        sem_init(&is_syncing, 0, 0);
        sem_init(&may_end, 0, 0);
        open_log(0);
        append(1);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        append(2);
        fx.os.fdatasync = fdatasync_after_loss;
        pthread_create(&thread, NULL, make_space, fx.tl);
        sem_wait(&is_syncing);
        r = txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e);
        sem_post(&may_end);
        pthread_join(thread, &ret);
        ck_assert_int_eq(r, -EIO);
        ck_assert_int_eq((int)(intptr_t)ret, -EIO);
        ck_assert_int_eq(append_as(3, 3, 10), -EIO);
}
END_TEST

/* --- a disk that fails --- */

static bool is_full;
static int syncs_left;

/* The first write past the end of the space lands in half, as on a disk that fills up. */
static ssize_t
failing_pwrite(const struct os *self, const char *tag, int fd, const void *p, size_t n, off_t off)
{
        (void)self;
        if (is_full && n > 8 && strcmp(tag, "txlog:append") == 0)
                return os_host()->pwrite(os_host(), tag, fd, p, n / 2, off);
        return is_full ? -ENOSPC : os_host()->pwrite(os_host(), tag, fd, p, n, off);
}

static int
failing_fdatasync(const struct os *self, const char *tag, int fd)
{
        (void)self;
        return syncs_left-- == 0 ? -EIO : os_host()->fdatasync(os_host(), tag, fd);
}

START_TEST(append_that_fails_leaves_the_log_as_it_was)
{
        uint64_t end;

        fx.os.pwrite = failing_pwrite;
        ck_assert_int_eq(txlog_open(&fx.os, fx.log_dir, NULL, 0, &fx.tl, &fx.e), 0);
        append_range(1, 3);
        end = txlog_end_lsn(fx.tl);
        is_full = true;
        ck_assert_int_eq(append_as(4, 4, 200), -ENOSPC);
        /* Even the removal failed: it comes before whatever is appended next. */
        ck_assert_int_eq(append_as(4, 4, 200), -ENOSPC);
        is_full = false;
        ck_assert_uint_eq(txlog_end_lsn(fx.tl), end);
        ck_assert_uint_eq(read_all(fx.tl, 0), 3);
        append(4);
        ck_assert_uint_eq(read_all(fx.tl, 0), 4);
        is_full = true;
        ck_assert_int_eq(append_as(5, 5, 200), -ENOSPC);
        is_full = false;
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 4);
        append(5);
        ck_assert_uint_eq(read_all(fx.tl, 0), 5);
}
END_TEST

START_TEST(sync_that_failed_is_never_made_good)
{
        fx.os.fdatasync = failing_fdatasync;
        syncs_left = -1;
        ck_assert_int_eq(txlog_open(&fx.os, fx.log_dir, NULL, 0, &fx.tl, &fx.e), 0);
        append(1);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        append(2);
        syncs_left = 0;
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), -EIO);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), -EIO);
        ck_assert_int_eq(append_as(3, 3, 100), -EIO);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_synced_lsn(fx.tl), &fx.e), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), 2);
}
END_TEST
static enum txlog_history
history_of(uint64_t txid, uint64_t checksum)
{
        enum txlog_history history;
        struct ltx_pos pos = { txid, checksum };

        ck_assert_msg(txlog_find_history(fx.tl, pos, &history, &fx.e) == 0, "%s", fx.e.text);
        return history;
}

/* The checksums are record_of's. */
START_TEST(position_is_found_as_far_as_the_log_reaches)
{
        open_log(0);
        ck_assert_int_eq(history_of(0, 0), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(1, 5), TXLOG_HISTORY_UNKNOWN);
        append_range(10, 20);
        ck_assert_int_eq(history_of(0, 0), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(8, 8 * 5), TXLOG_HISTORY_UNKNOWN);
        ck_assert_int_eq(history_of(9, 10 * 3), TXLOG_HISTORY_OURS); /* before the first record */
        ck_assert_int_eq(history_of(9, 7), TXLOG_HISTORY_OTHER);
        ck_assert_int_eq(history_of(10, 10 * 5), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(15, 15 * 5), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(15, 7), TXLOG_HISTORY_OTHER);
        ck_assert_int_eq(history_of(20, 20 * 5), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(20, 7), TXLOG_HISTORY_OTHER);
        ck_assert_int_eq(append_as(1, 21, 300), 0); /* every page, over whatever was there */
        ck_assert_int_eq(history_of(20, 7), TXLOG_HISTORY_OTHER);
        ck_assert_int_eq(history_of(21, 21 * 5), TXLOG_HISTORY_OURS);
        ck_assert_int_eq(history_of(21, 7), TXLOG_HISTORY_OTHER);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("txlog");

        tcase_set_timeout(tc, 100);
        tcase_add_checked_fixture(tc, log_set_up, log_tear_down);
        tcase_add_test(tc, new_log_is_empty);
        tcase_add_loop_test(tc, records_are_there_after_opening_again, 0, 3);
        tcase_add_test(tc, log_may_begin_at_any_transaction_and_then_has_no_gaps);
        tcase_add_test(tc, record_that_no_reader_would_take_is_refused);
        tcase_add_loop_test(tc, long_records_go_out_as_they_come, 0, 2);
        tcase_add_loop_test(tc, aborted_record_leaves_nothing, 0, 2);
        tcase_add_test(tc, sync_reaches_what_was_asked_for);
        tcase_add_test(tc, log_that_rests_holds_no_descriptor_and_goes_on_where_it_was);
        tcase_add_test(tc, segments_that_are_durable_hold_no_descriptor);
        tcase_add_test(tc, space_ahead_is_used_and_is_no_torn_tail);
        tcase_add_test(tc, space_ahead_that_is_synced_holds_nobody_up);
        tcase_add_test(tc, sync_of_space_hears_of_no_loss_in_place_of_a_commit);
        tcase_add_test(tc, append_that_fails_leaves_the_log_as_it_was);
        tcase_add_test(tc, sync_that_failed_is_never_made_good);
        tcase_add_test(tc, position_is_found_as_far_as_the_log_reaches);
        return run_tests("txlog", tc);
}
