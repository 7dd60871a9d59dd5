/* NAME-wal (lib/db/capture_wal.c). */
#include <errno.h>
#include <sys/stat.h>

#include "fuse/fuse_internal.h"

static int
stat_wal(struct session *s, struct inode *in, struct stat *ret)
{
        int r = in->fd >= 0 ? os_fstat(os_host(), "wal:stat", in->fd, ret) : db_wal_stat(in->db, ret);

        (void)s;
        if (r == 0)
                stat_as_database(in->db, ret);
        return r;
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
wal_node_write(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
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
        if (in->fd >= 0) /* what applications have written there without us is in nobody's log */
                return in->backing_id > 0 ? -EIO : 0;
        return db_wal_fsync(in->db, done);
}

const struct node_ops node_wal_ops = {
        .stat = stat_wal,
        .read = read_wal,
        .write = wal_node_write,
        .truncate = truncate_wal,
        .fsync = fsync_wal,
        .chmod = chmod_companion,
        .chown = chown_companion,
};
