/* lib/proxy/cork.h - gathers small pieces for one connection at a time, so that a head and a short body are one
 * packet. Belongs to a loop: it is flushed before the loop turns to another event. */
#ifndef LITEFS_PROXY_CORK_H
#define LITEFS_PROXY_CORK_H

#include "net/conn.h"

#define CORK_BYTES (32u * 1024)

struct cork {
        struct conn *conn; /* whose bytes there are, NULL: nobody's */
        size_t n;
        uint8_t bytes[CORK_BYTES];
};

/* A connection that does not take them is closed: it hears of that itself. */
void cork_write(struct cork *k, struct conn *c, const void *data, size_t n);
void cork_flush(struct cork *k);
/* What is there for @c is dropped: it is closed. */
void cork_forget(struct cork *k, const struct conn *c);

#endif
