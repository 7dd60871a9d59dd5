/* links: litefs_fuse */
#include <check.h>

#include "fuse/id_table.h"
#include "tests/lib/run.h"

START_TEST(an_id_stands_for_one_thing_once)
{
        struct id_table t = { 0 };
        int a, b;
        uint64_t first = id_table_add(&t, &a), second = id_table_add(&t, &b), again;

        ck_assert_ptr_eq(id_table_find(&t, first), &a);
        ck_assert_ptr_eq(id_table_find(&t, second), &b);
        ck_assert_uint_gt(first, UINT32_MAX); /* never the root's, nor 0 */
        id_table_remove(&t, first);
        ck_assert_ptr_null(id_table_find(&t, first));
        again = id_table_add(&t, &b);
        ck_assert_uint_eq(id_index(again), id_index(first));
        ck_assert_uint_ne(again, first);
        ck_assert_ptr_null(id_table_find(&t, first));
        ck_assert_ptr_null(id_table_find(&t, id_index(again)));
        ck_assert_ptr_null(id_table_find(&t, again + 1000));
        ck_assert_ptr_null(id_table_find(&t, 0));
        ck_assert_ptr_null(id_table_find(&t, UINT64_MAX));
        id_table_release(&t, NULL);
        ck_assert_ptr_null(id_table_find(&t, second));
}
END_TEST

START_TEST(generations_begin_anew_without_zero)
{
        struct id_table t = { 0 };
        int a;
        uint64_t id = id_table_add(&t, &a);

        t.slots[id_index(id)].generation = UINT32_MAX;
        id_table_remove(&t, id);
        id = id_table_add(&t, &a);
        ck_assert_uint_eq(id >> 32, 1);
        id_table_release(&t, NULL);
}
END_TEST

START_TEST(many_ids_are_apart)
{
        struct id_table t = { 0 };
        static int things[5000];
        static uint64_t ids[COUNT(things)];

        for (int i = 0; i < COUNT(things); i++)
                ids[i] = id_table_add(&t, &things[i]);
        for (int i = 0; i < COUNT(things); i += 3)
                id_table_remove(&t, ids[i]);
        for (int i = 0; i < COUNT(things); i++)
                ck_assert_ptr_eq(id_table_find(&t, ids[i]), i % 3 == 0 ? NULL : &things[i]);
        for (int i = 0; i < COUNT(things); i += 3)
                ids[i] = id_table_add(&t, &things[i]);
        for (int i = 0; i < COUNT(things); i++)
                ck_assert_ptr_eq(id_table_find(&t, ids[i]), &things[i]);
        id_table_release(&t, NULL);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("id_table");

        tcase_add_test(tc, an_id_stands_for_one_thing_once);
        tcase_add_test(tc, generations_begin_anew_without_zero);
        tcase_add_test(tc, many_ids_are_apart);
        return run_tests("id_table", tc);
}
