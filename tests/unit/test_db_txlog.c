/* links: litefs_db */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/segment.h"
#include "db/txlog.h"
#include "tests/lib/files.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static const char *log_dir;
static struct txlog *tl;
static struct err e;

/* The tests' kernel: nobody cuts the power here, so nothing needs to wait for the disk. */
static struct os os;

static int
sync_nothing(const struct os *self, const char *tag, int fd)
{
        (void)self, (void)tag;
        return fcntl(fd, F_GETFD) < 0 ? -errno : 0;
}

static void
set_up(void)
{
        os = *os_host();
        os.fsync = os.fdatasync = sync_nothing;
        dir = tmpdir_make();
        log_dir = strdup(path_in(dir, "log"));
        tl = NULL;
        e = (struct err)ERR_INIT;
}

static void
tear_down(void)
{
        txlog_close(tl);
        free((char *)log_dir);
        tmpdir_remove(dir);
}

static void
open_log(uint64_t segment_bytes)
{
        struct txlog_options options = { segment_bytes };

        txlog_close(tl);
        tl = NULL;
        ck_assert_msg(txlog_open(&os, log_dir, &options, 0, &tl, &e) == 0, "%s", e.text);
}

static struct txlog_record
record_of(uint64_t min_txid, uint64_t max_txid)
{
        return (struct txlog_record){
                .min_txid = min_txid,
                .max_txid = max_txid,
                .pre_apply_checksum = max_txid * 3,
                .post_apply_checksum = max_txid * 5,
                .timestamp_ms = (int64_t)max_txid * 1000,
                .page_size = 4096,
                .commit = (uint32_t)max_txid,
        };
}

/* Sizes that differ, so that records end anywhere in a word. */
static uint32_t
size_of(uint64_t txid)
{
        return 100 + (uint32_t)(txid * 37 % 200);
}

static int
append_as(uint64_t min_txid, uint64_t max_txid, uint32_t size)
{
        struct txlog_record r = record_of(min_txid, max_txid);
        struct byte_sink *sink = txlog_append_begin(tl);
        uint8_t *p = malloc(size + 1);
        uint64_t lsn = 0;
        int rc = 0;

        fill_page(p, size, PAGE_NOISE, (uint32_t)max_txid);
        for (uint32_t at = 0; rc == 0 && at < size; at += 70000)
                rc = sink->write(sink, p + at, size - at < 70000 ? size - at : 70000);
        free(p);
        rc = txlog_append_commit(tl, &r, &lsn, &e);
        ck_assert(rc < 0 || lsn == txlog_end_lsn(tl));
        return rc;
}

static void
append(uint64_t txid)
{
        ck_assert_msg(append_as(txid, txid, size_of(txid)) == 0, "%s", e.text);
}

static void
append_range(uint64_t first, uint64_t last)
{
        while (first <= last)
                append(first++);
}

static void
check_payload(struct byte_src *src, uint64_t txid, uint64_t size)
{
        uint8_t *got = malloc(size + 1), *want = malloc(size + 1);

        ck_assert_int_eq(byte_src_read_all(src, got, size + 1), (ssize_t)size);
        fill_page(want, (uint32_t)size, PAGE_NOISE, (uint32_t)txid);
        ck_assert_mem_eq(got, want, size);
        free(got);
        free(want);
}

/* Reads on from where @r stands: checks every record, and returns the last TXID (0: none came). */
static uint64_t
read_on(struct txlog_reader *r)
{
        struct txlog_record rec;
        struct byte_src *src;
        uint64_t last = 0;
        int rc;

        while ((rc = txlog_reader_next(r, &rec, &src, &e)) > 0) {
                struct txlog_record want = record_of(rec.min_txid, rec.max_txid);

                want.size_bytes = rec.size_bytes;
                ck_assert_mem_eq(&rec, &want, sizeof rec);
                ck_assert(last == 0 || rec.min_txid == last + 1 || rec.min_txid == 1);
                check_payload(src, rec.max_txid, rec.size_bytes);
                last = rec.max_txid;
        }
        ck_assert_msg(rc == 0, "%s", e.text);
        return last;
}

static uint64_t
read_all(struct txlog *log, uint64_t after)
{
        struct txlog_reader *r;
        uint64_t last;

        ck_assert_msg(txlog_reader_open(log, after, &r, &e) == 0, "%s", e.text);
        last = read_on(r);
        txlog_reader_close(r);
        return last;
}

static uint64_t
last_of(struct txlog *log)
{
        struct txlog_record r;

        return txlog_last(log, &r) ? r.max_txid : 0;
}

static uint64_t
first_of(void)
{
        struct txlog_record r;

        return txlog_first(tl, &r) ? r.min_txid : 0;
}

static const char *
segment_path(uint64_t seq)
{
        char name[64];

        snprintf(name, sizeof name, "log/%016llx.seg", (unsigned long long)seq);
        return path_in(dir, name);
}

static uint32_t
count_segments(void)
{
        struct txlog_stat st;

        txlog_get_stat(tl, &st);
        return st.segments;
}

/* --- appending and opening again --- */

START_TEST(new_log_is_empty)
{
        struct txlog_record r;
        struct txlog_stat st;

        open_log(0);
        ck_assert(!txlog_first(tl, &r) && !txlog_last(tl, &r));
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        ck_assert_uint_eq(read_all(tl, 0), 0);
        ck_assert_uint_eq(read_all(tl, 1000), 0);
        txlog_get_stat(tl, &st);
        ck_assert_uint_eq(st.bytes, 0);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        open_log(0);
        ck_assert_uint_eq(last_of(tl), 0);
}
END_TEST

START_TEST(records_are_there_after_opening_again)
{
        static const uint64_t segment_bytes[] = { 0, 5000, 1 };
        struct txlog_record first;

        open_log(segment_bytes[_i]);
        append_range(1, 100);
        ck_assert_uint_eq(read_all(tl, 0), 100);
        for (uint64_t last = 100; last <= 130; last += 10) {
                open_log(segment_bytes[_i]);
                ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
                ck_assert_uint_eq(last_of(tl), last);
                ck_assert(txlog_first(tl, &first) && first.min_txid == 1);
                ck_assert_uint_eq(read_all(tl, 0), last);
                append_range(last + 1, last + 10);
                ck_assert_uint_eq(read_all(tl, 0), last + 10);
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
        ck_assert_uint_eq(read_all(tl, 499), 601);
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
        ck_assert_uint_eq(last_of(tl), 5);
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
        ck_assert_uint_eq(read_all(tl, 0), 8);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        ck_assert_uint_eq(read_all(tl, 0), 8);
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
        end = txlog_end_lsn(tl);
        sink = txlog_append_begin(tl);
        ck_assert_int_eq(sink->write(sink, p, size / 2), 0);
        ck_assert_int_eq(sink->write(sink, p, size / 2), 0);
        txlog_append_abort(tl);
        ck_assert_uint_eq(txlog_end_lsn(tl), end);
        ck_assert_uint_eq(read_all(tl, 0), 3);
        append(4);
        open_log(0);
        ck_assert_uint_eq(read_all(tl, 0), 4);
        free(p);
}
END_TEST

START_TEST(sync_reaches_what_was_asked_for)
{
        open_log(5000);
        append_range(1, 50);
        ck_assert_uint_lt(txlog_synced_lsn(tl), txlog_end_lsn(tl));
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert_uint_ge(txlog_synced_lsn(tl), txlog_end_lsn(tl));
        append(51);
        ck_assert_uint_lt(txlog_synced_lsn(tl), txlog_end_lsn(tl));
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert_uint_eq(read_all(tl, 0), 51);
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

        ck_assert_int_eq(os_list_dir(&os, "t", "/proc/self/fd", count_name, &n), 0);
        return n;
}

START_TEST(segments_that_are_durable_hold_no_descriptor)
{
        int n;

        open_log(SEGMENT_HEADER_SIZE + 1); /* a record fills a segment */
        append(1);
        n = count_fds();
        /* Synced while it is the last one, and synced later. */
        for (uint64_t txid = 2; txid <= 20; txid++) {
                ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
                append(txid);
        }
        append_range(21, 40);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert_uint_eq(count_segments(), 40);
        ck_assert_int_eq(count_fds(), n);
        ck_assert_uint_eq(read_all(tl, 0), 40);
}
END_TEST

START_TEST(space_ahead_is_used_and_is_no_torn_tail)
{
        struct txlog_stat before, after;

        open_log(1 << 20);
        ck_assert(!txlog_wants_space(tl));
        append(1);
        ck_assert(!txlog_wants_space(tl)); /* nobody syncs, so nothing is gained */
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert(txlog_wants_space(tl));
        ck_assert_int_eq(txlog_make_space(tl), 0);
        ck_assert(!txlog_wants_space(tl));
        txlog_get_stat(tl, &before);
        ck_assert_uint_gt(before.allocated_bytes, before.bytes + 10000);
        append_range(2, 30);
        txlog_get_stat(tl, &after);
        ck_assert_uint_eq(after.allocated_bytes, before.allocated_bytes);
        ck_assert_uint_eq(read_all(tl, 0), 30);
        open_log(1 << 20);
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        txlog_get_stat(tl, &after);
        ck_assert_uint_eq(after.allocated_bytes, before.allocated_bytes);
        append_range(31, 400);
        open_log(1 << 20);
        ck_assert_uint_eq(read_all(tl, 0), 400);
}
END_TEST

/* --- a torn tail --- */

/* A log of @n records in one segment: its bytes, and where each record begins; offs[n] is the end. */
static struct file_bytes
make_log(int n, uint64_t *offs)
{
        open_log(0);
        for (int i = 0; i < n; i++) {
                struct txlog_stat st;

                append((uint64_t)i + 1);
                txlog_get_stat(tl, &st);
                offs[i + 1] = st.bytes;
        }
        offs[0] = SEGMENT_HEADER_SIZE;
        txlog_close(tl);
        tl = NULL;
        return read_file(segment_path(1));
}

/* After recovery record 3 is gone: the log is usable, and says so only once. */
static void
check_recovered(uint64_t last, bool was_torn)
{
        open_log(0);
        ck_assert_uint_eq(last_of(tl), last);
        ck_assert(was_torn == (txlog_torn_bytes(tl) > 0));
        ck_assert_uint_eq(read_all(tl, 0), last);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        append(last + 1);
        open_log(0);
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        ck_assert_uint_eq(read_all(tl, 0), last + 1);
        txlog_close(tl);
        tl = NULL;
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
        ck_assert_uint_eq(last_of(tl), 2);
        ck_assert_uint_ge(txlog_torn_bytes(tl), offs[4] - offs[2] - 8);
        append(3);
        open_log(0);
        ck_assert_uint_eq(last_of(tl), 3);
        ck_assert_uint_eq(read_all(tl, 0), 3);
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
                tear_down();
                set_up();
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
                append(last_of(tl) + 1);
        last = last_of(tl);
        txlog_close(tl);
        tl = NULL;
        b = read_file(segment_path(1));
        write_file(segment_path(1), b.data, b.n - 20);
        free(b.data);
        open_log(5000);
        ck_assert_uint_eq(last_of(tl), last - 2);
        ck_assert_uint_eq(read_all(tl, 0), last - 2);
        ck_assert_uint_gt(txlog_torn_bytes(tl), 0);
        ck_assert_int_eq(access(segment_path(2), F_OK), -1);
        append(last - 1);
        open_log(5000);
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        ck_assert_uint_eq(read_all(tl, 0), last - 1);
}
END_TEST

/* --- damage to what was durable --- */

static void
make_durable_segments(void)
{
        open_log(5000);
        append(1);
        while (count_segments() < 4)
                append(last_of(tl) + 1);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        txlog_close(tl);
        tl = NULL;
}

static void
check_damaged(const char *file, const char *offset)
{
        int r = txlog_open(&os, log_dir, NULL, 0, &tl, &e);

        ck_assert_int_eq(r, E_CORRUPT_DB);
        ck_assert_msg(strstr(e.text, file) != NULL && strstr(e.text, offset) != NULL, "%s", e.text);
        tl = NULL;
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
        read_all(tl, 0);
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
        ck_assert_int_eq(txlog_open(&os, log_dir, &options, 0, &tl, &e), E_CORRUPT_DB);
        ck_assert_int_eq(txlog_open(&os, log_dir, &options, 1, &tl, &e), 0);
        /* A reader finds it all the same. */
        ck_assert_int_eq(txlog_reader_open(tl, 0, &r, &e), 0);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &e), 1);
        ck_assert_int_eq(byte_src_read_all(src, buf, sizeof buf), E_CHECKSUM);
        txlog_reader_close(r);
        ck_assert_uint_eq(read_all(tl, 1), last_of(tl));
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
        ck_assert_int_eq(txlog_reader_open(tl, 0, &r, &e), 0);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &e), 1);
        b = read_file(segment_path(1));
        b.data[record_frame_end(SEGMENT_HEADER_SIZE, size_of(1)) + 30] ^= 1;
        write_file(segment_path(1), b.data, b.n);
        free(b.data);
        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &e), E_CHECKSUM);
        ck_assert_msg(strstr(e.text, "0000000000000001.seg at offset 43") != NULL, "%s", e.text);
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
                write_file(path_in(dir, names[i]), "mine", 4);
        open_log(0);
        ck_assert_uint_eq(last_of(tl), 3);
        for (int i = 0; i < COUNT(names); i++)
                ck_assert_int_eq(access(path_in(dir, names[i]), F_OK), 0);
}
END_TEST

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

                ck_assert_int_eq(txlog_reader_open(tl, after, &r, &e), 0);
                ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &e), want);
                if (want)
                        ck_assert_uint_eq(rec.min_txid, after + 1);
                ck_assert_uint_eq(read_on(r), after < 59 ? 60 : 0);
                txlog_reader_close(r);
        }
        for (uint64_t after = 0; after < 9; after++) {
                struct txlog_reader *r;

                ck_assert_int_eq(txlog_reader_open(tl, after, &r, &e), E_NOT_FOUND);
        }
        txlog_reader_close(NULL);
}
END_TEST

START_TEST(reader_sees_what_comes_later)
{
        struct txlog_reader *r;

        open_log(2000);
        ck_assert_int_eq(txlog_reader_open(tl, 0, &r, &e), 0);
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
                        ck_assert_int_eq(txlog_reader_open(tl, after, &r, &e), 0);
                        ck_assert_int_eq(txlog_reader_next(r, &rec, &src, &e), 1);
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

                if (txlog_sync(tl, txlog_end_lsn(tl), &ignored) < 0 || txlog_make_space(tl) < 0 ||
                    txlog_retain(tl, &policy, &ignored) < 0)
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
                ck_assert_int_eq(txlog_reader_open(tl, 0, &readers[i], &e), 0);
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
        ck_assert_uint_eq(txlog_torn_bytes(tl), 0);
        ck_assert_uint_eq(last_of(tl), 4000);
        ck_assert_uint_eq(read_all(tl, first_of() - 1), 4000);
}
END_TEST

/* --- retention --- */

static int
retain(uint64_t keep_after, int64_t now_ms, int64_t max_age_ms, uint64_t max_bytes)
{
        struct txlog_retention policy = { keep_after, now_ms, max_age_ms, max_bytes };

        return txlog_retain(tl, &policy, &e);
}

static void
make_old_segments(void)
{
        open_log(SEGMENT_HEADER_SIZE + 1); /* a record fills a segment */
        append_range(1, 10);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert_uint_eq(count_segments(), 10);
}

START_TEST(retention_by_age)
{
        make_old_segments(); /* record n is of n seconds */
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 0, 0), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 14000, 10000, 0), 3);
        ck_assert_uint_eq(first_of(), 4);
        ck_assert_int_eq(access(segment_path(3), F_OK), -1);
        ck_assert_int_eq(access(segment_path(4), F_OK), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 14000, 10000, 0), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 0), 6); /* never the last */
        ck_assert_uint_eq(first_of(), 10);
        ck_assert_uint_eq(read_all(tl, 9), 10);
        open_log(0);
        ck_assert_uint_eq(first_of(), 10);
        append(11);
}
END_TEST

START_TEST(retention_by_size)
{
        struct txlog_stat st;
        uint64_t all;

        make_old_segments();
        txlog_get_stat(tl, &st);
        all = st.bytes;
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all - 1), 1);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, all / 2), 4);
        ck_assert_uint_eq(first_of(), 6);
        ck_assert_int_eq(retain(UINT64_MAX, 0, 0, 1), 4);
        ck_assert_uint_eq(first_of(), 10);
}
END_TEST

START_TEST(retention_keeps_what_is_needed)
{
        struct txlog_reader *r;

        make_old_segments();
        ck_assert_int_eq(retain(0, 100000, 1, 1), 0);
        ck_assert_int_eq(retain(2, 100000, 1, 1), 2);
        ck_assert_int_eq(txlog_reader_open(tl, 5, &r, &e), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 3);
        ck_assert_uint_eq(first_of(), 6);
        ck_assert_uint_eq(read_on(r), 10);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 4);
        txlog_reader_close(r);
        ck_assert_int_eq(txlog_reader_open(tl, 5, &r, &e), E_NOT_FOUND);
}
END_TEST

START_TEST(retention_leaves_segments_that_are_not_durable)
{
        open_log(SEGMENT_HEADER_SIZE + 1);
        append_range(1, 10);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 0);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        ck_assert_int_eq(retain(UINT64_MAX, 100000, 1, 1), 9);
}
END_TEST

/* --- looking only --- */

START_TEST(readonly_sees_the_records_and_changes_nothing)
{
        uint64_t offs[4];
        struct file_bytes b = make_log(3, offs), after;
        struct txlog *look;

        write_file(segment_path(1), b.data, b.n - 20);
        ck_assert_msg(txlog_open_readonly(&os, log_dir, &look, &e) == 0, "%s", e.text);
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

        ck_assert_int_eq(txlog_open_readonly(&os, log_dir, &look, &e), -ENOENT);
        ck_assert_int_eq(access(log_dir, F_OK), -1);
        ck_assert_msg(strstr(e.text, log_dir) != NULL, "%s", e.text);
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
                ck_assert_msg(txlog_open_readonly(&os, log_dir, &look, &e) == 0, "%s", e.text);
                ck_assert_uint_eq(last_of(look), txid);
                txlog_close(look);
        }
        is_appending = false;
        pthread_join(thread, &ret);
        ck_assert_ptr_nonnull(ret);
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

        os.pwrite = failing_pwrite;
        ck_assert_int_eq(txlog_open(&os, log_dir, NULL, 0, &tl, &e), 0);
        append_range(1, 3);
        end = txlog_end_lsn(tl);
        is_full = true;
        ck_assert_int_eq(append_as(4, 4, 200), -ENOSPC);
        /* Even the removal failed: it comes before whatever is appended next. */
        ck_assert_int_eq(append_as(4, 4, 200), -ENOSPC);
        is_full = false;
        ck_assert_uint_eq(txlog_end_lsn(tl), end);
        ck_assert_uint_eq(read_all(tl, 0), 3);
        append(4);
        ck_assert_uint_eq(read_all(tl, 0), 4);
        is_full = true;
        ck_assert_int_eq(append_as(5, 5, 200), -ENOSPC);
        is_full = false;
        open_log(0);
        ck_assert_uint_eq(last_of(tl), 4);
        append(5);
        ck_assert_uint_eq(read_all(tl, 0), 5);
}
END_TEST

START_TEST(sync_that_failed_is_never_made_good)
{
        os.fdatasync = failing_fdatasync;
        syncs_left = -1;
        ck_assert_int_eq(txlog_open(&os, log_dir, NULL, 0, &tl, &e), 0);
        append(1);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), 0);
        append(2);
        syncs_left = 0;
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), -EIO);
        ck_assert_int_eq(txlog_sync(tl, txlog_end_lsn(tl), &e), -EIO);
        ck_assert_int_eq(append_as(3, 3, 100), -EIO);
        ck_assert_int_eq(txlog_sync(tl, txlog_synced_lsn(tl), &e), 0);
        ck_assert_uint_eq(read_all(tl, 0), 2);
}
END_TEST

static enum txlog_history
history_of(uint64_t txid, uint64_t checksum)
{
        enum txlog_history history;
        struct ltx_pos pos = { txid, checksum };

        ck_assert_msg(txlog_find_history(tl, pos, &history, &e) == 0, "%s", e.text);
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
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, new_log_is_empty);
        tcase_add_loop_test(tc, records_are_there_after_opening_again, 0, 3);
        tcase_add_test(tc, log_may_begin_at_any_transaction_and_then_has_no_gaps);
        tcase_add_test(tc, record_that_no_reader_would_take_is_refused);
        tcase_add_loop_test(tc, long_records_go_out_as_they_come, 0, 2);
        tcase_add_loop_test(tc, aborted_record_leaves_nothing, 0, 2);
        tcase_add_test(tc, sync_reaches_what_was_asked_for);
        tcase_add_test(tc, segments_that_are_durable_hold_no_descriptor);
        tcase_add_test(tc, space_ahead_is_used_and_is_no_torn_tail);
        tcase_add_test(tc, log_cut_at_any_byte_of_its_last_record_loses_that_alone);
        tcase_add_test(tc, log_with_any_byte_of_its_last_record_changed_loses_that_alone);
        tcase_add_test(tc, last_record_with_a_hole_is_cut);
        tcase_add_test(tc, record_behind_a_torn_one_stays_gone);
        tcase_add_test(tc, garbage_behind_the_end_is_cut);
        tcase_add_test(tc, segment_whose_header_was_never_written_is_dropped);
        tcase_add_test(tc, segment_behind_a_gap_that_was_never_durable_is_dropped);
        tcase_add_test(tc, damage_in_an_older_segment_is_named_and_nothing_is_dropped);
        tcase_add_test(tc, missing_segment_is_damage);
        tcase_add_test(tc, damaged_header_is_damage);
        tcase_add_test(tc, records_up_to_verify_from_are_not_read);
        tcase_add_test(tc, frame_changed_behind_the_logs_back_is_named);
        tcase_add_test(tc, other_names_in_the_directory_are_left_alone);
        tcase_add_test(tc, reader_begins_behind_any_transaction);
        tcase_add_test(tc, reader_sees_what_comes_later);
        tcase_add_test(tc, oldest_record_comes_first_also_before_a_snapshot);
        tcase_add_test(tc, readers_and_syncs_go_on_while_records_are_appended);
        tcase_add_test(tc, retention_by_age);
        tcase_add_test(tc, retention_by_size);
        tcase_add_test(tc, retention_keeps_what_is_needed);
        tcase_add_test(tc, retention_leaves_segments_that_are_not_durable);
        tcase_add_test(tc, readonly_sees_the_records_and_changes_nothing);
        tcase_add_test(tc, readonly_open_of_no_log_creates_none);
        tcase_add_test(tc, readonly_open_works_while_another_appends);
        tcase_add_test(tc, append_that_fails_leaves_the_log_as_it_was);
        tcase_add_test(tc, sync_that_failed_is_never_made_good);
        tcase_add_test(tc, position_is_found_as_far_as_the_log_reaches);
        return run_tests("db_txlog", tc);
}
