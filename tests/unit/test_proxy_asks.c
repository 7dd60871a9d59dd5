/* What the primary has, asked after a given moment: lib/proxy/asks.h. */
/* links: litefs_proxy_message */
#include "proxy/asks.h"
#include "tests/lib/run.h"

static struct sent {
        uint64_t nonces[8];
        unsigned n;
} sent;

static void
send_one(void *arg, uint64_t nonce, struct db *db)
{
        struct sent *s = arg;

        (void)db;
        s->nonces[s->n++] = nonce;
}

static struct asks *
begin(void)
{
        struct asks *a;

        sent.n = 0;
        ck_assert_int_eq(asks_new(send_one, &sent, &a), 0);
        return a;
}

/* Any pointers will do: nobody looks into them. */
static struct db *const one = (struct db *)&sent.nonces[0];
static struct db *const two = (struct db *)&sent.nonces[1];

START_TEST(an_answer_serves_who_waited_when_it_was_asked_for)
{
        struct asks *a = begin();
        uint64_t first = asks_now(a), second = asks_now(a), third;
        const struct answer *got;

        ck_assert_ptr_null(asks_get(a, one, first));
        ck_assert_ptr_null(asks_get(a, one, second));
        third = asks_now(a);
        ck_assert_ptr_null(asks_get(a, one, third)); /* while a question is out there is no other */
        ck_assert_uint_eq(sent.n, 1);
        asks_answered(a, sent.nonces[0], &(struct answer){ .term = 3, .txid = 7 });
        got = asks_get(a, one, first);
        ck_assert_ptr_nonnull(got);
        ck_assert_uint_eq(got->txid, 7);
        ck_assert_uint_eq(got->term, 3);
        ck_assert_ptr_nonnull(asks_get(a, one, second));
        ck_assert_uint_eq(sent.n, 1);
        ck_assert_ptr_null(asks_get(a, one, third)); /* it came after the question */
        ck_assert_uint_eq(sent.n, 2);
        ck_assert_uint_gt(sent.nonces[1], third);
        asks_free(a);
}
END_TEST

START_TEST(databases_are_asked_for_apart)
{
        struct asks *a = begin();
        uint64_t since = asks_now(a);

        ck_assert_ptr_null(asks_get(a, one, since));
        ck_assert_ptr_null(asks_get(a, two, since));
        ck_assert_ptr_null(asks_get(a, NULL, since));
        ck_assert_uint_eq(sent.n, 3);
        asks_answered(a, sent.nonces[1], &(struct answer){ .txid = 2 });
        ck_assert_ptr_null(asks_get(a, one, since));
        ck_assert_ptr_null(asks_get(a, NULL, since));
        ck_assert_uint_eq(asks_get(a, two, since)->txid, 2);
        asks_free(a);
}
END_TEST

START_TEST(what_was_asked_of_another_is_asked_again)
{
        struct asks *a = begin();
        uint64_t since = asks_now(a);

        ck_assert_ptr_null(asks_get(a, one, since));
        asks_lost(a);
        ck_assert_ptr_null(asks_get(a, one, since));
        ck_assert_uint_eq(sent.n, 2);
        asks_answered(a, sent.nonces[0], &(struct answer){ .txid = 9 }); /* the answer of the other */
        ck_assert_ptr_null(asks_get(a, one, since));
        asks_answered(a, sent.nonces[1], &(struct answer){ .txid = 5 });
        ck_assert_uint_eq(asks_get(a, one, since)->txid, 5);
        asks_clear(a);
        asks_answered(a, sent.nonces[1], &(struct answer){ .txid = 6 }); /* of nothing that is known */
        ck_assert_ptr_null(asks_get(a, one, since));
        asks_free(a);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("asks");

        tcase_add_test(tc, an_answer_serves_who_waited_when_it_was_asked_for);
        tcase_add_test(tc, databases_are_asked_for_apart);
        tcase_add_test(tc, what_was_asked_of_another_is_asked_again);
        return run_tests("proxy_asks", tc);
}
