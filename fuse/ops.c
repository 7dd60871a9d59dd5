/* The request table, and what is the same for all requests. */
#include "fuse/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fs.h"

void
request_count(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name)
{
        static const char *const names[] = {
#define REQUEST_NAME(n) #n,
                REQUEST_TYPES(REQUEST_NAME)
#undef REQUEST_NAME
        };
        struct session *s = session_of(req);
        char path[PATH_MAX] = "?";

        atomic_fetch_add_explicit(&s->counts[type], 1, memory_order_relaxed);
        if (!s->config.is_debug)
                return;
        (void)inode_path(node_of(req, ino), path, sizeof path);
        log_event(LOG_INFO, NULL, "fuse: %s /%s%s%s pid=%d", names[type], path, name != NULL ? " " : "",
                  name != NULL ? name : "", (int)fuse_req_ctx(req)->pid);
}

bool
request_parks(fuse_req_t req, struct inode *in)
{
        struct session *s = session_of(req);
        const struct node_ops *ops = node_ops_of(in);

        if (ops->is_busy == NULL || in->fd >= 0 || !ops->is_busy(s, in)) {
                if (in->kind != INODE_PLAIN || !in->is_busy)
                        return false;
        }
        session_park(s, req);
        return true;
}

/* --- directories and the file system --- */

static void
do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        (void)fi;
        request_count(req, REQUEST_READDIR, ino, NULL);
        dir_readdir(req, node_of(req, ino), size, off);
}

/* The names of databases and journals are made durable with the log; those of plain files here. */
static void
do_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        char path[PATH_MAX];
        int fd, r;

        (void)datasync;
        (void)fi;
        request_count(req, REQUEST_FSYNCDIR, ino, NULL);
        if (!s->has_new_names) {
                fuse_reply_err(req, 0);
                return;
        }
        r = inode_path(node_of(req, ino), path, sizeof path);
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

        request_count(req, REQUEST_STATFS, ino != 0 ? ino : FUSE_ROOT_ID, NULL);
        if (fstatvfs(session_of(req)->files_fd, &st) < 0)
                fuse_reply_err(req, errno);
        else
                fuse_reply_statfs(req, &st);
}

static void
do_init(void *userdata, struct fuse_conn_info *conn)
{
        struct session *s = userdata;

        (void)s;
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
