/* lib/db/ownership.h - mode and owner of a database and of the directories on its path, as nodes tell each other. */
#ifndef LITEFS_DB_OWNERSHIP_H
#define LITEFS_DB_OWNERSHIP_H

#include <stdint.h>

#define PATH_OWNERSHIP_MAX 64 /* more than a name (store/dbname.h) has parts */

struct ownership {
        uint16_t mode; /* & 03777 of a directory, & 01777 of a database */
        uint32_t uid, gid;
};

/* Of the mount's root, of each directory on the path, and last of the database. */
struct path_ownership {
        unsigned n;
        struct ownership at[PATH_OWNERSHIP_MAX];
};

#endif
