/* cmd/litefs/config_yaml.h - YAML text into struct config, by the table in config_keys.h. */
#ifndef LITEFS_CMD_CONFIG_YAML_H
#define LITEFS_CMD_CONFIG_YAML_H

#include "cmd/litefs/config.h"

/* Sets what @text sets and leaves the rest of @c. -ENOMEM, or E_CONFIG with "PATH:LINE: KEY: what is wrong";
 * then a part may be set. */
int config_read_yaml(struct config *c, const char *path, const char *text, struct err *e);

#endif
