/* cmd/litefs/real_path.h - where a path leads.
 *
 * A program that takes a node over reads its configuration while nobody answers the mount, and realpath asks a directory whose
 * name ends with a slash for its attributes. This asks no mount for its own. */
#ifndef LITEFS_CMD_REAL_PATH_H
#define LITEFS_CMD_REAL_PATH_H

#include <limits.h>

/* Absolute, without symbolic links, into @buf: 0 or a negative errno, and then @buf is undefined. */
int real_path(const char *path, char buf[PATH_MAX]);

#endif
