#include "store/ownership.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/dbname.h"
#include "store/store_internal.h"

#define DIRECTORY_BITS 03777
#define FILE_BITS 01777

_Static_assert(DBNAME_MAX / 4 + 3 <= PATH_OWNERSHIP_MAX,
               "each part of a path has a byte, and a '/' counts three");

struct change {
        struct store *s;
        const char *path;
        size_t n;
};

static int
tell_database(void *arg, struct db *db)
{
        const struct change *ch = arg;
        const char *name = db_name(db);

        if (ch->n == 0 ||
            (strncmp(name, ch->path, ch->n) == 0 && (name[ch->n] == '\0' || name[ch->n] == '/')))
                store_tell_committed(ch->s, db);
        return 0;
}

void
store_ownership_changed(struct store *s, const char *path)
{
        struct change ch = { s, path, strlen(path) };

        atomic_fetch_add(&s->ownership_version, 1);
        store_each(s, tell_database, &ch);
}

uint64_t
store_ownership_version(const struct store *s)
{
        return atomic_load(&s->ownership_version) + 1;
}

/* Calls @fn for each directory on the way to @name, the root first, with its path under DATA/files. */
static int
each_directory(struct store *s, const char *name, int (*fn)(void *arg, const char *path), void *arg)
{
        char path[PATH_MAX];
        const char *slash = name;
        int r, n = snprintf(path, sizeof path, "%s", s->files_dir);

        if (n < 0 || (size_t)n >= sizeof path)
                return -ENAMETOOLONG;
        r = fn(arg, path);
        while (r == 0 && (slash = strchr(slash, '/')) != NULL) {
                n = snprintf(path, sizeof path, "%s/%.*s", s->files_dir, (int)(slash - name), name);
                r = n < 0 || (size_t)n >= sizeof path ? -ENAMETOOLONG : fn(arg, path);
                slash++;
        }
        return r;
}

static int
read_directory(void *arg, const char *path)
{
        struct path_ownership *po = arg;
        struct stat st;

        if (po->n == PATH_OWNERSHIP_MAX)
                return -ENAMETOOLONG;
        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode))
                return -ENOTDIR;
        po->at[po->n++] = (struct ownership){ (uint16_t)(st.st_mode & DIRECTORY_BITS), st.st_uid,
                                              st.st_gid };
        return 0;
}

int
store_read_ownership(struct store *s, struct db *db, struct path_ownership *ret)
{
        struct stat st;
        int r;

        ret->n = 0;
        r = each_directory(s, db_name(db), read_directory, ret);
        if (r == 0)
                r = db_stat(db, &st);
        if (r < 0)
                return r;
        if (ret->n == PATH_OWNERSHIP_MAX)
                return -ENAMETOOLONG;
        ret->at[ret->n++] = (struct ownership){ (uint16_t)(st.st_mode & FILE_BITS), st.st_uid,
                                                st.st_gid };
        return 0;
}

/* --- on a replica --- */

struct taking {
        const struct path_ownership *po;
        unsigned i;
};

static int
take_directory(void *arg, const char *path)
{
        struct taking *t = arg;
        const struct ownership *o = &t->po->at[t->i++];
        mode_t mode = o->mode & DIRECTORY_BITS;

        if (t->i >= t->po->n)
                return -EINVAL;
        if (geteuid() != 0)
                mode = (mode & 01777) | 0700; /* its way in, and no group of its own to hand on */
        else if (fchownat(AT_FDCWD, path, o->uid, o->gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return chmod(path, mode) < 0 ? -errno : 0;
}

int
store_take_ownership(struct store *s, struct db *db, const struct path_ownership *po, struct err *e)
{
        const struct ownership *own = &po->at[po->n - 1];
        struct taking t = { po, 0 };
        int r = po->n < 2 ? -EINVAL : each_directory(s, db_name(db), take_directory, &t);

        if (r == 0 && geteuid() == 0)
                r = db_chown(db, own->uid, own->gid);
        if (r == 0)
                r = db_chmod(db, (own->mode & FILE_BITS) | (geteuid() != 0 ? 0600 : 0));
        return r < 0 ? err_set(e, r, "give %s the mode and owner that it has on the primary",
                               db_name(db))
                     : 0;
}
