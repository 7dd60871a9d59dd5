/* lib/proxy/node_upgrade.h - how one node's proxy reaches another's where nodes speak TLS: through the port of the other node, by
 * an upgrade that demands what the stream does, after which the connection is the other's proxy's, as if a client had
 * made it, but that what it says of clients is believed (docs/proxy.md). */
#ifndef LITEFS_PROXY_NODE_UPGRADE_H
#define LITEFS_PROXY_NODE_UPGRADE_H

#include "base/err.h"
#include "net/upgrade.h"

#define NODE_UPGRADE_SIZE 2048

extern const struct upgrade_protocol node_upgrade_protocol;

/* What the one who asks sends first. @address is the other's, @token may be NULL. Its length. */
size_t node_upgrade_request(const char *address, const char *token, char buf[NODE_UPGRADE_SIZE]);
/* The complete head of the answer: 0; -EAGAIN: not now; -EACCES, -ENOENT, E_FORMAT: no. */
int node_upgrade_check_answer(const struct upgrade *u, struct err *e);

#endif
