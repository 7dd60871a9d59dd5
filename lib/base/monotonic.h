/* lib/base/monotonic.h - this machine's monotonic clock, for differences and for waits with a time limit. What leases and
 * time-outs of a node depend on takes the clock of base/clock.h instead, which a test or a simulation owns. */
#ifndef LITEFS_BASE_MONOTONIC_H
#define LITEFS_BASE_MONOTONIC_H

#include <stdint.h>
#include <time.h>

static inline int64_t
monotonic_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t
monotonic_ms(void)
{
        return monotonic_ns() / 1000000;
}

/* @ms of that clock, for pthread_cond_timedwait with a condition of thread_cond_init. INT64_MAX is never. */
static inline struct timespec
monotonic_timespec(int64_t ms)
{
        return (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
}

/* @ms from now: not before, to the nanosecond. */
static inline struct timespec
monotonic_after_ms(int64_t ms)
{
        int64_t now_ns = monotonic_ns(), ns = now_ns % 1000000000 + ms % 1000 * 1000000;

        return (struct timespec){ (time_t)(now_ns / 1000000000 + ms / 1000 + ns / 1000000000),
                                  (long)(ns % 1000000000) };
}

#endif
