#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

#define UNUSED_OS (void)os, (void)tag

/* The result of a system call as this layer gives it. */
static inline int
negate(int r)
{
        return r < 0 ? -errno : r;
}

static int
host_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        int fd;

        UNUSED_OS;
        fd = open(path, flags | O_CLOEXEC, mode);
        return negate(fd);
}

static int
host_close(const struct os *os, const char *tag, int fd)
{
        UNUSED_OS;
        /* After EINTR Linux has closed the descriptor all the same; closing again could hit another. */
        if (close(fd) < 0 && errno != EINTR)
                return -errno;
        return 0;
}

static ssize_t
host_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        ssize_t r;

        UNUSED_OS;
        r = pread(fd, buf, n, off);
        return r < 0 ? -errno : r;
}

static ssize_t
host_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        ssize_t r;

        UNUSED_OS;
        r = pwrite(fd, buf, n, off);
        return r < 0 ? -errno : r;
}

static int
host_fdatasync(const struct os *os, const char *tag, int fd)
{
        UNUSED_OS;
        return negate(fdatasync(fd));
}

static int
host_fsync(const struct os *os, const char *tag, int fd)
{
        UNUSED_OS;
        return negate(fsync(fd));
}

static int
host_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        UNUSED_OS;
        return negate(ftruncate(fd, size));
}

static int
host_fstat(const struct os *os, const char *tag, int fd, struct stat *ret)
{
        UNUSED_OS;
        return negate(fstat(fd, ret));
}

static int
host_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret)
{
        UNUSED_OS;
        return negate(lstat(path, ret));
}

static int
host_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        UNUSED_OS;
        return negate(rename(from, to));
}

static int
host_link(const struct os *os, const char *tag, const char *from, const char *to)
{
        UNUSED_OS;
        return negate(link(from, to));
}

static int
host_unlink(const struct os *os, const char *tag, const char *path)
{
        UNUSED_OS;
        return negate(unlink(path));
}

static int
host_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        UNUSED_OS;
        return negate(mkdir(path, mode));
}

static int
host_rmdir(const struct os *os, const char *tag, const char *path)
{
        UNUSED_OS;
        return negate(rmdir(path));
}

static const struct os host = {
        .open = host_open,
        .close = host_close,
        .pread = host_pread,
        .pwrite = host_pwrite,
        .fdatasync = host_fdatasync,
        .fsync = host_fsync,
        .ftruncate = host_ftruncate,
        .fstat = host_fstat,
        .lstat = host_lstat,
        .rename = host_rename,
        .link = host_link,
        .unlink = host_unlink,
        .mkdir = host_mkdir,
        .rmdir = host_rmdir,
};

const struct os *
os_host(void)
{
        return &host;
}

int
os_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        int fd;

        do
                fd = os->open(os, tag, path, flags, mode);
        while (fd == -EINTR);
        return fd;
}

int
os_close(const struct os *os, const char *tag, int fd)
{
        return fd < 0 ? 0 : os->close(os, tag, fd);
}

ssize_t
os_pread_all(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        size_t done = 0;

        while (done < n) {
                ssize_t r = os->pread(os, tag, fd, (char *)buf + done, n - done, off + (off_t)done);

                if (r == -EINTR)
                        continue;
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                done += (size_t)r;
        }
        return (ssize_t)done;
}

int
os_pwrite_all(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        size_t done = 0;

        while (done < n) {
                ssize_t r = os->pwrite(os, tag, fd, (const char *)buf + done, n - done,
                                       off + (off_t)done);

                if (r == -EINTR)
                        continue;
                if (r < 0)
                        return (int)r;
                if (r == 0)
                        return -EIO;
                done += (size_t)r;
        }
        return 0;
}

int
os_write_file(const struct os *os, const char *tag, const char *path, int flags, const void *buf,
              size_t n)
{
        int fd = os_open(os, tag, path, O_WRONLY | O_CLOEXEC | flags, 0600), r;

        if (fd < 0)
                return fd;
        r = os_pwrite_all(os, tag, fd, buf, n, 0);
        if (r == 0)
                r = os_fdatasync(os, tag, fd);
        os_close(os, tag, fd);
        return r;
}

ssize_t
os_read_file(const struct os *os, const char *tag, const char *path, void *buf, size_t n)
{
        int fd = os_open(os, tag, path, O_RDONLY | O_CLOEXEC, 0);
        ssize_t r;

        if (fd < 0)
                return fd;
        r = os_pread_all(os, tag, fd, buf, n, 0);
        os_close(os, tag, fd);
        return r;
}

int
os_fdatasync(const struct os *os, const char *tag, int fd)
{
        thread_will_wait(tag);
        return os->fdatasync(os, tag, fd);
}

int
os_fsync(const struct os *os, const char *tag, int fd)
{
        thread_will_wait(tag);
        return os->fsync(os, tag, fd);
}

int
os_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        int r;

        do
                r = os->ftruncate(os, tag, fd, size);
        while (r == -EINTR);
        return r;
}

int
os_fstat(const struct os *os, const char *tag, int fd, struct stat *ret)
{
        return os->fstat(os, tag, fd, ret);
}

int
os_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret)
{
        return os->lstat(os, tag, path, ret);
}

int
os_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        return os->rename(os, tag, from, to);
}

int
os_link(const struct os *os, const char *tag, const char *from, const char *to)
{
        return os->link(os, tag, from, to);
}

int
os_unlink(const struct os *os, const char *tag, const char *path)
{
        return os->unlink(os, tag, path);
}

int
os_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        return os->mkdir(os, tag, path, mode);
}

int
os_rmdir(const struct os *os, const char *tag, const char *path)
{
        return os->rmdir(os, tag, path);
}

int
os_sync_dir(const struct os *os, const char *tag, const char *path)
{
        int fd, r;

        fd = os_open(os, tag, path, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
                return fd;
        r = os_fsync(os, tag, fd);
        os_close(os, tag, fd);
        return r;
}

int
os_mkdir_all(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        char buf[PATH_MAX];
        size_t n = strlen(path);
        int r;

        if (n == 0 || n >= sizeof buf)
                return n == 0 ? -ENOENT : -ENAMETOOLONG;
        memcpy(buf, path, n + 1);
        for (char *p = buf + 1; *p != '\0'; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                r = os_mkdir(os, tag, buf, mode);
                if (r < 0 && r != -EEXIST)
                        return r;
                *p = '/';
        }
        r = os_mkdir(os, tag, buf, mode);
        return r == -EEXIST ? 0 : r;
}

static int
not_dots(const struct dirent *d)
{
        return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

int
os_list_dir(const struct os *os, const char *tag, const char *path,
            int (*fn)(void *arg, const char *name), void *arg)
{
        struct dirent **list;
        int n, r = 0;

        UNUSED_OS;
        n = scandir(path, &list, not_dots, alphasort);
        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                if (r == 0)
                        r = fn(arg, list[i]->d_name);
                free(list[i]);
        }
        free(list);
        return r;
}

struct removal {
        const struct os *os;
        const char *tag, *dir;
};

static int
remove_below(void *arg, const char *name)
{
        const struct removal *rm = arg;
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", rm->dir, name), r;

        if (n < 0 || (size_t)n >= sizeof path)
                return -ENAMETOOLONG;
        r = os_unlink(rm->os, rm->tag, path);
        if (r != -EISDIR && r != -EPERM) /* Linux says EISDIR, POSIX EPERM */
                return r;
        r = os_empty_dir(rm->os, rm->tag, path);
        return r < 0 ? r : os_rmdir(rm->os, rm->tag, path);
}

int
os_empty_dir(const struct os *os, const char *tag, const char *path)
{
        struct removal rm = { os, tag, path };

        return os_list_dir(os, tag, path, remove_below, &rm);
}
