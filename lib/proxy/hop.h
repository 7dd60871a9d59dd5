/* lib/proxy/hop.h - how one node's proxy reaches another's where nodes speak TLS: through the port of the other node, by
 * an upgrade that demands what the stream does, after which the connection is the other's proxy's, as if a client had
 * made it, but that what it says of clients is believed (docs/proxy.md). */
#ifndef LITEFS_PROXY_HOP_H
#define LITEFS_PROXY_HOP_H

#include "base/err.h"
#include "net/upgrade.h"

#define HOP_REQUEST_SIZE 2048

/* What the one who asks sends first. @address is the other's, @token may be NULL. Its length. */
size_t hop_request(const char *address, const char *token, char buf[HOP_REQUEST_SIZE]);
/* The complete head of the answer: 0; -EAGAIN: not now; -EACCES, -ENOENT, E_FORMAT: no. */
int hop_check_answer(const struct upgrade *u, struct err *e);

#endif
