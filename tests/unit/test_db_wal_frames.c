/* links: litefs_wal */
#include <stdlib.h>
#include <string.h>

#include "db/wal/frames.h"
#include "tests/lib/run.h"

static struct wal_frames f;

static void
tear_down(void)
{
        wal_frames_reset(&f);
}

static uint64_t
sum_of(uint32_t pgno, uint32_t version)
{
        return (uint64_t)1 << 63 | (uint64_t)version << 32 | pgno;
}

static void
push(uint32_t pgno, uint32_t version)
{
        ck_assert_int_eq(wal_frames_push(&f, pgno, sum_of(pgno, version)), 0);
}

START_TEST(image_is_found_in_the_last_captured_frame_that_holds_it)
{
        /* Each page has versions 0..2 in turn: the same image comes back. */
        for (uint32_t i = 0; i < 5000; i++)
                push(1 + i % 700, i / 700 % 3);
        for (uint32_t n = 700; n <= 5000; n += 430) {
                for (uint32_t pgno = 1; pgno <= 700; pgno += 13) {
                        for (uint32_t version = 0; version < 4; version++) {
                                int64_t want = 0;

                                for (uint32_t i = 0; i < n; i++)
                                        if (1 + i % 700 == pgno && i / 700 % 3 == version)
                                                want = i + 1;
                                ck_assert_int_eq(wal_frames_find(&f, n, pgno, sum_of(pgno, version)),
                                                 want);
                        }
                }
        }
}
END_TEST

START_TEST(frame_behind_the_captured_ones_is_not_found)
{
        push(1, 1);
        push(1, 2);
        push(1, 1);
        ck_assert_int_eq(wal_frames_find(&f, 3, 1, sum_of(1, 1)), 3);
        ck_assert_int_eq(wal_frames_find(&f, 2, 1, sum_of(1, 1)), 1);
        ck_assert_int_eq(wal_frames_find(&f, 1, 1, sum_of(1, 2)), 0);
        ck_assert_int_eq(wal_frames_find(&f, 0, 1, sum_of(1, 1)), 0);
}
END_TEST

START_TEST(frames_that_were_cut_are_forgotten)
{
        for (uint32_t i = 1; i <= 10; i++)
                push(i, 1);
        ck_assert_int_eq(wal_frames_find(&f, 10, 9, sum_of(9, 1)), 9);
        wal_frames_cut(&f, 20);
        ck_assert_uint_eq(f.n, 10);
        wal_frames_cut(&f, 5);
        ck_assert_uint_eq(f.n, 5);
        for (uint32_t i = 6; i <= 10; i++)
                push(i, 2);
        ck_assert_int_eq(wal_frames_find(&f, 10, 9, sum_of(9, 1)), 0);
        ck_assert_int_eq(wal_frames_find(&f, 10, 9, sum_of(9, 2)), 9);
        ck_assert_int_eq(wal_frames_find(&f, 10, 5, sum_of(5, 1)), 5);
}
END_TEST

START_TEST(transactions_are_found_by_their_frames)
{
        static const uint32_t ends[] = { 3, 4, 10, 11, 50 };

        ck_assert_ptr_null(wal_frames_tx_of(&f, 1));
        ck_assert_ptr_null(wal_frames_tx_within(&f, 100));
        for (int round = 0; round < 20; round++) {
                for (int i = 0; i < COUNT(ends); i++) {
                        struct wal_tx tx = { (uint32_t)round * 50 + ends[i], (uint64_t)f.n_txs + 1, 7 };

                        ck_assert_int_eq(wal_frames_reserve_tx(&f), 0);
                        wal_frames_add_tx(&f, &tx);
                }
        }
        for (uint32_t frame = 1; frame <= 1100; frame++) {
                const struct wal_tx *of = wal_frames_tx_of(&f, frame), *in;
                uint32_t first = 0, last = 0;

                for (uint32_t i = f.n_txs; i > 0; i--)
                        first = f.txs[i - 1].n_frames >= frame ? i : first;
                for (uint32_t i = 1; i <= f.n_txs; i++)
                        last = f.txs[i - 1].n_frames <= frame ? i : last;
                in = wal_frames_tx_within(&f, frame);
                ck_assert_uint_eq(of == NULL ? 0 : of->txid, first);
                ck_assert_uint_eq(in == NULL ? 0 : in->txid, last);
        }
        ck_assert_ptr_null(wal_frames_tx_within(&f, 0));
}
END_TEST

START_TEST(pending_behaves_like_a_set)
{
        static bool model[2001];
        uint32_t n = 0;

        srand(3);
        ck_assert(!wal_frames_is_pending(&f, 1));
        wal_frames_clear_pending(&f, 1);
        wal_frames_clear_pending_above(&f, 0);
        for (int i = 0; i < 30000; i++) {
                uint32_t pgno = 1 + (uint32_t)rand() % 2000;

                if (i % 1000 == 999) {
                        wal_frames_clear_pending_above(&f, pgno);
                        for (uint32_t p = pgno + 1; p <= 2000; p++) {
                                n -= model[p];
                                model[p] = false;
                        }
                        for (uint32_t p = 1; p <= 2000; p++)
                                ck_assert(wal_frames_is_pending(&f, p) == model[p]);
                } else if (rand() % 3 == 0) {
                        wal_frames_clear_pending(&f, pgno);
                        n -= model[pgno];
                        model[pgno] = false;
                } else {
                        ck_assert_int_eq(wal_frames_reserve_pending(&f, 1), 0);
                        wal_frames_add_pending(&f, pgno);
                        n += !model[pgno];
                        model[pgno] = true;
                }
                ck_assert_uint_eq(f.n_pending, n);
                ck_assert(wal_frames_is_pending(&f, pgno) == model[pgno]);
        }
}
END_TEST

START_TEST(reset_forgets_everything)
{
        push(1, 1);
        ck_assert_int_eq(wal_frames_reserve_pending(&f, 100), 0);
        wal_frames_add_pending(&f, 5);
        ck_assert_int_eq(wal_frames_find(&f, 1, 1, sum_of(1, 1)), 1);
        wal_frames_reset(&f);
        ck_assert(!wal_frames_is_pending(&f, 5));
        ck_assert_int_eq(wal_frames_find(&f, 0, 1, sum_of(1, 1)), 0);
        push(1, 1);
        ck_assert_int_eq(wal_frames_find(&f, 1, 1, sum_of(1, 1)), 1);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("wal_frames");

        tcase_add_checked_fixture(tc, NULL, tear_down);
        tcase_add_test(tc, image_is_found_in_the_last_captured_frame_that_holds_it);
        tcase_add_test(tc, frame_behind_the_captured_ones_is_not_found);
        tcase_add_test(tc, frames_that_were_cut_are_forgotten);
        tcase_add_test(tc, transactions_are_found_by_their_frames);
        tcase_add_test(tc, pending_behaves_like_a_set);
        tcase_add_test(tc, reset_forgets_everything);
        return run_tests("db_wal_frames", tc);
}
