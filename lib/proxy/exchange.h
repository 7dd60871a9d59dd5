/* lib/proxy/exchange.h - the other side of a request: the connection to the application, or to the primary's proxy, and
 * what comes back.
 *
 * It ends in CLIENT_DONE, or CLIENT_ROUTE where nothing has been done with the request. */
#ifndef LITEFS_PROXY_EXCHANGE_H
#define LITEFS_PROXY_EXCHANGE_H

#include "proxy/client.h"

void exchange_begin(struct client *c, const struct destination *to);
/* What the upstream tells, as in struct upstream_handler. */
void exchange_opened(struct client *c);
void exchange_read(struct client *c, const uint8_t *data, size_t n);
void exchange_ended(struct client *c);
void exchange_closed(struct client *c, int code, const struct err *e);

#endif
