/* cmd/litefs/output.h - a file that appears under its name when it is complete, and only then.
 *
 * Until then it has no name at all, where the file system has that (O_TMPFILE), else one that nobody can guess: in a
 * directory that others may write to, such as /tmp, there is nothing to be planted or opened. Its mode is 0600, for a copy
 * must not tell more than the original. What was at the path is replaced; a symbolic link there is, too, and not followed.
 *
 * Order: output_open, write to fd, output_publish or output_discard. */
#ifndef LITEFS_CMD_OUTPUT_H
#define LITEFS_CMD_OUTPUT_H

#include <limits.h>

#include "base/err.h"

struct output {
        int fd;
        char path[PATH_MAX];
        char dir[PATH_MAX];
        char tmp[PATH_MAX]; /* "" while it has no name */
};

int output_open(struct output *o, const char *path, struct err *e);
/* Gives it its temporary name already, for a program that is to look at it before it is published. */
int output_give_name(struct output *o, struct err *e);
/* Syncs, names and closes it; after an error nothing is left of it. */
int output_publish(struct output *o, struct err *e);
void output_discard(struct output *o);

#endif
