/* links: litefs_tls */
/* The examples of AWS's documentation ("Signature Calculations for the Authorization Header"), with its keys. */
#include <string.h>

#include "net/sigv4.h"
#include "tests/lib/run.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST \
        { \
                "host", "examplebucket.s3.amazonaws.com" \
        }
#define DATE \
        { \
                "x-amz-date", "20130524T000000Z" \
        }

static const struct sigv4_key key = { "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                      "us-east-1", "s3" };

static const struct {
        const char *method, *path, *query, *payload_hash;
        struct sigv4_header headers[5];
        size_t n;
        const char *signature;
} rows[] = {
        { "GET",
          "/test.txt",
          "",
          EMPTY,
          { HOST, { "range", "bytes=0-9" }, { "x-amz-content-sha256", EMPTY }, DATE },
          4,
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" },
        { "PUT",
          "/test%24file.text",
          "",
          "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
          { { "date", "Fri, 24 May 2013 00:00:00 GMT" },
            HOST,
            { "x-amz-content-sha256",
              "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072" },
            DATE,
            { "x-amz-storage-class", "REDUCED_REDUNDANCY" } },
          5,
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd" },
        { "GET",
          "/",
          "lifecycle=",
          EMPTY,
          { HOST, { "x-amz-content-sha256", EMPTY }, DATE },
          3,
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
        { "GET",
          "/",
          "max-keys=2&prefix=J",
          EMPTY,
          { HOST, { "x-amz-content-sha256", EMPTY }, DATE },
          3,
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
};

START_TEST(signature_is_the_published_one)
{
        struct sigv4_request rq = { rows[_i].method,  rows[_i].path, rows[_i].query,
                                    rows[_i].headers, rows[_i].n,    rows[_i].payload_hash };
        char got[SIGV4_AUTHORIZATION_SIZE];

        ck_assert_int_eq(sigv4_sign(&key, &rq, "20130524T000000Z", got), 0);
        ck_assert_str_eq(strstr(got, "Signature=") + 10, rows[_i].signature);
        ck_assert_ptr_nonnull(
                strstr(got, "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "));
}
END_TEST

START_TEST(hash_and_date_are_as_published)
{
        char hash[SIGV4_HASH_SIZE], date[SIGV4_DATE_SIZE];

        sigv4_hash("", 0, hash);
        ck_assert_str_eq(hash, EMPTY);
        sigv4_hash("Welcome to Amazon S3.", 21, hash);
        ck_assert_str_eq(hash, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
        sigv4_date(1369353600000, date);
        ck_assert_str_eq(date, "20130524T000000Z");
}
END_TEST

START_TEST(text_is_encoded_as_it_is_signed)
{
        char got[64];

        ck_assert(sigv4_encode("a/b c+d~e$\xc3\xa9", true, got, sizeof got));
        ck_assert_str_eq(got, "a/b%20c%2Bd~e%24%C3%A9");
        ck_assert(sigv4_encode("a/b", false, got, sizeof got));
        ck_assert_str_eq(got, "a%2Fb");
        ck_assert(!sigv4_encode("abcdefgh", true, got, 8));
        ck_assert(sigv4_encode("", true, got, 1));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("sigv4");

        tcase_add_loop_test(tc, signature_is_the_published_one, 0, COUNT(rows));
        tcase_add_test(tc, hash_and_date_are_as_published);
        tcase_add_test(tc, text_is_encoded_as_it_is_signed);
        return run_tests("sigv4", tc);
}
