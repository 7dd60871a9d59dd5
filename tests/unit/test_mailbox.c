/* links: litefs_loop */
/* The mailbox alone, then the loop that reads one: posts, calls, timers, stop. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/mailbox.h"
#include "tests/lib/run.h"

#define N_POSTERS 4
#define N_EACH 2000

struct note {
        struct mail mail;
        int value;
        struct log *log;
};

struct log {
        struct mailbox *mailbox; /* to post again from run() */
        struct note *again;
        int values[16];
        int n;
        int n_wakes;
};

static void
count_wake(void *arg)
{
        struct log *log = arg;

        log->n_wakes++;
}

static void
write_down(struct mail *m)
{
        struct note *note = (struct note *)m;
        struct log *log = note->log;

        log->values[log->n++] = note->value;
        if (log->again != NULL) {
                struct note *again = log->again;

                log->again = NULL;
                ck_assert_int_eq(mailbox_post(log->mailbox, &again->mail), 0);
        }
}

START_TEST(mail_is_read_in_order_and_wakes_once)
{
        struct mailbox mb;
        struct log log = { .mailbox = &mb };
        struct note notes[3];

        mailbox_init(&mb, count_wake, &log);
        for (int i = 0; i < 3; i++) {
                notes[i] = (struct note){ .mail.run = write_down, .value = i, .log = &log };
                ck_assert_int_eq(mailbox_post(&mb, &notes[i].mail), 0);
        }
        ck_assert_int_eq(log.n_wakes, 1);
        ck_assert(!mailbox_drain(&mb));
        ck_assert_int_eq(log.n, 3);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(log.values[i], i);
        ck_assert(!mailbox_drain(&mb));
        ck_assert_int_eq(log.n, 3);
        mailbox_release(&mb);
}
END_TEST

START_TEST(mail_posted_while_reading_waits_for_the_next_turn)
{
        struct mailbox mb;
        struct log log = { .mailbox = &mb };
        struct note first = { .mail.run = write_down, .value = 1, .log = &log };
        struct note second = { .mail.run = write_down, .value = 2, .log = &log };

        mailbox_init(&mb, count_wake, &log);
        log.again = &second;
        ck_assert_int_eq(mailbox_post(&mb, &first.mail), 0);
        ck_assert(!mailbox_drain(&mb));
        ck_assert_int_eq(log.n, 1);
        ck_assert_int_eq(log.n_wakes, 2);
        ck_assert(!mailbox_drain(&mb));
        ck_assert_int_eq(log.n, 2);
        mailbox_release(&mb);
}
END_TEST

START_TEST(closed_mailbox_gives_out_what_it_has_and_takes_nothing)
{
        struct mailbox mb;
        struct log log = { .mailbox = &mb };
        struct note before = { .mail.run = write_down, .value = 1, .log = &log };
        struct note after = { .mail.run = write_down, .value = 2, .log = &log };

        mailbox_init(&mb, count_wake, &log);
        ck_assert_int_eq(mailbox_post(&mb, &before.mail), 0);
        mailbox_close(&mb);
        mailbox_close(&mb);
        ck_assert_int_eq(log.n_wakes, 2);
        ck_assert_int_eq(mailbox_post(&mb, &after.mail), -ESHUTDOWN);
        ck_assert(mailbox_drain(&mb));
        ck_assert_int_eq(log.n, 1);
        ck_assert_int_eq(log.values[0], 1);
        mailbox_release(&mb);
}
END_TEST

/* The loop. What its thread writes is read after loop_stop or in loop_call. */
static struct loop *loop;

static void
setup(void)
{
        struct err e = ERR_INIT;

        ck_assert_msg(loop_new(&loop, &e) == 0, "%s", e.text);
}

static void
teardown(void)
{
        loop_free(loop);
}

struct tally {
        int n;
        int last[N_POSTERS];
        bool is_in_order;
        bool is_on_loop;
};

struct ticket {
        struct mail mail;
        struct tally *tally;
        int poster;
        int number;
};

static void
count(struct mail *m)
{
        struct ticket *t = (struct ticket *)m;
        struct tally *tally = t->tally;

        tally->n++;
        if (t->number != ++tally->last[t->poster])
                tally->is_in_order = false;
        if (!loop_is_current(loop))
                tally->is_on_loop = false;
        free(t);
}

struct poster {
        pthread_t thread;
        struct tally *tally;
        int index;
        int n_posted;
};

static void *
post_many(void *arg)
{
        struct poster *p = arg;

        for (int i = 1; i <= N_EACH; i++) {
                struct ticket *t = malloc(sizeof *t);

                *t = (struct ticket){
                        .mail.run = count, .tally = p->tally, .poster = p->index, .number = i
                };
                if (loop_post(loop, &t->mail) < 0) {
                        free(t);
                        break;
                }
                p->n_posted++;
        }
        return NULL;
}

static void
start_posters(struct poster p[N_POSTERS], struct tally *tally)
{
        for (int i = 0; i < N_POSTERS; i++) {
                p[i] = (struct poster){ .tally = tally, .index = i };
                ck_assert_int_eq(pthread_create(&p[i].thread, NULL, post_many, &p[i]), 0);
        }
}

static int
join_posters(struct poster p[N_POSTERS])
{
        int n = 0;

        for (int i = 0; i < N_POSTERS; i++) {
                pthread_join(p[i].thread, NULL);
                n += p[i].n_posted;
        }
        return n;
}

START_TEST(posts_of_each_thread_run_on_the_loop_in_order)
{
        struct tally tally = { .is_in_order = true, .is_on_loop = true };
        struct poster p[N_POSTERS];

        ck_assert(!loop_is_current(loop));
        start_posters(p, &tally);
        ck_assert_int_eq(join_posters(p), N_POSTERS * N_EACH);
        loop_stop(loop);
        ck_assert_int_eq(tally.n, N_POSTERS * N_EACH);
        ck_assert(tally.is_in_order);
        ck_assert(tally.is_on_loop);
}
END_TEST

/* Whatever the moment: a post is either run or refused. */
START_TEST(stop_amid_posts_loses_none_that_was_taken)
{
        struct tally tally = { .is_in_order = true, .is_on_loop = true };
        struct poster p[N_POSTERS];

        start_posters(p, &tally);
        loop_stop(loop);
        ck_assert_int_eq(join_posters(p), tally.n);
        ck_assert(tally.is_in_order);
}
END_TEST

static int
answer(void *arg)
{
        return loop_is_current(loop) ? *(int *)arg : -1;
}

START_TEST(call_waits_for_the_result)
{
        int v = 42;

        ck_assert_int_eq(loop_call(loop, answer, &v), 42);
        v = -EBUSY;
        ck_assert_int_eq(loop_call(loop, answer, &v), -EBUSY);
        loop_stop(loop);
        ck_assert_int_eq(loop_call(loop, answer, &v), -ESHUTDOWN);
}
END_TEST

static int
read_mask(void *arg)
{
        return pthread_sigmask(SIG_SETMASK, NULL, arg);
}

START_TEST(loop_takes_no_signals)
{
        sigset_t on_loop, here;

        ck_assert_int_eq(loop_call(loop, read_mask, &on_loop), 0);
        ck_assert_int_eq(sigismember(&on_loop, SIGTERM), 1);
        ck_assert_int_eq(sigismember(&on_loop, SIGPIPE), 1);
        pthread_sigmask(SIG_SETMASK, NULL, &here);
        ck_assert_int_eq(sigismember(&here, SIGTERM), 0);
        loop_stop(loop);
}
END_TEST

struct alarm {
        struct loop_timer *timer;
        struct alarm *other; /* cancelled when this one fires */
        int64_t started_ms;
        int64_t fired_ms;
        _Atomic int n;
        int again_ms; /* > 0: once more */
        bool is_freed_in_call;
};

static void
ring(void *arg)
{
        struct alarm *a = arg;

        a->fired_ms = loop_now_ms(loop);
        if (a->other != NULL)
                loop_timer_cancel(a->other->timer);
        if (a->again_ms > 0) {
                loop_timer_start(a->timer, a->again_ms);
                a->again_ms = 0;
        }
        if (a->is_freed_in_call)
                loop_timer_free(a->timer);
        atomic_fetch_add(&a->n, 1);
}

struct set {
        struct alarm *alarm;
        int ms;
};

static int
set_alarm(void *arg)
{
        struct set *s = arg;
        int r = 0;

        if (s->alarm->timer == NULL)
                r = loop_timer_new(loop, ring, s->alarm, &s->alarm->timer);
        if (r == 0) {
                s->alarm->started_ms = loop_now_ms(loop);
                loop_timer_start(s->alarm->timer, s->ms);
        }
        return r;
}

/* In one turn, so that the order in which they are due does not depend on the machine. */
static int
set_both(void *arg)
{
        struct set *s = arg;
        int r = set_alarm(&s[0]);

        return r == 0 ? set_alarm(&s[1]) : r;
}

static int
cancel_alarm(void *arg)
{
        loop_timer_cancel(((struct alarm *)arg)->timer);
        return 0;
}

static void
wait_for(struct alarm *a, int n)
{
        for (int i = 0; i < 10000 && atomic_load(&a->n) < n; i++)
                usleep(1000);
        ck_assert_int_ge(atomic_load(&a->n), n);
}

START_TEST(timer_fires_once_each_time_it_is_started)
{
        struct alarm a = { .again_ms = 20 }, last = { 0 };

        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 30 }), 0);
        wait_for(&a, 2);
        /* Later than it would fire a third time. */
        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &last, 60 }), 0);
        wait_for(&last, 1);
        loop_stop(loop);
        ck_assert_int_eq(a.n, 2);
        ck_assert_int_ge(a.fired_ms - a.started_ms, 50);
        loop_timer_free(a.timer);
        loop_timer_free(last.timer);
        loop_timer_free(NULL);
}
END_TEST

START_TEST(cancelled_timer_does_not_fire)
{
        struct alarm a = { 0 }, b = { 0 }, last = { .other = &b };

        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 60000 }), 0);
        ck_assert_int_eq(loop_call(loop, cancel_alarm, &a), 0);
        ck_assert_int_eq(loop_call(loop, set_both, (struct set[]){ { &b, 30 }, { &last, 1 } }), 0);
        wait_for(&last, 1);
        last.other = NULL;
        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &last, 60 }), 0);
        wait_for(&last, 2);
        loop_stop(loop);
        ck_assert_int_eq(a.n + b.n, 0);
        loop_timer_free(a.timer);
        loop_timer_free(b.timer);
        loop_timer_free(last.timer);
}
END_TEST

START_TEST(timer_that_is_started_again_forgets_the_first_time)
{
        struct alarm a = { 0 };

        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 60000 }), 0);
        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 1 }), 0);
        wait_for(&a, 1);
        loop_stop(loop);
        ck_assert_int_eq(a.n, 1);
        loop_timer_free(a.timer);
}
END_TEST

START_TEST(timer_may_be_freed_when_it_fires)
{
        struct alarm a = { .is_freed_in_call = true };

        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 0 }), 0);
        wait_for(&a, 1);
        loop_stop(loop);
}
END_TEST

/* The stop does not wait for a minute, and what is left over is harmless. */
START_TEST(stop_silences_timers)
{
        struct alarm a = { 0 };

        ck_assert_int_eq(loop_call(loop, set_alarm, &(struct set){ &a, 60000 }), 0);
        loop_stop(loop);
        ck_assert_int_eq(a.n, 0);
        loop_timer_start(a.timer, 0);
        loop_timer_cancel(a.timer);
        loop_timer_free(a.timer);
}
END_TEST

int
main(void)
{
        Suite *s = suite_create("mailbox");
        TCase *mailbox = tcase_create("mailbox"), *on_loop = tcase_create("loop");

        tcase_add_test(mailbox, mail_is_read_in_order_and_wakes_once);
        tcase_add_test(mailbox, mail_posted_while_reading_waits_for_the_next_turn);
        tcase_add_test(mailbox, closed_mailbox_gives_out_what_it_has_and_takes_nothing);
        tcase_add_checked_fixture(on_loop, setup, teardown);
        tcase_set_timeout(on_loop, 30);
        tcase_add_test(on_loop, posts_of_each_thread_run_on_the_loop_in_order);
        tcase_add_loop_test(on_loop, stop_amid_posts_loses_none_that_was_taken, 0, 20);
        tcase_add_test(on_loop, call_waits_for_the_result);
        tcase_add_test(on_loop, loop_takes_no_signals);
        tcase_add_test(on_loop, timer_fires_once_each_time_it_is_started);
        tcase_add_test(on_loop, cancelled_timer_does_not_fire);
        tcase_add_test(on_loop, timer_that_is_started_again_forgets_the_first_time);
        tcase_add_test(on_loop, timer_may_be_freed_when_it_fires);
        tcase_add_test(on_loop, stop_silences_timers);
        suite_add_tcase(s, mailbox);
        suite_add_tcase(s, on_loop);
        return run_suite(s);
}
