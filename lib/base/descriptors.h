/* lib/base/descriptors.h - file descriptors of the process: how many there are, and what they are for.
 *
 * Of the limit (RLIMIT_NOFILE) a quarter, 32 to 1024, is kept for connections and the lease: databases and files of the
 * mount are refused before. Any thread. */
#ifndef LITEFS_BASE_DESCRIPTORS_H
#define LITEFS_BASE_DESCRIPTORS_H

#include <stdbool.h>

unsigned descriptors_limit(void);
/* Of a process with that limit, what may be open before databases and files are refused. */
unsigned descriptors_for_files(unsigned limit);
/* How many are open: from a kernel that tells it (6.2 or later), else 0. */
unsigned descriptors_told(void);
/* The same by counting them, which takes as long as there are many. */
unsigned descriptors_counted(void);

#endif
