/* cmd/litefs/config_lease.h - a lease in one word, as `lease: URL` (short for lease.url) has it in litefs.yml, and -lease on the command line.
 *
 *   etcd://HOST:2379[,HOST:2379...]/KEY      etcd+https:// with TLS
 *   consul://HOST:8500/KEY                   consul+https:// with TLS
 *   file:///PATH                             nodes of this machine
 *   http://HOST:20202, https://HOST:20202    no lease: a replica of the node there, which is always the primary */
#ifndef LITEFS_CMD_CONFIG_LEASE_H
#define LITEFS_CMD_CONFIG_LEASE_H

#include "cmd/litefs/config.h"

/* Sets lease.type and what else lease.url says, if it is set. E_CONFIG with "what is wrong: what to write", without a place;
 * -ENOMEM. */
int config_resolve_lease(struct config *c, struct err *e);

#endif
