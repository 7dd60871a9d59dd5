#include "fuse/remains.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuse/fs.h"
#include "store/leftovers.h"

void
remains_note(struct session *s, struct db *db, struct remains *ret)
{
        *ret = (struct remains){ .has_journal = db_journal_exists(db),
                                 .has_wal = db_wal_exists(db),
                                 .has_shm = shm_exists(s, db) };
        if (db_stat(db, &ret->st) < 0)
                ret->st = (struct stat){ .st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid() };
}

/* What was hidden there by the database until now, from before it was one, goes. */
static void
leave_name(struct session *s, struct db *db, const char *suffix, bool exists, const struct stat *st)
{
        char path[PATH_MAX];
        int fd;

        if (snprintf(path, sizeof path, "%s%s", db_name(db), suffix) >= (int)sizeof path)
                return;
        (void)unlinkat(s->files_fd, path, 0);
        if (!exists)
                return;
        fd = openat(s->files_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return;
        if ((geteuid() == 0 && fchown(fd, st->st_uid, st->st_gid) < 0) ||
            fchmod(fd, st->st_mode & 0777) < 0)
                (void)unlinkat(s->files_fd, path, 0);
        close(fd);
}

void
remains_leave(struct session *s, struct db *db, const struct remains *rm)
{
        leave_name(s, db, "-journal", rm->has_journal, &rm->st);
        leave_name(s, db, "-wal", rm->has_wal, &rm->st);
        leave_name(s, db, "-shm", rm->has_shm, &rm->st);
}

/* Calls @fn for each name in the directory, until it returns non-zero, which is returned. */
static int
each_name(struct session *s, const char *path, int (*fn)(struct session *s, const char *path))
{
        int fd = openat(s->files_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
        char name[PATH_MAX + NAME_MAX + 2];
        struct dirent *d;
        DIR *dir;

        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (dir == NULL) {
                close(fd);
                return -ENOMEM;
        }
        while (r == 0 && (d = readdir(dir)) != NULL) {
                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
                        continue;
                snprintf(name, sizeof name, "%s/%s", path, d->d_name);
                r = fn(s, name);
        }
        closedir(dir);
        return r;
}

static int
is_no_remains(struct session *s, const char *path)
{
        struct stat st;

        return fstatat(s->files_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
               !leftovers_is_remains(s->store, path, &st);
}

static int
remove_name(struct session *s, const char *path)
{
        return NEG_ERRNO(unlinkat(s->files_fd, path, 0));
}

int
remains_clear(struct session *s, const char *path)
{
        int r = each_name(s, path, is_no_remains);

        return r > 0 ? -ENOTEMPTY : r < 0 ? r : each_name(s, path, remove_name);
}

int
remains_rmdir(struct session *s, const char *path)
{
        int r = NEG_ERRNO(unlinkat(s->files_fd, path, AT_REMOVEDIR));

        if (r == -ENOTEMPTY && (r = remains_clear(s, path)) == 0)
                r = NEG_ERRNO(unlinkat(s->files_fd, path, AT_REMOVEDIR));
        return r;
}
