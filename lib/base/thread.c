#include "base/thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

static _Thread_local bool may_enter_own_mount;
static _Thread_local bool is_loop;

bool
thread_allow_own_mount(bool may_enter)
{
        bool was = may_enter_own_mount;

        may_enter_own_mount = may_enter;
        return was;
}

bool
thread_may_enter_own_mount(void)
{
        return may_enter_own_mount;
}

void
thread_become_loop(void)
{
        is_loop = true;
}

static void
report_wait(const char *what)
{
        static atomic_bool has_told;

        if (!atomic_exchange(&has_told, true))
                log_error(
                        "internal error: the thread of an event loop waits for %s, and with it heartbeats and the "
                        "lease. Please report this line",
                        what);
#ifdef LITEFS_INVARIANTS
        abort();
#endif
}

void
thread_will_wait(const char *what)
{
        if (is_loop)
                report_wait(what);
}

int
thread_start(pthread_t *ret, void *(*run)(void *arg), void *arg)
{
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(ret, NULL, run, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -r;
}

void
thread_cond_init(pthread_cond_t *c)
{
        pthread_condattr_t attr;

        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(c, &attr);
        pthread_condattr_destroy(&attr);
}
