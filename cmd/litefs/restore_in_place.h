/* cmd/litefs/restore_in_place.h - a database of a running cluster becomes what it was.
 *
 * The node makes one transaction of the pages that differ, out of its own log; what that does not have any more comes out of
 * a backup, through this process. */
#ifndef LITEFS_CMD_RESTORE_IN_PLACE_H
#define LITEFS_CMD_RESTORE_IN_PLACE_H

#include "cmd/litefs/client.h"

struct in_place {
        struct client client;
        const char *name; /* of the database */
        char to[64];      /* the state, as in the mount's names (history/moment.h) */
        bool is_json, is_quiet;
        void *arg;
        /* Makes a file of that state at @path, which is not there, out of a backup. */
        int (*fetch)(void *arg, const char *path, struct err *e);
};

int restore_in_place(struct in_place *ip, struct err *e);

#endif
