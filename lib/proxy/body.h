/* lib/proxy/body.h - the bodies of a request and of its answer, on their way.
 *
 * What goes to another node is kept until an application has it: that node may turn out not to be the primary. */
#ifndef LITEFS_PROXY_BODY_H
#define LITEFS_PROXY_BODY_H

#include "proxy/client.h"

/* A piece of the request's, and its end; @arg is the client. */
void body_to_upstream(void *arg, const uint8_t *data, size_t n);
void body_ended(struct client *c);
/* What has been read of it, again. */
void body_send_kept(struct client *c);
/* It need not be kept any more. */
void body_taken(struct client *c);
/* Whether more of it has to wait until it is known whether what was sent may have to be sent again. */
bool body_must_wait(const struct client *c);
/* A piece of the response's. */
void body_to_client(void *arg, const uint8_t *data, size_t n);

#endif
