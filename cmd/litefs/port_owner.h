/* cmd/litefs/port_owner.h - who has the port that we cannot have. */
#ifndef LITEFS_CMD_PORT_OWNER_H
#define LITEFS_CMD_PORT_OWNER_H

#include "base/err.h"

/* Words the failure @r to listen at @address, which @key of litefs.yml says; @e has libuv's words. Returns @r. */
int port_owner_explain(const char *key, const char *address, int r, struct err *e);

#endif
