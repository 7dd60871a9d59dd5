/* NAME: the database file. */
#include <errno.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

static int
stat_db(struct session *s, struct inode *in, struct stat *ret)
{
        (void)s;
        return in->fd >= 0 ? os_fstat(os_host(), "db:stat", in->fd, ret) : db_stat(in->db, ret);
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
        if (in->is_moved) /* whoever writes on believes that it is the file of the new name */
                return -EIO;
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
        if (in->is_moved)
                return -EIO;
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

/* No set-id bits: what is copied in must not become a way to root through the data directory. Without root's rights
 * litefs keeps the owner's, which are its own, or it could not take part in the database's locks. */
static int
chmod_db(struct session *s, struct inode *in, mode_t mode)
{
        (void)s;
        return in->fd >= 0 ? 0 : db_chmod(in->db, (mode & 01777) | (geteuid() != 0 ? 0600 : 0));
}

static int
chown_db(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s;
        return in->fd >= 0 ? 0 : db_chown(in->db, uid, gid);
}

int
stat_as_database(struct db *db, struct stat *ret)
{
        struct stat st;
        int r = db_stat(db, &st);

        if (r < 0)
                st = (struct stat){ .st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid() };
        ret->st_mode = S_IFREG | (st.st_mode & 0777);
        ret->st_uid = st.st_uid;
        ret->st_gid = st.st_gid;
        return r;
}

int
chmod_companion(struct session *s, struct inode *in, mode_t mode)
{
        (void)s, (void)in, (void)mode;
        return 0;
}

int
chown_companion(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s, (void)in, (void)uid, (void)gid;
        return 0;
}

const struct node_ops node_db_ops = {
        .stat = stat_db,
        .read = read_db,
        .write = write_db,
        .truncate = truncate_db,
        .fsync = fsync_db,
        .chmod = chmod_db,
        .chown = chown_db,
        .has_flush = true,
};
