/* lib/proxy/request.h - from the head of a request to where it goes. */
#ifndef LITEFS_PROXY_REQUEST_H
#define LITEFS_PROXY_REQUEST_H

#include "proxy/client.h"

/* Its head is there. */
void request_begin(struct client *c);
/* What is to be passed on of it is there. */
void request_go_on(struct client *c);
/* Decides, anew for who waits. */
void request_route(struct client *c);
/* The same for CLIENT_ROUTE: the primary may be another by now, or will be in a moment. */
void request_route_again(struct client *c);
/* Whether it would be routed now to where it has been routed, if it is a write. */
bool request_is_where_it_belongs(struct client *c);

#endif
