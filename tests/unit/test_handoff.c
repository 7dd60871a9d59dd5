/* links: litefs_repl litefs_store */
/* A primary that hands its lease over, with a lease service that takes its time and a replica played by the test. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "repl/frame.h"
#include "tests/lib/primary.h"
#include "tests/lib/run.h"

/* Its deadline passes with the offer, and renewals find that it is gone: neither ends the stream by which the replica
 * hears of it. */
START_TEST(the_offer_reaches_the_replica)
{
        struct primary w;
        struct err e = ERR_INIT;
        unsigned seen;

        primary_begin(&w);
        primary_join(&w, true);
        w.lease.is_taken_at_once = true;
        ck_assert_msg(node_handoff(w.node, "other", 0, 10000, &e) == 0, "%s", e.text);
        seen = primary_frames_until_end(w.fd);
        ck_assert(seen & 1u << FRAME_HANDOFF);
        ck_assert(seen & 1u << FRAME_ERROR); /* and then the end, with its reason */
        ck_assert_uint_eq(w.lease.term, 2);
        node_stop(w.node);
        primary_end(&w);
}
END_TEST

START_TEST(an_offer_that_nobody_heard_of_is_taken_back)
{
        struct primary w;
        struct err e = ERR_INIT;

        primary_begin(&w);
        primary_join(&w, true);
        w.lease.lost_fd = w.fd;
        ck_assert_int_lt(node_handoff(w.node, "other", 0, 10000, &e), 0);
        ck_assert_msg(strstr(e.text, "stays the primary") != NULL, "%s", e.text);
        ck_assert(w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 2);
        ck_assert_int_eq(store_may_commit(w.store), 0);
        node_stop(w.node);
        primary_end(&w);
}
END_TEST

/* Its stream has it, but it does nothing. */
START_TEST(an_offer_that_is_not_taken_is_released)
{
        struct primary w;
        struct err e = ERR_INIT;

        primary_begin(&w);
        primary_join(&w, true);
        ck_assert_int_eq(node_handoff(w.node, "other", 0, 10000, &e), -ETIMEDOUT);
        ck_assert_msg(strstr(e.text, "did not take the lease") != NULL, "%s", e.text);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        node_stop(w.node);
        primary_end(&w);
}
END_TEST

/* Who never leads is offered nothing: by name it is refused, and a node that stops gives the lease to whoever comes. */
START_TEST(who_is_no_candidate_is_offered_nothing)
{
        struct primary w;
        struct err e = ERR_INIT;

        primary_begin(&w);
        primary_join(&w, false);
        ck_assert_int_lt(node_handoff(w.node, "other", 0, 100, &e), 0);
        ck_assert_int_eq(node_handoff(w.node, "other", 0, 10000, &e), -EPERM);
        ck_assert_msg(strstr(e.text, "other is not a candidate") != NULL, "%s", e.text);
        ck_assert(w.lease.is_held);
        node_stop(w.node);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 1);
        ck_assert(!(primary_frames_until_end(w.fd) & 1u << FRAME_HANDOFF));
        primary_end(&w);
}
END_TEST

struct caller {
        pthread_t thread;
        struct node *node;
        int result;
};

static void *
call_handoff(void *arg)
{
        struct caller *c = arg;

        c->result = node_handoff(c->node, NULL, 0, 10000, NULL);
        return NULL;
}

START_TEST(one_hand_over_at_a_time)
{
        struct caller callers[3];
        struct primary w;
        int n_done = 0;

        primary_begin(&w);
        primary_join(&w, true);
        w.lease.is_taken_at_once = true;
        for (int i = 0; i < 3; i++) {
                callers[i].node = w.node;
                ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, call_handoff, &callers[i]), 0);
        }
        for (int i = 0; i < 3; i++) {
                pthread_join(callers[i].thread, NULL);
                ck_assert(callers[i].result == 0 || callers[i].result == E_NOT_PRIMARY);
                n_done += callers[i].result == 0;
        }
        ck_assert_int_eq(n_done, 1);
        ck_assert_uint_eq(w.lease.term, 2);
        node_stop(w.node);
        primary_end(&w);
}
END_TEST

/* The other nodes have seen the last term that anything can have been written in: one of them may lead. */
START_TEST(a_node_that_stops_begins_no_term)
{
        struct primary w;

        primary_begin(&w);
        primary_join(&w, true);
        w.lease.lost_fd = w.fd;
        node_stop(w.node);
        ck_assert(!w.lease.is_held && !w.lease.is_offered);
        ck_assert_uint_eq(w.lease.term, 1);
        primary_end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("handoff");

        tcase_add_test(tc, the_offer_reaches_the_replica);
        tcase_add_test(tc, an_offer_that_nobody_heard_of_is_taken_back);
        tcase_add_test(tc, an_offer_that_is_not_taken_is_released);
        tcase_add_test(tc, who_is_no_candidate_is_offered_nothing);
        tcase_add_test(tc, one_hand_over_at_a_time);
        tcase_add_test(tc, a_node_that_stops_begins_no_term);
        return run_tests("handoff", tc);
}
