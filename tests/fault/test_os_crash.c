/* links: litefs_base */
/* The imitated power loss itself: what is synced survives every time, what is not survives in part, and the cases
 * that the header promises all come up. */
#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/os_crash.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define SEEDS 200

static char path_buf[4][PATH_MAX];

static const char *
in(const char *dir, const char *name, int i)
{
        snprintf(path_buf[i], sizeof path_buf[i], "%s/%s", dir, name);
        return path_buf[i];
}

/* A new file "f" of four sectors of 'a', durable with its name. */
static int
make_file(const struct os *os, const char *dir)
{
        char a[2048];
        int fd = os_open(os, "t", in(dir, "f", 0), O_RDWR | O_CREAT, 0600);

        memset(a, 'a', sizeof a);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(os_pwrite_all(os, "t", fd, a, sizeof a, 0), 0);
        ck_assert_int_eq(os_fdatasync(os, "t", fd), 0);
        ck_assert_int_eq(os_sync_dir(os, "t", dir), 0);
        return fd;
}

static ssize_t
read_back(const char *dir, const char *name, char *buf, size_t size)
{
        int fd = open(in(dir, name, 0), O_RDONLY);
        ssize_t n = fd < 0 ? -1 : pread(fd, buf, size, 0);

        if (fd >= 0)
                close(fd);
        return n;
}

START_TEST(unsynced_sectors_survive_one_by_one)
{
        int n_lost = 0, n_kept = 0, n_torn = 0;
        char b[2048], got[4096];

        memset(b, 'b', sizeof b);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
                char *dir = tmpdir_make();
                struct os_crash *oc = os_crash_new(dir, seed);
                const struct os *os = os_crash_os(oc);
                int fd = make_file(os, dir), n_b = 0;

                ck_assert_int_eq(os_pwrite_all(os, "t", fd, b, 1536, 0), 0);
                os_crash_now(oc);
                ck_assert_int_lt(os_pwrite_all(os, "t", fd, b, 10, 0), 0);
                os_close(os, "t", fd);
                os_crash_free(oc);
                ck_assert_int_eq(read_back(dir, "f", got, sizeof got), 2048);
                for (int s = 0; s < 4; s++) {
                        ck_assert(got[s * 512] == 'a' || got[s * 512] == 'b');
                        ck_assert(memcmp(got + s * 512, got + s * 512 + 1, 511) == 0);
                        n_b += got[s * 512] == 'b';
                }
                ck_assert_int_eq(got[1536], 'a');
                n_lost += n_b == 0;
                n_kept += n_b == 3;
                n_torn += n_b == 1 || n_b == 2;
                tmpdir_remove(dir);
        }
        ck_assert(n_lost > 0 && n_kept > 0 && n_torn > 0);
}
END_TEST

START_TEST(unsynced_sizes_survive_as_a_prefix)
{
        int n_old = 0, n_cut = 0, n_grown = 0;
        char b[1024], got[4096];

        memset(b, 'b', sizeof b);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
                char *dir = tmpdir_make();
                struct os_crash *oc = os_crash_new(dir, seed);
                const struct os *os = os_crash_os(oc);
                int fd = make_file(os, dir);
                ssize_t n;

                ck_assert_int_eq(os_ftruncate(os, "t", fd, 512), 0);
                ck_assert_int_eq(os_pwrite_all(os, "t", fd, b, 1024, 2048), 0);
                os_close(os, "t", fd);
                os_crash_now(oc);
                os_crash_free(oc);
                n = read_back(dir, "f", got, sizeof got);
                ck_assert(n == 2048 || n == 512 || n == 3072);
                ck_assert_int_eq(got[0], 'a');
                if (n == 3072) /* what was cut away is gone, what was written may not be there */
                        ck_assert(got[512] == 0 && got[2047] == 0 &&
                                  (got[2048] == 'b' || got[2048] == 0));
                n_old += n == 2048;
                n_cut += n == 512;
                n_grown += n == 3072;
                tmpdir_remove(dir);
        }
        ck_assert(n_old > 0 && n_cut > 0 && n_grown > 0);
}
END_TEST

START_TEST(names_need_their_directory_synced)
{
        int n_f = 0, n_g = 0;
        char got[4096];

        for (uint64_t seed = 0; seed < SEEDS; seed++) {
                char *dir = tmpdir_make();
                struct os_crash *oc = os_crash_new(dir, seed);
                const struct os *os = os_crash_os(oc);
                int fd = make_file(os, dir), other;
                ssize_t f, g;

                other = os_open(os, "t", in(dir, "h", 0), O_RDWR | O_CREAT, 0600);
                ck_assert_int_eq(os_fsync(os, "t", other), 0);
                ck_assert_int_eq(os_rename(os, "t", in(dir, "f", 0), in(dir, "g", 1)), 0);
                os_close(os, "t", fd);
                os_close(os, "t", other);
                os_crash_now(oc);
                os_crash_free(oc);
                f = read_back(dir, "f", got, sizeof got);
                g = read_back(dir, "g", got, sizeof got);
                ck_assert((f == 2048 && g == -1) || (f == -1 && g == 2048));
                n_f += f == 2048;
                n_g += g == 2048;
                tmpdir_remove(dir);
        }
        ck_assert(n_f > 0 && n_g > 0);
}
END_TEST

START_TEST(synced_names_survive)
{
        char got[4096];

        for (uint64_t seed = 0; seed < SEEDS; seed++) {
                char *dir = tmpdir_make();
                struct os_crash *oc = os_crash_new(dir, seed);
                const struct os *os = os_crash_os(oc);

                os_close(os, "t", make_file(os, dir));
                ck_assert_int_eq(os_mkdir(os, "t", in(dir, "d", 0), 0700), 0);
                ck_assert_int_eq(os_rename(os, "t", in(dir, "f", 0), in(dir, "d/f", 1)), 0);
                ck_assert_int_eq(os_sync_dir(os, "t", in(dir, "d", 0)), 0);
                ck_assert_int_eq(os_sync_dir(os, "t", dir), 0);
                os_crash_now(oc);
                os_crash_free(oc);
                ck_assert_int_eq(read_back(dir, "d/f", got, sizeof got), 2048);
                ck_assert_int_eq(read_back(dir, "f", got, sizeof got), -1);
                tmpdir_remove(dir);
        }
}
END_TEST

START_TEST(the_power_goes_within_the_call)
{
        int n_kept = 0;

        for (uint64_t seed = 0; seed < SEEDS; seed++) {
                char *dir = tmpdir_make();
                struct os_crash *oc = os_crash_new(dir, seed);
                const struct os *os = os_crash_os(oc);
                int fd;

                os_crash_after(oc, 2);
                fd = os_open(os, "t", in(dir, "x", 0), O_RDWR | O_CREAT, 0600);
                ck_assert_int_ge(fd, 0);
                ck_assert_int_lt(os_sync_dir(os, "t", dir), 0);
                ck_assert(os_crash_is_dead(oc));
                os_close(os, "t", fd);
                os_crash_free(oc);
                n_kept += access(in(dir, "x", 0), F_OK) == 0;
                tmpdir_remove(dir);
        }
        ck_assert(n_kept > 0 && n_kept < SEEDS);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("os_crash");

        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, unsynced_sectors_survive_one_by_one);
        tcase_add_test(tc, unsynced_sizes_survive_as_a_prefix);
        tcase_add_test(tc, names_need_their_directory_synced);
        tcase_add_test(tc, synced_names_survive);
        tcase_add_test(tc, the_power_goes_within_the_call);
        return run_tests("os_crash", tc);
}
