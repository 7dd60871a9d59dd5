/* links: litefs_base */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "tests/lib/run.h"

#define N 5000

static bool
is_text(const void *item, const void *key)
{
        return strcmp(item, key) == 0;
}

START_TEST(each_key_finds_its_item)
{
        struct map m = { 0 };
        char key[24], *items[N];

        ck_assert_ptr_null(map_find(&m, map_hash_text("0"), is_text, "0"));
        for (int i = 0; i < N; i++) {
                ck_assert_int_gt(asprintf(&items[i], "%d.db", i), 0);
                ck_assert_int_eq(map_put(&m, map_hash_text(items[i]), items[i]), 0);
        }
        for (int i = 0; i < 2 * N; i++) {
                snprintf(key, sizeof key, "%d.db", i);
                ck_assert_ptr_eq(map_find(&m, map_hash_text(key), is_text, key),
                                 i < N ? items[i] : NULL);
        }
        map_each(&m, free);
        map_release(&m);
        ck_assert_ptr_null(map_find(&m, map_hash_text("0.db"), is_text, "0.db"));
}
END_TEST

/* The items tell, not the hashes. */
START_TEST(equal_hashes_do_not_mix)
{
        static char items[200][16];
        struct map m = { 0 };

        for (int i = 0; i < 200; i++) {
                snprintf(items[i], sizeof items[i], "%d", i);
                ck_assert_int_eq(map_put(&m, UINT64_MAX, items[i]), 0);
        }
        for (int i = 0; i < 200; i++)
                ck_assert_ptr_eq(map_find(&m, UINT64_MAX, is_text, items[i]), items[i]);
        ck_assert_ptr_null(map_find(&m, UINT64_MAX, is_text, "x"));
        map_release(&m);
}
END_TEST

static unsigned n_compared;

static bool
is_pointer(const void *item, const void *key)
{
        n_compared++;
        return item == key;
}

/* Addresses as malloc gives them are spread: next to nothing is compared in vain. */
START_TEST(pointers_are_spread)
{
        struct map m = { 0 };
        char *block = malloc((size_t)N * 4096);

        ck_assert_ptr_nonnull(block);
        for (size_t i = 0; i < N; i++)
                ck_assert_int_eq(map_put(&m, map_hash_pointer(block + i * 4096), block + i * 4096), 0);
        for (size_t i = 0; i < N; i++)
                ck_assert_ptr_eq(
                        map_find(&m, map_hash_pointer(block + i * 4096), is_pointer, block + i * 4096),
                        block + i * 4096);
        ck_assert_uint_le(n_compared, N + 1);
        map_release(&m);
        free(block);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("map");

        tcase_add_test(tc, each_key_finds_its_item);
        tcase_add_test(tc, equal_hashes_do_not_mix);
        tcase_add_test(tc, pointers_are_spread);
        return run_tests("map", tc);
}
