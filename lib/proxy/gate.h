/* lib/proxy/gate.h - how many connections to the primary's node are being opened: each is a handshake, on the thread
 * that its stream lives on, too.
 *
 * GATE_MAX at a time while they succeed. After one that failed, one at a time and not within GATE_PAUSE_MS, until one
 * succeeds. Another address is another primary, of which nothing bad is known. Times are the caller's. */
#ifndef LITEFS_PROXY_GATE_H
#define LITEFS_PROXY_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/addr.h"

#define GATE_MAX 64u
#define GATE_PAUSE_MS 100

/* All zero is a valid one. */
struct gate {
        char address[ADDR_TEXT_SIZE];
        unsigned n_opening;
        bool is_failing;
        int64_t next_ms;
        struct err why; /* it fails */
};

/* 0: open it, and leave; -EBUSY: not now, and @e says why. */
int gate_enter(struct gate *g, const char *address, int64_t now_ms, struct err *e);
/* One of these for each that has entered: it is there; it failed; or it was given up before either. */
void gate_opened(struct gate *g, const char *address);
void gate_failed(struct gate *g, const char *address, int64_t now_ms, const struct err *why);
void gate_given_up(struct gate *g);

#endif
