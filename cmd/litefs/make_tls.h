/* cmd/litefs/make_tls.h - the node's sides of TLS, as http.tls says. */
#ifndef LITEFS_CMD_MAKE_TLS_H
#define LITEFS_CMD_MAKE_TLS_H

#include "net/tls_context.h"

struct config;

/* *@ret_server is what the node listens with, NULL when http.tls has no certificate; *@ret_client what it follows
 * others with, *@ret_proxy what its proxy reaches theirs with, on a thread of its own. E_CONFIG, or an error about a file: better no node than one that is open by mistake. */
int make_tls(const struct config *c, struct tls_context **ret_server, struct tls_context **ret_client,
             struct tls_context **ret_proxy, struct err *e);

#endif
