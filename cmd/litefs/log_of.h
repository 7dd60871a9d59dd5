/* cmd/litefs/log_of.h - the log of a database in a data directory, for commands that look into it. The node may run. */
#ifndef LITEFS_CMD_LOG_OF_H
#define LITEFS_CMD_LOG_OF_H

#include <limits.h>

#include "base/err.h"
#include "txlog/txlog.h"

struct log_place {
        const char *config_path, *data_dir; /* flags; NULL: not given */
};
#define LOG_PLACE_FLAGS(p) \
        { "config", "PATH", "configuration file, for the data directory", NULL, &(p)->config_path }, \
        { \
                "data-dir", "DIR", "data directory", NULL, &(p)->data_dir \
        }

/* @db: a database's path in the mount, or the directory of one, which begins with / or ./. That directory in @ret_dir. */
int log_of(const struct log_place *place, const char *db, struct txlog **ret, char ret_dir[PATH_MAX],
           struct err *e);

#endif
