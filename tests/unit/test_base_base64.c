/* links: litefs_base */
#include <check.h>
#include <string.h>

#include "base/base64.h"
#include "tests/lib/run.h"

/* RFC 4648, section 10; then digits 62 and 63, and a zero byte. */
static const struct {
        const char *bytes;
        size_t n;
        const char *text;
} pairs[] = {
        { "", 0, "" },
        { "f", 1, "Zg==" },
        { "fo", 2, "Zm8=" },
        { "foo", 3, "Zm9v" },
        { "foob", 4, "Zm9vYg==" },
        { "fooba", 5, "Zm9vYmE=" },
        { "foobar", 6, "Zm9vYmFy" },
        { "\xfb\xff\x00", 3, "+/8A" },
};

static const char *const bad[] = { "Z", "Zg=", "Zg", "Zm9", "====", "Z===", "Zg==Zg==", "Z g=", "Zm-_" };

START_TEST(bytes_come_back_from_their_text)
{
        char text[BASE64_SIZE(6)];
        unsigned char back[6];

        base64_encode(pairs[_i].bytes, pairs[_i].n, text);
        ck_assert_str_eq(text, pairs[_i].text);
        ck_assert_int_eq(base64_decode(text, back, sizeof back), (int)pairs[_i].n);
        ck_assert_mem_eq(back, pairs[_i].bytes, pairs[_i].n);
}
END_TEST

START_TEST(what_is_no_base64_is_refused)
{
        unsigned char back[16];

        ck_assert_msg(base64_decode(bad[_i], back, sizeof back) == -1, "%s", bad[_i]);
}
END_TEST

START_TEST(decoding_keeps_to_its_room)
{
        unsigned char back[6] = { 0, 0, 0, 0, 0, 0xaa };

        ck_assert_int_eq(base64_decode("Zm9vYmFy", back, 5), -1);
        ck_assert_uint_eq(back[5], 0xaa);
        ck_assert_int_eq(base64_decode("Zm9vYmE=", back, 5), 5);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("base64");

        tcase_add_loop_test(tc, bytes_come_back_from_their_text, 0, COUNT(pairs));
        tcase_add_loop_test(tc, what_is_no_base64_is_refused, 0, COUNT(bad));
        tcase_add_test(tc, decoding_keeps_to_its_room);
        return run_tests("base64", tc);
}
