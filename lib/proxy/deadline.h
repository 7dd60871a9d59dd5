/* lib/proxy/deadline.h - what a client is given time for. */
#ifndef LITEFS_PROXY_DEADLINE_H
#define LITEFS_PROXY_DEADLINE_H

#include "proxy/client.h"

/* Whatever is due for this client next; may leave an earlier time standing. */
void deadline_set(struct client *c);
/* Its timer has fired. */
void deadline_reached(struct client *c);

#endif
