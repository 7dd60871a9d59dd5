#include "tests/lib/os_crash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/os_crash_disk.h"

#define FDS_MAX 1024

struct os_crash {
        struct os os; /* first: the calls find the rest through it */
        pthread_mutex_t lock;
        const char *root;
        struct disk *disk;
        struct node *nodes[FDS_MAX]; /* by descriptor */
        uint64_t seed;
        uint64_t n_calls;
        uint64_t cut_at; /* 0: never */
        bool is_dead;
};

static struct os_crash *
self(const struct os *os)
{
        return (struct os_crash *)(uintptr_t)os;
}

static void
die(struct os_crash *oc)
{
        oc->is_dead = true;
        disk_crash(oc->disk, oc->root, oc->seed);
}

/* Begins a call that changes something. False: it must not happen, for there is no power. */
static bool
enter(struct os_crash *oc)
{
        pthread_mutex_lock(&oc->lock);
        if (!oc->is_dead && ++oc->n_calls == oc->cut_at && (oc->seed ^ oc->cut_at) % 3 == 0)
                die(oc);
        return !oc->is_dead;
}

/* Ends it: its result, or what it is when the power went during it. */
static ssize_t
leave(struct os_crash *oc, ssize_t r)
{
        if (!oc->is_dead && oc->n_calls == oc->cut_at)
                die(oc);
        if (oc->is_dead)
                r = -EIO;
        pthread_mutex_unlock(&oc->lock);
        return r;
}

static struct node *
node_of(struct os_crash *oc, int fd)
{
        if (fd < 0 || fd >= FDS_MAX || oc->nodes[fd] == NULL) {
                fprintf(stderr, "os_crash: descriptor %d is not known\n", fd);
                abort();
        }
        return oc->nodes[fd];
}

/* --- calls that change something --- */

static int
crash_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        struct os_crash *oc = self(os);
        struct node *n;
        int fd;

        if (!(flags & (O_CREAT | O_TRUNC))) {
                pthread_mutex_lock(&oc->lock);
                fd = oc->is_dead ? -EIO : os_host()->open(os_host(), tag, path, flags, mode);
                if (fd >= FDS_MAX)
                        abort();
                if (fd >= 0)
                        oc->nodes[fd] = disk_find(oc->disk, path);
                pthread_mutex_unlock(&oc->lock);
                return fd;
        }
        if (!enter(oc))
                return (int)leave(oc, -EIO);
        fd = os_host()->open(os_host(), tag, path, flags, mode);
        if (fd >= FDS_MAX)
                abort();
        if (fd >= 0) {
                n = disk_find(oc->disk, path);
                if (n == NULL)
                        n = disk_create(oc->disk, path, false);
                else if (flags & O_TRUNC)
                        disk_resize(n, 0);
                oc->nodes[fd] = n;
        }
        if (leave(oc, 0) == 0)
                return fd;
        if (fd >= 0)
                os_host()->close(os_host(), tag, fd);
        return -EIO;
}

static ssize_t
crash_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        struct os_crash *oc = self(os);
        ssize_t r = -EIO;

        if (enter(oc)) {
                r = os_host()->pwrite(os_host(), tag, fd, buf, n, off);
                if (r > 0)
                        disk_write(node_of(oc, fd), buf, (size_t)r, (uint64_t)off);
        }
        return leave(oc, r);
}

/* The host's file need not be synced: only our own idea of the disk counts. */
static int
crash_sync(const struct os *os, const char *tag, int fd)
{
        struct os_crash *oc = self(os);

        (void)tag;
        if (enter(oc))
                disk_sync(oc->disk, node_of(oc, fd));
        return (int)leave(oc, 0);
}

static int
crash_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        struct os_crash *oc = self(os);
        int r = -EIO;

        if (enter(oc)) {
                r = os_host()->ftruncate(os_host(), tag, fd, size);
                if (r == 0)
                        disk_resize(node_of(oc, fd), (uint64_t)size);
        }
        return (int)leave(oc, r);
}

static int
crash_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        struct os_crash *oc = self(os);
        int r = -EIO;

        if (enter(oc)) {
                r = os_host()->rename(os_host(), tag, from, to);
                if (r == 0)
                        disk_rename(oc->disk, from, to);
        }
        return (int)leave(oc, r);
}

/* A file of two names is not modelled: nothing that has to outlive a crash is made so. */
static int
crash_link(const struct os *os, const char *tag, const char *from, const char *to)
{
        (void)os, (void)tag, (void)from, (void)to;
        return -ENOTSUP;
}

static int
crash_unlink(const struct os *os, const char *tag, const char *path)
{
        struct os_crash *oc = self(os);
        int r = -EIO;

        if (enter(oc)) {
                r = os_host()->unlink(os_host(), tag, path);
                if (r == 0)
                        disk_unlink(oc->disk, path);
        }
        return (int)leave(oc, r);
}

static int
crash_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        struct os_crash *oc = self(os);
        int r = -EIO;

        if (enter(oc)) {
                r = os_host()->mkdir(os_host(), tag, path, mode);
                if (r == 0)
                        (void)disk_create(oc->disk, path, true);
        }
        return (int)leave(oc, r);
}

static int
crash_rmdir(const struct os *os, const char *tag, const char *path)
{
        struct os_crash *oc = self(os);
        int r = -EIO;

        if (enter(oc)) {
                r = os_host()->rmdir(os_host(), tag, path);
                if (r == 0)
                        disk_unlink(oc->disk, path);
        }
        return (int)leave(oc, r);
}

/* --- calls that do not --- */

static int
crash_close(const struct os *os, const char *tag, int fd)
{
        struct os_crash *oc = self(os);
        int r;

        pthread_mutex_lock(&oc->lock);
        oc->nodes[fd] = NULL;
        r = os_host()->close(os_host(), tag, fd);
        pthread_mutex_unlock(&oc->lock);
        return r;
}

static ssize_t
crash_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        return os_crash_is_dead(self(os)) ? -EIO : os_host()->pread(os_host(), tag, fd, buf, n, off);
}

static int
crash_fstat(const struct os *os, const char *tag, int fd, struct stat *ret)
{
        return os_crash_is_dead(self(os)) ? -EIO : os_host()->fstat(os_host(), tag, fd, ret);
}

static int
crash_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret)
{
        return os_crash_is_dead(self(os)) ? -EIO : os_host()->lstat(os_host(), tag, path, ret);
}

/* --- life --- */

struct os_crash *
os_crash_new(const char *root, uint64_t seed)
{
        static const struct os calls = {
                .open = crash_open,
                .close = crash_close,
                .pread = crash_pread,
                .pwrite = crash_pwrite,
                .fdatasync = crash_sync,
                .fsync = crash_sync,
                .ftruncate = crash_ftruncate,
                .fstat = crash_fstat,
                .lstat = crash_lstat,
                .rename = crash_rename,
                .link = crash_link,
                .unlink = crash_unlink,
                .mkdir = crash_mkdir,
                .rmdir = crash_rmdir,
        };
        struct os_crash *oc = calloc(1, sizeof *oc);

        if (oc == NULL)
                abort();
        oc->os = calls;
        oc->root = root;
        oc->seed = seed;
        oc->disk = disk_new(root);
        pthread_mutex_init(&oc->lock, NULL);
        return oc;
}

void
os_crash_free(struct os_crash *oc)
{
        disk_free(oc->disk);
        pthread_mutex_destroy(&oc->lock);
        free(oc);
}

const struct os *
os_crash_os(struct os_crash *oc)
{
        return &oc->os;
}

void
os_crash_after(struct os_crash *oc, uint64_t n)
{
        pthread_mutex_lock(&oc->lock);
        oc->cut_at = n == 0 ? 0 : oc->n_calls + n;
        pthread_mutex_unlock(&oc->lock);
}

uint64_t
os_crash_calls(struct os_crash *oc)
{
        uint64_t n;

        pthread_mutex_lock(&oc->lock);
        n = oc->n_calls;
        pthread_mutex_unlock(&oc->lock);
        return n;
}

bool
os_crash_is_dead(struct os_crash *oc)
{
        bool is_dead;

        pthread_mutex_lock(&oc->lock);
        is_dead = oc->is_dead;
        pthread_mutex_unlock(&oc->lock);
        return is_dead;
}

void
os_crash_now(struct os_crash *oc)
{
        pthread_mutex_lock(&oc->lock);
        if (!oc->is_dead)
                die(oc);
        pthread_mutex_unlock(&oc->lock);
}
