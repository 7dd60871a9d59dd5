/* cmd/litefs/access.h - who may use the node's address: http.token, http.token-file, http.tls. */
#ifndef LITEFS_CMD_ACCESS_H
#define LITEFS_CMD_ACCESS_H

#include <stdbool.h>

#include "base/err.h"

struct config;

/* E_CONFIG for what is configured and cannot be had: better no node than one that is open by mistake. */
int access_check(const struct config *c, struct err *e);
/* *@ret is the caller's to free; "": none is set. */
int access_read_token(const struct config *c, char **ret, struct err *e);
/* Logs when others than this machine may change the node. */
void access_warn(const struct config *c);
/* Whether "host:port" can only be reached from this machine. */
bool access_is_loopback(const char *address);

#endif
