#include "cmd/litefs/passing.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cmd/litefs/config.h"
#include "db/habit.h"

/* Auto is off: nobody can see whether an application is going to sync its commits. */
static enum wal_passthrough
passing_of_mode(const char *mode)
{
        return strcmp(mode, "full") == 0   ? WAL_PASSTHROUGH_FULL
               : strcmp(mode, "fast") == 0 ? WAL_PASSTHROUGH_FAST
                                           : WAL_PASSTHROUGH_OFF;
}

enum wal_passthrough
passing_of(const struct config *c, const char *db_name)
{
        return passing_of_mode(config_wal_passthrough(c, db_name));
}

bool
passing_any(const struct config *c)
{
        const struct string_list *l = &c->fuse.wal_passthrough_databases;
        bool is_any = passing_of_mode(c->fuse.wal_passthrough) != WAL_PASSTHROUGH_OFF;

        for (size_t i = 0; i < l->n; i++)
                is_any = is_any || passing_of_mode(strrchr(l->items[i], '=') + 1) != WAL_PASSTHROUGH_OFF;
        return is_any;
}

/* As far as that is seen without trying: Linux 6.9, and root. */
static bool
may_pass_through(void)
{
        struct utsname u;
        int major_version = 0, minor_version = 0;

        return geteuid() == 0 && uname(&u) == 0 &&
               sscanf(u.release, "%d.%d", &major_version, &minor_version) == 2 &&
               (major_version > 6 || (major_version == 6 && minor_version >= 9));
}

void
passing_advise(const struct config *c, struct db *db, char buf[PASSING_ADVICE_SIZE])
{
        const char *mode = config_wal_passthrough(c, db_name(db)), *name = db_name(db);
        unsigned long long n_synced = db_counter(db, DB_COUNT_SYNCED);
        unsigned long long n_unsynced = db_counter(db, DB_COUNT_UNSYNCED);

        buf[0] = '\0';
        if (strcmp(mode, "auto") == 0 && db_syncs_each(db) && may_pass_through())
                snprintf(
                        buf, PASSING_ADVICE_SIZE,
                        "%s: %llu commits in WAL mode, all synced (synchronous=FULL): with "
                        "fuse.wal-passthrough-databases: [\"%s=full\"] each of them is one request to litefs "
                        "instead of three",
                        name, n_synced, name);
        else if (strcmp(mode, "full") == 0 && n_unsynced > 0)
                snprintf(
                        buf, PASSING_ADVICE_SIZE,
                        "%s: %llu of %llu commits were not synced (synchronous=NORMAL): with "
                        "fuse.wal-passthrough: full litefs captures them after the application was told, and the "
                        "lease is not asked. Set synchronous=FULL, or fuse.wal-passthrough-databases: [\"%s=off\"]",
                        name, n_unsynced, n_synced + n_unsynced, name);
}
