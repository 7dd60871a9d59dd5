/* links: litefs_image */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/image/spool.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define MODEL 200000u

static char *dir;
static struct spool s;
static uint8_t model[MODEL], buf[MODEL];

static void
set_up(void)
{
        dir = tmpdir_make();
}

static void
tear_down(void)
{
        spool_reset(&s);
        free(s.chunks);
        tmpdir_remove(dir);
}

static void
check_against_model(uint64_t size)
{
        ck_assert_uint_eq(s.size_bytes, size);
        memset(buf, 0xee, sizeof buf);
        ck_assert_int_eq(spool_read(&s, buf, MODEL, 0), (ssize_t)size);
        ck_assert_mem_eq(buf, model, size);
}

/* Random writes and truncations against a plain array, all in memory, spilling on the way, or in a file. */
START_TEST(spool_behaves_like_a_sparse_file)
{
        static const size_t caps[] = { 1 << 30, 100000, 30000, 0 };
        uint64_t size = 0;

        srand((unsigned)_i);
        spool_init(&s, os_host(), dir, caps[_i]);
        memset(model, 0, sizeof model);
        for (int i = 0; i < 800; i++) {
                uint64_t off = (uint64_t)rand() % (MODEL - 20000);
                size_t n = (size_t)rand() % (i % 3 ? 600 : 20000);

                if (i % 10 == 9) {
                        off = (uint64_t)rand() % MODEL;
                        ck_assert_int_eq(spool_truncate(&s, off), 0);
                        memset(model + off, 0, MODEL - off);
                        size = off;
                } else if (n > 0) {
                        memset(buf, rand() & 255, n);
                        ck_assert_int_eq(spool_write(&s, buf, n, off), 0);
                        memcpy(model + off, buf, n);
                        size = off + n > size ? off + n : size;
                }
                check_against_model(size);
        }
        ck_assert(_i == 0 ? s.fd < 0 : s.fd >= 0);
}
END_TEST

static int
count_files(void)
{
        DIR *d = opendir(dir);
        int n = 0;

        while (readdir(d) != NULL)
                n++;
        closedir(d);
        return n - 2;
}

START_TEST(spill_leaves_no_name_and_no_memory)
{
        memset(buf, 1, sizeof buf);
        spool_init(&s, os_host(), dir, 3 * SPOOL_CHUNK);
        ck_assert_int_eq(spool_write(&s, buf, 3 * SPOOL_CHUNK, 0), 0);
        ck_assert_int_lt(s.fd, 0);
        ck_assert_int_eq(spool_write(&s, buf, 1, 3 * SPOOL_CHUNK), 0);
        ck_assert_int_ge(s.fd, 0);
        ck_assert_uint_eq(s.used_bytes, 0);
        ck_assert_int_eq(count_files(), 0);
        spool_reset(&s);
        ck_assert_uint_eq(s.size_bytes, 0);
        ck_assert_int_lt(s.fd, 0);
        ck_assert_int_eq(spool_write(&s, "again", 5, 0), 0);
        ck_assert_int_eq(spool_read(&s, buf, 100, 0), 5);
        ck_assert_mem_eq(buf, "again", 5);
}
END_TEST

/* A write a terabyte out must not cost a table of chunks for the hole. */
START_TEST(write_far_out_costs_a_file_not_memory)
{
        uint64_t far = (uint64_t)1 << 40;

        spool_init(&s, os_host(), dir, 1 << 20);
        ck_assert_int_eq(spool_write(&s, "near", 4, 0), 0);
        ck_assert_int_eq(spool_write(&s, "far", 3, far), 0);
        ck_assert_int_ge(s.fd, 0);
        ck_assert_int_eq(spool_read(&s, buf, 100, far), 3);
        ck_assert_int_eq(spool_read(&s, buf, 8, 0), 8);
        ck_assert_mem_eq(buf, "near\0\0\0\0", 8);
        ck_assert_int_eq(spool_write(&s, "x", 1, INT64_MAX), -EFBIG);
        ck_assert_int_eq(spool_write(&s, "x", 1, UINT64_MAX), -EFBIG);
        ck_assert_int_eq(spool_truncate(&s, (uint64_t)INT64_MAX + 1), -EFBIG);
        ck_assert_uint_eq(s.size_bytes, far + 3);
}
END_TEST

START_TEST(write_of_nothing_extends_nothing)
{
        spool_init(&s, os_host(), dir, 1 << 20);
        ck_assert_int_eq(spool_write(&s, "x", 0, 1000), 0);
        ck_assert_uint_eq(s.size_bytes, 0);
        ck_assert_int_eq(spool_read(&s, buf, 10, 0), 0);
        ck_assert_int_eq(spool_read(&s, buf, 10, UINT64_MAX), 0);
}
END_TEST

START_TEST(peek_gives_what_lies_in_one_piece)
{
        const char *p;

        spool_init(&s, os_host(), dir, 1 << 20);
        memset(buf, 7, sizeof buf);
        ck_assert_int_eq(spool_write(&s, buf, 2 * SPOOL_CHUNK, 4 * SPOOL_CHUNK), 0);
        ck_assert_ptr_null(spool_peek(&s, 0, 10)); /* a hole */
        ck_assert_ptr_null(spool_peek(&s, 5 * SPOOL_CHUNK - 1, 2));
        ck_assert_ptr_null(spool_peek(&s, (uint64_t)1 << 50, 1));
        p = spool_peek(&s, 4 * SPOOL_CHUNK + 1, SPOOL_CHUNK - 1);
        ck_assert_ptr_nonnull(p);
        ck_assert_mem_eq(p, buf, SPOOL_CHUNK - 1);
        s.cap_bytes = 0;
        ck_assert_int_eq(spool_write(&s, "x", 1, 0), 0);
        ck_assert_ptr_null(spool_peek(&s, 4 * SPOOL_CHUNK, 1));
}
END_TEST

/* --- a disk that fails --- */

static int writes_left;

static ssize_t
failing_pwrite(const struct os *os, const char *tag, int fd, const void *p, size_t n, off_t off)
{
        (void)os;
        if (writes_left-- <= 0)
                return -ENOSPC;
        return os_host()->pwrite(os_host(), tag, fd, p, n, off);
}

static int
failing_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        (void)os, (void)tag, (void)path, (void)flags, (void)mode;
        return -EMFILE;
}

START_TEST(spill_that_fails_loses_nothing)
{
        struct os os = *os_host();

        os.pwrite = failing_pwrite;
        spool_init(&s, &os, dir, 4 * SPOOL_CHUNK);
        memset(model, 0, sizeof model);
        memset(model, 9, 4 * SPOOL_CHUNK);
        ck_assert_int_eq(spool_write(&s, model, 4 * SPOOL_CHUNK, 0), 0);
        for (int n = 0; n < 4; n++) {
                writes_left = n;
                ck_assert_int_eq(spool_write(&s, "x", 1, 5 * SPOOL_CHUNK), -ENOSPC);
                check_against_model(4 * SPOOL_CHUNK);
                ck_assert_int_eq(count_files(), 0);
        }
        os.open = failing_open;
        ck_assert_int_eq(spool_write(&s, "x", 1, 5 * SPOOL_CHUNK), -EMFILE);
        check_against_model(4 * SPOOL_CHUNK);
        os.open = os_host()->open;
        writes_left = 100;
        ck_assert_int_eq(spool_write(&s, "x", 1, 5 * SPOOL_CHUNK), 0);
        model[5 * SPOOL_CHUNK] = 'x';
        check_against_model(5 * SPOOL_CHUNK + 1);
        writes_left = 0;
        ck_assert_int_eq(spool_write(&s, "y", 1, 0), -ENOSPC);
        check_against_model(5 * SPOOL_CHUNK + 1);
        s.os = os_host();
}
END_TEST

START_TEST(what_is_in_memory_is_written_again_without_a_file)
{
        struct os os = *os_host();

        os.pwrite = failing_pwrite;
        writes_left = 0;
        spool_init(&s, &os, dir, 4 * SPOOL_CHUNK);
        memset(model, 0, sizeof model);
        ck_assert_int_eq(spool_write(&s, model, 4 * SPOOL_CHUNK, 0), 0);
        model[3 * SPOOL_CHUNK - 1] = model[3 * SPOOL_CHUNK] = 'x';
        ck_assert_int_eq(spool_write(&s, "xx", 2, 3 * SPOOL_CHUNK - 1), 0);
        check_against_model(4 * SPOOL_CHUNK);
        /* A hole at the end has no memory yet. */
        ck_assert_int_eq(spool_truncate(&s, 6 * SPOOL_CHUNK), 0);
        ck_assert_int_eq(spool_write(&s, "y", 1, 5 * SPOOL_CHUNK), -ENOSPC);
        check_against_model(6 * SPOOL_CHUNK);
        s.os = os_host();
}
END_TEST

START_TEST(directory_that_is_gone_is_an_error_of_the_write)
{
        char *gone = strdup(dir);

        spool_init(&s, os_host(), gone, 0);
        gone[strlen(gone) - 1] ^= 1;
        ck_assert_int_eq(spool_write(&s, "x", 1, 0), -ENOENT);
        ck_assert_uint_eq(s.size_bytes, 0);
        free(gone);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("spool");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, spool_behaves_like_a_sparse_file, 0, 4);
        tcase_add_test(tc, spill_leaves_no_name_and_no_memory);
        tcase_add_test(tc, write_far_out_costs_a_file_not_memory);
        tcase_add_test(tc, write_of_nothing_extends_nothing);
        tcase_add_test(tc, peek_gives_what_lies_in_one_piece);
        tcase_add_test(tc, spill_that_fails_loses_nothing);
        tcase_add_test(tc, what_is_in_memory_is_written_again_without_a_file);
        tcase_add_test(tc, directory_that_is_gone_is_an_error_of_the_write);
        return run_tests("db_spool", tc);
}
