/* links: litefs_image */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/image/overlay.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define PAGES 3000u
#define SIZE 512u

static char *dir;
static struct overlay o;

static void
set_up(void)
{
        dir = tmpdir_make();
}

static void
tear_down(void)
{
        overlay_release(&o);
        tmpdir_remove(dir);
}

static void
put(uint32_t pgno, uint32_t version)
{
        uint8_t page[SIZE];

        fill_page(page, SIZE, PAGE_NOISE, pgno ^ version << 16);
        ck_assert_int_eq(overlay_put(&o, pgno, page), 0);
}

static void
check_page(uint32_t pgno, uint32_t version)
{
        uint8_t want[SIZE], buf[SIZE];
        const uint8_t *got;
        int r = 0;

        fill_page(want, SIZE, PAGE_NOISE, pgno ^ version << 16);
        got = overlay_get(&o, pgno, buf, &r);
        ck_assert_ptr_nonnull(got);
        ck_assert_mem_eq(got, want, SIZE);
}

/* @versions: 0 where the page is not in. */
static void
check_all(const uint32_t *versions, uint32_t max)
{
        uint32_t n = 0, *list = overlay_sorted_pgnos(&o);

        for (uint32_t pgno = 1; pgno <= max; pgno++) {
                ck_assert(overlay_has(&o, pgno) == (versions[pgno] != 0));
                if (versions[pgno] == 0)
                        continue;
                check_page(pgno, versions[pgno]);
                ck_assert_uint_eq(list[n++], pgno);
        }
        ck_assert_uint_eq(o.n_pages, n);
        ck_assert(overlay_is_empty(&o) == (n == 0));
        ck_assert((list == NULL) == (n == 0));
        free(list);
}

/* Page numbers in clusters, so that probe runs are long, and drops, which have to move them up. */
START_TEST(overlay_behaves_like_a_table_of_pages)
{
        static const size_t caps[] = { 64 << 20, 100000, 0 };
        static uint32_t versions[PAGES + 1];

        srand((unsigned)_i);
        overlay_init(&o, os_host(), dir, caps[_i]);
        overlay_set_page_size(&o, SIZE);
        for (uint32_t i = 1; i <= 6000; i++) {
                uint32_t pgno = 1 + (uint32_t)rand() % PAGES;

                if (i % 600 == 0) {
                        pgno = (uint32_t)rand() % PAGES;
                        overlay_drop_above(&o, pgno);
                        for (uint32_t p = pgno + 1; p <= PAGES; p++)
                                versions[p] = 0;
                        check_all(versions, PAGES);
                } else {
                        put(pgno, i);
                        versions[pgno] = i;
                }
        }
        check_all(versions, PAGES);
        overlay_drop_above(&o, 0);
        memset(versions, 0, sizeof versions);
        check_all(versions, PAGES);
}
END_TEST

START_TEST(drop_at_every_place_of_a_small_table)
{
        /* 31 pages of a table of 64: every collision pattern that there is with multiples of 64 too. */
        for (uint32_t step = 1; step <= 64; step *= 2) {
                for (uint32_t cut = 0; cut <= 31; cut++) {
                        overlay_init(&o, os_host(), dir, 1 << 20);
                        overlay_set_page_size(&o, SIZE);
                        for (uint32_t i = 31; i >= 1; i--)
                                put(i * step, 1);
                        overlay_drop_above(&o, cut * step);
                        ck_assert_uint_eq(o.n_pages, cut);
                        for (uint32_t i = 1; i <= 31; i++)
                                ck_assert(overlay_has(&o, i * step) == (i <= cut));
                        for (uint32_t i = 1; i <= cut; i++)
                                check_page(i * step, 1);
                        overlay_release(&o);
                }
        }
        overlay_init(&o, os_host(), dir, 1 << 20);
}
END_TEST

START_TEST(reset_empties_and_allows_another_page_size)
{
        uint8_t page[4096] = { 0 };
        int r;

        overlay_init(&o, os_host(), dir, 1 << 20);
        overlay_set_page_size(&o, SIZE);
        for (uint32_t n = 1; n <= 2000; n += 1999) {
                for (uint32_t pgno = 1; pgno <= n; pgno++)
                        put(pgno, 1);
                overlay_reset(&o);
                ck_assert(overlay_is_empty(&o) && !overlay_has(&o, 1));
                ck_assert_ptr_null(overlay_sorted_pgnos(&o));
                ck_assert_uint_eq(o.pages.used_bytes, 0);
        }
        overlay_set_page_size(&o, 4096);
        fill_page(page, sizeof page, PAGE_TEXT, 3);
        ck_assert_int_eq(overlay_put(&o, UINT32_MAX, page), 0);
        ck_assert_mem_eq(overlay_get(&o, UINT32_MAX, page, &r), page, sizeof page);
}
END_TEST

static ssize_t
failing_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        (void)os, (void)tag, (void)fd, (void)buf, (void)n, (void)off;
        return -EIO;
}

static ssize_t
failing_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        (void)os, (void)tag, (void)fd, (void)buf, (void)n, (void)off;
        return -ENOSPC;
}

START_TEST(disk_errors_are_passed_on)
{
        struct os os = *os_host();
        uint8_t page[SIZE] = { 1 }, buf[SIZE];
        int r = 0;

        overlay_init(&o, &os, dir, 0);
        overlay_set_page_size(&o, SIZE);
        put(1, 1);
        os.pread = failing_pread;
        ck_assert_ptr_null(overlay_get(&o, 1, buf, &r));
        ck_assert_int_eq(r, -EIO);
        os.pwrite = failing_pwrite;
        ck_assert_int_eq(overlay_put(&o, 2, page), -ENOSPC);
        ck_assert(!overlay_has(&o, 2));
        ck_assert_uint_eq(o.n_pages, 1);
        os = *os_host();
        check_page(1, 1);
        overlay_reset(&o);
        o.pages.os = os_host();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("overlay");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, overlay_behaves_like_a_table_of_pages, 0, 3);
        tcase_add_test(tc, drop_at_every_place_of_a_small_table);
        tcase_add_test(tc, reset_empties_and_allows_another_page_size);
        tcase_add_test(tc, disk_errors_are_passed_on);
        return run_tests("db_overlay", tc);
}
