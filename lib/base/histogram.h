/* lib/base/histogram.h - how long things took, counted in buckets of powers of two.
 *
 * Adding is two relaxed additions and no lock, so it fits where a commit waits. A reader that looks meanwhile may see
 * a count without its sum: good enough for metrics. Any thread. */
#ifndef LITEFS_BASE_HISTOGRAM_H
#define LITEFS_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/monotonic.h"

/* Bucket i holds what took up to 2^i us, that is 1 us to 8.4 s; the last one all that took longer. */
#define HISTOGRAM_BUCKETS 25

struct histogram {
        atomic_ullong counts[HISTOGRAM_BUCKETS];
        atomic_ullong sum_ns;
};

/* For differences. Not the clock of base/clock.h: what is measured is this machine, in a simulation, too. */
static inline uint64_t
histogram_now_ns(void)
{
        return (uint64_t)monotonic_ns();
}

static inline unsigned
histogram_bucket(uint64_t ns)
{
        uint64_t us = (ns + 999) / 1000;
        unsigned i = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);

        return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

static inline void
histogram_add(struct histogram *h, uint64_t ns)
{
        atomic_fetch_add_explicit(&h->counts[histogram_bucket(ns)], 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

#endif
