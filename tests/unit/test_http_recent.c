/* links: litefs_http */
/* What a node keeps of its last hour: that it is bounded, and that what comes often is one. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/recent.h"
#include "tests/lib/run.h"

static const struct recent_event *
kept_event(const struct recent *r, unsigned i)
{
        return &r->events[recent_index(r->n_events, RECENT_EVENTS, i)];
}

START_TEST(events_are_a_ring)
{
        struct recent *r = calloc(1, sizeof *r);

        ck_assert_uint_eq(recent_kept(r->n_events, RECENT_EVENTS), 0);
        for (unsigned i = 0; i < RECENT_EVENTS + 3; i++)
                recent_note(r, 1000 + i, RECENT_INFO, true, 1, "event %u", i);
        ck_assert_uint_eq(recent_kept(r->n_events, RECENT_EVENTS), RECENT_EVENTS);
        ck_assert_str_eq(kept_event(r, 0)->text, "event 3");
        ck_assert_str_eq(kept_event(r, RECENT_EVENTS - 1)->text, "event 258");
        ck_assert_int_eq(kept_event(r, RECENT_EVENTS - 1)->first_ms, 1258);
        free(r);
}
END_TEST

START_TEST(the_same_within_ten_minutes_is_counted)
{
        struct recent *r = calloc(1, sizeof *r);

        recent_note(r, 1000, RECENT_ERROR, true, 2, "x");
        recent_note(r, 2000, RECENT_WARN, true, 1, "y");
        recent_note(r, 3000, RECENT_ERROR, true, 5, "x");
        ck_assert_uint_eq(r->n_events, 2);
        ck_assert_uint_eq(kept_event(r, 0)->n, 7);
        ck_assert_int_eq(kept_event(r, 0)->first_ms, 1000);
        ck_assert_int_eq(kept_event(r, 0)->last_ms, 3000);
        ck_assert_uint_eq(kept_event(r, 1)->n, 1);
        recent_note(r, 3001 + RECENT_SAME_MS, RECENT_ERROR, true, 1, "x");
        ck_assert_uint_eq(r->n_events, 3);
        recent_note(r, 3002 + RECENT_SAME_MS, RECENT_ERROR, false, 1, "x");
        ck_assert_uint_eq(r->n_events, 4);
        free(r);
}
END_TEST

START_TEST(text_of_others_is_cut_at_a_character_and_is_utf8)
{
        struct recent *r = calloc(1, sizeof *r);
        char longer[RECENT_TEXT + 51], want[RECENT_TEXT];

        for (size_t i = 0; i + 1 < sizeof longer; i += 2)
                memcpy(longer + i, "\xc3\xa4", 3);
        recent_note(r, 0, RECENT_INFO, true, 1, "%s", longer);
        memcpy(want, longer, sizeof want);
        want[RECENT_TEXT - 2] = '\0';
        ck_assert_str_eq(kept_event(r, 0)->text, want);
        recent_note(r, 0, RECENT_INFO, true, 1, "a\xff");
        ck_assert_str_eq(kept_event(r, 1)->text, "a\\xff");
        free(r);
}
END_TEST

static const struct recent_node *
find_kept(const struct recent *r, uint64_t boot_id)
{
        for (unsigned i = 0; i < RECENT_NODES; i++)
                if (r->nodes[i].boot_id == boot_id)
                        return &r->nodes[i];
        return NULL;
}

START_TEST(points_are_a_ring_and_a_node_that_was_away_has_none)
{
        struct recent *r = calloc(1, sizeof *r);
        const struct recent_node *node;

        recent_set_node(r, 1, "a", "http://a", 0, 0); /* there is no point yet */
        ck_assert_ptr_null(find_kept(r, 1));
        for (unsigned i = 0; i < RECENT_POINTS + 2; i++) {
                recent_begin_point(r, 10 * i);
                if (i % 2 == 0)
                        recent_set_node(r, 1, "a", "http://a", i, 1.5);
        }
        node = find_kept(r, 1);
        ck_assert_ptr_nonnull(node);
        ck_assert_str_eq(node->hostname, "a");
        for (unsigned k = 0; k < RECENT_POINTS; k++) {
                unsigned at = recent_index(r->n_points, RECENT_POINTS, k);

                ck_assert_int_eq(r->at_ms[at], 10 * (k + 2));
                ck_assert_int_eq(node->points[at].lag_ms, k % 2 == 0 ? (int)k + 2 : -1);
        }
        recent_set_node(r, 1, "a", "http://a", INT64_MAX, 0);
        ck_assert_int_eq(node->points[(r->n_points - 1) % RECENT_POINTS].lag_ms, INT32_MAX);
        free(r);
}
END_TEST

START_TEST(of_more_nodes_than_fit_those_that_are_there_stay)
{
        struct recent *r = calloc(1, sizeof *r);

        recent_begin_point(r, 0);
        recent_set_node(r, 1000, "old", "", 0, 0);
        recent_begin_point(r, 10);
        for (unsigned i = 1; i < RECENT_NODES; i++)
                recent_set_node(r, i, "n", "", 0, 0);
        ck_assert_ptr_nonnull(find_kept(r, 1000));
        recent_set_node(r, 500, "new", "", 7, 0); /* in place of the one that has gone */
        ck_assert_ptr_null(find_kept(r, 1000));
        ck_assert_int_eq(find_kept(r, 500)->points[1].lag_ms, 7);
        ck_assert_int_eq(find_kept(r, 500)->points[0].lag_ms, -1);
        recent_set_node(r, 501, "more", "", 7, 0);
        ck_assert_ptr_null(find_kept(r, 501));
        free(r);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("recent");

        tcase_add_test(tc, events_are_a_ring);
        tcase_add_test(tc, the_same_within_ten_minutes_is_counted);
        tcase_add_test(tc, text_of_others_is_cut_at_a_character_and_is_utf8);
        tcase_add_test(tc, points_are_a_ring_and_a_node_that_was_away_has_none);
        tcase_add_test(tc, of_more_nodes_than_fit_those_that_are_there_stay);
        return run_tests("http_recent", tc);
}
