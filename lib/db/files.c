/* The files of a database in its directory: their paths, opening them, and opening again what rests (rest.c). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "db/db_internal.h"

int
db_path(const struct db *db, const char *file, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%s", db->dir, file);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int
db_open_file(struct db *db)
{
        char path[PATH_MAX];
        int r;

        r = db_path(db, "database", path, sizeof path);
        if (r < 0)
                return r;
        r = os_open(db->env->os, "db:open", path, O_RDWR | O_CREAT, 0600);
        if (r < 0)
                return r;
        db->image.fd = r;
        return 0;
}

void
db_remove_file(struct db *db, const char *file)
{
        char path[PATH_MAX];

        if (db_path(db, file, path, sizeof path) == 0)
                (void)os_unlink(db->env->os, "db:drop", path);
}

/* It may have been moved, and another have its place. */
static int
open_again(struct db *db)
{
        const struct os *os = db->env->os;
        char path[PATH_MAX];
        struct stat st;
        int r = db_path(db, "database", path, sizeof path);
        int fd = r < 0 ? r : os_open(os, "db:wake", path, O_RDWR, 0);

        if (fd < 0)
                return fd;
        r = os_fstat(os, "db:wake", fd, &st);
        if (r == 0 && st.st_ino != db->rest.inode)
                r = -ESTALE;
        if (r == 0)
                return fd;
        os_close(os, "db:wake", fd);
        return r;
}

int
db_wake(struct db *db)
{
        int r;

        db->rest.was_used = true;
        if (!db->rest.is_closed)
                return 0;
        r = db->env->may_wake == NULL || db->env->may_wake(db->env->arg) ? open_again(db) : -ENFILE;
        if (r < 0)
                return r;
        db->image.fd = r;
        db->rest.is_closed = false;
        return 0;
}
