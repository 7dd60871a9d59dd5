#include "fuse/own_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "fuse/fuse_internal.h"

int
own_mount_enter(struct session *s, const char *what)
{
        (void)s;
        if (thread_may_enter_own_mount())
                return 0;
        log_error(
                "internal error: %s in the mount, by a thread that answers requests; refused, for it could wait for "
                "itself. Please report this line",
                what);
        return -EDEADLK;
}

int
own_open(struct session *s, struct db *db, const char *suffix, int flags, mode_t mode,
         struct own_file *ret)
{
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s%s", s->mount_dir, db_name(db), suffix);
        int r = own_mount_enter(s, "open");

        *ret = OWN_FILE_NONE;
        if (n < 0 || (size_t)n >= sizeof path)
                return -ENAMETOOLONG;
        if (r < 0)
                return r;
        ret->fd = open(path, O_RDWR | O_CLOEXEC | flags, mode);
        return ret->fd < 0 ? -errno : 0;
}

struct close_job {
        struct work work;
        int fd;
};

static void
run_close(struct work *w)
{
        struct close_job *job = (struct close_job *)w;

        close(job->fd);
        free(job);
}

/* Closing may be the end of a node that was deleted, and waits then for its pages to be written back. The locks go at
 * once, for whoever is answered next may want them. */
void
own_close(struct session *s, struct own_file *f)
{
        struct close_job *job = thread_may_enter_own_mount() || f->fd < 0 ? NULL : malloc(sizeof *job);

        if (job != NULL) {
                (void)own_lock(f, F_UNLCK, 0, 0);
                *job = (struct close_job){ { run_close, NULL }, f->fd };
                workers_post(s->config.visitors, &job->work);
        } else if (f->fd >= 0) {
                close(f->fd);
        }
        f->fd = -1;
}

int
own_stat(struct session *s, const struct own_file *f, struct stat *ret)
{
        int r = own_mount_enter(s, "stat");

        return r < 0 ? r : fstat(f->fd, ret) < 0 ? -errno : 0;
}

ssize_t
own_read(struct session *s, const struct own_file *f, void *buf, size_t n, off_t off)
{
        int r = own_mount_enter(s, "read");
        ssize_t got = r < 0 ? r : pread(f->fd, buf, n, off);

        return r < 0 ? r : got < 0 ? -errno : got;
}

int
own_write(struct session *s, const struct own_file *f, const void *buf, size_t n, off_t off)
{
        int r = own_mount_enter(s, "write");
        ssize_t done = r < 0 ? r : pwrite(f->fd, buf, n, off);

        return r < 0 ? r : done < 0 ? -errno : done < (ssize_t)n ? -EIO : 0;
}

int
own_truncate(struct session *s, const struct own_file *f, off_t size)
{
        int r = own_mount_enter(s, "truncate");

        return r < 0 ? r : ftruncate(f->fd, size) < 0 ? -errno : 0;
}

int
own_lock(const struct own_file *f, short type, off_t start, off_t len)
{
        struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

        if (fcntl(f->fd, F_OFD_SETLK, &fl) == 0)
                return 0;
        return errno == EACCES || errno == EAGAIN ? -EAGAIN : -errno;
}

bool
own_is_locked_by_process(const struct own_file *f, off_t byte)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(f->fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK && fl.l_pid != -1;
}

bool
own_is_locked_by_another(const struct own_file *f, off_t byte)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(f->fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}
