/* NAME-wal (lib/db/capture_wal.c). */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

static int
stat_wal(struct session *s, struct inode *in, struct stat *ret)
{
        (void)s;
        return in->fd >= 0 ? os_fstat(os_host(), "wal:stat", in->fd, ret) : db_wal_stat(in->db, ret);
}

static ssize_t
read_wal(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        (void)s;
        if (in->fd >= 0)
                return os_pread_all(os_host(), "wal:read", in->fd, buf, n, (off_t)off);
        return db_wal_read(in->db, buf, n, off);
}

static int
write_wal(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
          struct db_done done)
{
        (void)s;
        return in->fd >= 0 ? -EIO : db_wal_write(in->db, buf, n, off, done);
}

static int
truncate_wal(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        (void)s;
        (void)done;
        return in->fd >= 0 ? 0 : db_wal_truncate(in->db, size);
}

static int
fsync_wal(struct session *s, struct inode *in, bool is_data_only, struct db_done done)
{
        (void)s;
        (void)is_data_only;
        return in->fd >= 0 ? 0 : db_wal_fsync(in->db, done);
}

static int
chmod_wal(struct session *s, struct inode *in, mode_t mode)
{
        (void)s;
        if (in->fd >= 0)
                return fchmod(in->fd, mode & 07777) < 0 ? -errno : 0;
        return db_wal_chmod(in->db, mode);
}

static int
chown_wal(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s;
        if (in->fd >= 0)
                return fchown(in->fd, uid, gid) < 0 ? -errno : 0;
        return db_wal_chown(in->db, uid, gid);
}

static bool
is_busy_wal(struct session *s, struct inode *in)
{
        (void)s;
        return db_is_busy(in->db);
}

const struct node_ops node_wal_ops = {
        .stat = stat_wal,
        .read = read_wal,
        .write = write_wal,
        .truncate = truncate_wal,
        .fsync = fsync_wal,
        .chmod = chmod_wal,
        .chown = chown_wal,
        .is_busy = is_busy_wal,
};
