/* lib/proxy/connect_limit.h - how many connections to the primary's node are being opened: each is a handshake, on the thread
 * that its stream lives on, too.
 *
 * CONNECT_LIMIT_MAX at a time while they succeed. After one that failed, one at a time and not within CONNECT_LIMIT_PAUSE_MS, until one
 * succeeds. Another address is another primary, of which nothing bad is known. Times are the caller's. */
#ifndef LITEFS_PROXY_CONNECT_LIMIT_H
#define LITEFS_PROXY_CONNECT_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/addr.h"

#define CONNECT_LIMIT_MAX 64u
#define CONNECT_LIMIT_PAUSE_MS 100

/* All zero is a valid one. */
struct connect_limit {
        char address[ADDR_TEXT_SIZE];
        unsigned n_opening;
        bool is_failing;
        int64_t next_ms;
        struct err why; /* it fails */
};

/* 0: open it, and leave; -EBUSY: not now, and @e says why. */
int connect_limit_enter(struct connect_limit *g, const char *address, int64_t now_ms, struct err *e);
/* One of these for each that has entered: it is there; it failed; or it was given up before either. */
void connect_limit_opened(struct connect_limit *g, const char *address);
void connect_limit_failed(struct connect_limit *g, const char *address, int64_t now_ms,
                          const struct err *why);
void connect_limit_given_up(struct connect_limit *g);

#endif
