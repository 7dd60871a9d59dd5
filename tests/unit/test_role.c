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
static const struct lease_state nobody;
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
        role_answered(&w.role, 12010, 0, &nobody);
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
        struct world w;
        int64_t at_ms;

        follow(&w, true);
        ck_assert_int_eq(run_until_acquired(&w, 39000, 40000, &nobody), 40000);
        role_disconnected(&w.role, 40000);
        at_ms = run_until_acquired(&w, 40000, 50000, &nobody);
        ck_assert_int_ge(at_ms, 39000 + 2000);
        ck_assert_int_le(at_ms, 39000 + 1000 + 2000 + 200); /* it may be a second until it looks */
}
END_TEST

START_TEST(who_is_behind_waits_anew_after_another_holder)
{
        struct world w;

        follow(&w, true);
        role_disconnected(&w.role, 20000);
        ck_assert_int_eq(run_until_acquired(&w, 20000, 21500, &nobody), 21500);
        ck_assert_int_eq(run_until_acquired(&w, 21500, 22500, &other), 22500);
        ck_assert_int_ge(run_until_acquired(&w, 22500, 30000, &nobody), 24500);
}
END_TEST

START_TEST(who_is_not_behind_takes_the_lease_at_once)
{
        struct world w;

        follow(&w, false);
        role_disconnected(&w.role, 60000);
        role_answered(&w.role, 60000, 0, &nobody);
        ck_assert_int_eq(w.last, ROLE_ACQUIRE);
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

int
main(void)
{
        TCase *tc = tcase_create("role");

        tcase_add_test(tc, a_lease_renewed_too_late_is_given_back);
        tcase_add_test(tc, a_lease_that_was_given_up_is_not_released_again);
        tcase_add_test(tc, who_is_behind_waits_from_when_the_lease_is_free);
        tcase_add_test(tc, who_is_behind_waits_anew_after_another_holder);
        tcase_add_test(tc, who_is_not_behind_takes_the_lease_at_once);
        tcase_add_loop_test(tc, who_is_refused_for_its_data_tries_again_once_a_second, 0, 2);
        tcase_add_test(tc, an_offer_waits_for_the_request_that_is_out);
        tcase_add_test(tc, a_demoted_node_reads_once_its_renewal_is_answered);
        return run_tests("role", tc);
}
