/* cmd/litefs/secrets.h - what of the configuration others must not see: the files that hold it, and the environment. */
#ifndef LITEFS_CMD_SECRETS_H
#define LITEFS_CMD_SECRETS_H

#include <sys/stat.h>

#include "cmd/litefs/config.h"

/* Calls @fn for each file with a secret that users other than its owner may read or write: the configuration if a secret
 * is written there, files of tokens, and keys. */
void secrets_each_exposed(const struct config *c,
                          void (*fn)(void *arg, const char *key, const char *path, mode_t mode),
                          void *arg);
/* Logs a warning for each. */
void secrets_warn(const struct config *c);

/* @environment without the variables that the configuration takes its secrets from, and those of the services' own that
 * it may take them from; a line in the log names them. NULL: memory is out. The strings are borrowed: free() the array. */
char **secrets_strip(const struct config *c, char *const *environment);

#endif
