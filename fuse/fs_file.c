/* Requests about an open file. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuse/kernel_cache.h"
#include "fuse/moments.h"
#include "fuse/passthrough.h"

static bool
is_writable_open(int flags)
{
        return (flags & O_ACCMODE) != O_RDONLY;
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
        case INODE_MOMENT:
                return is_writable_open(flags) ? -EACCES : 0;
        default:
                return 0;
        }
}

void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_OPEN, ino, NULL);
        struct handle *h;
        int r;

        if (in == NULL)
                return;
        if (in->is_moved) {
                fuse_reply_err(req, ESTALE);
                return;
        }
        r = atomic_load(&s->is_stopping) && !session_is_internal(req) ? -EIO
                                                                      : prepare_open(s, in, fi->flags);
        if (r == 0 && in->kind == INODE_MOMENT && moment_open_node(req, in, &r))
                return;
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        r = passthrough_open(s, in);
        if (request_was_busy(req, r))
                return;
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        h = handle_new(req, in, fi);
        if (h == NULL)
                fuse_reply_err(req, ENOMEM);
        else if (in->kind == INODE_LOCK && is_writable_open(fi->flags))
                halt_open(req, h, fi);
        else if ((in->backing_id > 0 ? passthrough_reply_open(req, in, fi) : fuse_reply_open(req, fi)) ==
                 -ENOENT)
                handle_drop(s, h);
}

/* --- data --- */

void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_READ, ino, NULL);
        const struct node_ops *ops;
        struct handle *h;
        ssize_t n;

        if (in == NULL || !request_handle(req, in, fi, &h))
                return;
        ops = node_ops_of(in);
        if (size > READ_MAX)
                size = READ_MAX;
        if (in->is_revoked || atomic_load(&s->is_over)) {
                fuse_reply_err(req, ESTALE); /* of EIO SQLite says that the database is malformed */
                return;
        }
        n = ops->read == NULL ? -EISDIR
            : off < 0         ? -EINVAL
                              : ops->read(s, in, s->read_buf, size, (uint64_t)off);
        if (n < 0)
                reply_result(req, (int)n);
        else
                fuse_reply_buf(req, (char *)s->read_buf, (size_t)n);
}

/* One that has to be named. */
static bool
request_open_file(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi,
                  struct handle **ret)
{
        if (!request_handle(req, in, fi, ret))
                return false;
        if (*ret == NULL)
                fuse_reply_err(req, EBADF);
        return *ret != NULL;
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

static void
note_writer(struct handle *h)
{
        h->inode->n_writers += !h->has_written;
        h->has_written = true;
}

void
fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_WRITE, ino, NULL);
        const struct node_ops *ops;
        struct later_write *lw;
        struct handle *h;
        int r, error = 0;

        if (in == NULL || !request_handle(req, in, fi, &h))
                return;
        ops = node_ops_of(in);
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
        if (h != NULL) /* none when the kernel writes back a mapping */
                note_writer(h);
        r = ops->write(s, in, buf, n, (uint64_t)off, later_write_done(lw));
        if (request_was_busy(req, r))
                later_write_cancel(lw);
        else if (r != DB_PENDING)
                later_write_finish(lw, r);
}

void
fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_FSYNC, ino, NULL);
        const struct node_ops *ops;
        struct later_write *lw;
        struct handle *h;
        int r, error = 0;

        if (in == NULL || !request_handle(req, in, fi, &h))
                return;
        ops = node_ops_of(in);
        if (request_parks(req, in) || (h != NULL && h->has_written && classify_by_sync(req, in, &error)))
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
        if (request_was_busy(req, r))
                later_write_cancel(lw);
        else if (r != DB_PENDING)
                later_write_finish(lw, r);
}

/* The last look at what a handle has written without a journal. */
struct closing {
        struct session *s;
        fuse_req_t req; /* a FLUSH; NULL: nobody waits */
        struct inode *in;
};

static void
end_closing(struct closing *cl, int r)
{
        if (cl->req != NULL)
                reply_result(cl->req, r);
        pthread_mutex_lock(&cl->s->lock);
        inode_unref(&cl->s->inodes, cl->in, 1);
        pthread_mutex_unlock(&cl->s->lock);
        free(cl);
}

static void
closing_discarded(void *arg, int r)
{
        struct closing *cl = arg;

        (void)r;
        notify_content(cl->s, cl->in->db, "", 0, 0);
        end_closing(cl, E_FORMAT);
}

/* What makes no database is refused as a whole, once nobody is left who could make it one: the mount shows what was there,
 * and what the log and the replicas have. */
static void
closing_probed(void *arg, int r)
{
        struct closing *cl = arg;
        bool is_last;

        pthread_mutex_lock(&cl->s->lock);
        is_last = cl->in->n_writers <= (cl->req != NULL ? 1 : 0);
        pthread_mutex_unlock(&cl->s->lock);
        if (r != E_FORMAT || !is_last)
                end_closing(cl, r);
        else if (db_discard_refused(cl->in->db, (struct db_done){ closing_discarded, cl }) != DB_PENDING)
                closing_discarded(cl, 0);
}

static bool
probe_at_close(struct session *s, fuse_req_t req, struct inode *in)
{
        struct closing *cl = malloc(sizeof *cl);

        if (cl == NULL)
                return false;
        *cl = (struct closing){ s, req, in };
        inode_ref(in);
        if (mount_probe(s, in->db, (struct db_done){ closing_probed, cl }) == 0)
                return true;
        inode_unref(&s->inodes, in, 1);
        free(cl);
        return false;
}

void
fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct inode *in = request_node(req, REQUEST_FLUSH, ino, NULL);
        struct handle *h;
        int error;

        if (in == NULL || !request_open_file(req, in, fi, &h))
                return;
        if (h->is_internal || !h->has_written) {
                fuse_reply_err(req, 0);
                return;
        }
        if (request_parks(req, in) ||
            (in->kind == INODE_DB && in->fd < 0 && request_was_busy(req, db_may_close(in->db))) ||
            classify_by_sync(req, in, &error))
                return;
        if (in->kind == INODE_DB && in->fd < 0 && db_has_unjournaled(in->db) &&
            probe_at_close(session_of(req), req, in))
                return;
        reply_result(req, error);
}

void
fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_RELEASE, ino, NULL);
        struct handle *h;

        if (in == NULL || !request_open_file(req, in, fi, &h))
                return;
        if (!h->is_internal && h->has_written && in->fd < 0) {
                /* The locks of whoever closed it are gone now, those of a writer that was killed too. */
                if (in->kind == INODE_DB && db_has_unjournaled(in->db))
                        (void)probe_at_close(s, NULL, in);
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
        struct inode *in = request_node(req, REQUEST_FALLOCATE, ino, NULL);
        struct handle *h;

        if (in == NULL || !request_open_file(req, in, fi, &h))
                return;
        if (in->kind != INODE_PLAIN)
                fuse_reply_err(req, EOPNOTSUPP);
        else
                reply_result(req, NEG_ERRNO(fallocate(in->fd, mode, off, len)));
}
