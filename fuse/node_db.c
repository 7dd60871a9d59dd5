/* NAME: the database file. */
#include <errno.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

static int
stat_db(struct session *s, struct inode *in, struct stat *ret)
{
        int r;

        (void)s;
        if (in->fd >= 0)
                return os_fstat(os_host(), "db:stat", in->fd, ret);
        r = db_stat(in->db, ret);
        if (r == 0 && !store_is_primary(s->store))
                ret->st_mode = S_IFREG | 0444;
        return r;
}

static ssize_t
read_db(struct session *s, struct inode *in, void *buf, size_t n, uint64_t off)
{
        (void)s;
        if (in->fd >= 0) /* deleted: the old file, for those who have it open */
                return os_pread_all(os_host(), "db:read", in->fd, buf, n, (off_t)off);
        return db_read(in->db, buf, n, off);
}

static int
write_db(struct session *s, struct inode *in, const void *buf, size_t n, uint64_t off,
         struct db_done done)
{
        if (in->fd >= 0)
                return os_pwrite_all(os_host(), "db:write", in->fd, buf, n, (off_t)off);
        if (!db_has_unjournaled(in->db))
                store_wants_tick(s->store); /* should this one turn out to have no journal */
        return db_write(in->db, buf, n, off, done);
}

static int
truncate_db(struct session *s, struct inode *in, uint64_t size, struct db_done done)
{
        (void)s;
        (void)done;
        if (in->fd >= 0)
                return os_ftruncate(os_host(), "db:truncate", in->fd, (off_t)size);
        return db_truncate(in->db, size);
}

static int
fsync_db(struct session *s, struct inode *in, bool is_data_only, struct db_done done)
{
        (void)s;
        (void)is_data_only;
        return in->fd >= 0 ? 0 : db_fsync(in->db, done);
}

static int
chmod_db(struct session *s, struct inode *in, mode_t mode)
{
        (void)s;
        return in->fd >= 0 ? 0 : db_chmod(in->db, mode);
}

static int
chown_db(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s;
        return in->fd >= 0 ? 0 : db_chown(in->db, uid, gid);
}

static bool
is_busy_db(struct session *s, struct inode *in)
{
        (void)s;
        return db_is_busy(in->db);
}

const struct node_ops node_db_ops = {
        .stat = stat_db,
        .read = read_db,
        .write = write_db,
        .truncate = truncate_db,
        .fsync = fsync_db,
        .chmod = chmod_db,
        .chown = chown_db,
        .is_busy = is_busy_db,
        .has_flush = true,
};
