/* cmd/litefs/mount_point.h - who is mounted at a directory, asked without being held up by who does not answer.
 *
 * mount_point_ask forks: before the process has threads of its own, or where the child does nothing but system calls,
 * as it does. */
#ifndef LITEFS_CMD_MOUNT_POINT_H
#define LITEFS_CMD_MOUNT_POINT_H

#include <stdbool.h>

#include "base/err.h"

#define MOUNT_ANSWER_MS 3000

/* Of the file system mounted last at @dir, as /proc has it, which does not ask the mount; false: there is none. */
bool mount_point_find(const char *dir, char type[64], char source[64]);
/* What stat of @path says, by a child, since a mount whose server hangs holds whoever asks: 0, a negative errno, or
 * -ETIMEDOUT after MOUNT_ANSWER_MS. */
int mount_point_ask(const char *path);

/* Before a mount at @dir, which need not exist. Refuses what is no directory (-ENOTDIR), where a litefs that lives is
 * mounted (-EBUSY), and where databases lie that the mount would hide (-ENOTEMPTY), unless it @moves_aside, to
 * @data_dir/orphans. Warns of other files. Clears away what a killed litefs left, unless @skip_unmount. */
int mount_point_prepare(const char *dir, const char *data_dir, bool skip_unmount, bool moves_aside,
                        struct err *e);

#endif
