/* cmd/litefs/promote.h - making the node that a client talks to the primary. */
#ifndef LITEFS_CMD_PROMOTE_H
#define LITEFS_CMD_PROMOTE_H

#include "cmd/litefs/client.h"

/* Asks for it, and waits until it is. */
int promote_node(struct client *c, struct err *e);

#endif
