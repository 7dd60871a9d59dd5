/* links: litefs_store */
/* Who may commit, and who may say that it is committed, when the lease moves in between. */
#include "store/authority.h"

#include <check.h>

#include "base/err.h"
#include "tests/lib/run.h"

static int64_t now_ms, deadline_ms;

static int64_t
fake_boot_ms(const struct clock *c)
{
        (void)c;
        return now_ms;
}

static int64_t
fake_deadline(struct lease *l)
{
        (void)l;
        return deadline_ms;
}

static const struct lease_ops fake_ops = { .deadline_ms = fake_deadline };
static struct lease fake_lease = { .ops = &fake_ops };
static struct clock fake_clock = { .boot_ms = fake_boot_ms };
static struct authority a;

static void
set_up(void)
{
        now_ms = 1000;
        deadline_ms = 2000;
        authority_init(&a, &fake_clock, &fake_lease);
        authority_lead(&a, 5);
}

START_TEST(primary_commits_and_confirms_while_its_lease_holds)
{
        ck_assert_int_eq(authority_may_commit(&a), 0);
        ck_assert_int_eq(authority_may_confirm(&a, authority_term(&a), false), 0);
        now_ms = 2000;
        ck_assert_int_eq(authority_may_commit(&a), E_FENCED);
        ck_assert_int_eq(authority_may_confirm(&a, 5, false), E_UNCONFIRMED);
        authority_follow(&a);
        ck_assert_int_eq(authority_may_commit(&a), E_NOT_PRIMARY);
}
END_TEST

/* One fdatasync may stand still for that long. */
START_TEST(lease_that_was_lost_and_regained_confirms_nothing_of_the_term_before)
{
        uint64_t term = authority_term(&a);

        authority_follow(&a);
        authority_lead(&a, 7);
        ck_assert_int_eq(authority_may_commit(&a), 0);
        ck_assert_int_eq(authority_may_confirm(&a, term, false), E_UNCONFIRMED);
        ck_assert_int_eq(authority_may_confirm(&a, term, true), E_UNCONFIRMED); /* of an earlier offer */
        ck_assert_int_eq(authority_may_confirm(&a, 7, false), 0);
}
END_TEST

START_TEST(lease_that_was_passed_on_confirms_what_the_other_node_had)
{
        authority_pause(&a, true);
        ck_assert_int_eq(authority_may_commit(&a), E_NOT_PRIMARY);
        ck_assert_int_eq(authority_may_confirm(&a, 5, false), 0); /* it has not gone yet */
        authority_pass_on(&a, true);
        authority_follow(&a);
        deadline_ms = 0;
        authority_pause(&a, false);
        ck_assert_int_eq(authority_may_confirm(&a, 5, true), 0);
        ck_assert_int_eq(authority_may_confirm(&a, 5, false), E_UNCONFIRMED);
        ck_assert_int_eq(authority_may_confirm(&a, 4, true), E_UNCONFIRMED);
}
END_TEST

START_TEST(offer_that_came_to_nothing_confirms_nothing)
{
        authority_pass_on(&a, true);
        authority_pass_on(&a, false);
        authority_follow(&a);
        ck_assert_int_eq(authority_may_confirm(&a, 5, true), E_UNCONFIRMED);
}
END_TEST

START_TEST(pauses_are_counted_and_a_stop_is_for_good)
{
        authority_pause(&a, true);
        authority_pause(&a, true);
        authority_pause(&a, false);
        ck_assert_int_eq(authority_may_commit(&a), E_NOT_PRIMARY);
        authority_pause(&a, false);
        ck_assert_int_eq(authority_may_commit(&a), 0);
        authority_stop(&a);
        authority_lead(&a, 6);
        ck_assert_int_eq(authority_may_commit(&a), E_NOT_PRIMARY);
}
END_TEST

START_TEST(gate_has_beginners_wait_and_refuses_nobody)
{
        ck_assert_int_eq(authority_may_enter(&a, false), 0);
        authority_set_gate(&a, AUTHORITY_CLOSING);
        ck_assert_int_eq(authority_may_enter(&a, false), E_BUSY);
        ck_assert_int_eq(authority_may_enter(&a, true), 0);
        authority_set_gate(&a, AUTHORITY_CLOSED);
        ck_assert_int_eq(authority_may_enter(&a, false), E_BUSY);
        ck_assert_int_eq(authority_may_enter(&a, true), E_BUSY);
        ck_assert_int_eq(authority_may_commit(&a), 0);
        authority_set_gate(&a, AUTHORITY_OPEN);
        ck_assert_int_eq(authority_may_enter(&a, true), 0);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("authority");

        tcase_add_checked_fixture(tc, set_up, NULL);
        tcase_add_test(tc, primary_commits_and_confirms_while_its_lease_holds);
        tcase_add_test(tc, lease_that_was_lost_and_regained_confirms_nothing_of_the_term_before);
        tcase_add_test(tc, lease_that_was_passed_on_confirms_what_the_other_node_had);
        tcase_add_test(tc, offer_that_came_to_nothing_confirms_nothing);
        tcase_add_test(tc, pauses_are_counted_and_a_stop_is_for_good);
        tcase_add_test(tc, gate_has_beginners_wait_and_refuses_nobody);
        return run_tests("authority", tc);
}
