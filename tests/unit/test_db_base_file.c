/* links: litefs_image */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "db/image/base_file.h"
#include "ltx/checksum.h"
#include "tests/lib/files.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define FLAG LTX_CHECKSUM_FLAG

static char *dir;

static void
set_up(void)
{
        dir = tmpdir_make();
}

static void
tear_down(void)
{
        tmpdir_remove(dir);
}

static uint64_t
sum_of(uint32_t pgno)
{
        return pgno == 77 ? 0 : FLAG | (uint64_t)pgno * 0x9e3779b97f4a7c15u;
}

/* @arg: how many pages there are. Gives odd parts, as it may. */
static uint32_t
copy(void *arg, uint32_t first, uint64_t *ret, uint32_t n)
{
        uint32_t total = *(uint32_t *)arg;

        if (first > total)
                return 0;
        if (n > total - first + 1)
                n = total - first + 1;
        if (n > 3000)
                n -= 1000;
        for (uint32_t i = 0; i < n; i++)
                ret[i] = sum_of(first + i);
        return n;
}

static void
write_base(uint32_t n_pages)
{
        struct base_info info = { .txid = 0x1122334455667788u, .page_size = 4096, .timestamp_ms = -7 };
        struct err e = ERR_INIT;

        ck_assert_msg(base_file_write(os_host(), dir, &info, copy, &n_pages, &e) == 0, "%s", e.text);
        ck_assert_uint_eq(info.page_count, n_pages);
        ck_assert_msg(base_file_publish(os_host(), dir, &e) == 0, "%s", e.text);
}

static int
read_base(struct base_info *ret, struct err *e)
{
        struct pagesum sums = { 0 };
        int r = base_file_read(os_host(), dir, ret, &sums, e);

        if (r == 1) {
                ck_assert_uint_eq(sums.n_pages, ret->page_count);
                for (uint32_t pgno = 1; pgno <= sums.n_pages; pgno++)
                        ck_assert_uint_eq(pagesum_get(&sums, pgno), sum_of(pgno));
        }
        pagesum_release(&sums);
        return r;
}

START_TEST(base_comes_back_as_it_was_written)
{
        static const uint32_t counts[] = { 0, 1, 77, 8191, 8192, 8193, 50000 };
        struct base_info info;
        struct err e = ERR_INIT;

        write_base(counts[_i]);
        ck_assert_msg(read_base(&info, &e) == 1, "%s", e.text);
        ck_assert_uint_eq(info.txid, 0x1122334455667788u);
        ck_assert_uint_eq(info.page_size, 4096);
        ck_assert_uint_eq(info.page_count, counts[_i]);
        ck_assert_int_eq(info.timestamp_ms, -7);
        ck_assert_int_eq(access(path_in(dir, "base.tmp"), F_OK), -1);
}
END_TEST

START_TEST(bytes_are_those_of_the_table)
{
        struct file_bytes b;
        uint8_t covered[32 + 16];

        write_base(2);
        b = read_file(path_in(dir, "base"));
        ck_assert_uint_eq(b.n, 40 + 16);
        ck_assert_mem_eq(b.data, "LFSBASE1", 8);
        ck_assert_uint_eq(get_be64(b.data + 8), 0x1122334455667788u);
        ck_assert_uint_eq(get_be32(b.data + 16), 4096);
        ck_assert_uint_eq(get_be32(b.data + 20), 2);
        ck_assert_uint_eq(get_be64(b.data + 24), (uint64_t)-7);
        ck_assert_uint_eq(get_be64(b.data + 40), sum_of(1));
        ck_assert_uint_eq(get_be64(b.data + 48), sum_of(2));
        memcpy(covered, b.data, 32);
        memcpy(covered + 32, b.data + 40, 16);
        ck_assert_uint_eq(get_be64(b.data + 32), slow_crc64(0, covered, sizeof covered));
        free(b.data);
}
END_TEST

START_TEST(no_base_is_no_error)
{
        struct base_info info = { .txid = 9 };

        ck_assert_int_eq(read_base(&info, NULL), 0);
        ck_assert_uint_eq(info.txid, 9);
}
END_TEST

START_TEST(base_is_there_only_after_publish)
{
        uint32_t n = 10;
        struct base_info info = { .txid = 2, .page_size = 512 };

        ck_assert_int_eq(base_file_write(os_host(), dir, &info, copy, &n, NULL), 0);
        ck_assert_int_eq(read_base(&info, NULL), 0);
        write_base(5);
        n = 20;
        ck_assert_int_eq(base_file_write(os_host(), dir, &info, copy, &n, NULL), 0);
        ck_assert_int_eq(read_base(&info, NULL), 1);
        ck_assert_uint_eq(info.page_count, 5);
        ck_assert_int_eq(base_file_publish(os_host(), dir, NULL), 0);
        ck_assert_int_eq(read_base(&info, NULL), 1);
        ck_assert_uint_eq(info.page_count, 20);
}
END_TEST

START_TEST(any_changed_bit_is_found_and_the_file_named)
{
        const char *path = path_in(dir, "base");
        struct base_info info;
        struct file_bytes b;

        write_base(5);
        b = read_file(path);
        for (size_t i = 0; i < b.n * 8; i++) {
                struct err e = ERR_INIT;
                int r;

                b.data[i / 8] ^= (uint8_t)(1 << i % 8);
                write_file(path, b.data, b.n);
                r = read_base(&info, &e);
                ck_assert_msg(r == E_FORMAT || r == E_CHECKSUM, "bit %zu: %d", i, r);
                ck_assert_msg(strstr(e.text, path) != NULL && strstr(e.text, " at offset ") != NULL,
                              "%s", e.text);
                b.data[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        free(b.data);
}
END_TEST

START_TEST(file_of_any_other_length_is_refused)
{
        const char *path = path_in(dir, "base");
        struct base_info info;
        struct file_bytes b;

        write_base(5);
        b = read_file(path);
        for (size_t n = 0; n < b.n; n++) {
                write_file(path, b.data, n);
                ck_assert_int_eq(read_base(&info, NULL), E_FORMAT);
        }
        b.data = realloc(b.data, b.n + 8);
        memset(b.data + b.n, 0, 8);
        for (size_t n = 1; n <= 8; n++) {
                write_file(path, b.data, b.n + n);
                ck_assert_int_eq(read_base(&info, NULL), E_FORMAT);
        }
        free(b.data);
}
END_TEST

/* Four billion checksums are 32 GiB: what the file's length does not bear out is not asked for. */
START_TEST(claimed_count_is_held_against_the_file)
{
        const char *path = path_in(dir, "base");
        struct err e = ERR_INIT;
        struct base_info info;
        struct file_bytes b;

        write_base(5);
        b = read_file(path);
        put_be32(b.data + 20, UINT32_MAX);
        write_file(path, b.data, b.n);
        ck_assert_int_eq(read_base(&info, &e), E_FORMAT);
        ck_assert_msg(strstr(e.text, " at offset 20") != NULL, "%s", e.text);
        free(b.data);
}
END_TEST

/* --- a disk that fails --- */

static int calls_left;

static int
count_call(void)
{
        return calls_left-- == 0 ? -ENOSPC : 0;
}

static ssize_t
failing_pwrite(const struct os *os, const char *tag, int fd, const void *p, size_t n, off_t off)
{
        (void)os;
        return count_call() < 0 ? -ENOSPC : os_host()->pwrite(os_host(), tag, fd, p, n, off);
}

static ssize_t
failing_pread(const struct os *os, const char *tag, int fd, void *p, size_t n, off_t off)
{
        (void)os;
        return count_call() < 0 ? -ENOSPC : os_host()->pread(os_host(), tag, fd, p, n, off);
}

static int
failing_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        (void)os;
        return count_call() < 0 ? -ENOSPC : os_host()->open(os_host(), tag, path, flags, mode);
}

static int
failing_fsync(const struct os *os, const char *tag, int fd)
{
        (void)os;
        return count_call() < 0 ? -ENOSPC : os_host()->fsync(os_host(), tag, fd);
}

static int
failing_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        (void)os;
        return count_call() < 0 ? -ENOSPC : os_host()->rename(os_host(), tag, from, to);
}

START_TEST(failure_at_any_call_leaves_the_old_base_or_the_new)
{
        struct os os = *os_host();
        int n_failed = 0, r = -1;

        os.pwrite = failing_pwrite;
        os.pread = failing_pread;
        os.open = failing_open;
        os.fsync = failing_fsync;
        os.rename = failing_rename;
        for (int n = 0; r < 0; n++) {
                struct base_info info = { .txid = 2, .page_size = 512 }, got;
                struct err e = ERR_INIT;
                uint32_t pages = 20000;

                write_base(5);
                calls_left = n;
                r = base_file_write(&os, dir, &info, copy, &pages, &e);
                if (r == 0)
                        r = base_file_publish(&os, dir, &e);
                if (r < 0) {
                        ck_assert_int_eq(r, -ENOSPC);
                        ck_assert_msg(strstr(e.text, dir) != NULL, "%s", e.text);
                        n_failed++;
                }
                ck_assert_int_eq(read_base(&got, NULL), 1);
                ck_assert(got.page_count == 20000 || (r < 0 && got.page_count == 5));
        }
        ck_assert_int_ge(n_failed, 8);
}
END_TEST

START_TEST(read_error_is_passed_on)
{
        struct os os = *os_host();
        struct pagesum sums = { 0 };
        struct base_info info;
        struct err e;

        write_base(20000);
        os.pread = failing_pread;
        for (int n = 0; n < 4; n++) {
                calls_left = n;
                e = (struct err)ERR_INIT;
                ck_assert_int_eq(base_file_read(&os, dir, &info, &sums, &e), -ENOSPC);
                ck_assert_msg(strstr(e.text, dir) != NULL, "%s", e.text);
                pagesum_release(&sums);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("base_file");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, base_comes_back_as_it_was_written, 0, 7);
        tcase_add_test(tc, bytes_are_those_of_the_table);
        tcase_add_test(tc, no_base_is_no_error);
        tcase_add_test(tc, base_is_there_only_after_publish);
        tcase_add_test(tc, any_changed_bit_is_found_and_the_file_named);
        tcase_add_test(tc, file_of_any_other_length_is_refused);
        tcase_add_test(tc, claimed_count_is_held_against_the_file);
        tcase_add_test(tc, failure_at_any_call_leaves_the_old_base_or_the_new);
        tcase_add_test(tc, read_error_is_passed_on);
        return run_tests("db_base_file", tc);
}
