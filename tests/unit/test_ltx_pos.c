/* links: litefs_ltx */
#include <errno.h>
#include <string.h>

#include "ltx/pos.h"
#include "tests/lib/run.h"

static const struct {
        struct ltx_pos pos;
        const char *text;
} positions[] = {
        { { 0, 0 }, "0000000000000000/0000000000000000" },
        { { 1, 0x8000000000000000u }, "0000000000000001/8000000000000000" },
        { { 0x0123456789abcdefu, 0xfedcba9876543210u }, "0123456789abcdef/fedcba9876543210" },
        { { UINT64_MAX, UINT64_MAX }, "ffffffffffffffff/ffffffffffffffff" },
};

START_TEST(position_goes_to_text_and_back)
{
        char text[LTX_POS_TEXT_LEN + 1];
        struct ltx_pos pos = { 7, 7 };

        ltx_pos_format(positions[_i].pos, text);
        ck_assert_str_eq(text, positions[_i].text);
        ck_assert_int_eq(ltx_pos_parse(text, &pos), 0);
        ck_assert(ltx_pos_equal(pos, positions[_i].pos));
}
END_TEST

static const char *const bad_positions[] = {
        "",
        "/",
        "0",
        "0000000000000001",
        "0000000000000001/",
        "0000000000000001/800000000000000",
        "0000000000000001/80000000000000000",
        "000000000000001/8000000000000000",
        "00000000000000001/8000000000000000",
        "0000000000000001-8000000000000000",
        "0000000000000001/8000000000000000\n",
        " 000000000000001/8000000000000000",
        "0000000000000001/ 000000000000000",
        "0x00000000000001/8000000000000000",
        "-000000000000001/8000000000000000",
        "000000000000000g/8000000000000000",
        "000000000000000A/8000000000000000",
        "000000000000000:/8000000000000000",
        "000000000000000`/8000000000000000",
};

START_TEST(text_that_is_no_position_is_refused)
{
        struct ltx_pos pos = { 7, 8 };

        ck_assert_msg(ltx_pos_parse(bad_positions[_i], &pos) == -EINVAL, "'%s'", bad_positions[_i]);
        ck_assert(ltx_pos_equal(pos, (struct ltx_pos){ 7, 8 }));
}
END_TEST

START_TEST(positions_differ_in_either_part)
{
        ck_assert(!ltx_pos_equal((struct ltx_pos){ 1, 2 }, (struct ltx_pos){ 1, 3 }));
        ck_assert(!ltx_pos_equal((struct ltx_pos){ 1, 2 }, (struct ltx_pos){ 3, 2 }));
}
END_TEST

START_TEST(txid_is_sixteen_digits)
{
        static const char *const bad[] = { "",
                                           "1",
                                           "000000000000001",
                                           "00000000000000001",
                                           "000000000000000x",
                                           "0000000000000001 ",
                                           "0000000000000001/" };
        uint64_t txid = 9;

        for (int i = 0; i < COUNT(bad); i++)
                ck_assert_msg(ltx_txid_parse(bad[i], &txid) == -EINVAL, "'%s'", bad[i]);
        ck_assert_uint_eq(txid, 9);
        ck_assert_int_eq(ltx_txid_parse("00000000000000ff", &txid), 0);
        ck_assert_uint_eq(txid, 255);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("pos");

        tcase_add_loop_test(tc, position_goes_to_text_and_back, 0, COUNT(positions));
        tcase_add_loop_test(tc, text_that_is_no_position_is_refused, 0, COUNT(bad_positions));
        tcase_add_test(tc, positions_differ_in_either_part);
        tcase_add_test(tc, txid_is_sixteen_digits);
        return run_tests("ltx_pos", tc);
}
