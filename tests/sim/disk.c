/* A machine's disk: the host's files by way of tests/lib/os_crash.h where power may fail, slow now and then. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/sim/world.h"

static int
disk_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode)
{
        struct disk *d = (struct disk *)(uintptr_t)os;
        int fd = d->under->open(d->under, tag, path, flags, mode);

        if (fd >= FDS_MAX)
                abort();
        if (fd >= 0)
                d->is_open[fd] = true;
        return fd;
}

static int
disk_close(const struct os *os, const char *tag, int fd)
{
        struct disk *d = (struct disk *)(uintptr_t)os;

        if (fd >= 0)
                d->is_open[fd] = false;
        return fd >= 0 ? d->under->close(d->under, tag, fd) : 0;
}

#define UNDER(os) (((const struct disk *)(os))->under)

static ssize_t
disk_pread(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off)
{
        return UNDER(os)->pread(UNDER(os), tag, fd, buf, n, off);
}

static ssize_t
disk_pwrite(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off)
{
        return UNDER(os)->pwrite(UNDER(os), tag, fd, buf, n, off);
}

/* A disk may be slow. Not within what the loop does, which never waits. */
static void
wait_for_disk(const struct os *os)
{
        const struct machine *m = ((const struct disk *)os)->m;
        struct world *w = m->w;

        if (fiber_current(w->sim) == NULL)
                return;
        if (!w->is_calm && sim_chance(w->sim, w->spike_permille))
                fiber_sleep(w->sim, sim_between(w->sim, 0, w->ttl_ms / 2));
        else if (sim_chance(w->sim, 300))
                fiber_sleep(w->sim, sim_between(w->sim, 0, 2));
}

static int
disk_fdatasync(const struct os *os, const char *tag, int fd)
{
        wait_for_disk(os);
        return UNDER(os)->fdatasync(UNDER(os), tag, fd);
}

static int
disk_fsync(const struct os *os, const char *tag, int fd)
{
        return UNDER(os)->fsync(UNDER(os), tag, fd);
}

static int
disk_ftruncate(const struct os *os, const char *tag, int fd, off_t size)
{
        return UNDER(os)->ftruncate(UNDER(os), tag, fd, size);
}

static int
disk_fstat(const struct os *os, const char *tag, int fd, struct stat *ret)
{
        return UNDER(os)->fstat(UNDER(os), tag, fd, ret);
}

static int
disk_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret)
{
        return UNDER(os)->lstat(UNDER(os), tag, path, ret);
}

static int
disk_rename(const struct os *os, const char *tag, const char *from, const char *to)
{
        return UNDER(os)->rename(UNDER(os), tag, from, to);
}

static int
disk_link(const struct os *os, const char *tag, const char *from, const char *to)
{
        return UNDER(os)->link(UNDER(os), tag, from, to);
}

static int
disk_unlink(const struct os *os, const char *tag, const char *path)
{
        return UNDER(os)->unlink(UNDER(os), tag, path);
}

static int
disk_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode)
{
        return UNDER(os)->mkdir(UNDER(os), tag, path, mode);
}

static int
disk_rmdir(const struct os *os, const char *tag, const char *path)
{
        return UNDER(os)->rmdir(UNDER(os), tag, path);
}

static const struct os disk_os = { disk_open,  disk_close,     disk_pread, disk_pwrite, disk_fdatasync,
                                   disk_fsync, disk_ftruncate, disk_fstat, disk_lstat,  disk_rename,
                                   disk_link,  disk_unlink,    disk_mkdir, disk_rmdir };

void
disk_start(struct machine *m)
{
        m->crash = m->w->loses_power ? os_crash_new(m->data, sim_random(m->w->sim)) : NULL;
        m->disk = (struct disk){ .os = disk_os,
                                 .m = m,
                                 .under = m->crash != NULL ? os_crash_os(m->crash) : os_host() };
}

void
disk_stop(struct machine *m, bool is_silent)
{
        if (m->crash != NULL && is_silent) {
                m->w->n_power++;
                os_crash_now(m->crash);
        }
        for (int fd = 0; fd < FDS_MAX; fd++)
                if (m->disk.is_open[fd])
                        close(fd);
        if (m->crash != NULL)
                os_crash_free(m->crash);
        m->crash = NULL;
}
