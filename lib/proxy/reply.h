/* lib/proxy/reply.h - answers of the proxy's own: health, errors, fly-replay. */
#ifndef LITEFS_PROXY_REPLY_H
#define LITEFS_PROXY_REPLY_H

#include "proxy/client.h"

/* @text is one line. The client is CLIENT_DONE then, and its connection ends when there is more of the request to come. */
void reply(struct client *c, int status, const char *extra_fields, const char *text);
void reply_printf(struct client *c, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* To another node's proxy: this node is not the primary, and has done nothing. */
void reply_moved(struct client *c);

#endif
