/* cmd/litefs/make_lease.h - the lease that the configuration asks for. */
#ifndef LITEFS_CMD_MAKE_LEASE_H
#define LITEFS_CMD_MAKE_LEASE_H

#include "base/err.h"

struct config;
struct lease;

int make_lease(const struct config *c, struct lease **ret, struct err *e);

#endif
