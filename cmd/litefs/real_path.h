/* cmd/litefs/real_path.h - where a path leads.
 *
 * A program that takes a node over reads its configuration while nobody answers the mount, and realpath asks a directory whose
 * name ends with a slash for its attributes. This asks no mount for its own. */
#ifndef LITEFS_CMD_REAL_PATH_H
#define LITEFS_CMD_REAL_PATH_H

#include <limits.h>

/* Absolute, without symbolic links, into @buf: 0 or a negative errno, and then @buf is undefined. */
int real_path(const char *path, char buf[PATH_MAX]);
/* The same of the directory that @path is in, whether @path itself is there or not: it is not looked at, since it may be a mount
 * that hangs. "" for the root, so that "%s/%s" of @dir and @name, the last part of @path, is where it is. */
int real_path_above(const char *path, char dir[PATH_MAX], char name[PATH_MAX]);

#endif
