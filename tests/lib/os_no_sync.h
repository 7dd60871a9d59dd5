/* tests/lib/os_no_sync.h - the host's files where nobody cuts the power: no sync waits for the disk. */
#ifndef LITEFS_TESTS_OS_NO_SYNC_H
#define LITEFS_TESTS_OS_NO_SYNC_H

#include "base/os.h"

struct os os_no_sync(void);

#endif
