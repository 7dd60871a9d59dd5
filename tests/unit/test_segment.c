/* links: litefs_txlog */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "txlog/segment.h"
#include "tests/lib/files.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static const struct segment_header header = {
        .seq = 0x0102030405060708u,
        .salt = 0x1112131415161718u,
        .created_ms = -3,
        .previous_txid = 0x2122232425262728u,
        .is_previous_durable = true,
};

START_TEST(header_has_the_bytes_of_the_table_and_comes_back)
{
        uint8_t buf[SEGMENT_HEADER_SIZE];
        struct segment_header h;

        memset(buf, 0xff, sizeof buf);
        segment_header_encode(&header, buf);
        ck_assert_mem_eq(buf, "LFSLOG01", 8);
        ck_assert_uint_eq(get_be64(buf + 8), header.seq);
        ck_assert_uint_eq(get_be64(buf + 16), header.salt);
        ck_assert_uint_eq(get_be64(buf + 24), (uint64_t)-3);
        ck_assert_uint_eq(get_be64(buf + 32), 1);
        ck_assert_uint_eq(get_be64(buf + 40), header.previous_txid);
        ck_assert_uint_eq(get_be64(buf + 48), slow_crc64(0, buf, 48));
        for (unsigned i = 56; i < sizeof buf; i++)
                ck_assert_uint_eq(buf[i], 0);
        ck_assert_int_eq(segment_header_decode(buf, &h), 0);
        ck_assert_uint_eq(h.seq, header.seq);
        ck_assert_uint_eq(h.salt, header.salt);
        ck_assert_int_eq(h.created_ms, header.created_ms);
        ck_assert_uint_eq(h.previous_txid, header.previous_txid);
        ck_assert(h.is_previous_durable);
}
END_TEST

START_TEST(header_that_was_never_written_is_told_from_a_damaged_one)
{
        uint8_t buf[SEGMENT_HEADER_SIZE] = { 0 };
        struct segment_header h;

        ck_assert_int_eq(segment_header_decode(buf, &h), E_NOT_FOUND);
        segment_header_encode(&header, buf);
        for (int i = 0; i < 56 * 8; i++) {
                buf[i / 8] ^= (uint8_t)(1 << i % 8);
                ck_assert_int_eq(segment_header_decode(buf, &h), i < 64 ? E_FORMAT : E_CHECKSUM);
                buf[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        ck_assert_int_eq(segment_header_decode(buf, &h), 0);
}
END_TEST

static struct record_frame
frame_of(uint64_t size)
{
        return (struct record_frame){
                .record = { .min_txid = 5,
                            .max_txid = 9,
                            .pre_apply_checksum = 0xa1a2a3a4a5a6a7a8u,
                            .post_apply_checksum = 0xb1b2b3b4b5b6b7b8u,
                            .timestamp_ms = -4,
                            .page_size = 4096,
                            .commit = 77,
                            .size_bytes = size },
                .payload_crc = 0xc1c2c3c4c5c6c7c8u,
        };
}

START_TEST(frame_has_the_bytes_of_the_table_and_comes_back)
{
        struct record_frame f = frame_of(12345), got;
        uint8_t buf[FRAME_SIZE];

        record_frame_encode(&f, 42, buf);
        ck_assert_mem_eq(buf, "LREC\0\0\0\0", 8);
        ck_assert_uint_eq(get_be64(buf + 8), 12345);
        ck_assert_uint_eq(get_be64(buf + 16), 5);
        ck_assert_uint_eq(get_be64(buf + 24), 9);
        ck_assert_uint_eq(get_be64(buf + 32), f.record.pre_apply_checksum);
        ck_assert_uint_eq(get_be64(buf + 40), f.record.post_apply_checksum);
        ck_assert_uint_eq(get_be64(buf + 48), (uint64_t)-4);
        ck_assert_uint_eq(get_be32(buf + 56), 4096);
        ck_assert_uint_eq(get_be32(buf + 60), 77);
        ck_assert_uint_eq(get_be64(buf + 64), f.payload_crc);
        ck_assert_uint_eq(get_be64(buf + 72), slow_crc64(42, buf, 72));
        ck_assert_uint_eq(f.chain, get_be64(buf + 72));
        ck_assert_int_eq(record_frame_decode(buf, 42, &got), 0);
        ck_assert_uint_eq(got.chain, f.chain);
        ck_assert_uint_eq(got.payload_crc, f.payload_crc);
        ck_assert_mem_eq(&got.record, &f.record, sizeof f.record);
}
END_TEST

START_TEST(frame_counts_only_behind_the_one_that_it_continues)
{
        struct record_frame f = frame_of(1), got;
        uint8_t buf[FRAME_SIZE];

        record_frame_encode(&f, 42, buf);
        ck_assert_int_eq(record_frame_decode(buf, 43, &got), E_FORMAT);
        for (int i = 0; i < (int)FRAME_SIZE * 8; i++) {
                buf[i / 8] ^= (uint8_t)(1 << i % 8);
                ck_assert_int_eq(record_frame_decode(buf, 42, &got), E_FORMAT);
                buf[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        memset(buf, 0, sizeof buf);
        ck_assert_int_eq(record_frame_decode(buf, 0, &got), E_FORMAT);
}
END_TEST

START_TEST(txids_that_cannot_be_are_refused_although_the_checksum_holds)
{
        struct record_frame f = frame_of(1), got;
        uint8_t buf[FRAME_SIZE];

        f.record.min_txid = 0;
        record_frame_encode(&f, 42, buf);
        ck_assert_int_eq(record_frame_decode(buf, 42, &got), E_FORMAT);
        f.record.min_txid = 10;
        record_frame_encode(&f, 42, buf);
        ck_assert_int_eq(record_frame_decode(buf, 42, &got), E_FORMAT);
        f.record.max_txid = f.record.min_txid = UINT64_MAX;
        record_frame_encode(&f, 42, buf);
        ck_assert_int_eq(record_frame_decode(buf, 42, &got), 0);
}
END_TEST

/* --- in a file --- */

static char *dir;
static int fd;

static void
set_up(void)
{
        dir = tmpdir_make();
        fd = open(path_in(dir, "seg"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
}

static void
tear_down(void)
{
        close(fd);
        tmpdir_remove(dir);
}

START_TEST(frame_is_read_within_the_limit_only)
{
        struct record_frame f = frame_of(100), got;
        uint8_t buf[FRAME_SIZE + 100] = { 0 };

        record_frame_encode(&f, 42, buf);
        ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, buf, sizeof buf, 16), 0);
        ck_assert_int_eq(record_frame_read(os_host(), fd, 16, 16 + sizeof buf, 42, &got), 1);
        ck_assert_int_eq(record_frame_read(os_host(), fd, 16, UINT64_MAX, 42, &got), 1);
        for (uint64_t limit = 0; limit < 16 + sizeof buf; limit++)
                ck_assert_int_eq(record_frame_read(os_host(), fd, 16, limit, 42, &got), 0);
        ck_assert_int_eq(record_frame_read(os_host(), fd, 16, 16 + sizeof buf, 41, &got), 0);
        ck_assert_int_eq(record_frame_read(os_host(), -1, 16, 16 + sizeof buf, 42, &got), -EBADF);
}
END_TEST

START_TEST(payload_size_near_the_end_of_numbers_is_refused)
{
        static const uint64_t sizes[] = { UINT64_MAX, UINT64_MAX - 80, UINT64_MAX - 79, INT64_MAX, 101 };
        uint8_t buf[FRAME_SIZE + 100] = { 0 };
        struct record_frame got;

        for (int i = 0; i < COUNT(sizes); i++) {
                struct record_frame f = frame_of(sizes[i]);

                record_frame_encode(&f, 42, buf);
                ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, buf, sizeof buf, 0), 0);
                ck_assert_int_eq(record_frame_read(os_host(), fd, 0, sizeof buf, 42, &got), 0);
        }
}
END_TEST

START_TEST(payload_is_checked_to_its_last_byte)
{
        static const size_t sizes[] = { 0, 1, 100, 65535, 65536, 65537, 200000 };

        for (int i = 0; i < COUNT(sizes); i++) {
                struct record_frame f = frame_of(sizes[i]);
                uint8_t *p = malloc(sizes[i] + 1);

                fill_page(p, (uint32_t)sizes[i], PAGE_NOISE, 1);
                f.payload_crc = slow_crc64(0, p, sizes[i]);
                ck_assert_int_eq(ftruncate(fd, 0), 0);
                ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, p, sizes[i], 8 + FRAME_SIZE), 0);
                ck_assert_int_eq(record_frame_check_payload(os_host(), fd, 8, &f), 0);
                if (sizes[i] > 0) {
                        p[sizes[i] - 1] ^= 1;
                        ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, p, sizes[i], 8 + FRAME_SIZE),
                                         0);
                        ck_assert_int_eq(record_frame_check_payload(os_host(), fd, 8, &f), E_CHECKSUM);
                        ck_assert_int_eq(ftruncate(fd, (off_t)(8 + FRAME_SIZE + sizes[i] - 1)), 0);
                        ck_assert_int_eq(record_frame_check_payload(os_host(), fd, 8, &f), E_CHECKSUM);
                        ck_assert_int_eq(record_frame_check_payload(os_host(), -1, 8, &f), -EBADF);
                }
                free(p);
        }
}
END_TEST

START_TEST(frames_begin_at_multiples_of_eight)
{
        for (uint64_t size = 0; size < 40; size++) {
                uint64_t end = record_frame_end(4096, size);

                ck_assert_uint_eq(end % 8, 0);
                ck_assert_uint_ge(end, 4096 + FRAME_SIZE + size);
                ck_assert_uint_lt(end, 4096 + FRAME_SIZE + size + 8);
        }
}
END_TEST

START_TEST(file_too_short_for_a_header_has_none)
{
        uint8_t buf[SEGMENT_HEADER_SIZE];
        struct segment_header h;

        segment_header_encode(&header, buf);
        for (size_t n = 0; n < sizeof buf; n += 512) {
                ck_assert_int_eq(ftruncate(fd, 0), 0);
                ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, buf, n, 0), 0);
                ck_assert_int_eq(segment_header_read(os_host(), fd, &h), E_NOT_FOUND);
        }
        ck_assert_int_eq(os_pwrite_all(os_host(), "t", fd, buf, sizeof buf, 0), 0);
        ck_assert_int_eq(segment_header_read(os_host(), fd, &h), 0);
        ck_assert_uint_eq(h.seq, header.seq);
        ck_assert_int_eq(segment_header_read(os_host(), -1, &h), -EBADF);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("segment");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, header_has_the_bytes_of_the_table_and_comes_back);
        tcase_add_test(tc, header_that_was_never_written_is_told_from_a_damaged_one);
        tcase_add_test(tc, frame_has_the_bytes_of_the_table_and_comes_back);
        tcase_add_test(tc, frame_counts_only_behind_the_one_that_it_continues);
        tcase_add_test(tc, txids_that_cannot_be_are_refused_although_the_checksum_holds);
        tcase_add_test(tc, frame_is_read_within_the_limit_only);
        tcase_add_test(tc, payload_size_near_the_end_of_numbers_is_refused);
        tcase_add_test(tc, payload_is_checked_to_its_last_byte);
        tcase_add_test(tc, frames_begin_at_multiples_of_eight);
        tcase_add_test(tc, file_too_short_for_a_header_has_none);
        return run_tests("segment", tc);
}
