/* links: litefs_base */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/workers.h"
#include "tests/lib/run.h"

struct job {
        struct work work;
        int index;
};

static struct workers *pool;
static atomic_int n_done;
static int order[1000];

static void
note_order(struct work *w)
{
        struct job *job = (struct job *)w;

        order[atomic_fetch_add(&n_done, 1)] = job->index;
        free(job);
}

static void
post_jobs(void (*run)(struct work *), int n)
{
        for (int i = 0; i < n; i++) {
                struct job *job = malloc(sizeof *job);

                *job = (struct job){ { .run = run }, i };
                workers_post(pool, &job->work);
        }
}

START_TEST(one_thread_runs_jobs_in_the_order_posted)
{
        ck_assert_int_eq(workers_new(1, &pool), 0);
        post_jobs(note_order, 1000);
        workers_drain(pool);
        ck_assert_int_eq(n_done, 1000);
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(order[i], i);
        workers_free(pool);
}
END_TEST

START_TEST(free_waits_for_what_was_posted)
{
        ck_assert_int_eq(workers_new(3, &pool), 0);
        post_jobs(note_order, 500);
        workers_free(pool);
        ck_assert_int_eq(n_done, 500);
        workers_free(NULL);
}
END_TEST

START_TEST(drain_of_an_idle_pool_returns)
{
        ck_assert_int_eq(workers_new(2, &pool), 0);
        workers_drain(pool);
        post_jobs(note_order, 1);
        workers_drain(pool);
        workers_drain(pool);
        ck_assert_int_eq(n_done, 1);
        workers_free(pool);
}
END_TEST

/* Each job waits for all the others to have begun: with fewer threads than jobs this would hang. */
static pthread_barrier_t barrier;

static void
meet(struct work *w)
{
        pthread_barrier_wait(&barrier);
        note_order(w);
}

START_TEST(as_many_jobs_run_at_once_as_there_are_threads)
{
        pthread_barrier_init(&barrier, NULL, 4);
        ck_assert_int_eq(workers_new(4, &pool), 0);
        for (int round = 0; round < 20; round++)
                post_jobs(meet, 4);
        workers_drain(pool);
        ck_assert_int_eq(n_done, 80);
        workers_free(pool);
        pthread_barrier_destroy(&barrier);
}
END_TEST

static void
post_another(struct work *w)
{
        struct job *job = (struct job *)w;

        atomic_fetch_add(&n_done, 1);
        if (job->index++ < 50)
                workers_post(pool, w);
        else
                free(job);
}

START_TEST(job_may_post_itself_again_and_drain_waits_for_that)
{
        ck_assert_int_eq(workers_new(2, &pool), 0);
        post_jobs(post_another, 3);
        workers_drain(pool);
        ck_assert_int_eq(n_done, 51 + 50 + 49);
        workers_free(pool);
}
END_TEST

static atomic_int n_strangers;

static void
check_tid(struct work *w)
{
        sigset_t set;

        if (!workers_has_tid(pool, gettid()))
                atomic_fetch_add(&n_strangers, 1);
        pthread_sigmask(SIG_SETMASK, NULL, &set);
        if (!sigismember(&set, SIGTERM) || !sigismember(&set, SIGUSR1))
                atomic_fetch_add(&n_strangers, 1);
        note_order(w);
}

START_TEST(pool_knows_its_threads_and_they_take_no_signals)
{
        ck_assert_int_eq(workers_new(3, &pool), 0);
        post_jobs(check_tid, 100);
        workers_drain(pool);
        ck_assert_int_eq(n_strangers, 0);
        ck_assert(!workers_has_tid(pool, gettid()));
        ck_assert(!workers_has_tid(pool, 1));
        workers_free(pool);
}
END_TEST

static atomic_int n_that_may_enter;

static void
note_permission(struct work *w)
{
        if (thread_may_enter_own_mount())
                atomic_fetch_add(&n_that_may_enter, 1);
        note_order(w);
}

START_TEST(only_the_threads_of_a_pool_for_the_mount_may_enter_it)
{
        ck_assert_int_eq(workers_new(2, &pool), 0);
        post_jobs(note_permission, 10);
        workers_free(pool);
        ck_assert_int_eq(n_that_may_enter, 0);
        ck_assert(!thread_may_enter_own_mount());
        ck_assert_int_eq(workers_new_for_mount(2, &pool), 0);
        post_jobs(note_permission, 10);
        workers_free(pool);
        ck_assert_int_eq(n_that_may_enter, 10);
        ck_assert(!thread_may_enter_own_mount());
}
END_TEST

START_TEST(number_of_threads_is_bounded)
{
        ck_assert_int_eq(workers_new(0, &pool), -EINVAL);
        ck_assert_int_eq(workers_new(33, &pool), -EINVAL);
        ck_assert_int_eq(workers_new(32, &pool), 0);
        post_jobs(check_tid, 64);
        workers_free(pool);
        ck_assert_int_eq(n_done, 64);
        ck_assert_int_eq(n_strangers, 0);
}
END_TEST

static void *
post_many(void *arg)
{
        (void)arg;
        post_jobs(note_order, 100);
        return NULL;
}

START_TEST(many_threads_may_post)
{
        pthread_t threads[8];

        ck_assert_int_eq(workers_new(2, &pool), 0);
        for (int i = 0; i < 8; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, NULL), 0);
        for (int i = 0; i < 8; i++)
                pthread_join(threads[i], NULL);
        workers_drain(pool);
        ck_assert_int_eq(n_done, 800);
        workers_free(pool);
}
END_TEST

static void
set_up(void)
{
        n_done = n_strangers = n_that_may_enter = 0;
}

int
main(void)
{
        TCase *tc = tcase_create("workers");

        tcase_set_timeout(tc, 30);
        tcase_add_checked_fixture(tc, set_up, NULL);
        tcase_add_test(tc, one_thread_runs_jobs_in_the_order_posted);
        tcase_add_test(tc, free_waits_for_what_was_posted);
        tcase_add_test(tc, drain_of_an_idle_pool_returns);
        tcase_add_test(tc, as_many_jobs_run_at_once_as_there_are_threads);
        tcase_add_test(tc, job_may_post_itself_again_and_drain_waits_for_that);
        tcase_add_test(tc, pool_knows_its_threads_and_they_take_no_signals);
        tcase_add_test(tc, only_the_threads_of_a_pool_for_the_mount_may_enter_it);
        tcase_add_test(tc, number_of_threads_is_bounded);
        tcase_add_test(tc, many_threads_may_post);
        return run_tests("base_workers", tc);
}
