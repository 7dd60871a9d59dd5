/* lib/proxy/positions.h - reading one's own writes: the positions in a client's cookies, and those of the databases. */
#ifndef LITEFS_PROXY_POSITIONS_H
#define LITEFS_PROXY_POSITIONS_H

#include "proxy/client.h"
#include "proxy/cookie.h"

/* Whether this node has what the request's cookie asks for, or the cluster has lost it. The latter is asked about once the
 * request waits. */
bool positions_reached(struct client *c);
/* The cookies of the answer to a write: false, there are none to set. */
bool positions_cookies(struct client *c, char ret[COOKIE_FIELD_SIZE],
                       char ret_term[COOKIE_TERM_FIELD_SIZE]);

#endif
