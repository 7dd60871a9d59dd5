/* links: litefs_txlog */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "txlog/segment.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/run.h"

/* --- a torn tail --- */

/* After recovery record 3 is gone: the log is usable, and says so only once. */
static void
check_recovered(uint64_t last, bool was_torn)
{
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), last);
        ck_assert(was_torn == (txlog_torn_bytes(fx.tl) > 0));
        ck_assert_uint_eq(read_all(fx.tl, 0), last);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        append(last + 1);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), last + 1);
        txlog_close(fx.tl);
        fx.tl = NULL;
}

START_TEST(log_cut_at_any_byte_of_its_last_record_loses_that_alone)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs);
        uint64_t payload_end = offs[2] + FRAME_SIZE + size_of(3);

        for (uint64_t n = offs[2]; n <= b.n; n++) {
                write_file(segment_path(1), b.data, n);
                check_recovered(n < payload_end ? 2 : 3, n > offs[2] && n < payload_end);
        }
        free(b.data);
}
END_TEST

START_TEST(log_with_any_byte_of_its_last_record_changed_loses_that_alone)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs);

        for (uint64_t at = offs[2]; at < offs[2] + FRAME_SIZE + size_of(3); at++) {
                b.data[at] ^= 0x40;
                write_file(segment_path(1), b.data, b.n);
                check_recovered(2, true);
                b.data[at] ^= 0x40;
        }
        free(b.data);
}
END_TEST

/* A disk that wrote the end of a record before its beginning: a hole of zeros. */
START_TEST(last_record_with_a_hole_is_cut)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs);

        for (uint64_t at = offs[2]; at + 16 < offs[2] + FRAME_SIZE + size_of(3); at += 8) {
                uint8_t old[16];

                memcpy(old, b.data + at, 16);
                memset(b.data + at, 0, 16);
                write_file(segment_path(1), b.data, b.n);
                check_recovered(2, true);
                memcpy(b.data + at, old, 16);
        }
        free(b.data);
}
END_TEST

/* The record after the torn one is whole and continues it. Once the torn one is written again, byte for byte
 * the same, what lies behind it must not come back to life. */
START_TEST(record_behind_a_torn_one_stays_gone)
{
        uint64_t offs[5];
        struct file_bytes b = make_log(4, offs);

        b.data[offs[2] + FRAME_SIZE + 10] ^= 1;
        write_file(segment_path(1), b.data, b.n);
        free(b.data);
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 2);
        ck_assert_uint_ge(txlog_torn_bytes(fx.tl), offs[4] - offs[2] - 8);
        append(3);
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 3);
        ck_assert_uint_eq(read_all(fx.tl, 0), 3);
}
END_TEST

/* The last record is taken out, at once or by a later run; what follows takes its place. */
START_TEST(last_record_is_undone)
{
        struct err e = ERR_INIT;
        uint64_t offs[4], lsn;

        free(make_log(3, offs).data);
        for (int reopens = 0; reopens < 2; reopens++) {
                open_log(0);
                if (reopens == 0)
                        append(4);
                lsn = txlog_end_lsn(fx.tl);
                ck_assert_int_eq(txlog_undo_last(fx.tl, 9, &e), E_NOT_FOUND);
                ck_assert_int_eq(txlog_undo_last(fx.tl, 4 - (uint64_t)reopens, &e), 0);
                ck_assert_uint_gt(txlog_end_lsn(fx.tl), lsn);
                ck_assert_uint_lt(txlog_synced_lsn(fx.tl), txlog_end_lsn(fx.tl));
                ck_assert_int_eq(txlog_undo_last(fx.tl, 3 - (uint64_t)reopens, &e), E_NOT_FOUND);
                ck_assert_uint_eq(last_of(fx.tl), 3 - (uint64_t)reopens);
                ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &e), 0);
                check_recovered(3 - (uint64_t)reopens, true);
                open_log(0);
                ck_assert_int_eq(txlog_undo_last(fx.tl, 4 - (uint64_t)reopens, &e), 0);
        }
}
END_TEST

START_TEST(garbage_behind_the_end_is_cut)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs);

        b.data = realloc(b.data, b.n + 5000);
        memset(b.data + b.n, 0x5a, 5000);
        write_file(segment_path(1), b.data, b.n + 5000);
        free(b.data);
        check_recovered(3, true);
}
END_TEST

START_TEST(segment_whose_header_was_never_written_is_dropped)
{
        static const size_t sizes[] = { 0, 1, 4095, 4096, 100000 };
        uint8_t *zeros = calloc(1, 100000);

        for (int i = 0; i < COUNT(sizes); i++) {
                log_tear_down();
                log_set_up();
                open_log(5000);
                append_range(1, 8);
                write_file(segment_path(count_segments() + 1), zeros, sizes[i]);
                check_recovered(8, sizes[i] > 0);
        }
        free(zeros);
}
END_TEST

/* A crash before any sync may keep the newer segment and lose the end of the older: nothing of the newer one was
 * ever acknowledged as durable. */
START_TEST(segment_behind_a_gap_that_was_never_durable_is_dropped)
{
        struct file_bytes b;
        uint64_t last;

        open_log(5000);
        append(1);
        while (count_segments() < 2)
                append(last_of(fx.tl) + 1);
        last = last_of(fx.tl);
        txlog_close(fx.tl);
        fx.tl = NULL;
        b = read_file(segment_path(1));
        write_file(segment_path(1), b.data, b.n - 20);
        free(b.data);
        open_log(5000);
        ck_assert_uint_eq(last_of(fx.tl), last - 2);
        ck_assert_uint_eq(read_all(fx.tl, 0), last - 2);
        ck_assert_uint_gt(txlog_torn_bytes(fx.tl), 0);
        ck_assert_int_eq(access(segment_path(2), F_OK), -1);
        append(last - 1);
        open_log(5000);
        ck_assert_uint_eq(txlog_torn_bytes(fx.tl), 0);
        ck_assert_uint_eq(read_all(fx.tl, 0), last - 1);
}
END_TEST

/* --- damage to what was durable --- */

static void
make_durable_segments(void)
{
        open_log(5000);
        append(1);
        while (count_segments() < 4)
                append(last_of(fx.tl) + 1);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        txlog_close(fx.tl);
        fx.tl = NULL;
}

static void
check_damaged(const char *file, const char *offset)
{
        int r = txlog_open(&fx.os, fx.log_dir, NULL, 0, &fx.tl, &fx.e);

        ck_assert_int_eq(r, E_CORRUPT_DB);
        ck_assert_msg(strstr(fx.e.text, file) != NULL && strstr(fx.e.text, offset) != NULL, "%s",
                      fx.e.text);
        fx.tl = NULL;
}

START_TEST(damage_in_an_older_segment_is_named_and_nothing_is_dropped)
{
        struct file_bytes b;
        struct stat st;
        uint64_t second = record_frame_end(SEGMENT_HEADER_SIZE, size_of(1));
        char at[64];

        make_durable_segments();
        b = read_file(segment_path(1));
        snprintf(at, sizeof at, "at offset %llu", (unsigned long long)second);
        for (uint64_t i = second; i < second + FRAME_SIZE + size_of(2); i++) {
                b.data[i] ^= 1;
                write_file(segment_path(1), b.data, b.n);
                check_damaged("0000000000000001.seg", at);
                b.data[i] ^= 1;
        }
        for (int i = 1; i <= 4; i++)
                ck_assert_int_eq(stat(segment_path((uint64_t)i), &st), 0);
        write_file(segment_path(1), b.data, b.n);
        free(b.data);
        open_log(0);
        ck_assert_uint_eq(count_segments(), 4);
        read_all(fx.tl, 0);
}
END_TEST

START_TEST(missing_segment_is_damage)
{
        make_durable_segments();
        ck_assert_int_eq(unlink(segment_path(2)), 0);
        check_damaged("0000000000000001.seg", "at offset");
        ck_assert_int_eq(access(segment_path(3), F_OK), 0);
        ck_assert_int_eq(access(segment_path(4), F_OK), 0);
}
END_TEST

START_TEST(damaged_header_is_damage)
{
        struct file_bytes b;

        make_durable_segments();
        for (uint64_t seq = 1; seq <= 4; seq++) {
                b = read_file(segment_path(seq));
                b.data[20] ^= 1;
                write_file(segment_path(seq), b.data, b.n);
                check_damaged("seg", "at offset 0");
                b.data[20] ^= 1;
                write_file(segment_path(seq), b.data, b.n);
                free(b.data);
        }
        /* Under another name it is not the segment that the name says. */
        ck_assert_int_eq(rename(segment_path(4), segment_path(5)), 0);
        check_damaged("seg", "at offset");
}
END_TEST

START_TEST(records_up_to_verify_from_are_not_read)
{
        struct txlog_options options = { 5000 };
        struct txlog_reader *r;
        struct txlog_record rec;
        struct byte_src *src;
        struct file_bytes b;
        char buf[1000];

        make_durable_segments();
        b = read_file(segment_path(1));
        b.data[SEGMENT_HEADER_SIZE + FRAME_SIZE + 5] ^= 1;
        write_file(segment_path(1), b.data, b.n);
        free(b.data);
        ck_assert_int_eq(txlog_open(&fx.os, fx.log_dir, &options, 0, &fx.tl, &fx.e), E_CORRUPT_DB);
        ck_assert_int_eq(txlog_open(&fx.os, fx.log_dir, &options, 1, &fx.tl, &fx.e), 0);
        /* A reader finds it all the same. */
        ck_assert_int_eq(txlog_reader_open(fx.tl, 0, &r, &fx.e), 0);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &fx.e), 1);
        ck_assert_int_eq(byte_src_read_all(src, buf, sizeof buf), E_CHECKSUM);
        txlog_reader_close(r);
        ck_assert_uint_eq(read_all(fx.tl, 1), last_of(fx.tl));
}
END_TEST

START_TEST(frame_changed_behind_the_logs_back_is_named)
{
        struct txlog_reader *r;
        struct txlog_record rec;
        struct byte_src *src;
        struct file_bytes b;

        open_log(0);
        append_range(1, 3);
        ck_assert_int_eq(txlog_reader_open(fx.tl, 0, &r, &fx.e), 0);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &fx.e), 1);
        b = read_file(segment_path(1));
        b.data[record_frame_end(SEGMENT_HEADER_SIZE, size_of(1)) + 30] ^= 1;
        write_file(segment_path(1), b.data, b.n);
        free(b.data);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &fx.e), E_CHECKSUM);
        ck_assert_msg(strstr(fx.e.text, "0000000000000001.seg at offset 43") != NULL, "%s", fx.e.text);
        txlog_reader_close(r);
}
END_TEST

START_TEST(other_names_in_the_directory_are_left_alone)
{
        static const char *const names[] = { "log/1.seg", "log/0000000000000001.SEG", "log/x",
                                             "log/0000000000000002.seg.old",
                                             "log/00000000000000002.seg" };

        open_log(0);
        append_range(1, 3);
        for (int i = 0; i < COUNT(names); i++)
                write_file(path_in(fx.dir, names[i]), "mine", 4);
        open_log(0);
        ck_assert_uint_eq(last_of(fx.tl), 3);
        for (int i = 0; i < COUNT(names); i++)
                ck_assert_int_eq(access(path_in(fx.dir, names[i]), F_OK), 0);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("txlog_recovery");

        tcase_set_timeout(tc, 100);
        tcase_add_checked_fixture(tc, log_set_up, log_tear_down);
        tcase_add_test(tc, log_cut_at_any_byte_of_its_last_record_loses_that_alone);
        tcase_add_test(tc, log_with_any_byte_of_its_last_record_changed_loses_that_alone);
        tcase_add_test(tc, last_record_with_a_hole_is_cut);
        tcase_add_test(tc, record_behind_a_torn_one_stays_gone);
        tcase_add_test(tc, last_record_is_undone);
        tcase_add_test(tc, garbage_behind_the_end_is_cut);
        tcase_add_test(tc, segment_whose_header_was_never_written_is_dropped);
        tcase_add_test(tc, segment_behind_a_gap_that_was_never_durable_is_dropped);
        tcase_add_test(tc, damage_in_an_older_segment_is_named_and_nothing_is_dropped);
        tcase_add_test(tc, missing_segment_is_damage);
        tcase_add_test(tc, damaged_header_is_damage);
        tcase_add_test(tc, records_up_to_verify_from_are_not_read);
        tcase_add_test(tc, frame_changed_behind_the_logs_back_is_named);
        tcase_add_test(tc, other_names_in_the_directory_are_left_alone);
        return run_tests("txlog_recovery", tc);
}
