/* lib/proxy/serve.h - serves a client's connection, from its first byte to its last. */
#ifndef LITEFS_PROXY_SERVE_H
#define LITEFS_PROXY_SERVE_H

#include "proxy/client.h"

/* Does not set a handler when there is no memory. */
void serve_client(struct proxy *p, struct conn *c, bool is_peer);
/* After anything has been done to it: goes on as its state says, sends what is gathered, reads on, sets the timer. */
void serve_settle(struct client *c);
/* The proxy ends: who waits for nothing is closed, but who asks often gets the time to ask, unless this @is_last. */
void serve_drain(struct client *c, bool is_last);

#endif
