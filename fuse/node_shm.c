/* NAME-shm: the wal-index. Applications map it; what arrives here is the kernel writing it back. It is worth
 * nothing after a restart. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

static int
open_shm(struct session *s, struct inode *in, int flags, mode_t mode)
{
        char path[PATH_MAX];
        int r = store_db_path(s->store, in->db, "shm", path, sizeof path);

        if (r == 0 && !store_may_open(s->store, db_name(in->db)))
                r = -ENFILE;
        if (r < 0)
                return r;
        in->fd = open(path, O_RDWR | O_CLOEXEC | flags, mode);
        return in->fd < 0 ? -errno : 0;
}

int
shm_open_fd(struct session *s, struct inode *in)
{
        return in->fd >= 0 ? 0 : open_shm(s, in, 0, 0);
}

int
shm_create(struct session *s, struct inode *in)
{
        return open_shm(s, in, O_CREAT | O_TRUNC, 0600);
}

int
shm_remove(struct session *s, struct inode *in)
{
        char path[PATH_MAX];
        int r;

        (void)shm_open_fd(s, in); /* those who have it mapped keep it */
        r = store_db_path(s->store, in->db, "shm", path, sizeof path);
        return r < 0 ? r : unlink(path) < 0 ? -errno : 0;
}

bool
shm_exists(struct session *s, struct db *db)
{
        char path[PATH_MAX];

        return store_db_path(s->store, db, "shm", path, sizeof path) == 0 && access(path, F_OK) == 0;
}

static int
stat_shm(struct session *s, struct inode *in, struct stat *ret)
{
        int r = shm_open_fd(s, in);

        if (r == 0)
                r = os_fstat(os_host(), "shm:stat", in->fd, ret);
        if (r == 0)
                stat_as_database(in->db, ret);
        return r;
}

/* Who reads needs an index, also on a disk that is full; and what is in it ends with those who have it open. In memory, then,
 * and in the descriptor that all use: the file keeps its name, and is empty, so that who finds it later makes it anew. */
static int
move_to_memory(struct inode *in)
{
        uint8_t buf[16384];
        uint64_t off = 0;
        int fd = memfd_create("litefs-shm", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;
        ssize_t n = 1;

        while (r == 0 && n > 0) {
                n = os_pread_all(os_host(), "shm:read", in->fd, buf, sizeof buf, (off_t)off);
                r = n <= 0 ? (int)n
                           : os_pwrite_all(os_host(), "shm:write", fd, buf, (size_t)n, (off_t)off);
                off += n > 0 ? (uint64_t)n : 0;
        }
        if (r == 0)
                r = os_ftruncate(os_host(), "shm:truncate", in->fd, 0);
        if (r == 0 && dup3(fd, in->fd, O_CLOEXEC) < 0)
                r = -errno;
        if (fd >= 0)
                close(fd);
        return r;
}

static ssize_t
read_shm(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        int r = shm_open_fd(s, in);

        return r < 0 ? r : os_pread_all(os_host(), "shm:read", in->fd, buf, n, (off_t)off);
}

static int
write_shm(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
          struct db_done done)
{
        int r = shm_open_fd(s, in);

        (void)done;
        db_count(in->db, DB_COUNT_SHM_WRITES);
        if (r == 0)
                r = os_pwrite_all(os_host(), "shm:write", in->fd, buf, n, (off_t)off);
        if ((r == -ENOSPC || r == -EDQUOT) && move_to_memory(in) == 0)
                r = os_pwrite_all(os_host(), "shm:write", in->fd, buf, n, (off_t)off);
        return r;
}

static int
truncate_shm(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        int r = shm_open_fd(s, in);

        (void)done;
        return r < 0 ? r : os_ftruncate(os_host(), "shm:truncate", in->fd, (off_t)size);
}

static int
fsync_shm(struct session *s, struct inode *in, bool is_data_only, struct db_done done)
{
        (void)s, (void)in, (void)is_data_only, (void)done;
        return 0;
}

const struct node_ops node_shm_ops = {
        .stat = stat_shm,
        .read = read_shm,
        .write = write_shm,
        .truncate = truncate_shm,
        .fsync = fsync_shm,
        .chmod = chmod_companion,
        .chown = chown_companion,
};
