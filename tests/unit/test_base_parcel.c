/* links: litefs_base */
/* What a program hands to the next: whole, or not at all. */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/parcel.h"
#include "tests/lib/run.h"

static int
make(uint64_t version, int fd)
{
        struct parcel p = { 0 };
        struct err e = ERR_INIT;
        int ret;

        parcel_put(&p, 7);
        parcel_put_text(&p, "a name");
        parcel_put_bytes(&p, "\0\1", 2);
        parcel_put_fd(&p, fd);
        parcel_put(&p, 1);
        ret = parcel_finish(&p, version, &e);
        parcel_release(&p);
        ck_assert_msg(ret >= 0, "%s", e.text);
        return ret;
}

START_TEST(what_is_put_comes_back)
{
        struct parcel_reader r;
        struct err e = ERR_INIT;
        int pipe_fds[2], fd, got;
        size_t n;
        char c = 0;

        ck_assert_int_eq(pipe(pipe_fds), 0);
        fd = make(3, pipe_fds[1]);
        ck_assert_msg(parcel_open(fd, 3, &r, &e) == 0, "%s", e.text);
        parcel_expect(&r, 7);
        ck_assert_str_eq(parcel_get_text(&r), "a name");
        ck_assert_mem_eq(parcel_get_bytes(&r, &n), "\0\1", 2);
        ck_assert_uint_eq(n, 2);
        got = parcel_get_fd(&r);
        ck_assert_int_eq(write(got, "x", 1), 1);
        ck_assert_int_eq(read(pipe_fds[0], &c, 1), 1);
        ck_assert(parcel_get_flag(&r));
        ck_assert_int_eq(parcel_check(&r, &e), 0);
        /* The end of the pipe goes with its last descriptor. */
        close(got);
        close(pipe_fds[1]);
        parcel_close_inherited(&r);
        ck_assert_int_eq(read(pipe_fds[0], &c, 1), 0);
        parcel_reader_release(&r);
        close(pipe_fds[0]);
        close(fd);
}
END_TEST

START_TEST(another_version_is_not_read)
{
        struct parcel_reader r;
        struct err e = ERR_INIT;
        int fd = make(3, -1);

        ck_assert_int_eq(parcel_open(fd, 4, &r, &e), -EPROTO);
        ck_assert_ptr_nonnull(strstr(e.text, "version 3, this program reads version 4"));
        close(fd);
}
END_TEST

START_TEST(a_damaged_one_is_not_read)
{
        int fd = make(3, -1);
        off_t size = lseek(fd, 0, SEEK_END);

        for (off_t i = 0; i < size; i++) {
                struct parcel_reader r;
                uint8_t byte, wrong;

                ck_assert_int_eq(pread(fd, &byte, 1, i), 1);
                wrong = byte ^ 0x10;
                ck_assert_int_eq(pwrite(fd, &wrong, 1, i), 1);
                ck_assert_int_eq(parcel_open(fd, 3, &r, NULL), -EPROTO);
                ck_assert_int_eq(pwrite(fd, &byte, 1, i), 1);
        }
        for (off_t i = size - 1; i >= 0; i--) {
                struct parcel_reader r;

                ck_assert_int_eq(ftruncate(fd, i), 0);
                ck_assert_int_eq(parcel_open(fd, 3, &r, NULL), -EPROTO);
        }
        close(fd);
}
END_TEST

START_TEST(nothing_is_read_past_an_error)
{
        struct parcel_reader r;
        int fd = make(3, -1);
        size_t n;

        ck_assert_int_eq(parcel_open(fd, 3, &r, NULL), 0);
        parcel_expect(&r, 8);
        ck_assert_str_eq(parcel_get_text(&r), "");
        (void)parcel_get_bytes(&r, &n);
        ck_assert_uint_eq(n, 0);
        ck_assert_uint_eq(parcel_get(&r), 0);
        ck_assert_int_eq(parcel_get_fd(&r), -1);
        ck_assert_int_eq(parcel_check(&r, NULL), -EPROTO);
        parcel_reader_release(&r);
        close(fd);
}
END_TEST

START_TEST(lengths_and_numbers_have_limits)
{
        struct parcel p = { 0 };
        struct parcel_reader r;
        size_t n;
        int fd;

        parcel_put(&p, UINT64_MAX); /* as a length */
        parcel_put(&p, 2);
        fd = parcel_finish(&p, 1, NULL);
        parcel_release(&p);
        for (int i = 0; i < 3; i++) {
                ck_assert_int_eq(parcel_open(fd, 1, &r, NULL), 0);
                if (i == 0)
                        (void)parcel_get_bytes(&r, &n);
                else if (i == 1)
                        (void)parcel_get_text(&r);
                else
                        (void)parcel_get_below(&r, 100);
                ck_assert_int_eq(parcel_check(&r, NULL), -EPROTO);
                parcel_reader_release(&r);
        }
        ck_assert_int_eq(parcel_open(fd, 1, &r, NULL), 0);
        (void)parcel_get(&r);
        ck_assert(!parcel_get_flag(&r));
        ck_assert_int_eq(parcel_check(&r, NULL), -EPROTO);
        parcel_reader_release(&r);
        close(fd);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("parcel");

        tcase_add_test(tc, what_is_put_comes_back);
        tcase_add_test(tc, another_version_is_not_read);
        tcase_add_test(tc, a_damaged_one_is_not_read);
        tcase_add_test(tc, nothing_is_read_past_an_error);
        tcase_add_test(tc, lengths_and_numbers_have_limits);
        return run_tests("parcel", tc);
}
