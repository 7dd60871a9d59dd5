/* cmd/litefs/access.h - who may use the node's address: http.token, http.token-file. */
#ifndef LITEFS_CMD_ACCESS_H
#define LITEFS_CMD_ACCESS_H

#include <stdbool.h>

#include "base/err.h"

struct config;
struct token;

/* *@ret is the caller's to free. */
int access_open_token(const struct config *c, struct token **ret, struct err *e);
/* Logs when others than this machine may change the node. */
void access_warn(const struct config *c);
/* Whether other nodes are spoken to by TLS alone: this node has it, or knows whom it would trust. */
bool access_needs_tls(const struct config *c);
/* Whether "host:port" can only be reached from this machine. */
bool access_is_loopback(const char *address);
/* Whether http.addr is reached by more than this machine, and nothing is asked of who comes. */
bool access_is_open(const struct config *c);

#endif
