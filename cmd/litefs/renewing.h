/* cmd/litefs/renewing.h - renews a lease while there is no node yet to do it: the next program of an upgrade holds it from its first
 * moment, and has all databases to open before it serves.
 *
 * A thread of its own, which alone calls the lease from renewing_start to renewing_end but for deadline_ms. */
#ifndef LITEFS_CMD_RENEWING_H
#define LITEFS_CMD_RENEWING_H

#include "lease/lease.h"

struct renewing;

/* Of a lease that is held and runs out; the first renewal comes at once. Borrows it. 0 or a negative errno. */
int renewing_start(struct lease *l, struct renewing **ret);
/* Waits for a renewal that is under way. NULL is fine. */
void renewing_end(struct renewing *r);

#endif
