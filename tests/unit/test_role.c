/* links: litefs_repl */
/* The role machine, one event after the other: what tests/sim comes to only by chance. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "repl/role.h"
#include "tests/lib/run.h"

#define TTL_MS 10000

/* What the role has asked of its surroundings. */
struct world {
        struct role role;
        int64_t deadline_ms;
        int n_requests;
        enum role_request last;
        bool is_primary;
};

static void
on_request(void *arg, enum role_request what, const struct lease_state *seen)
{
        struct world *w = arg;

        (void)seen;
        w->n_requests++;
        w->last = what;
}

static void
on_follow(void *arg, const struct lease_state *holder)
{
        (void)arg;
        (void)holder;
}

static void
on_changed(void *arg, bool is_primary, const struct lease_state *holder)
{
        struct world *w = arg;

        (void)holder;
        w->is_primary = is_primary;
}

static void
on_wake(void *arg, int64_t at_ms)
{
        (void)arg;
        (void)at_ms;
}

static int64_t
get_deadline(void *arg)
{
        return ((struct world *)arg)->deadline_ms;
}

static const struct role_ops ops = { on_request, on_follow, on_changed, on_wake, get_deadline };
static const struct lease_state nobody; /* nor was there ever anybody */
static const struct lease_state other = { .has_holder = true,
                                          .term = 7,
                                          .hostname = "other",
                                          .advertise_url = "http://other",
                                          .session = "s",
                                          .renewal = 7,
                                          .ttl_ms = TTL_MS };
static const struct lease_state self = { .has_holder = true,
                                         .term = 9,
                                         .hostname = "self",
                                         .advertise_url = "http://self",
                                         .session = "t",
                                         .renewal = 9,
                                         .ttl_ms = TTL_MS };

/* The lease, without a holder, after that of @last_term. */
static struct lease_state
free_after(uint64_t last_term, bool is_released)
{
        return (struct lease_state){ .last_term = last_term,
                                     .last_term_index = last_term,
                                     .is_released = is_released };
}

static void
begin(struct world *w)
{
        struct role_config config = { .ops = &ops,
                                      .arg = w,
                                      .hostname = "self",
                                      .advertise_url = "http://self",
                                      .is_candidate = true,
                                      .ttl_ms = TTL_MS,
                                      .reconnect_ms = 1000 };

        *w = (struct world){ .deadline_ms = INT64_MIN };
        role_init(&w->role, &config);
        role_begin(&w->role, 1000);
        ck_assert_int_eq(w->last, ROLE_READ);
}

static void
lead(struct world *w)
{
        begin(w);
        role_answered(&w->role, 1010, 0, &nobody);
        ck_assert_int_eq(w->last, ROLE_ACQUIRE);
        w->deadline_ms = 1010 + TTL_MS;
        role_answered(&w->role, 1020, 0, &self);
        ck_assert(w->is_primary);
}

static void
follow(struct world *w, bool is_behind)
{
        begin(w);
        role_answered(&w->role, 1010, 0, &other);
        role_connected(&w->role, 1020, other.term);
        role_set_behind(&w->role, is_behind);
}

/* Answers what is asked by @state, from @now_ms on, until it is to be acquired or @end_ms: when that was. */
static int64_t
run_until_acquired(struct world *w, int64_t now_ms, int64_t end_ms, const struct lease_state *state)
{
        for (; now_ms < end_ms; now_ms += 10) {
                role_timer(&w->role, now_ms);
                if (w->role.has_request && w->last == ROLE_ACQUIRE)
                        break;
                if (w->role.has_request)
                        role_answered(&w->role, now_ms, 0, state);
        }
        return now_ms;
}

START_TEST(a_lease_renewed_too_late_is_given_back)
{
        struct lease_state released = free_after(self.term, true);
        struct world w;

        lead(&w);
        role_timer(&w.role, 1020 + TTL_MS / 4);
        ck_assert_int_eq(w.last, ROLE_RENEW);
        role_timer(&w.role, w.deadline_ms);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.last, ROLE_RENEW); /* one request at a time */
        w.deadline_ms += TTL_MS;              /* it has succeeded after all */
        role_answered(&w.role, w.deadline_ms - TTL_MS + 5, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_RELEASE);
        w.deadline_ms = INT64_MIN;
        role_answered(&w.role, 12000, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_READ);
        role_answered(&w.role, 12010, 0, &released);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
}
END_TEST

START_TEST(a_lease_that_was_given_up_is_not_released_again)
{
        struct world w;

        lead(&w);
        w.deadline_ms = INT64_MIN; /* by offer, on the lease's thread */
        role_timer(&w.role, 1100);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.last, ROLE_READ);
}
END_TEST

/* Long after it connected, and whatever becomes of the connection. */
START_TEST(who_is_behind_waits_from_when_the_lease_is_free)
{
        struct lease_state released = free_after(other.term, true);
        struct world w;
        int64_t at_ms;

        follow(&w, true);
        ck_assert_int_eq(run_until_acquired(&w, 39000, 40000, &released), 40000);
        role_disconnected(&w.role, 40000);
        at_ms = run_until_acquired(&w, 40000, 50000, &released);
        ck_assert_int_ge(at_ms, 39000 + 2000);
        ck_assert_int_le(at_ms, 39000 + 1000 + 2000 + 200); /* it may be a second until it looks */
}
END_TEST

START_TEST(who_is_behind_waits_anew_after_another_holder)
{
        struct lease_state released = free_after(other.term, true);
        struct world w;

        follow(&w, true);
        role_disconnected(&w.role, 20000);
        ck_assert_int_eq(run_until_acquired(&w, 20000, 21500, &released), 21500);
        ck_assert_int_eq(run_until_acquired(&w, 21500, 22500, &other), 22500);
        ck_assert_int_ge(run_until_acquired(&w, 22500, 30000, &released), 24500);
}
END_TEST

START_TEST(who_is_not_behind_takes_the_lease_at_once)
{
        struct lease_state released = free_after(other.term, true);
        struct world w;

        follow(&w, false);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &released);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
}
END_TEST

/* --- a lease that vanished --- */

/* Its holder may have renewed it a moment before. */
START_TEST(a_lease_that_vanished_is_left_alone_for_its_holders_ttl)
{
        struct lease_state gone = free_after(other.term, false);
        struct world w;
        int64_t at_ms;

        follow(&w, false);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &gone);
        ck_assert(!w.role.has_request);
        at_ms = run_until_acquired(&w, 60010, 80000, &gone);
        ck_assert_int_gt(at_ms, 60000 + TTL_MS);
        ck_assert_int_le(at_ms, 60000 + TTL_MS + 20);
}
END_TEST

/* One object, which is not there: it may have been removed a moment ago, while somebody leads. */
START_TEST(a_lease_that_may_have_been_removed_is_left_alone_for_a_ttl)
{
        struct world w;
        int64_t at_ms;

        begin(&w);
        w.role.config.may_vanish = true;
        role_answered(&w.role, 1010, 0, &nobody);
        ck_assert(!w.role.has_request);
        at_ms = run_until_acquired(&w, 1020, 80000, &nobody);
        ck_assert_int_gt(at_ms, 1010 + TTL_MS);
        ck_assert_int_le(at_ms, 1010 + TTL_MS + 20);
}
END_TEST

/* Somebody else had it in between and lost it, too: or KEY/term was lost and written again. */
START_TEST(the_wait_begins_anew_when_the_last_term_has_moved)
{
        struct lease_state gone = free_after(other.term, false), again = gone;
        struct world w;

        follow(&w, false);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &gone);
        ck_assert_int_eq(run_until_acquired(&w, 60010, 69000, &gone), 69000);
        again.last_term_index++;
        ck_assert_int_gt(run_until_acquired(&w, 69000, 90000, &again), 69000 + TTL_MS);
}
END_TEST

START_TEST(the_holders_word_is_enough_in_its_term_alone)
{
        struct lease_state gone = free_after(other.term, false), later = free_after(8, false),
                           raised = gone;
        struct world w;

        raised.is_raised = true;
        follow(&w, false);
        role_told_stopped(&w.role, 60000, other.term);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60001, 0, &raised);
        ck_assert_int_ge(run_until_acquired(&w, 60002, 62000, &raised), 62000);
        ck_assert_int_eq(run_until_acquired(&w, 62000, 64000, &later), 64000);
        ck_assert_int_lt(run_until_acquired(&w, 64000, 70000, &gone), 65100);
}
END_TEST

/* Of an older backup of the service's, say. */
START_TEST(a_release_of_an_earlier_term_is_none)
{
        struct lease_state old = free_after(other.term - 1, true);
        struct world w;

        follow(&w, false);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &old);
        ck_assert_int_gt(run_until_acquired(&w, 60010, 80000, &old), 60000 + TTL_MS);
}
END_TEST

/* What it knows is written first, so that whoever knows less waits, and the wait is bound to it. */
START_TEST(a_term_that_the_service_has_lost_is_written_again)
{
        struct lease_state raised = free_after(other.term, false);
        struct world w;

        raised.is_raised = true;
        follow(&w, false);
        role_set_complete(&w.role, other.term);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_RAISE);
        role_answered(&w.role, 60010, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_READ);
        role_answered(&w.role, 60020, 0, &raised);
        ck_assert_int_gt(run_until_acquired(&w, 60030, 80000, &raised), 60020 + TTL_MS);
}
END_TEST

START_TEST(who_loses_the_lease_before_its_time_has_it_back_before_it_gives_its_word)
{
        struct lease_state gone = free_after(self.term, false), again = self;
        struct world w;

        lead(&w);
        w.deadline_ms = INT64_MIN; /* by the watch */
        role_lost(&w.role, 1500, self.term);
        ck_assert_int_eq(w.last, ROLE_RELEASE);
        role_answered(&w.role, 1510, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_READ);
        role_answered(&w.role, 1520, 0, &gone);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
        ck_assert(w.is_primary); /* nobody was told otherwise */
        again.term++;
        w.deadline_ms = 1520 + TTL_MS;
        role_answered(&w.role, 1530, 0, &again);
        ck_assert(w.is_primary);
        ck_assert_uint_eq(w.role.holder.term, again.term);
}
END_TEST

START_TEST(who_cannot_have_it_back_soon_gives_its_word)
{
        struct world w;

        lead(&w);
        w.deadline_ms = INT64_MIN;
        role_lost(&w.role, 1500, self.term);
        role_answered(&w.role, 1510, 0, &nobody);
        ck_assert(w.is_primary);
        role_timer(&w.role, 1500 + 300);
        ck_assert(!w.is_primary);
}
END_TEST

START_TEST(who_is_outranked_gives_the_lease_up)
{
        struct world w;

        lead(&w);
        role_outranked(&w.role, 1500, self.term);
        ck_assert(w.is_primary);
        role_outranked(&w.role, 1500, 20);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.last, ROLE_RELEASE);
        ck_assert_uint_eq(w.role.term, 20);
}
END_TEST

/* It would ask the service for as long as nobody leads, as fast as it answers. */
START_TEST(who_is_refused_for_its_data_tries_again_once_a_second)
{
        static const int codes[] = { -ESTALE, E_CONFIG };
        struct world w;

        begin(&w);
        role_answered(&w.role, 1010, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
        role_answered(&w.role, 1020, codes[_i], &nobody);
        ck_assert_int_ge(run_until_acquired(&w, 1020, 5000, &nobody), 2020);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
        ck_assert_int_lt(w.n_requests, 20);
}
END_TEST

/* --- a service, or a primary, that fails again and again --- */

struct counts {
        int of[ROLE_RAISE + 1];
};

/* Answers reads by @read_code and @state, all else by @code. */
static struct counts
run_against(struct world *w, int64_t now_ms, int64_t end_ms, int read_code, int code,
            const struct lease_state *state)
{
        struct counts counts = { { 0 } };

        for (; now_ms < end_ms; now_ms++) {
                role_timer(&w->role, now_ms);
                if (!w->role.has_request)
                        continue;
                counts.of[w->last]++;
                role_answered(&w->role, now_ms, w->last == ROLE_READ ? read_code : code, state);
        }
        return counts;
}

START_TEST(who_cannot_take_the_lease_tries_less_and_less_often)
{
        struct counts counts;
        struct world w;

        begin(&w);
        counts = run_against(&w, 1010, 61000, 0, -EACCES, &nobody);
        ck_assert_int_ge(counts.of[ROLE_ACQUIRE], 10);
        ck_assert_int_le(counts.of[ROLE_ACQUIRE], 60);
        ck_assert_int_le(counts.of[ROLE_RELEASE], 60);
        ck_assert_int_le(counts.of[ROLE_READ], 200);
}
END_TEST

START_TEST(who_cannot_tell_the_service_its_term_tries_less_and_less_often)
{
        struct counts counts;
        struct world w;

        begin(&w);
        role_set_complete(&w.role, 5);
        counts = run_against(&w, 1010, 61000, 0, -EACCES, &nobody);
        ck_assert_int_ge(counts.of[ROLE_RAISE], 10);
        ck_assert_int_le(counts.of[ROLE_RAISE], 60);
        ck_assert_int_le(counts.of[ROLE_READ], 200);
}
END_TEST

START_TEST(who_cannot_read_the_lease_tries_less_often_and_sees_soon_that_it_can)
{
        struct lease_state released = free_after(other.term, true);
        struct counts counts;
        struct world w;

        begin(&w);
        counts = run_against(&w, 1010, 61000, -ECONNREFUSED, 0, &nobody);
        ck_assert_int_ge(counts.of[ROLE_READ], 30);
        ck_assert_int_le(counts.of[ROLE_READ], 100);
        ck_assert_int_le(run_until_acquired(&w, 61000, 90000, &released), 63100);
}
END_TEST

/* Several times, so that one lost request is none too many. */
START_TEST(who_cannot_renew_the_lease_tries_several_times_before_its_deadline)
{
        struct counts counts;
        struct world w;

        lead(&w);
        counts = run_against(&w, 1030, w.deadline_ms, 0, -EACCES, &nobody);
        ck_assert(w.is_primary);
        ck_assert_int_ge(counts.of[ROLE_RENEW], 5);
        ck_assert_int_le(counts.of[ROLE_RENEW], 30);
}
END_TEST

/* A connection that comes about but never brings all is a failure, too. */
START_TEST(who_never_has_all_connects_less_and_less_often)
{
        int64_t now_ms = 2000;
        struct world w;

        follow(&w, false);
        for (int i = 0; i < 20; i++) {
                role_connected(&w.role, now_ms, other.term);
                role_disconnected(&w.role, now_ms);
                now_ms = w.role.next_connect_ms;
        }
        ck_assert_int_gt(now_ms, 2000 + 20 * 1000);
        role_set_complete(&w.role, other.term);
        role_disconnected(&w.role, now_ms);
        ck_assert_int_le(w.role.next_connect_ms, now_ms + 1000);
}
END_TEST

/* An earlier run of this node cannot renew its lease. */
START_TEST(a_holder_of_the_same_name_that_renews_is_another_node)
{
        struct lease_state same = self;
        struct world w;

        begin(&w);
        role_answered(&w.role, 1010, 0, &same);
        ck_assert(!w.role.is_twin);
        role_timer(&w.role, 3000);
        role_answered(&w.role, 3010, 0, &same);
        ck_assert(!w.role.is_twin);
        same.renewal++;
        role_timer(&w.role, 5000);
        role_answered(&w.role, 5010, 0, &same);
        ck_assert(w.role.is_twin);
        ck_assert_int_eq(w.role.state, ROLE_WAITING);
        role_timer(&w.role, 7000);
        role_answered(&w.role, 7010, 0, &other);
        ck_assert(!w.role.is_twin);
        ck_assert_int_eq(w.role.state, ROLE_FOLLOWING);
}
END_TEST

START_TEST(an_offer_waits_for_the_request_that_is_out)
{
        struct world w;

        follow(&w, false);
        role_timer(&w.role, 3000);
        ck_assert_int_eq(w.last, ROLE_READ);
        role_offered(&w.role, 3010);
        ck_assert_int_eq(w.last, ROLE_READ);
        role_answered(&w.role, 3020, 0, &other);
        ck_assert_int_eq(w.last, ROLE_TAKE_OVER);
}
END_TEST

START_TEST(a_demoted_node_reads_once_its_renewal_is_answered)
{
        struct world w;

        lead(&w);
        role_timer(&w.role, 1020 + TTL_MS / 4);
        role_demote(&w.role, 4000, 2000);
        ck_assert_int_eq(w.last, ROLE_RENEW);
        role_answered(&w.role, 4010, E_NOT_PRIMARY, &nobody);
        ck_assert_int_eq(w.last, ROLE_READ);
}
END_TEST

START_TEST(who_cannot_serve_gives_the_lease_up_and_takes_none)
{
        struct lease_state released = free_after(self.term, true);
        struct world w;

        lead(&w);
        role_set_able(&w.role, 2000, false);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.last, ROLE_RELEASE);
        role_answered(&w.role, 2010, 0, &nobody);
        ck_assert_int_eq(run_until_acquired(&w, 2020, 9000, &released), 9000);
        role_set_able(&w.role, 9000, true);
        ck_assert_int_lt(run_until_acquired(&w, 9000, 12000, &released), 12000);
}
END_TEST

START_TEST(who_cannot_serve_gives_back_what_it_was_given_meanwhile)
{
        struct world w;

        begin(&w);
        role_answered(&w.role, 1010, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
        role_set_able(&w.role, 1015, false);
        w.deadline_ms = 1010 + TTL_MS;
        role_answered(&w.role, 1020, 0, &self);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.last, ROLE_RELEASE);
}
END_TEST

START_TEST(who_cannot_serve_follows_and_takes_no_offer)
{
        struct world w;

        follow(&w, false);
        role_set_able(&w.role, 2000, false);
        ck_assert_int_eq(w.role.state, ROLE_FOLLOWING);
        if (w.role.has_request)
                role_answered(&w.role, 2010, 0, &other);
        role_offered(&w.role, 2020);
        ck_assert(!w.role.has_request || w.last == ROLE_READ);
}
END_TEST

START_TEST(a_lease_that_was_handed_on_is_renewed_at_once)
{
        struct role_config config = {
                .ops = &ops, .is_candidate = true, .ttl_ms = TTL_MS, .reconnect_ms = 1000
        };
        struct world w = { .deadline_ms = 5000 };

        config.arg = &w;
        role_init(&w.role, &config);
        role_go_on(&w.role, 1000, &self);
        ck_assert(w.is_primary);
        ck_assert_uint_eq(w.role.term, self.term);
        ck_assert_int_eq(w.n_requests, 1);
        ck_assert_int_eq(w.last, ROLE_RENEW);
}
END_TEST

START_TEST(a_lease_that_has_run_out_from_program_to_program_is_given_up_at_once)
{
        struct role_config config = {
                .ops = &ops, .is_candidate = true, .ttl_ms = TTL_MS, .reconnect_ms = 1000
        };
        struct world w = { .deadline_ms = 5000 };

        config.arg = &w;
        role_init(&w.role, &config);
        role_go_on(&w.role, 5000, &self);
        ck_assert(!w.is_primary);
        ck_assert_int_eq(w.n_requests, 1);
        ck_assert_int_eq(w.last, ROLE_RELEASE); /* the service may have this node as the holder yet */
        role_answered(&w.role, 5010, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_READ);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("role");

        tcase_add_test(tc, a_lease_renewed_too_late_is_given_back);
        tcase_add_test(tc, a_lease_that_was_given_up_is_not_released_again);
        tcase_add_test(tc, who_is_behind_waits_from_when_the_lease_is_free);
        tcase_add_test(tc, who_is_behind_waits_anew_after_another_holder);
        tcase_add_test(tc, who_is_not_behind_takes_the_lease_at_once);
        tcase_add_test(tc, a_lease_that_vanished_is_left_alone_for_its_holders_ttl);
        tcase_add_test(tc, a_lease_that_may_have_been_removed_is_left_alone_for_a_ttl);
        tcase_add_test(tc, the_wait_begins_anew_when_the_last_term_has_moved);
        tcase_add_test(tc, the_holders_word_is_enough_in_its_term_alone);
        tcase_add_test(tc, a_release_of_an_earlier_term_is_none);
        tcase_add_test(tc, a_term_that_the_service_has_lost_is_written_again);
        tcase_add_test(tc, who_loses_the_lease_before_its_time_has_it_back_before_it_gives_its_word);
        tcase_add_test(tc, who_cannot_have_it_back_soon_gives_its_word);
        tcase_add_test(tc, who_is_outranked_gives_the_lease_up);
        tcase_add_loop_test(tc, who_is_refused_for_its_data_tries_again_once_a_second, 0, 2);
        tcase_add_test(tc, who_cannot_take_the_lease_tries_less_and_less_often);
        tcase_add_test(tc, who_cannot_tell_the_service_its_term_tries_less_and_less_often);
        tcase_add_test(tc, who_cannot_read_the_lease_tries_less_often_and_sees_soon_that_it_can);
        tcase_add_test(tc, who_cannot_renew_the_lease_tries_several_times_before_its_deadline);
        tcase_add_test(tc, who_never_has_all_connects_less_and_less_often);
        tcase_add_test(tc, a_holder_of_the_same_name_that_renews_is_another_node);
        tcase_add_test(tc, an_offer_waits_for_the_request_that_is_out);
        tcase_add_test(tc, a_demoted_node_reads_once_its_renewal_is_answered);
        tcase_add_test(tc, who_cannot_serve_gives_the_lease_up_and_takes_none);
        tcase_add_test(tc, who_cannot_serve_gives_back_what_it_was_given_meanwhile);
        tcase_add_test(tc, who_cannot_serve_follows_and_takes_no_offer);
        tcase_add_test(tc, a_lease_that_was_handed_on_is_renewed_at_once);
        tcase_add_test(tc, a_lease_that_has_run_out_from_program_to_program_is_given_up_at_once);
        return run_tests("role", tc);
}
