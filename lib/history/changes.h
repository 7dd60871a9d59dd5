/* lib/history/changes.h - what each transaction of a log has changed, by its index alone. */
#ifndef LITEFS_HISTORY_CHANGES_H
#define LITEFS_HISTORY_CHANGES_H

#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "txlog/txlog.h"

struct history_change {
        struct txlog_record record;
        uint32_t n_changed; /* pages that are in it */
};
/* Each transaction of the log, oldest first, until @fn returns other than 0, which is returned. The log's bytes are not
 * proved. */
int history_each_change(const struct os *os, struct txlog *log,
                        int (*fn)(void *arg, const struct history_change *change), void *arg,
                        struct err *e);

#endif
