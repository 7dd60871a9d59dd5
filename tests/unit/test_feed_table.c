/* links: litefs_repl */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "repl/feed_table.h"
#include "tests/lib/run.h"

/* Never looked into: they are keys here. */
static struct db *
fake_db(size_t i)
{
        static char place[200000];

        return (struct db *)(void *)(place + i);
}

static struct feed_table t;

static void
setup(void)
{
        feed_table_init(&t);
}

static void
teardown(void)
{
        feed_table_release(&t);
}

static unsigned n_failed;

static void
count_failed(void *arg, const struct feed_entry *en)
{
        (void)arg;
        (void)en;
        n_failed++;
}

/* What the job does with one: it sends all there is. */
static void
settle_all(struct feed_entry *taken)
{
        for (struct feed_entry *en = taken; en != NULL; en = en->next_in_turn)
                en->has_more = false;
        feed_table_settle(&t, taken, count_failed, NULL);
}

static unsigned
length(const struct feed_entry *taken)
{
        unsigned n = 0;

        for (; taken != NULL; taken = taken->next_in_turn)
                n++;
        return n;
}

START_TEST(what_has_nothing_to_send_has_no_turn)
{
        struct feed_entry *a = feed_table_add(&t, fake_db(1)), *b = feed_table_add(&t, fake_db(2));

        ck_assert_ptr_eq(feed_table_add(&t, fake_db(1)), a);
        ck_assert_ptr_eq(feed_table_find(&t, fake_db(2)), b);
        ck_assert_ptr_null(feed_table_find(&t, fake_db(3)));
        settle_all(feed_table_take(&t));
        ck_assert_ptr_null(feed_table_take(&t));
        feed_table_mark(&t, b);
        feed_table_mark(&t, b);
        ck_assert_uint_eq(length(t.first), 1);
        ck_assert_ptr_eq(feed_table_take(&t), b);
}
END_TEST

START_TEST(marked_during_its_job_it_has_another_turn)
{
        struct feed_entry *a = feed_table_add(&t, fake_db(1)), *taken = feed_table_take(&t);

        feed_table_mark(&t, a);
        ck_assert_ptr_null(feed_table_take(&t));
        settle_all(taken);
        ck_assert_ptr_eq(feed_table_take(&t), a);
}
END_TEST

START_TEST(turns_go_round)
{
        struct feed_entry *a = feed_table_add(&t, fake_db(1)), *b = feed_table_add(&t, fake_db(2)),
                          *taken;

        taken = feed_table_take(&t);
        ck_assert_uint_eq(length(taken), 2);
        feed_table_settle(&t, taken, count_failed, NULL); /* both have more */
        feed_table_add(&t, fake_db(3));
        taken = feed_table_take(&t);
        ck_assert_ptr_eq(taken, a);
        ck_assert_ptr_eq(taken->next_in_turn, b);
        ck_assert_uint_eq(length(taken), 3);
        /* In the middle of a record: nobody comes between. */
        taken->next_in_turn->cursor.src = (struct byte_src *)&t;
        feed_table_settle(&t, taken, count_failed, NULL);
        ck_assert_ptr_eq(t.first, b);
        b->cursor.src = NULL;
}
END_TEST

START_TEST(ready_when_all_targets_are_sent)
{
        struct feed_entry *a = feed_table_add(&t, fake_db(1)), *b = feed_table_add(&t, fake_db(2)),
                          *taken;

        ck_assert(feed_table_is_ready(&t));
        feed_table_set_target(&t, a, 5);
        feed_table_set_target(&t, b, 0);
        ck_assert(!feed_table_is_ready(&t));
        taken = feed_table_take(&t);
        a->cursor.pos.txid = 5;
        settle_all(taken);
        ck_assert(feed_table_is_ready(&t));
        /* The replica is elsewhere after all. */
        feed_table_reset(&t, a, (struct ltx_pos){ 3, 1 });
        ck_assert_uint_eq(a->acked.txid, 3);
        ck_assert(!feed_table_is_ready(&t));
        taken = feed_table_take(&t);
        ck_assert_uint_eq(a->cursor.pos.txid, 3);
        ck_assert(!feed_table_is_ready(&t));
        a->cursor.pos.txid = 6;
        settle_all(taken);
        ck_assert(feed_table_is_ready(&t));
}
END_TEST

START_TEST(what_cannot_be_read_rests)
{
        struct feed_entry *a = feed_table_add(&t, fake_db(1)), *taken;

        n_failed = 0;
        for (int beats = 1; beats <= 4; beats *= 2) {
                taken = feed_table_take(&t);
                ck_assert_ptr_eq(taken, a);
                a->error = -1;
                feed_table_settle(&t, taken, count_failed, NULL);
                ck_assert_int_eq(a->rest_beats, beats);
                for (int i = 0; i < beats; i++) {
                        feed_table_mark(&t, a); /* a commit does not end it */
                        ck_assert_ptr_null(feed_table_take(&t));
                        feed_table_beat(&t);
                }
        }
        ck_assert_uint_eq(n_failed, 3);
        settle_all(feed_table_take(&t));
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
        struct feed_entry *taken;
        double begin = seconds();

        for (size_t i = 0; i < N; i++) {
                struct feed_entry *en = feed_table_add(&t, fake_db(i));

                ck_assert_ptr_nonnull(en);
                feed_table_reset(&t, en, (struct ltx_pos){ 1, i });
                feed_table_set_target(&t, en, 1);
        }
        while ((taken = feed_table_take(&t)) != NULL)
                settle_all(taken);
        ck_assert(feed_table_is_ready(&t));
        for (size_t i = 0; i < N_COMMITS; i++) {
                feed_table_mark(&t, feed_table_add(&t, fake_db(i * 7919 % N)));
                settle_all(feed_table_take(&t));
                ck_assert(feed_table_is_ready(&t));
        }
        ck_assert_double_lt(seconds() - begin, 5);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("feed_table");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, what_has_nothing_to_send_has_no_turn);
        tcase_add_test(tc, marked_during_its_job_it_has_another_turn);
        tcase_add_test(tc, turns_go_round);
        tcase_add_test(tc, ready_when_all_targets_are_sent);
        tcase_add_test(tc, what_cannot_be_read_rests);
        tcase_add_test(tc, very_many_databases_cost_no_more_each);
        return run_tests("feed_table", tc);
}
