#include "cmd/litefs/log_of.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/litefs/config.h"
#include "store/dbname.h"

/* No name in the mount begins so. */
static bool
is_directory_path(const char *db)
{
        return db[0] == '/' || strncmp(db, "./", 2) == 0 || strncmp(db, "../", 3) == 0;
}

static int
log_in_directory(const char *db, struct txlog **ret, char ret_dir[PATH_MAX], struct err *e)
{
        char path[PATH_MAX + 8];

        snprintf(ret_dir, PATH_MAX, "%s", db);
        snprintf(path, sizeof path, "%s/log", ret_dir);
        if (access(path, R_OK) < 0)
                return err_text(
                        e, -ENOENT,
                        "%s is not the directory of a database, as those in DATA/dbs and DATA/orphans are",
                        db);
        return txlog_open_readonly(os_host(), path, ret, e);
}

static int
log_in_data(const char *data, const char *db, struct txlog **ret, char ret_dir[PATH_MAX], struct err *e)
{
        char dir[DBNAME_MAX + 1], path[PATH_MAX + 8];
        int r = dbname_encode(db, dir);

        if (r < 0)
                return err_set(e, r, "database %s", db);
        if (snprintf(ret_dir, PATH_MAX, "%s/dbs/%s", data, dir) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "%s", data);
        snprintf(path, sizeof path, "%s/log", ret_dir);
        if (access(path, R_OK) < 0)
                return err_text(
                        e, -ENOENT,
                        "no log of database %s in the data directory %s; name the database as it is in the mount, "
                        "and the directory with -data-dir DIR or -config PATH",
                        db, data);
        return txlog_open_readonly(os_host(), path, ret, e);
}

int
log_of(const struct log_place *place, const char *db, struct txlog **ret, char ret_dir[PATH_MAX],
       struct err *e)
{
        struct config config;
        int r;

        if (is_directory_path(db))
                return log_in_directory(db, ret, ret_dir, e);
        if (place->data_dir != NULL)
                return log_in_data(place->data_dir, db, ret, ret_dir, e);
        r = config_init(&config);
        if (r == 0)
                r = config_load(&config, place->config_path, false, e);
        if (r == 0)
                r = log_in_data(config.data.dir, db, ret, ret_dir, e);
        config_release(&config);
        return r;
}
