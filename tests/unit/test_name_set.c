/* links: litefs_repl */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "repl/name_set.h"
#include "tests/lib/run.h"

static struct name_set *set;
static struct err e;

/* A frame of the names "0" to "@n - 1", counted from @first. */
static int
add(unsigned first, unsigned n, uint8_t flags)
{
        uint8_t *buf = malloc(FRAME_POSITIONS_SIZE);
        struct frame_positions_writer w;
        struct frame f;
        char name[16];
        size_t size;
        int r;

        frame_positions_init(&w, buf, FRAME_POSITIONS_SIZE);
        for (unsigned i = first; i < first + n; i++) {
                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_eq(frame_positions_add(&w, name, (struct ltx_pos){ 0 }, &e), 1);
        }
        size = frame_positions_finish(&w, flags);
        ck_assert_int_eq(
                frame_parse(FRAME_POSITIONS, buf + FRAME_HEADER_SIZE, size - FRAME_HEADER_SIZE, &f, &e),
                0);
        r = name_set_add_list(&set, &f.positions, &e);
        free(buf);
        return r;
}

static void
set_up(void)
{
        set = NULL;
        e = (struct err)ERR_INIT;
}

static void
tear_down(void)
{
        name_set_free(set);
}

START_TEST(names_are_there_and_others_are_not)
{
        ck_assert(!name_set_has(set, "0"));
        ck_assert_int_eq(add(0, 512, 0), 0);
        ck_assert_int_eq(add(512, 100, FRAME_POSITIONS_LAST), 0);
        for (unsigned i = 0; i < 700; i++) {
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_eq(name_set_has(set, name), i < 612);
        }
}
END_TEST

START_TEST(empty_list_has_nothing)
{
        ck_assert_int_eq(add(0, 0, FRAME_POSITIONS_LAST), 0);
        ck_assert(!name_set_has(set, "0"));
}
END_TEST

START_TEST(name_that_comes_twice_is_refused)
{
        ck_assert_int_eq(add(0, 512, 0), 0);
        ck_assert_int_eq(add(511, 1, 0), E_FORMAT);
        ck_assert_str_eq(e.text, "511 is twice in a list");
}
END_TEST

START_TEST(list_that_is_complete_in_part_is_refused)
{
        ck_assert_int_eq(add(0, 1, FRAME_POSITIONS_ALL), 0);
        ck_assert_int_eq(add(1, 1, 0), E_FORMAT);
}
END_TEST

START_TEST(list_without_an_end_is_refused)
{
        unsigned first = 0;

        for (; first < NAME_SET_MAX; first += 512)
                ck_assert_int_eq(add(first, 512, 0), 0);
        ck_assert_int_eq(add(first, 1, 0), E_FORMAT);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("name_set");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, names_are_there_and_others_are_not);
        tcase_add_test(tc, empty_list_has_nothing);
        tcase_add_test(tc, name_that_comes_twice_is_refused);
        tcase_add_test(tc, list_that_is_complete_in_part_is_refused);
        tcase_add_test(tc, list_without_an_end_is_refused);
        return run_tests("name_set", tc);
}
