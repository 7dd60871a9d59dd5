#include "tests/sim/threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define WAKE_MAX_US 200 /* until a thread runs that was woken, or made */

struct thread {
        void *(*run)(void *arg);
        void *arg;
        bool is_done;
        struct fiber *joiner;
};

struct waiter {
        struct waiter *next;
        pthread_cond_t *cond;
        struct fiber *fiber;
        struct sim_host *host;
        uint64_t incarnation;
        int n_users; /* the fiber, and each event about it */
        bool is_woken, is_late;
};

/* The linker leaves no room for an argument. */
static struct sim *sim;
static struct waiter *waiters;

void
threads_use(struct sim *s)
{
        sim = s;
        waiters = NULL;
}

struct sim *
threads_sim(void)
{
        return sim;
}

static int64_t
some_us(void)
{
        return sim_between(sim, 0, WAKE_MAX_US);
}

/* --- threads --- */

static void
run_thread(void *arg)
{
        struct thread *t = arg;

        t->run(t->arg);
        t->is_done = true;
        if (t->joiner != NULL)
                fiber_wake(sim, t->joiner);
}

static void
begin_thread(void *arg, bool is_lost)
{
        if (!is_lost)
                fiber_start(sim, sim->here, run_thread, arg);
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int
__wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
        struct thread *t = calloc(1, sizeof *t);

        (void)attr;
        if (t == NULL)
                return ENOMEM;
        t->run = run;
        t->arg = arg;
        memcpy(ret, &t, sizeof t);
        sim_post(sim, sim->here, some_us(), begin_thread, t);
        return 0;
}

int __wrap_pthread_join(pthread_t id, void **ret);
int
__wrap_pthread_join(pthread_t id, void **ret)
{
        struct thread *t;

        (void)ret;
        memcpy(&t, &id, sizeof t);
        if (!t->is_done) {
                t->joiner = fiber_current(sim);
                fiber_wait(sim);
        }
        free(t);
        return 0;
}

/* --- locks --- */

/* The holder is waiting for its disk. */
static void
wait_for_lock(const char *what)
{
        if (fiber_current(sim) == NULL) {
                sim_fail(sim, "%s: the loop would wait for %s that is held across I/O",
                         sim->here != NULL ? sim->here->name : "?", what);
                abort();
        }
        fiber_sleep(sim, 1);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int
__wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
        while (pthread_mutex_trylock(lock) == EBUSY)
                wait_for_lock("a mutex");
        return 0;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int
__wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
        while (pthread_rwlock_tryrdlock(lock) == EBUSY)
                wait_for_lock("a read-write lock");
        return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int
__wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
        while (pthread_rwlock_trywrlock(lock) == EBUSY)
                wait_for_lock("a read-write lock");
        return 0;
}

/* --- conditions --- */

static void
let_go(struct waiter *w)
{
        if (--w->n_users == 0)
                free(w);
}

static void
unlink_waiter(struct waiter *w)
{
        struct waiter **p = &waiters;

        while (*p != NULL && *p != w)
                p = &(*p)->next;
        if (*p != NULL)
                *p = w->next;
}

static void
wake(void *arg, bool is_lost)
{
        struct waiter *w = arg;

        if (!is_lost)
                fiber_wake(sim, w->fiber);
        let_go(w);
}

static void
wake_late(void *arg, bool is_lost)
{
        struct waiter *w = arg;

        if (!is_lost && !w->is_woken) {
                w->is_woken = w->is_late = true;
                unlink_waiter(w);
                fiber_wake(sim, w->fiber);
        }
        let_go(w);
}

static int
wait_for(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t timeout_us)
{
        struct waiter *w = calloc(1, sizeof *w), **end = &waiters;
        bool is_late;

        if (w == NULL)
                abort();
        *w = (struct waiter){ .cond = cond,
                              .fiber = fiber_current(sim),
                              .host = sim->here,
                              .incarnation = sim->here->incarnation,
                              .n_users = 1 };
        while (*end != NULL)
                end = &(*end)->next;
        *end = w;
        if (timeout_us >= 0) {
                w->n_users++;
                sim_post(sim, sim->here, timeout_us, wake_late, w);
        }
        pthread_mutex_unlock(lock);
        fiber_wait(sim);
        __wrap_pthread_mutex_lock(lock);
        is_late = w->is_late;
        let_go(w);
        return is_late ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock);
int
__wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
        return wait_for(cond, lock, -1);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
                                  const struct timespec *at);
int
__wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *at)
{
        return wait_for(cond, lock, host_until_us(sim->here, at->tv_sec * 1000 + at->tv_nsec / 1000000));
}

static bool
wake_one(pthread_cond_t *cond)
{
        for (struct waiter **p = &waiters, *w; (w = *p) != NULL;) {
                bool is_gone = w->incarnation != w->host->incarnation;

                if (w->cond != cond && !is_gone) {
                        p = &w->next;
                        continue;
                }
                *p = w->next;
                if (is_gone)
                        continue;
                w->is_woken = true;
                w->n_users++;
                sim_post(sim, w->host, some_us(), wake, w);
                return true;
        }
        return false;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int
__wrap_pthread_cond_signal(pthread_cond_t *cond)
{
        wake_one(cond);
        return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int
__wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
        while (wake_one(cond))
                ;
        return 0;
}

/* --- time and chance --- */

int __wrap_nanosleep(const struct timespec *t, struct timespec *left);
int
__wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
        (void)left;
        fiber_sleep(sim, t->tv_sec * 1000 + t->tv_nsec / 1000000);
        return 0;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int
__wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
        int64_t ms = sim == NULL ? 0 : sim->here != NULL ? host_now_ms(sim->here) : sim->now_us / 1000;

        if (id == CLOCK_REALTIME)
                ms += 1700000000000;
        *ret = (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
        return 0;
}

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags);
ssize_t
__wrap_getrandom(void *buf, size_t n, unsigned flags)
{
        uint8_t *p = buf;

        (void)flags;
        for (size_t i = 0; i < n; i++)
                p[i] = (uint8_t)sim_random(sim);
        return (ssize_t)n;
}
