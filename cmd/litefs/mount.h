/* cmd/litefs/mount.h - what `litefs check` says, too, of a configuration that a node would start with. */
#ifndef LITEFS_CMD_MOUNT_H
#define LITEFS_CMD_MOUNT_H

#include "cmd/litefs/config.h"

/* Logs which keys are set that have no effect. */
void warn_not_served(const struct config *c);

#endif
