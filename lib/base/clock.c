#include "base/clock.h"

#include <time.h>

static int64_t
read_ms(clockid_t id)
{
        struct timespec ts;

        clock_gettime(id, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t
host_wall_ms(const struct clock *c)
{
        (void)c;
        return read_ms(CLOCK_REALTIME);
}

static int64_t
host_boot_ms(const struct clock *c)
{
        (void)c;
        return read_ms(CLOCK_BOOTTIME);
}

static const struct clock host = { host_wall_ms, host_boot_ms };

const struct clock *
clock_host(void)
{
        return &host;
}
