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
plain_open_fd(struct session *s, struct inode *in)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0)
                return 0;
        if (in->is_revoked)
                return -EIO;
        r = inode_path(in, path, sizeof path);
        if (r == 0 && !store_may_open(s->store, path))
                r = -ENFILE;
        if (r < 0)
                return r;
        in->fd = openat(s->files_fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (in->fd < 0 && errno == EACCES)
                in->fd = openat(s->files_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return in->fd < 0 ? -errno : 0;
}

bool
plain_has_other_names(const struct inode *in)
{
        struct stat st;

        return in->kind == INODE_PLAIN && in->fd >= 0 && fstat(in->fd, &st) == 0 && st.st_nlink > 1;
}

static int
plain_stat(struct session *s, struct inode *in, struct stat *ret)
{
        char path[PATH_MAX];
        int r;

        if (in->fd >= 0) {
                r = NEG_ERRNO(fstat(in->fd, ret));
        } else if (in->is_revoked) {
                r = -ESTALE;
        } else {
                r = inode_path(in, path, sizeof path);
                if (r == 0)
                        r = NEG_ERRNO(
                                fstatat(s->files_fd, path, ret, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
        }
        if (r == 0)
                ret->st_mode &= in->kind == INODE_DIR ? ~(mode_t)S_ISUID : ~(mode_t)(S_ISUID | S_ISGID);
        return r;
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

/* No set-id bits but a directory's set-group-ID; see node_db.c. The name of a symbolic link is never followed: it
 * may lead out of the mount. */
static int
plain_chmod(struct session *s, struct inode *in, mode_t mode)
{
        char path[PATH_MAX];
        struct stat st;
        int r;

        mode &= in->kind == INODE_DIR ? 03777 : 01777;
        if (in->fd >= 0)
                return NEG_ERRNO(fchmod(in->fd, mode));
        r = inode_path(in, path, sizeof path);
        if (r == 0)
                r = plain_stat(s, in, &st);
        if (r < 0 || S_ISLNK(st.st_mode))
                return r < 0 ? r : -EOPNOTSUPP;
        return NEG_ERRNO(fchmodat(s->files_fd, path[0] != '\0' ? path : ".", mode, 0));
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
        return r < 0 ? r
                     : NEG_ERRNO(utimensat(s->files_fd, path[0] != '\0' ? path : ".", tv,
                                           AT_SYMLINK_NOFOLLOW));
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
        .has_flush = true,
};

/* --- directories have the same attributes, of the directory under DATA/files --- */

/* Without root's rights litefs keeps the way into its own directories. */
static int
dir_chmod(struct session *s, struct inode *in, mode_t mode)
{
        return plain_chmod(s, in, mode | (geteuid() != 0 ? 0700 : 0));
}

const struct node_ops node_dir_ops = {
        .stat = plain_stat,
        .chmod = dir_chmod,
        .chown = plain_chown,
        .utimens = plain_utimens,
};
