/* Plain files, kept under DATA/files as they are. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

#define NEG_ERRNO(r) ((r) < 0 ? -errno : 0)

int
plain_path(struct session *s, const struct inode *parent, const char *name, char *buf, size_t size)
{
        (void)s;
        return name != NULL ? inode_child_path(parent, name, buf, size) : inode_path(parent, buf, size);
}

int
plain_open_fd(struct session *s, struct inode *in)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return 0;
        r = inode_path(in, path, sizeof path);
        if (r < 0)
                return r;
        in->fd = openat(s->files_fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (in->fd < 0 && errno == EACCES)
                in->fd = openat(s->files_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return in->fd < 0 ? -errno : 0;
}

static int
plain_stat(struct session *s, struct inode *in, struct stat *ret)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return NEG_ERRNO(fstat(in->fd, ret));
        r = inode_path(in, path, sizeof path);
        if (r < 0)
                return r;
        return NEG_ERRNO(fstatat(s->files_fd, path, ret, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
}

static ssize_t
plain_read(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        int r = plain_open_fd(s, in);

        return r < 0 ? r : os_pread_all(os_host(), "plain:read", in->fd, buf, n, (off_t)off);
}

static int
plain_write(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
            struct db_done done)
{
        int r = plain_open_fd(s, in);

        (void)done;
        return r < 0 ? r : os_pwrite_all(os_host(), "plain:write", in->fd, buf, n, (off_t)off);
}

static int
plain_truncate(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        int r = plain_open_fd(s, in);

        (void)done;
        return r < 0 ? r : os_ftruncate(os_host(), "plain:truncate", in->fd, (off_t)size);
}

struct fsync_job {
        struct work work;
        int fd;
        bool is_data_only;
        struct db_done done;
};

static void
run_fsync(struct work *w)
{
        struct fsync_job *job = (struct fsync_job *)w;
        int r = NEG_ERRNO(job->is_data_only ? fdatasync(job->fd) : fsync(job->fd));

        close(job->fd);
        job->done.fn(job->done.arg, r);
        free(job);
}

static int
plain_fsync(struct session *s, struct inode *in, bool is_data_only, struct db_done done)
{
        struct fsync_job *job;
        int fd, r = plain_open_fd(s, in);

        if (r < 0)
                return r;
        /* A duplicate: the node may be forgotten while the disk works. */
        fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        job = malloc(sizeof *job);
        if (job == NULL) {
                close(fd);
                return -ENOMEM;
        }
        *job = (struct fsync_job){ { run_fsync, NULL }, fd, is_data_only, done };
        workers_post(s->config.workers, &job->work);
        return DB_PENDING;
}

static int
plain_chmod(struct session *s, struct inode *in, mode_t mode)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return NEG_ERRNO(fchmod(in->fd, mode & 07777));
        r = inode_path(in, path, sizeof path);
        return r < 0 ? r : NEG_ERRNO(fchmodat(s->files_fd, path, mode & 07777, 0));
}

static int
plain_chown(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return NEG_ERRNO(fchown(in->fd, uid, gid));
        r = inode_path(in, path, sizeof path);
        return r < 0 ? r
                     : NEG_ERRNO(fchownat(s->files_fd, path, uid, gid,
                                          AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
}

static int
plain_utimens(struct session *s, struct inode *in, const struct timespec tv[2])
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return NEG_ERRNO(futimens(in->fd, tv));
        r = inode_path(in, path, sizeof path);
        return r < 0 ? r : NEG_ERRNO(utimensat(s->files_fd, path, tv, AT_SYMLINK_NOFOLLOW));
}

static bool
plain_is_busy(struct session *s, struct inode *in)
{
        (void)s;
        return in->is_busy;
}

const struct node_ops node_plain_ops = {
        .stat = plain_stat,
        .read = plain_read,
        .write = plain_write,
        .truncate = plain_truncate,
        .fsync = plain_fsync,
        .chmod = plain_chmod,
        .chown = plain_chown,
        .utimens = plain_utimens,
        .is_busy = plain_is_busy,
        .has_flush = true,
};

/* --- directories have the same attributes, of the directory under DATA/files --- */

static int
dir_stat(struct session *s, struct inode *in, struct stat *ret)
{
        int r = plain_stat(s, in, ret);

        /* LiteFS shows by the root's mode whether files can be created. */
        if (r == 0 && in == &s->inodes.root && !store_is_primary(s->store))
                ret->st_mode = S_IFDIR | 0555;
        return r;
}

const struct node_ops node_dir_ops = {
        .stat = dir_stat,
        .chmod = plain_chmod,
        .chown = plain_chown,
        .utimens = plain_utimens,
};
