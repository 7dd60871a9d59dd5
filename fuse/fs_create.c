/* Requests that make names: files, databases' companions, directories, symbolic links. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/moments.h"
#include "fuse/passthrough.h"
#include "fuse/resolve.h"
#include "store/dbname.h"

/* What a new name is to have, as in a directory on a disk: the caller's ids, the group of a set-group-ID directory, and
 * no set-id bit, which only the directory hands on to directories. */
struct birth {
        mode_t mode;
        uid_t uid;
        gid_t gid;
};

static int
birth_of(fuse_req_t req, struct inode *parent, mode_t mode, struct birth *ret)
{
        struct session *s = session_of(req);
        const struct fuse_ctx *ctx = fuse_req_ctx(req);
        struct stat st;
        int r = node_dir_ops.stat(s, parent, &st);

        if (r < 0)
                return r;
        *ret = (struct birth){ mode & 01777 & ~ctx->umask, ctx->uid, ctx->gid };
        if (st.st_mode & S_ISGID) {
                ret->gid = st.st_gid;
                if (S_ISDIR(mode))
                        ret->mode |= S_ISGID;
        }
        if (geteuid() == 0 || ret->uid == geteuid())
                return 0;
        /* It would be this process's file: made by one user, owned by another. */
        if (!s->has_told_foreigner)
                log_warn(
                        "user %u may not create files in %s: litefs runs as user %u and can give nobody "
                        "else a file; run it as root, or as the user of the application",
                        (unsigned)ret->uid, s->mount_dir, (unsigned)geteuid());
        s->has_told_foreigner = true;
        return -EPERM;
}

/* Group and owner can be given only by root; whoever else litefs runs as owns what it makes (see birth_of). */
static int
give_owner(struct session *s, const char *path, const struct birth *b)
{
        if (geteuid() != 0)
                return 0;
        return NEG_ERRNO(fchownat(s->files_fd, path, b->uid, b->gid, AT_SYMLINK_NOFOLLOW));
}

static int
create_plain(fuse_req_t req, struct inode *parent, const char *path, mode_t mode, int *ret_fd)
{
        struct session *s = session_of(req);
        struct birth b;
        int fd, r;

        if (!store_is_primary(s->store))
                return -EACCES;
        r = store_may_open(s->store, path) ? birth_of(req, parent, mode, &b) : -ENFILE;
        if (r < 0)
                return r;
        fd = openat(s->files_fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = give_owner(s, path, &b);
        if (r == 0)
                r = NEG_ERRNO(fchmod(fd, b.mode));
        if (r < 0) {
                close(fd);
                unlinkat(s->files_fd, path, 0);
                return r;
        }
        s->has_new_names = true;
        *ret_fd = fd;
        return 0;
}

static int
create_companion(fuse_req_t req, struct inode *in)
{
        struct session *s = session_of(req);
        int r;

        switch (in->kind) {
        case INODE_JOURNAL:
                r = db_journal_create(in->db);
                /* SQLite takes EACCES here, and only here, for a database that cannot be written. */
                return r == E_NOT_PRIMARY || r == E_FENCED ? -EACCES : r;
        case INODE_WAL:
                return db_wal_create(in->db, 0600);
        case INODE_SHM:
                return shm_create(s, in);
        default:
                return -EACCES;
        }
}

static int
create_node(fuse_req_t req, struct inode *parent, const char *name, mode_t mode, struct inode **ret)
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
        if (db == NULL && (r = create_plain(req, parent, path, mode, &fd)) < 0)
                return r;
        in = inode_add(&s->inodes, parent, name, db != NULL ? resolve_kind(kind) : INODE_PLAIN, db);
        if (in == NULL) {
                if (fd >= 0)
                        close(fd);
                return -ENOMEM;
        }
        in->fd = fd;
        if (db != NULL && (r = create_companion(req, in)) < 0) {
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
        struct inode *parent = request_dir(req, REQUEST_CREATE, parent_ino, name), *in;
        struct handle *h;
        int r;

        if (parent == NULL)
                return;
        /* SQLite opens what is not there by creating it: an empty file would stand in the moment's place from then on. */
        if ((fi->flags & O_EXCL) == 0 && moment_is_name(s, parent, name)) {
                fuse_reply_err(req, ENOENT);
                return;
        }
        r = create_node(req, parent, name, mode, &in);
        if (request_was_busy(req, r))
                return;
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        if (passthrough_open(s, in) < 0)
                log_debug("%s is not passed through: somebody has the database", name);
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
        struct inode *parent = request_dir(req, REQUEST_MKNOD, parent_ino, name), *in;
        int r;

        (void)rdev;
        if (parent == NULL)
                return;
        r = S_ISREG(mode) ? create_node(req, parent, name, mode, &in) : -EPERM;
        if (request_was_busy(req, r))
                return;
        if (r < 0)
                reply_result(req, r);
        else
                reply_entry(req, in, NULL);
}

/* For a directory or a symbolic link: what it is to have, once nothing is in the way of it. */
static int
prepare_name(fuse_req_t req, struct inode *parent, const char *name, mode_t mode, char path[PATH_MAX],
             struct birth *ret)
{
        struct session *s = session_of(req);
        enum dbname_kind kind;
        int r = inode_child_path(parent, name, path, PATH_MAX);

        if (r < 0)
                return r;
        if (resolve_database(s, path, &kind) != NULL)
                return -EEXIST;
        return store_is_primary(s->store) ? birth_of(req, parent, mode, ret) : -EACCES;
}

static void
reply_made(fuse_req_t req, struct inode *parent, const char *name, enum inode_kind kind, int r)
{
        struct inode *in = r == 0 ? inode_add(&session_of(req)->inodes, parent, name, kind, NULL) : NULL;

        if (in != NULL)
                reply_entry(req, in, NULL);
        else
                reply_result(req, r < 0 ? r : -ENOMEM);
}

void
fs_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_MKDIR, parent_ino, name);
        char path[PATH_MAX];
        struct birth b;
        int r;

        if (parent == NULL)
                return;
        r = prepare_name(req, parent, name, S_IFDIR | mode, path, &b);
        if (r == 0)
                r = NEG_ERRNO(mkdirat(s->files_fd, path, 0700));
        if (r == 0 && ((r = give_owner(s, path, &b)) < 0 ||
                       (r = NEG_ERRNO(fchmodat(s->files_fd, path, b.mode, 0))) < 0))
                (void)unlinkat(s->files_fd, path, AT_REMOVEDIR);
        reply_made(req, parent, name, INODE_DIR, r);
}

void
fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_SYMLINK, parent_ino, name);
        char path[PATH_MAX];
        struct birth b;
        int r;

        if (parent == NULL)
                return;
        r = prepare_name(req, parent, name, S_IFLNK | 0777, path, &b);
        if (r == 0)
                r = NEG_ERRNO(symlinkat(target, s->files_fd, path));
        if (r == 0 && (r = give_owner(s, path, &b)) < 0)
                (void)unlinkat(s->files_fd, path, 0);
        reply_made(req, parent, name, INODE_PLAIN, r);
}

void
fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
        struct session *s = session_of(req);
        struct inode *in = request_node(req, REQUEST_READLINK, ino, NULL);
        char path[PATH_MAX], target[PATH_MAX];
        ssize_t n = 0;
        int r;

        if (in == NULL)
                return;
        r = inode_path(in, path, sizeof path);
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

/* Another name for a plain file. A database has one, which its history is kept by. */
static int
link_plain(struct session *s, struct inode *in, const char *to)
{
        enum dbname_kind kind;
        char from[PATH_MAX];
        int r;

        if (!store_is_primary(s->store))
                return E_NOT_PRIMARY;
        if (in->kind != INODE_PLAIN)
                return -EPERM;
        if (resolve_database(s, to, &kind) != NULL)
                return kind == DBNAME_DATABASE ? -EEXIST : -EPERM;
        r = inode_path(in, from, sizeof from);
        if (r == 0)
                r = NEG_ERRNO(linkat(s->files_fd, from, s->files_fd, to, 0));
        if (r == 0)
                s->has_new_names = true;
        return r;
}

void
fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_LINK, parent_ino, name), *in;
        char to[PATH_MAX];
        int r;

        if (parent == NULL)
                return;
        in = inode_find(&s->inodes, ino);
        if (in == NULL) {
                fuse_reply_err(req, ESTALE);
                return;
        }
        if (request_parks(req, in))
                return;
        r = strlen(name) > NAME_MAX ? -ENAMETOOLONG : inode_child_path(parent, name, to, sizeof to);
        if (r == 0)
                r = link_plain(s, in, to);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        /* The node of the old name, so that the kernel hears of its count; the new one is looked up, and has its own. */
        inode_ref(in);
        reply_entry(req, in, NULL);
}
