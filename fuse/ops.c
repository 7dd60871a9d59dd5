/* The request table, and the requests about directories and the file system. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fs.h"

static void
do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct inode *dir = request_dir(req, REQUEST_READDIR, ino, NULL);

        (void)fi;
        if (dir != NULL)
                dir_readdir(req, dir, size, off);
}

/* The names of databases and journals are made durable with the log; those of plain files here. */
static void
do_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *dir = request_dir(req, REQUEST_FSYNCDIR, ino, NULL);
        char path[PATH_MAX];
        int fd, r;

        (void)datasync;
        (void)fi;
        if (dir == NULL)
                return;
        if (!s->has_new_names) {
                fuse_reply_err(req, 0);
                return;
        }
        r = inode_path(dir, path, sizeof path);
        fd = r < 0 ? r
                   : openat(s->files_fd, path[0] == '\0' ? "." : path,
                            O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
                reply_result(req, r < 0 ? r : -errno);
                return;
        }
        r = NEG_ERRNO(fsync(fd));
        close(fd);
        reply_result(req, r);
}

static void
do_statfs(fuse_req_t req, fuse_ino_t ino)
{
        struct statvfs st;

        if (request_node(req, REQUEST_STATFS, ino != 0 ? ino : FUSE_ROOT_ID, NULL) == NULL)
                return;
        if (fstatvfs(session_of(req)->files_fd, &st) < 0)
                fuse_reply_err(req, errno);
        else
                fuse_reply_statfs(req, &st);
}

static void
do_init(void *userdata, struct fuse_conn_info *conn)
{
        struct session_greeting *g = &((struct session *)userdata)->greeting;

        /* Locks stay with the kernel (docs/architecture.md): a read must cost no request. */
        conn->want &= ~(unsigned)(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
        /* Our mtime moves with commits; the kernel must not drop its pages for that. */
        conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
        conn->want |= conn->capable & FUSE_CAP_EXPLICIT_INVAL_DATA;
        conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE |
                                  FUSE_CAP_READDIRPLUS | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                  FUSE_CAP_SPLICE_MOVE);
        conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                                       FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_CACHE_SYMLINKS);
        conn->max_write = READ_MAX;
        conn->max_background = 64;
        conn->time_gran = 1;
        g->want = conn->want;
        g->max_write = conn->max_write;
        g->proto_minor = conn->proto_minor;
}

const struct fuse_lowlevel_ops session_ops = {
        .init = do_init,
        .lookup = fs_lookup,
        .forget = fs_forget,
        .forget_multi = fs_forget_multi,
        .getattr = fs_getattr,
        .setattr = fs_setattr,
        .readlink = fs_readlink,
        .mknod = fs_mknod,
        .mkdir = fs_mkdir,
        .unlink = fs_unlink,
        .rmdir = fs_rmdir,
        .symlink = fs_symlink,
        .link = fs_link,
        .rename = fs_rename,
        .open = fs_open,
        .create = fs_create,
        .read = fs_read,
        .write = fs_write,
        .flush = fs_flush,
        .release = fs_release,
        .fsync = fs_fsync,
        .readdir = do_readdir,
        .fsyncdir = do_fsyncdir,
        .statfs = do_statfs,
        .fallocate = fs_fallocate,
};
