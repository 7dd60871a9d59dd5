/* Requests about an open file. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static struct handle *
handle_of(const struct fuse_file_info *fi)
{
        return (struct handle *)(uintptr_t)fi->fh;
}

static bool
is_writable_open(int flags)
{
        return (flags & O_ACCMODE) != O_RDONLY;
}

struct handle *
handle_new(fuse_req_t req, struct inode *in, struct fuse_file_info *fi)
{
        const struct node_ops *ops = node_ops_of(in);
        struct handle *h = calloc(1, sizeof *h);

        if (h == NULL)
                return NULL;
        h->inode = in;
        h->is_internal = session_is_internal(req);
        inode_ref(in);
        fi->fh = (uint64_t)(uintptr_t)h;
        fi->direct_io = ops->is_uncached;
        fi->keep_cache = !ops->is_uncached;
        /* A daemon that is killed closes its own handles before it lets go of the connection: a FLUSH of them would
         * wait for an answer from itself, for ever. */
        fi->noflush = h->is_internal || !ops->has_flush;
        if (!h->is_internal)
                atomic_fetch_add(&session_of(req)->n_open, 1);
        return h;
}

void
handle_drop(struct session *s, struct handle *h)
{
        if (!h->is_internal)
                atomic_fetch_sub(&s->n_open, 1);
        inode_unref(&s->inodes, h->inode, 1);
        free(h);
}

static int
prepare_open(struct session *s, struct inode *in, int flags)
{
        switch (in->kind) {
        case INODE_DIR:
                return -EISDIR;
        case INODE_PLAIN:
                return plain_open_fd(s, in);
        case INODE_SHM:
                return shm_open_fd(s, in);
        case INODE_POS:
        case INODE_PRIMARY:
        case INODE_LAG:
                return is_writable_open(flags) ? -EACCES : 0;
        default:
                return 0;
        }
}

void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h;
        int r;

        request_count(req, REQUEST_OPEN, ino, NULL);
        r = atomic_load(&s->is_stopping) && !session_is_internal(req) ? -EIO
                                                                      : prepare_open(s, in, fi->flags);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        h = handle_new(req, in, fi);
        if (h == NULL)
                fuse_reply_err(req, ENOMEM);
        else if (in->kind == INODE_LOCK && is_writable_open(fi->flags))
                halt_open(req, h, fi);
        else if (fuse_reply_open(req, fi) == -ENOENT)
                handle_drop(s, h);
}

/* --- data --- */

void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        ssize_t n;

        (void)fi;
        request_count(req, REQUEST_READ, ino, NULL);
        if (size > READ_MAX)
                size = READ_MAX;
        n = ops->read == NULL ? -EISDIR
            : off < 0         ? -EINVAL
                              : ops->read(s, in, s->read_buf, size, (uint64_t)off);
        if (n < 0)
                reply_result(req, (int)n);
        else
                fuse_reply_buf(req, (char *)s->read_buf, (size_t)n);
}

/* A journal whose header is overwritten with zeros commits, like one that is unlinked. */
static bool
is_plain_finalise(const struct inode *in, const char *buf, size_t n, off_t off)
{
        if (!may_finalise(in) || in->name == NULL || off != 0 || n < 12)
                return false;
        for (size_t i = 0; i < n; i++)
                if (buf[i] != 0)
                        return false;
        return true;
}

void
fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        struct later_write *lw;
        int r, error = 0;

        request_count(req, REQUEST_WRITE, ino, NULL);
        if (request_parks(req, in))
                return;
        if (is_plain_finalise(in, buf, n, off) && classify_by_journal(req, in->parent, in->name, &error))
                return;
        if (ops->write == NULL || off < 0 || error < 0) {
                fuse_reply_err(req, error < 0 ? reply_errno(error) : off < 0 ? EINVAL : EACCES);
                return;
        }
        lw = later_write_new(req, in, n);
        if (lw == NULL) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        if (fi->fh != 0) /* not set when the kernel writes back a mapping */
                handle_of(fi)->has_written = true;
        r = ops->write(s, in, buf, n, (uint64_t)off, later_write_done(lw));
        if (r != DB_PENDING)
                later_write_finish(lw, r);
}

void
fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        struct later_write *lw;
        int r, error = 0;

        request_count(req, REQUEST_FSYNC, ino, NULL);
        if (request_parks(req, in) ||
            (fi->fh != 0 && handle_of(fi)->has_written && classify_by_sync(req, in, &error)))
                return;
        if (error < 0 || ops->fsync == NULL) {
                fuse_reply_err(req, error < 0 ? reply_errno(error) : in->kind == INODE_DIR ? 0 : EINVAL);
                return;
        }
        lw = later_sync_new(req, in);
        if (lw == NULL) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        r = ops->fsync(s, in, datasync != 0, later_write_done(lw));
        if (r != DB_PENDING)
                later_write_finish(lw, r);
}

void
fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h = handle_of(fi);
        int error;

        request_count(req, REQUEST_FLUSH, ino, NULL);
        if (h->is_internal || !h->has_written) {
                fuse_reply_err(req, 0);
                return;
        }
        if (request_parks(req, in) || classify_by_sync(req, in, &error))
                return;
        if (in->kind == INODE_DB && in->fd < 0 && db_has_unjournaled(in->db) &&
            mount_probe(s, in->db, reply_later(req)) == 0)
                return;
        reply_result(req, error);
}

static void
ignore_result(void *arg, int r)
{
        (void)arg;
        (void)r;
}

void
fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h = handle_of(fi);

        request_count(req, REQUEST_RELEASE, ino, NULL);
        if (!h->is_internal && h->has_written && in->fd < 0) {
                /* The locks of whoever closed it are gone now, those of a writer that was killed too. */
                if (in->kind == INODE_DB && db_has_unjournaled(in->db))
                        (void)mount_probe(s, in->db, (struct db_done){ ignore_result, NULL });
                else if (in->kind == INODE_WAL)
                        mount_check_wal_index(s, in->db);
        }
        if (h->is_halt)
                halt_close(s, h);
        handle_drop(s, h);
        fuse_reply_err(req, 0);
}

void
fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
        struct inode *in = node_of(req, ino);

        (void)fi;
        request_count(req, REQUEST_FALLOCATE, ino, NULL);
        if (in->kind != INODE_PLAIN)
                fuse_reply_err(req, EOPNOTSUPP);
        else
                reply_result(req, NEG_ERRNO(fallocate(in->fd, mode, off, len)));
}
