/* cmd/litefs/make_proxy.h - the proxy that `proxy:` of the configuration asks for. */
#ifndef LITEFS_CMD_MAKE_PROXY_H
#define LITEFS_CMD_MAKE_PROXY_H

#include "base/text.h"
#include "proxy/proxy.h"

struct config;

/* *@ret is NULL when there is none to be. */
int make_proxy(const struct config *c, struct store *store, struct tls_context *tls, struct token *token,
               struct proxy **ret, struct err *e);
void proxy_add_metrics(struct proxy *p, struct text *t);

#endif
