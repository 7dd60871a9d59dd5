/* Requests that make names: files, databases' companions, directories, symbolic links. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/resolve.h"
#include "store/dbname.h"

static int
create_plain(fuse_req_t req, const char *path, mode_t mode, int flags, int *ret_fd)
{
        struct session *s = session_of(req);
        const struct fuse_ctx *ctx = fuse_req_ctx(req);
        int fd;

        if (!store_is_primary(s->store))
                return -EACCES;
        (void)flags;
        fd = openat(s->files_fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
        if (fd < 0)
                return -errno;
        if (fchmod(fd, mode & 07777 & ~ctx->umask) < 0 ||
            (geteuid() == 0 && fchown(fd, ctx->uid, ctx->gid) < 0)) {
                int r = -errno;

                close(fd);
                unlinkat(s->files_fd, path, 0);
                return r;
        }
        s->has_new_names = true;
        *ret_fd = fd;
        return 0;
}

static int
create_companion(fuse_req_t req, struct inode *in, mode_t mode)
{
        struct session *s = session_of(req);
        int r;

        switch (in->kind) {
        case INODE_JOURNAL:
                r = db_journal_create(in->db);
                /* SQLite takes EACCES here, and only here, for a database that cannot be written. */
                return r == E_NOT_PRIMARY || r == E_FENCED ? -EACCES : r;
        case INODE_WAL:
                return db_wal_create(in->db, mode & 07777);
        case INODE_SHM:
                return shm_create(s, in, mode & 07777);
        default:
                return -EACCES;
        }
}

static int
create_node(fuse_req_t req, struct inode *parent, const char *name, mode_t mode, int flags,
            struct inode **ret)
{
        struct session *s = session_of(req);
        char path[PATH_MAX];
        enum dbname_kind kind;
        struct db *db;
        struct inode *in;
        int fd = -1, r;

        if (strlen(name) > NAME_MAX)
                return -ENAMETOOLONG;
        r = inode_child_path(parent, name, path, sizeof path);
        if (r < 0)
                return r;
        db = resolve_database(s, path, &kind);
        if ((db != NULL && kind == DBNAME_DATABASE) || inode_child(&s->inodes, parent, name) != NULL)
                return -EEXIST;
        if (db != NULL && (kind == DBNAME_POS || kind == DBNAME_LOCK))
                return -EACCES;
        if (parent == &s->inodes.root && (strcmp(name, ".lag") == 0 || strcmp(name, ".primary") == 0))
                return -EACCES;
        if (db == NULL && (r = create_plain(req, path, mode, flags, &fd)) < 0)
                return r;
        in = inode_add(&s->inodes, parent, name, db != NULL ? resolve_kind(kind) : INODE_PLAIN, db);
        if (in == NULL) {
                if (fd >= 0)
                        close(fd);
                return -ENOMEM;
        }
        in->fd = fd;
        if (db != NULL && (r = create_companion(req, in, mode)) < 0) {
                inode_unref(&s->inodes, in, 1);
                return r;
        }
        *ret = in;
        return 0;
}

void
fs_create(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode,
          struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in;
        struct handle *h;
        int r;

        request_count(req, REQUEST_CREATE, parent_ino, name);
        r = create_node(req, node_of(req, parent_ino), name, mode, fi->flags, &in);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        h = handle_new(req, in, fi);
        if (h == NULL) {
                inode_unref(&s->inodes, in, 1);
                fuse_reply_err(req, ENOMEM);
                return;
        }
        if (!reply_entry(req, in, fi))
                handle_drop(s, h);
}

void
fs_mknod(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode, dev_t rdev)
{
        struct inode *in;
        int r;

        (void)rdev;
        request_count(req, REQUEST_MKNOD, parent_ino, name);
        r = S_ISREG(mode) ? create_node(req, node_of(req, parent_ino), name, mode, 0, &in) : -EPERM;
        if (r < 0)
                reply_result(req, r);
        else
                reply_entry(req, in, NULL);
}

void
fs_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        const struct fuse_ctx *ctx = fuse_req_ctx(req);
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        request_count(req, REQUEST_MKDIR, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && resolve_database(s, path, &kind) != NULL)
                r = -EEXIST;
        if (r == 0 && !store_is_primary(s->store))
                r = -EACCES;
        if (r == 0)
                r = NEG_ERRNO(mkdirat(s->files_fd, path, mode & 07777 & ~ctx->umask));
        if (r == 0 && geteuid() == 0)
                (void)fchownat(s->files_fd, path, ctx->uid, ctx->gid, AT_SYMLINK_NOFOLLOW);
        in = r == 0 ? inode_add(&s->inodes, parent, name, INODE_DIR, NULL) : NULL;
        if (in != NULL)
                reply_entry(req, in, NULL);
        else
                reply_result(req, r < 0 ? r : -ENOMEM);
}

void
fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        request_count(req, REQUEST_SYMLINK, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && resolve_database(s, path, &kind) != NULL)
                r = -EEXIST;
        if (r == 0 && !store_is_primary(s->store))
                r = -EACCES;
        if (r == 0)
                r = NEG_ERRNO(symlinkat(target, s->files_fd, path));
        in = r == 0 ? inode_add(&s->inodes, parent, name, INODE_PLAIN, NULL) : NULL;
        if (in != NULL)
                reply_entry(req, in, NULL);
        else
                reply_result(req, r < 0 ? r : -ENOMEM);
}

void
fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
        struct session *s = session_of(req);
        char path[PATH_MAX], target[PATH_MAX];
        ssize_t n = 0;
        int r;

        request_count(req, REQUEST_READLINK, ino, NULL);
        r = inode_path(node_of(req, ino), path, sizeof path);
        if (r == 0) {
                n = readlinkat(s->files_fd, path, target, sizeof target - 1);
                r = n < 0 ? -errno : 0;
        }
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        target[n] = '\0';
        fuse_reply_readlink(req, target);
}
