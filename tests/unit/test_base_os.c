/* links: litefs_base */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

/* A kernel that transfers little at a time, is interrupted on every other call, and fails at one. */
struct odd_os {
        struct os os;
        size_t chunk;
        int calls;
        int n_interrupts; /* so many calls in a row give -EINTR first */
        int fail_at;      /* this call gives fail_with; 0: none */
        int fail_with;
        char tag[32]; /* of the last call */
};

static int
before(const struct os *os, const char *tag)
{
        struct odd_os *o = (struct odd_os *)os;

        strncpy(o->tag, tag, sizeof o->tag - 1);
        o->calls++;
        if (o->calls == o->fail_at)
                return o->fail_with;
        if (o->n_interrupts > 0 && o->calls % (o->n_interrupts + 1) != 0)
                return -EINTR;
        return 0;
}

static ssize_t
odd_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        const struct odd_os *o = (const struct odd_os *)os;
        int r = before(os, tag);

        return r < 0 ? r : os_host()->pread(os_host(), tag, fd, buf, n < o->chunk ? n : o->chunk, off);
}

static ssize_t
odd_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        const struct odd_os *o = (const struct odd_os *)os;
        int r = before(os, tag);

        if (r < 0 || o->chunk == 0)
                return r;
        return os_host()->pwrite(os_host(), tag, fd, buf, n < o->chunk ? n : o->chunk, off);
}

static int
odd_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        int r = before(os, tag);

        return r < 0 ? r : os_host()->open(os_host(), tag, path, flags, mode);
}

static int
odd_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        int r = before(os, tag);

        return r < 0 ? r : os_host()->ftruncate(os_host(), tag, fd, size);
}

static int
odd_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        int r = before(os, tag);

        return r < 0 ? r : os_host()->mkdir(os_host(), tag, path, mode);
}

static struct odd_os odd;
static char *dir;

static void
set_up(void)
{
        dir = tmpdir_make();
        odd = (struct odd_os){ .os = *os_host(), .chunk = SIZE_MAX };
        odd.os.open = odd_open;
        odd.os.pread = odd_pread;
        odd.os.pwrite = odd_pwrite;
        odd.os.ftruncate = odd_ftruncate;
        odd.os.mkdir = odd_mkdir;
}

static void
tear_down(void)
{
        tmpdir_remove(dir);
}

static int
open_new(void)
{
        int fd = os_open(os_host(), "test", path_in(dir, "file"), O_RDWR | O_CREAT, 0600);

        ck_assert_int_ge(fd, 0);
        return fd;
}

START_TEST(transfers_go_on_after_short_ones_and_interrupts)
{
        static const uint8_t data[] = "twenty-four bytes exactly";
        int fd = open_new();

        odd.n_interrupts = _i;
        for (odd.chunk = 1; odd.chunk < 30; odd.chunk += 4) {
                uint8_t got[64] = { 0 };

                ck_assert_int_eq(os_ftruncate(&odd.os, "t", fd, 0), 0);
                ck_assert_int_eq(os_pwrite_all(&odd.os, "out", fd, data, sizeof data, 5), 0);
                ck_assert_str_eq(odd.tag, "out");
                ck_assert_int_eq(os_pread_all(&odd.os, "in", fd, got, sizeof data, 5), sizeof data);
                ck_assert_str_eq(odd.tag, "in");
                ck_assert_mem_eq(got, data, sizeof data);
                /* Only the end of the file makes it less. */
                ck_assert_int_eq(os_pread_all(&odd.os, "in", fd, got, 64, 5), sizeof data);
                ck_assert_int_eq(os_pread_all(&odd.os, "in", fd, got, 64, 5 + sizeof data), 0);
        }
        os_close(os_host(), "t", fd);
}
END_TEST

START_TEST(error_in_the_middle_ends_a_transfer)
{
        uint8_t buf[10] = { 0 };
        int fd = open_new();

        odd.chunk = 2;
        odd.fail_with = -ENOSPC;
        for (int at = 1; at <= 5; at++) {
                odd.calls = 0;
                odd.fail_at = at;
                ck_assert_int_eq(os_pwrite_all(&odd.os, "t", fd, buf, sizeof buf, 0), -ENOSPC);
                ck_assert_int_eq(odd.calls, at);
        }
        odd.fail_at = 0;
        ck_assert_int_eq(os_pwrite_all(&odd.os, "t", fd, buf, sizeof buf, 0), 0);
        odd.fail_with = -EIO;
        odd.calls = 0;
        odd.fail_at = 3;
        ck_assert_int_eq(os_pread_all(&odd.os, "t", fd, buf, sizeof buf, 0), -EIO);
        os_close(os_host(), "t", fd);
}
END_TEST

/* A kernel that takes nothing and says so must not make the daemon spin. */
START_TEST(write_of_nothing_is_an_error)
{
        int fd = open_new();

        odd.chunk = 0;
        ck_assert_int_eq(os_pwrite_all(&odd.os, "t", fd, "x", 1, 0), -EIO);
        ck_assert_int_eq(os_pwrite_all(&odd.os, "t", fd, "x", 0, 0), 0);
        os_close(os_host(), "t", fd);
}
END_TEST

START_TEST(open_and_truncate_go_on_after_interrupts)
{
        int fd;
        struct stat st;

        odd.n_interrupts = 3;
        fd = os_open(&odd.os, "t", path_in(dir, "new"), O_RDWR | O_CREAT, 0600);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        ck_assert_int_eq(os_ftruncate(&odd.os, "t", fd, 77), 0);
        ck_assert_int_eq(os_fstat(&odd.os, "t", fd, &st), 0);
        ck_assert_int_eq(st.st_size, 77);
        ck_assert_int_eq(os_close(&odd.os, "t", fd), 0);
        ck_assert_int_eq(os_close(&odd.os, "t", -1), 0);
}
END_TEST

START_TEST(errors_are_negative_errnos)
{
        const struct os *os = os_host();
        const char *none = path_in(dir, "none"), *there = path_in(dir, "there");
        struct stat st;
        char c = 0;

        write_file(there, "x", 1);
        ck_assert_int_eq(os_open(os, "t", none, O_RDONLY, 0), -ENOENT);
        ck_assert_int_eq(os_lstat(os, "t", none, &st), -ENOENT);
        ck_assert_int_eq(os_unlink(os, "t", none), -ENOENT);
        ck_assert_int_eq(os_rename(os, "t", none, there), -ENOENT);
        ck_assert_int_eq(os_rmdir(os, "t", there), -ENOTDIR);
        ck_assert_int_eq(os_mkdir(os, "t", there, 0700), -EEXIST);
        ck_assert_int_eq(os_sync_dir(os, "t", there), -ENOTDIR);
        ck_assert_int_eq(os_pread_all(os, "t", 9999, &c, 1, 0), -EBADF);
        ck_assert_int_eq(os_pwrite_all(os, "t", 9999, &c, 1, 0), -EBADF);
        ck_assert_int_eq(os_ftruncate(os, "t", 9999, 0), -EBADF);
        ck_assert_int_eq(os_fstat(os, "t", 9999, &st), -EBADF);
        ck_assert_int_eq(os_fsync(os, "t", 9999), -EBADF);
        ck_assert_int_eq(os_fdatasync(os, "t", 9999), -EBADF);
        ck_assert_int_eq(os_close(os, "t", 9999), -EBADF);
}
END_TEST

START_TEST(directories_are_made_with_their_parents)
{
        struct stat st;

        ck_assert_int_eq(os_mkdir_all(os_host(), "t", path_in(dir, "a/b/c"), 0700), 0);
        ck_assert_int_eq(os_mkdir_all(os_host(), "t", path_in(dir, "a/b/c"), 0700), 0);
        ck_assert_int_eq(os_mkdir_all(os_host(), "t", path_in(dir, "a//d/"), 0700), 0);
        ck_assert_int_eq(os_lstat(os_host(), "t", path_in(dir, "a/b/c"), &st), 0);
        ck_assert(S_ISDIR(st.st_mode));
        ck_assert_int_eq(os_lstat(os_host(), "t", path_in(dir, "a/d"), &st), 0);
        ck_assert_int_eq(os_mkdir_all(os_host(), "t", "", 0700), -ENOENT);
        write_file(path_in(dir, "file"), "x", 1);
        ck_assert_int_eq(os_mkdir_all(os_host(), "t", path_in(dir, "file/x"), 0700), -ENOTDIR);
        odd.fail_at = 3;
        odd.fail_with = -ENOSPC;
        ck_assert_int_eq(os_mkdir_all(&odd.os, "t", path_in(dir, "p/q/r/s"), 0700), -ENOSPC);
}
END_TEST

START_TEST(path_that_is_too_long_is_refused)
{
        char *path = malloc(10000);

        memset(path, 'x', 9999);
        path[9999] = '\0';
        ck_assert_int_eq(os_mkdir_all(os_host(), "t", path, 0700), -ENAMETOOLONG);
        free(path);
}
END_TEST

struct names {
        char text[100];
        int stop_at;
        int n;
};

static int
collect(void *arg, const char *name)
{
        struct names *names = arg;

        strcat(names->text, name);
        strcat(names->text, " ");
        return ++names->n == names->stop_at ? -ECANCELED : 0;
}

START_TEST(names_come_in_order_without_the_dots)
{
        struct names all = { "", 0, 0 }, two = { "", 2, 0 };

        ck_assert_int_eq(os_list_dir(os_host(), "t", dir, collect, &all), 0);
        ck_assert_str_eq(all.text, "");
        write_file(path_in(dir, "b"), "", 0);
        write_file(path_in(dir, "c"), "", 0);
        write_file(path_in(dir, ".a"), "", 0);
        ck_assert_int_eq(os_list_dir(os_host(), "t", dir, collect, &all), 0);
        ck_assert_str_eq(all.text, ".a b c ");
        ck_assert_int_eq(os_list_dir(os_host(), "t", dir, collect, &two), -ECANCELED);
        ck_assert_str_eq(two.text, ".a b ");
        ck_assert_int_eq(os_list_dir(os_host(), "t", path_in(dir, "none"), collect, &all), -ENOENT);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("os");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, transfers_go_on_after_short_ones_and_interrupts, 0, 4);
        tcase_add_test(tc, error_in_the_middle_ends_a_transfer);
        tcase_add_test(tc, write_of_nothing_is_an_error);
        tcase_add_test(tc, open_and_truncate_go_on_after_interrupts);
        tcase_add_test(tc, errors_are_negative_errnos);
        tcase_add_test(tc, directories_are_made_with_their_parents);
        tcase_add_test(tc, path_that_is_too_long_is_refused);
        tcase_add_test(tc, names_come_in_order_without_the_dots);
        return run_tests("base_os", tc);
}
