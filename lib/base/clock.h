/* lib/base/clock.h - time as an argument, so that a test or a simulation can own it. */
#ifndef LITEFS_BASE_CLOCK_H
#define LITEFS_BASE_CLOCK_H

#include <stdint.h>

struct clock {
        /* Milliseconds since the Unix epoch: for people and for LTX timestamps, may jump. */
        int64_t (*wall_ms)(const struct clock *c);
        /* Milliseconds that only grow, counting suspended time: for leases and time-outs. */
        int64_t (*boot_ms)(const struct clock *c);
};

/* The machine's clocks. */
const struct clock *clock_host(void);

static inline int64_t
clock_wall_ms(const struct clock *c)
{
        return c->wall_ms(c);
}

static inline int64_t
clock_boot_ms(const struct clock *c)
{
        return c->boot_ms(c);
}

#endif
