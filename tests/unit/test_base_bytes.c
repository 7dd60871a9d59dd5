/* links: litefs_base */
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/run.h"

START_TEST(integers_have_their_byte_order_at_any_alignment)
{
        uint8_t b[16];

        for (int at = 0; at < 8; at++) {
                put_be16(b + at, 0x0102);
                ck_assert_mem_eq(b + at, "\x01\x02", 2);
                ck_assert_uint_eq(get_be16(b + at), 0x0102);
                put_be32(b + at, 0x01020304);
                ck_assert_mem_eq(b + at, "\x01\x02\x03\x04", 4);
                ck_assert_uint_eq(get_be32(b + at), 0x01020304);
                put_be64(b + at, 0x0102030405060708u);
                ck_assert_mem_eq(b + at, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
                ck_assert_uint_eq(get_be64(b + at), 0x0102030405060708u);
                put_le32(b + at, 0x01020304);
                ck_assert_mem_eq(b + at, "\x04\x03\x02\x01", 4);
                ck_assert_uint_eq(get_le32(b + at), 0x01020304);
        }
}
END_TEST

START_TEST(all_bits_survive)
{
        uint8_t b[8];

        put_be16(b, UINT16_MAX);
        ck_assert_uint_eq(get_be16(b), UINT16_MAX);
        put_be32(b, 0x80000001u);
        ck_assert_uint_eq(get_be32(b), 0x80000001u);
        put_be64(b, 0x8000000000000001u);
        ck_assert_uint_eq(get_be64(b), 0x8000000000000001u);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("bytes");

        tcase_add_test(tc, integers_have_their_byte_order_at_any_alignment);
        tcase_add_test(tc, all_bits_survive);
        return run_tests("base_bytes", tc);
}
