/* lib/proxy/gather.h - gathers small pieces for one connection at a time, so that a head and a short body are one
 * packet. Belongs to a loop: it is flushed before the loop turns to another event. */
#ifndef LITEFS_PROXY_GATHER_H
#define LITEFS_PROXY_GATHER_H

#include "net/conn.h"

#define GATHER_BYTES (32u * 1024)

struct gather {
        struct conn *conn; /* whose bytes there are, NULL: nobody's */
        size_t n;
        uint8_t bytes[GATHER_BYTES];
};

/* A connection that does not take them is closed: it hears of that itself. */
void gather_write(struct gather *k, struct conn *c, const void *data, size_t n);
void gather_flush(struct gather *k);
/* What is there for @c is dropped: it is closed. */
void gather_forget(struct gather *k, const struct conn *c);

#endif
