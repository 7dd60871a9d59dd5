/* cmd/litefs/stuck.h - in which calls this process's threads wait for a disk or a mount, for the log. */
#ifndef LITEFS_CMD_STUCK_H
#define LITEFS_CMD_STUCK_H

#include <stddef.h>

/* "a thread waits in fdatasync of /data/...", several of them, or "" where none does or the kernel does not say. Touches no
 * file but those of /proc. */
void stuck_describe(char *buf, size_t size);

#endif
