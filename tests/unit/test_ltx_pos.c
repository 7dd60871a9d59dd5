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

START_TEST(position_has_a_text_form)
{
        char text[LTX_POS_TEXT_LEN + 1];

        ltx_pos_format(positions[_i].pos, text);
        ck_assert_str_eq(text, positions[_i].text);
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

        tcase_add_loop_test(tc, position_has_a_text_form, 0, COUNT(positions));
        tcase_add_test(tc, positions_differ_in_either_part);
        tcase_add_test(tc, txid_is_sixteen_digits);
        return run_tests("ltx_pos", tc);
}
