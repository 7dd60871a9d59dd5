/* links: litefs_loop */
/* Who makes room for whom. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/crowd.h"
#include "tests/lib/run.h"

struct person {
        struct crowd_guest guest;
        int n_evicted;
};

static struct crowd crowd;
static struct person people[5000];

static void
evict_person(struct crowd_guest *g)
{
        struct person *p = (struct person *)((char *)g - offsetof(struct person, guest));

        ck_assert_ptr_null(g->crowd);
        p->n_evicted++;
}

/* "1.2.3.4" or an IPv6 address. */
static struct sockaddr_storage
address(const char *text)
{
        struct sockaddr_storage sa = { 0 };
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&sa;
        struct sockaddr_in *in = (struct sockaddr_in *)&sa;

        if (strchr(text, ':') != NULL) {
                in6->sin6_family = AF_INET6;
                ck_assert_int_eq(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
        } else {
                in->sin_family = AF_INET;
                ck_assert_int_eq(inet_pton(AF_INET, text, &in->sin_addr), 1);
        }
        return sa;
}

static int
enter(int i, const char *from, int64_t now_ms)
{
        struct sockaddr_storage sa = address(from);

        people[i].guest.evict = evict_person;
        return crowd_enter(&crowd, &people[i].guest, (struct sockaddr *)&sa, now_ms);
}

static void
set_up(unsigned max, unsigned reserve, unsigned max_of_a_kind)
{
        struct crowd_limits limits = { "test", max, reserve, max_of_a_kind };

        memset(people, 0, sizeof people);
        ck_assert_int_eq(crowd_init(&crowd, &limits), 0);
}

static void
tear_down(void)
{
        for (size_t i = 0; i < sizeof people / sizeof *people; i++)
                crowd_leave(&people[i].guest);
        ck_assert_uint_eq(crowd.n, 0);
        for (int i = 0; i < CROWD_RANKS; i++)
                ck_assert_uint_eq(crowd.n_of[i], 0);
        crowd_release(&crowd);
}

/* The flood is 10.0.0.9: those of others stay, however old. */
START_TEST(a_flood_sends_itself_away)
{
        set_up(100, 0, 50);
        for (int i = 0; i < 10; i++)
                ck_assert_int_eq(enter(i, i % 2 == 0 ? "10.0.0.1" : "10.0.0.2", i), 0);
        for (int i = 10; i < 5000; i++)
                ck_assert_int_eq(enter(i, "10.0.0.9", i), 0);
        for (int i = 0; i < 5000; i++)
                ck_assert_int_eq(people[i].n_evicted, i >= 10 && i < 4960);
        ck_assert_uint_eq(crowd.n, 50);
        tear_down();
}
END_TEST

START_TEST(the_idlest_goes)
{
        set_up(10, 0, 10);
        for (int i = 0; i < 10; i++) {
                ck_assert_int_eq(enter(i, "10.0.0.1", i), 0);
                crowd_set_rank(&people[i].guest, CROWD_IDLE, i);
        }
        crowd_set_rank(&people[0].guest, CROWD_IDLE, 20);
        ck_assert_int_eq(enter(10, "10.0.0.1", 21), 0);
        ck_assert_int_eq(people[0].n_evicted, 0);
        ck_assert_int_eq(people[1].n_evicted, 1);
        tear_down();
}
END_TEST

/* Idle before new before held; what is kept never, and what was heard of just now neither. */
START_TEST(room_is_made_by_rank)
{
        set_up(4, 0, 4);
        for (int i = 0; i < 4; i++)
                ck_assert_int_eq(enter(i, "10.0.0.1", 0), 0);
        crowd_set_rank(&people[0].guest, CROWD_KEPT, 0);
        crowd_set_rank(&people[1].guest, CROWD_HELD, 0);
        crowd_set_rank(&people[2].guest, CROWD_IDLE, 9000);
        ck_assert_int_eq(enter(4, "10.0.0.1", 9000), 0);
        ck_assert_int_eq(people[2].n_evicted, 1);
        ck_assert_int_eq(enter(5, "10.0.0.1", 9001), 0);
        ck_assert_int_eq(people[3].n_evicted, 1);
        crowd_set_rank(&people[4].guest, CROWD_HELD, 9001);
        crowd_set_rank(&people[5].guest, CROWD_HELD, 9001);
        ck_assert_int_eq(enter(6, "10.0.0.1", 9002), 0);
        ck_assert_int_eq(people[1].n_evicted, 1);
        crowd_set_rank(&people[6].guest, CROWD_HELD, 9002);
        ck_assert_int_eq(enter(7, "10.0.0.1", 9003), -EAGAIN);
        ck_assert_uint_eq(crowd.n_refused, 1);
        ck_assert_int_eq(people[0].n_evicted, 0);
        tear_down();
}
END_TEST

START_TEST(when_all_are_in_use_there_is_a_reserve)
{
        set_up(4, 2, 4);
        for (int i = 0; i < 4; i++) {
                ck_assert_int_eq(enter(i, "10.0.0.1", 0), 0);
                ck_assert(!people[i].guest.is_extra);
                crowd_set_rank(&people[i].guest, CROWD_KEPT, 0);
        }
        for (int i = 4; i < 100; i++) { /* who says nothing makes room there, too */
                ck_assert_int_eq(enter(i, "10.0.0.1", 10), 0);
                ck_assert(people[i].guest.is_extra);
                ck_assert_int_eq(people[i].n_evicted, 0);
        }
        ck_assert_uint_eq(crowd.n, 6);
        crowd_leave(&people[0].guest);
        crowd_leave(&people[1].guest);
        crowd_leave(&people[99].guest);
        ck_assert_int_eq(enter(100, "10.0.0.1", 10), 0);
        ck_assert(!people[100].guest.is_extra);
        tear_down();
}
END_TEST

START_TEST(one_more_that_is_held_is_extra)
{
        set_up(10, 0, 2);
        for (int i = 0; i < 4; i++) {
                ck_assert_int_eq(enter(i, "10.0.0.1", 0), 0);
                crowd_set_rank(&people[i].guest, CROWD_HELD, 0);
                ck_assert_int_eq(people[i].guest.is_extra, i >= 2);
        }
        ck_assert_int_eq(enter(4, "10.0.0.2", 10), 0); /* one of another address is not */
        crowd_set_rank(&people[4].guest, CROWD_HELD, 10);
        ck_assert(!people[4].guest.is_extra);
        ck_assert_int_eq(people[0].n_evicted, 1);
        ck_assert_int_eq(enter(5, "10.0.0.1", 5000), 0);
        crowd_set_rank(&people[5].guest, CROWD_HELD, 5000);
        ck_assert(!people[5].guest.is_extra);
        ck_assert_int_eq(people[1].n_evicted, 1);
        tear_down();
}
END_TEST

/* A /64 is one host's; the same address is the same one as IPv4 and as IPv6 shows it. */
START_TEST(addresses_are_told_apart_as_far_as_hosts_are)
{
        static const char *const same[][2] = { { "10.1.2.3", "::ffff:10.1.2.3" },
                                               { "2001:db8::1", "2001:db8::ffff:2" } };
        static const char *const others[][2] = { { "10.1.2.3", "10.1.2.4" },
                                                 { "2001:db8::1", "2001:db8:0:1::1" },
                                                 { "::1", "::ffff:0.0.0.0" } };

        set_up(10, 0, 10);
        for (int i = 0; i < 5; i++) {
                const char *const *pair = i < 2 ? same[i] : others[i - 2];

                ck_assert_int_eq(enter(0, pair[0], 0), 0);
                ck_assert_int_eq(enter(1, pair[1], 0), 0);
                ck_assert_uint_eq(crowd_n_of_address(&people[0].guest, CROWD_NEW), i < 2 ? 2 : 1);
                crowd_leave(&people[0].guest);
                crowd_leave(&people[1].guest);
                crowd_leave(&people[1].guest);
        }
        tear_down();
}
END_TEST

/* Any order of all that can be done, against a count of what there is. */
START_TEST(counts_stay_true)
{
        char from[32];

        srandom(7);
        set_up(300, 20, 100);
        for (int64_t now = 0; now < 200000; now++) {
                struct person *p = &people[random() % 1000];
                int i = (int)(p - people);

                if (p->guest.crowd == NULL) {
                        snprintf(from, sizeof from, "10.0.0.%ld", random() % 7);
                        (void)enter(i, from, now);
                } else if (random() % 4 == 0) {
                        crowd_leave(&p->guest);
                } else {
                        crowd_set_rank(&p->guest, (enum crowd_rank)(random() % 4), now);
                }
                if (now % 100 == 0) {
                        unsigned n = 0;

                        for (int k = 0; k < 1000; k++)
                                n += people[k].guest.crowd != NULL;
                        ck_assert_uint_eq(crowd.n, n);
                        ck_assert_uint_le(n, 320);
                }
        }
        tear_down();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("crowd");

        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, a_flood_sends_itself_away);
        tcase_add_test(tc, the_idlest_goes);
        tcase_add_test(tc, room_is_made_by_rank);
        tcase_add_test(tc, when_all_are_in_use_there_is_a_reserve);
        tcase_add_test(tc, one_more_that_is_held_is_extra);
        tcase_add_test(tc, addresses_are_told_apart_as_far_as_hosts_are);
        tcase_add_test(tc, counts_stay_true);
        return run_tests("crowd", tc);
}
