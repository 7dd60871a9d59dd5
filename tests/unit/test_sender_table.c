/* links: litefs_repl */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "repl/sender_table.h"
#include "tests/lib/run.h"

/* Never looked into: they are keys here. */
static struct db *
fake_db(size_t i)
{
        static char place[200000];

        return (struct db *)(void *)(place + i);
}

static struct sender_table t;

static void
setup(void)
{
        sender_table_init(&t);
}

static void
teardown(void)
{
        sender_table_release(&t);
}

static unsigned n_failed;

static void
count_failed(void *arg, const struct sender_entry *en)
{
        (void)arg;
        (void)en;
        n_failed++;
}

/* What the job does with one: it sends all there is. */
static void
settle_all(struct sender_entry *taken)
{
        for (struct sender_entry *en = taken; en != NULL; en = en->next_in_turn)
                en->has_more = false;
        sender_table_settle(&t, taken, count_failed, NULL);
}

static unsigned
length(const struct sender_entry *taken)
{
        unsigned n = 0;

        for (; taken != NULL; taken = taken->next_in_turn)
                n++;
        return n;
}

START_TEST(what_has_nothing_to_send_has_no_turn)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *b = sender_table_add(&t, fake_db(2));

        ck_assert_ptr_eq(sender_table_add(&t, fake_db(1)), a);
        ck_assert_ptr_eq(sender_table_find(&t, fake_db(2)), b);
        ck_assert_ptr_null(sender_table_find(&t, fake_db(3)));
        settle_all(sender_table_take(&t));
        ck_assert_ptr_null(sender_table_take(&t));
        sender_table_mark(&t, b);
        sender_table_mark(&t, b);
        ck_assert_uint_eq(length(t.first), 1);
        ck_assert_ptr_eq(sender_table_take(&t), b);
}
END_TEST

START_TEST(marked_during_its_job_it_has_another_turn)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *taken = sender_table_take(&t);

        sender_table_mark(&t, a);
        ck_assert_ptr_null(sender_table_take(&t));
        settle_all(taken);
        ck_assert_ptr_eq(sender_table_take(&t), a);
}
END_TEST

START_TEST(turns_go_round)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *b = sender_table_add(&t, fake_db(2)),
                            *c, *taken;

        taken = sender_table_take(&t);
        ck_assert_uint_eq(length(taken), 2);
        ck_assert_ptr_eq(taken, a);
        a->had_turn = true;
        sender_table_settle(&t, taken, count_failed, NULL); /* both have more, and one had no turn */
        c = sender_table_add(&t, fake_db(3));
        taken = sender_table_take(&t);
        ck_assert_ptr_eq(taken, b);
        ck_assert_ptr_eq(taken->next_in_turn, a);
        ck_assert_ptr_eq(taken->next_in_turn->next_in_turn, c);
        ck_assert_uint_eq(length(taken), 3);
}
END_TEST

/* Whatever else there is to send: else they would never end. */
START_TEST(those_in_the_middle_of_a_record_are_in_each_job)
{
        enum { N = 1000 };
        struct sender_entry *en[N], *taken = NULL, *open[2];

        for (size_t i = 0; i < N; i++)
                en[i] = sender_table_add(&t, fake_db(i));
        for (int i = 0; i < 2; i++) {
                open[i] = en[i];
                open[i]->cursor.src = (struct byte_src *)&t;
        }
        taken = sender_table_take(&t);
        open[0]->had_turn = true;
        sender_table_settle(&t, taken, count_failed, NULL);
        for (int turn = 1; turn < 10; turn++) {
                taken = sender_table_take(&t);
                ck_assert_ptr_eq(taken, open[turn % 2]);
                ck_assert_ptr_eq(taken->next_in_turn, open[(turn + 1) % 2]);
                taken->had_turn = true;
                sender_table_settle(&t, taken, count_failed, NULL);
        }
        for (int i = 0; i < 2; i++)
                open[i]->cursor.src = NULL;
}
END_TEST

START_TEST(ready_when_all_targets_are_sent)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *b = sender_table_add(&t, fake_db(2)),
                            *taken;

        ck_assert(sender_table_is_ready(&t));
        sender_table_set_target(&t, a, 5);
        sender_table_set_target(&t, b, 0);
        ck_assert(!sender_table_is_ready(&t));
        taken = sender_table_take(&t);
        a->cursor.pos.txid = 5;
        a->cursor.is_checked = true;
        settle_all(taken);
        ck_assert(sender_table_is_ready(&t));
        /* The replica is elsewhere after all. */
        sender_table_reset(&t, a, (struct ltx_pos){ 3, 1 });
        ck_assert_uint_eq(a->acked.txid, 3);
        ck_assert(!sender_table_is_ready(&t));
        taken = sender_table_take(&t);
        ck_assert_uint_eq(a->cursor.pos.txid, 3);
        ck_assert(!sender_table_is_ready(&t));
        a->cursor.pos.txid = 6;
        a->cursor.is_checked = true;
        settle_all(taken);
        ck_assert(sender_table_is_ready(&t));
}
END_TEST

/* What it has beyond us is nobody's: it is not ready before it has ours instead. */
START_TEST(who_is_ahead_is_not_ready_before_it_is_compared_and_replaced)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *taken;

        sender_table_set_target(&t, a, 5);
        sender_table_reset(&t, a, (struct ltx_pos){ 9, 1 });
        taken = sender_table_take(&t);
        settle_all(taken); /* it did not come to its turn */
        ck_assert(!sender_table_is_ready(&t));
        sender_table_mark(&t, a);
        taken = sender_table_take(&t);
        a->cursor.is_checked = true;
        a->cursor.snapshot = (struct db_snapshot *)&t;
        settle_all(taken);
        ck_assert(!sender_table_is_ready(&t));
        sender_table_mark(&t, a);
        taken = sender_table_take(&t);
        a->cursor.snapshot = NULL;
        a->cursor.pos.txid = 5;
        settle_all(taken);
        ck_assert(sender_table_is_ready(&t));
}
END_TEST

START_TEST(what_cannot_be_read_rests)
{
        struct sender_entry *a = sender_table_add(&t, fake_db(1)), *taken;

        n_failed = 0;
        for (int beats = 1; beats <= 4; beats *= 2) {
                taken = sender_table_take(&t);
                ck_assert_ptr_eq(taken, a);
                a->error = -1;
                sender_table_settle(&t, taken, count_failed, NULL);
                ck_assert_int_eq(a->rest_beats, beats);
                for (int i = 0; i < beats; i++) {
                        sender_table_mark(&t, a); /* a commit does not end it */
                        ck_assert_ptr_null(sender_table_take(&t));
                        sender_table_beat(&t);
                }
        }
        ck_assert_uint_eq(n_failed, 3);
        settle_all(sender_table_take(&t));
        ck_assert_int_eq(a->rest_beats, 0);
        ck_assert_uint_eq(t.n_resting, 0);
}
END_TEST

static double
seconds(void)
{
        struct timespec now;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A commit to one of very many costs as much as to one of few. With lists this took minutes. */
START_TEST(very_many_databases_cost_no_more_each)
{
        enum { N = 100000, N_COMMITS = 100000 };
        struct sender_entry *taken;
        double begin = seconds();

        for (size_t i = 0; i < N; i++) {
                struct sender_entry *en = sender_table_add(&t, fake_db(i));

                ck_assert_ptr_nonnull(en);
                sender_table_reset(&t, en, (struct ltx_pos){ 1, i });
                sender_table_set_target(&t, en, 1);
        }
        while ((taken = sender_table_take(&t)) != NULL) {
                for (struct sender_entry *en = taken; en != NULL; en = en->next_in_turn)
                        en->cursor.is_checked = true;
                settle_all(taken);
        }
        ck_assert(sender_table_is_ready(&t));
        for (size_t i = 0; i < N_COMMITS; i++) {
                sender_table_mark(&t, sender_table_add(&t, fake_db(i * 7919 % N)));
                settle_all(sender_table_take(&t));
                ck_assert(sender_table_is_ready(&t));
        }
        ck_assert_double_lt(seconds() - begin, 5);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("sender_table");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, what_has_nothing_to_send_has_no_turn);
        tcase_add_test(tc, marked_during_its_job_it_has_another_turn);
        tcase_add_test(tc, turns_go_round);
        tcase_add_test(tc, those_in_the_middle_of_a_record_are_in_each_job);
        tcase_add_test(tc, ready_when_all_targets_are_sent);
        tcase_add_test(tc, who_is_ahead_is_not_ready_before_it_is_compared_and_replaced);
        tcase_add_test(tc, what_cannot_be_read_rests);
        tcase_add_test(tc, very_many_databases_cost_no_more_each);
        return run_tests("sender_table", tc);
}
