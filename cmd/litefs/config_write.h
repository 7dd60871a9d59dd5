/* cmd/litefs/config_write.h - the text of a litefs.yml, with a comment for each key: what `litefs init` writes. */
#ifndef LITEFS_CMD_CONFIG_WRITE_H
#define LITEFS_CMD_CONFIG_WRITE_H

#include "base/text.h"
#include "cmd/litefs/config.h"

/* What of @c flags can say (node_flags.h) and its last command; @advertise_url is "" when it follows from the rest. Read
 * again it is the same. */
void config_write(const struct config *c, const char *advertise_url, struct text *t);

#endif
