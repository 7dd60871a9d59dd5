/* The request table: decode, find the node, call its kind, answer.
 *
 * Every handler runs under the session's lock. One that changes a node which a worker is busy with parks the
 * request and returns without an answer; it will be handled again from the start. */
#include "fuse/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fuse_internal.h"
#include "store/dbname.h"

#define NEG_ERRNO(r) ((r) < 0 ? -errno : 0)

static struct inode *
node_of(fuse_req_t req, fuse_ino_t ino)
{
        return ino == FUSE_ROOT_ID ? &session_of(req)->inodes.root : (struct inode *)(uintptr_t)ino;
}

static struct handle *
handle_of(const struct fuse_file_info *fi)
{
        return (struct handle *)(uintptr_t)fi->fh;
}

static void
count(fuse_req_t req, enum request_type type, fuse_ino_t ino, const char *name)
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

/* True when the request was put aside. */
static bool
parks(fuse_req_t req, struct inode *in)
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

/* --- names --- */

/* What database @path is, or is a companion of; *@ret_kind is DBNAME_DATABASE for itself. NULL: none. */
static struct db *
find_database(struct session *s, const char *path, enum dbname_kind *ret_kind)
{
        char base[PATH_MAX];
        struct db *db;
        size_t len;

        db = store_find(s->store, path);
        *ret_kind = DBNAME_DATABASE;
        if (db != NULL && db_exists(db))
                return db;
        *ret_kind = dbname_classify(path, &len);
        if (*ret_kind == DBNAME_DATABASE)
                return NULL;
        memcpy(base, path, len);
        base[len] = '\0';
        db = store_find(s->store, base);
        if (db == NULL || (*ret_kind != DBNAME_POS && !db_exists(db)))
                return NULL;
        return db;
}

static bool
companion_exists(struct session *s, struct db *db, enum dbname_kind kind)
{
        switch (kind) {
        case DBNAME_JOURNAL:
                return db_journal_exists(db);
        case DBNAME_WAL:
                return db_wal_exists(db);
        case DBNAME_SHM:
                return shm_exists(s, db);
        default:
                return true;
        }
}

static enum inode_kind
kind_of(enum dbname_kind kind)
{
        static const enum inode_kind kinds[] = { INODE_DB, INODE_JOURNAL, INODE_WAL, INODE_SHM,
                                                 INODE_POS };

        return kinds[kind];
}

static int
lookup_special(struct session *s, const char *name, enum inode_kind *ret)
{
        struct lease_state holder;

        if (strcmp(name, ".lag") == 0) {
                *ret = INODE_LAG;
                return 1;
        }
        if (strcmp(name, ".primary") != 0)
                return 0;
        *ret = INODE_PRIMARY;
        return store_primary(s->store, &holder) ? 1 : -ENOENT;
}

/* Finds out what a name stands for that is not in the table: 1 and kind and database, -ENOENT, or an error. */
static int
resolve(struct session *s, struct inode *parent, const char *name, enum inode_kind *ret_kind,
        struct db **ret_db)
{
        char path[PATH_MAX];
        enum dbname_kind kind;
        struct stat st;
        int r;

        *ret_db = NULL;
        if (parent == &s->inodes.root && (r = lookup_special(s, name, ret_kind)) != 0)
                return r;
        r = inode_child_path(parent, name, path, sizeof path);
        if (r < 0)
                return r;
        *ret_db = find_database(s, path, &kind);
        if (*ret_db != NULL) {
                *ret_kind = kind_of(kind);
                return companion_exists(s, *ret_db, kind) ? 1 : -ENOENT;
        }
        if (store_is_broken(s->store, path))
                return -EIO;
        if (fstatat(s->files_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret_kind = S_ISDIR(st.st_mode) ? INODE_DIR : INODE_PLAIN;
        return 1;
}

static void
reply_negative(fuse_req_t req, const char *name)
{
        struct fuse_entry_param e = { .entry_timeout = CACHE_FOREVER };
        size_t len;

        /* Names that appear without a request that creates them must not be remembered as absent. */
        if (dbname_classify(name, &len) == DBNAME_POS || strcmp(name, ".primary") == 0)
                fuse_reply_err(req, ENOENT);
        else
                fuse_reply_entry(req, &e);
}

static void
do_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        enum inode_kind kind;
        struct db *db;
        int r;

        count(req, REQUEST_LOOKUP, parent_ino, name);
        if (strlen(name) > NAME_MAX) {
                fuse_reply_err(req, ENAMETOOLONG);
                return;
        }
        in = inode_child(&s->inodes, parent, name);
        if (in != NULL) {
                inode_ref(in);
                reply_entry(req, in, NULL);
                return;
        }
        r = resolve(s, parent, name, &kind, &db);
        if (r == -ENOENT) {
                reply_negative(req, name);
                return;
        }
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        in = inode_add(&s->inodes, parent, name, kind, db);
        if (in == NULL)
                fuse_reply_err(req, ENOMEM);
        else
                reply_entry(req, in, NULL);
}

static void
do_forget_one(struct session *s, fuse_ino_t ino, uint64_t n)
{
        if (ino != FUSE_ROOT_ID)
                inode_unref(&s->inodes, (struct inode *)(uintptr_t)ino, n);
}

static void
do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
        do_forget_one(session_of(req), ino, n);
        fuse_reply_none(req);
}

static void
do_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *list)
{
        for (size_t i = 0; i < n; i++)
                do_forget_one(session_of(req), list[i].ino, list[i].nlookup);
        fuse_reply_none(req);
}

/* --- attributes --- */

static void
do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        (void)fi;
        count(req, REQUEST_GETATTR, ino, NULL);
        reply_attr(req, node_of(req, ino));
}

struct later_attr {
        fuse_req_t req;
        struct inode *in; /* referenced */
};

/* Under no lock, from a worker. */
static void
finish_truncate(void *arg, int r)
{
        struct later_attr *la = arg;
        struct session *s = session_of(la->req);

        pthread_mutex_lock(&s->lock);
        if (r < 0)
                reply_result(la->req, r);
        else
                reply_attr(la->req, la->in);
        inode_unref(&s->inodes, la->in, 1);
        pthread_mutex_unlock(&s->lock);
        free(la);
}

static int
set_size(fuse_req_t req, struct inode *in, uint64_t size)
{
        const struct node_ops *ops = node_ops_of(in);
        struct later_attr *la;
        int r;

        if (ops->truncate == NULL)
                return in->kind == INODE_DIR ? -EISDIR : -EACCES;
        la = malloc(sizeof *la);
        if (la == NULL)
                return -ENOMEM;
        *la = (struct later_attr){ req, in };
        inode_ref(in);
        r = ops->truncate(session_of(req), in, size, (struct db_done){ finish_truncate, la });
        if (r != DB_PENDING) {
                inode_unref(&session_of(req)->inodes, in, 1);
                free(la);
        }
        return r;
}

static int
set_owner_and_times(struct session *s, struct inode *in, const struct stat *attr, int to_set)
{
        const struct node_ops *ops = node_ops_of(in);
        struct timespec tv[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
        int r = 0;

        if ((to_set & FUSE_SET_ATTR_MODE) && ops->chmod != NULL)
                r = ops->chmod(s, in, attr->st_mode);
        if (r == 0 && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) && ops->chown != NULL)
                r = ops->chown(s, in, to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
                               to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1);
        if (to_set & FUSE_SET_ATTR_ATIME_NOW)
                tv[0].tv_nsec = UTIME_NOW;
        else if (to_set & FUSE_SET_ATTR_ATIME)
                tv[0] = attr->st_atim;
        if (to_set & FUSE_SET_ATTR_MTIME_NOW)
                tv[1].tv_nsec = UTIME_NOW;
        else if (to_set & FUSE_SET_ATTR_MTIME)
                tv[1] = attr->st_mtim;
        if (r == 0 && (tv[0].tv_nsec != UTIME_OMIT || tv[1].tv_nsec != UTIME_OMIT) &&
            ops->utimens != NULL)
                r = ops->utimens(s, in, tv);
        return r;
}

/* A plain journal that is cut to nothing commits a transaction of a file that may be a database. */
static bool starts_classify(fuse_req_t req, struct inode *parent, const char *name, int *ret_error);

static void
do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        int r, error = 0;

        (void)fi;
        count(req, REQUEST_SETATTR, ino, NULL);
        if (parks(req, in))
                return;
        if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size == 0 && in->name != NULL &&
            in->kind == INODE_PLAIN && starts_classify(req, in->parent, in->name, &error))
                return;
        r = error < 0 ? error : set_owner_and_times(s, in, attr, to_set);
        if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE)) {
                r = attr->st_size < 0 ? -EINVAL : set_size(req, in, (uint64_t)attr->st_size);
                if (r == DB_PENDING)
                        return;
        }
        if (r < 0)
                reply_result(req, r);
        else
                reply_attr(req, in);
}

/* --- opening --- */

static bool
is_writable_open(int flags)
{
        return (flags & O_ACCMODE) != O_RDONLY;
}

static struct handle *
new_handle(fuse_req_t req, struct inode *in, struct fuse_file_info *fi)
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

static void
drop_handle(struct session *s, struct handle *h)
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

static void
do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h;
        int r;

        count(req, REQUEST_OPEN, ino, NULL);
        r = atomic_load(&s->is_stopping) && !session_is_internal(req) ? -EIO
                                                                      : prepare_open(s, in, fi->flags);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        h = new_handle(req, in, fi);
        if (h == NULL)
                fuse_reply_err(req, ENOMEM);
        else if (fuse_reply_open(req, fi) == -ENOENT)
                drop_handle(s, h);
}

/* --- creating --- */

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
        db = find_database(s, path, &kind);
        if ((db != NULL && kind == DBNAME_DATABASE) || inode_child(&s->inodes, parent, name) != NULL)
                return -EEXIST;
        if (db != NULL && kind == DBNAME_POS)
                return -EACCES;
        if (parent == &s->inodes.root && (strcmp(name, ".lag") == 0 || strcmp(name, ".primary") == 0))
                return -EACCES;
        if (db == NULL && (r = create_plain(req, path, mode, flags, &fd)) < 0)
                return r;
        in = inode_add(&s->inodes, parent, name, db != NULL ? kind_of(kind) : INODE_PLAIN, db);
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

static void
do_create(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode,
          struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in;
        int r;

        count(req, REQUEST_CREATE, parent_ino, name);
        r = create_node(req, node_of(req, parent_ino), name, mode, fi->flags, &in);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        if (new_handle(req, in, fi) == NULL) {
                inode_unref(&s->inodes, in, 1);
                fuse_reply_err(req, ENOMEM);
                return;
        }
        reply_entry(req, in, fi);
}

static void
do_mknod(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode, dev_t rdev)
{
        struct inode *in;
        int r;

        (void)rdev;
        count(req, REQUEST_MKNOD, parent_ino, name);
        r = S_ISREG(mode) ? create_node(req, node_of(req, parent_ino), name, mode, 0, &in) : -EPERM;
        if (r < 0)
                reply_result(req, r);
        else
                reply_entry(req, in, NULL);
}

static void
do_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        const struct fuse_ctx *ctx = fuse_req_ctx(req);
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        count(req, REQUEST_MKDIR, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && find_database(s, path, &kind) != NULL)
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

static void
do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        count(req, REQUEST_SYMLINK, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && find_database(s, path, &kind) != NULL)
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

static void
do_readlink(fuse_req_t req, fuse_ino_t ino)
{
        struct session *s = session_of(req);
        char path[PATH_MAX], target[PATH_MAX];
        ssize_t n = 0;
        int r;

        count(req, REQUEST_READLINK, ino, NULL);
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

/* --- removing --- */

/* When a plain journal goes, its database may have made its first commit: takes that over first, and handles
 * the request again. True when the request was put aside. */
static bool
starts_classify(fuse_req_t req, struct inode *parent, const char *name, int *ret_error)
{
        struct session *s = session_of(req);
        char base[NAME_MAX + 1], path[PATH_MAX];
        struct inode *in;
        enum inode_kind kind;
        struct db *db;
        size_t len;

        if (dbname_classify(name, &len) != DBNAME_JOURNAL || len == 0)
                return false;
        memcpy(base, name, len);
        base[len] = '\0';
        if (inode_child_path(parent, base, path, sizeof path) < 0)
                return false;
        in = inode_child(&s->inodes, parent, base);
        if (in == NULL) {
                if (resolve(s, parent, base, &kind, &db) != 1 || kind != INODE_PLAIN)
                        return false;
                in = inode_add(&s->inodes, parent, base, INODE_PLAIN, NULL);
                if (in == NULL)
                        return false;
        } else {
                inode_ref(in);
        }
        if (in->kind == INODE_PLAIN && in->pending_error != 0) {
                *ret_error = in->pending_error;
                in->pending_error = 0;
        } else if (in->is_busy || (classify_wants(s, in, true) && classify_start(s, in) == 0)) {
                session_park(s, req);
                inode_unref(&s->inodes, in, 1);
                return true;
        }
        inode_unref(&s->inodes, in, 1);
        return false;
}

struct later_unlink {
        fuse_req_t req;
        struct inode *in; /* referenced; NULL when the kernel did not know it */
};

static void
finish_unlink_locked(struct session *s, struct later_unlink *lu, int r)
{
        if (lu->in != NULL) {
                if (r >= 0)
                        inode_unlink(&s->inodes, lu->in);
                inode_unref(&s->inodes, lu->in, 1);
        }
        reply_result(lu->req, r);
        free(lu);
}

static void
finish_unlink(void *arg, int r)
{
        struct later_unlink *lu = arg;
        struct session *s = session_of(lu->req);

        pthread_mutex_lock(&s->lock);
        finish_unlink_locked(s, lu, r);
        pthread_mutex_unlock(&s->lock);
}

static int
unlink_database(struct inode *in)
{
        struct err e = ERR_INIT;
        int fd = -1, r;

        r = db_drop(in->db, &fd, &e);
        if (r < 0) {
                log_event(LOG_ERROR, db_name(in->db), "not deleted: %s", e.text);
                return r == E_NOT_PRIMARY ? -EACCES : r;
        }
        in->fd = fd;
        return 0;
}

static int
unlink_node(struct session *s, struct inode *in, struct db_done done)
{
        char path[PATH_MAX];
        int r, fd = -1;

        switch (in->kind) {
        case INODE_DB:
                return unlink_database(in);
        case INODE_JOURNAL:
                return db_journal_unlink(in->db, done);
        case INODE_WAL:
                r = db_wal_unlink(in->db, &fd);
                if (r == 0)
                        in->fd = fd;
                return r;
        case INODE_SHM:
                return shm_remove(s, in);
        case INODE_PLAIN:
                (void)plain_open_fd(s, in); /* those who have it open keep it */
                r = inode_path(in, path, sizeof path);
                return r < 0 ? r : NEG_ERRNO(unlinkat(s->files_fd, path, 0));
        default:
                return -EACCES;
        }
}

/* The node for a request by name, with a reference. */
static int
get_node(struct session *s, struct inode *parent, const char *name, struct inode **ret)
{
        enum inode_kind kind;
        struct db *db;
        int r;

        *ret = inode_child(&s->inodes, parent, name);
        if (*ret != NULL) {
                inode_ref(*ret);
                return 0;
        }
        r = resolve(s, parent, name, &kind, &db);
        if (r < 0)
                return r;
        *ret = inode_add(&s->inodes, parent, name, kind, db);
        return *ret == NULL ? -ENOMEM : 0;
}

static void
do_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino);
        struct later_unlink *lu;
        int r, error = 0;

        count(req, REQUEST_UNLINK, parent_ino, name);
        lu = calloc(1, sizeof *lu);
        if (lu == NULL) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        lu->req = req;
        r = get_node(s, parent, name, &lu->in);
        if (r == 0 && parks(req, lu->in)) {
                inode_unref(&s->inodes, lu->in, 1);
                free(lu);
                return;
        }
        if (r == 0 && lu->in->kind == INODE_PLAIN && starts_classify(req, parent, name, &error)) {
                inode_unref(&s->inodes, lu->in, 1);
                free(lu);
                return;
        }
        if (r == 0)
                r = error < 0 ? error : unlink_node(s, lu->in, (struct db_done){ finish_unlink, lu });
        if (r != DB_PENDING)
                finish_unlink_locked(s, lu, r);
}

static int
has_prefix(void *arg, struct db *db)
{
        const char *prefix = arg;

        return db_exists(db) && strncmp(db_name(db), prefix, strlen(prefix)) == 0;
}

/* Whether databases live in the directory at @path. */
static bool
has_databases(struct session *s, const char *path)
{
        char prefix[PATH_MAX + 1];

        snprintf(prefix, sizeof prefix, "%s/", path);
        return store_each(s->store, has_prefix, prefix) != 0;
}

static void
do_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        count(req, REQUEST_RMDIR, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && find_database(s, path, &kind) != NULL)
                r = -ENOTDIR;
        if (r == 0 && has_databases(s, path))
                r = -ENOTEMPTY;
        if (r == 0)
                r = NEG_ERRNO(unlinkat(s->files_fd, path, AT_REMOVEDIR));
        in = inode_child(&s->inodes, parent, name);
        if (r == 0 && in != NULL)
                inode_unlink(&s->inodes, in);
        reply_result(req, r);
}

static int
rename_plain(struct session *s, struct inode *in, struct inode *to_parent, const char *to_name,
             const char *from, const char *to, unsigned flags)
{
        struct inode *old = inode_child(&s->inodes, to_parent, to_name);

        if (old != NULL && old->kind == INODE_PLAIN)
                (void)plain_open_fd(s, old);
        if (renameat2(s->files_fd, from, s->files_fd, to, flags) < 0)
                return -errno;
        s->has_new_names = true;
        if (old != NULL)
                inode_unlink(&s->inodes, old);
        return inode_rename(&s->inodes, in, to_parent, to_name);
}

/* A database is more than a file: to give it another name is to copy it and delete it, which is what mv does
 * when it is told EXDEV. */
static void
do_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t to_parent_ino,
          const char *to_name, unsigned flags)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *to_parent = node_of(req, to_parent_ino), *in;
        char from[PATH_MAX], to[PATH_MAX];
        enum dbname_kind kind;
        int r;

        count(req, REQUEST_RENAME, parent_ino, name);
        if ((r = inode_child_path(parent, name, from, sizeof from)) < 0 ||
            (r = inode_child_path(to_parent, to_name, to, sizeof to)) < 0) {
                reply_result(req, r);
                return;
        }
        if (flags & ~(unsigned)RENAME_NOREPLACE)
                r = -EINVAL;
        else if (!store_is_primary(s->store))
                r = -EACCES;
        else if (find_database(s, from, &kind) != NULL || find_database(s, to, &kind) != NULL ||
                 has_databases(s, from))
                r = -EXDEV;
        if (r == 0)
                r = get_node(s, parent, name, &in);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        if (in->kind != INODE_PLAIN && in->kind != INODE_DIR) {
                r = -EACCES;
        } else if (in->is_busy) {
                session_park(s, req);
                inode_unref(&s->inodes, in, 1);
                return;
        } else {
                r = rename_plain(s, in, to_parent, to_name, from, to, flags);
        }
        inode_unref(&s->inodes, in, 1);
        reply_result(req, r);
}

/* --- data --- */

static void
do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        ssize_t n;

        (void)fi;
        count(req, REQUEST_READ, ino, NULL);
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

/* A plain journal whose header is overwritten with zeros commits, like one that is unlinked. */
static bool
is_plain_finalise(const struct inode *in, const char *buf, size_t n, off_t off)
{
        if (in->kind != INODE_PLAIN || in->name == NULL || off != 0 || n < 12)
                return false;
        for (size_t i = 0; i < n; i++)
                if (buf[i] != 0)
                        return false;
        return true;
}

static void
do_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        struct later_write *lw;
        int r, error = 0;

        count(req, REQUEST_WRITE, ino, NULL);
        if (parks(req, in))
                return;
        if (is_plain_finalise(in, buf, n, off) && starts_classify(req, in->parent, in->name, &error))
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

/* --- the ends of transactions that have no journal --- */

/* Syncing or closing a plain file may show that it is a database. True when the request was put aside. */
static bool
classify_first(fuse_req_t req, struct inode *in, int *ret_error)
{
        struct session *s = session_of(req);

        *ret_error = 0;
        if (in->kind != INODE_PLAIN)
                return false;
        if (in->pending_error != 0) {
                *ret_error = in->pending_error;
                in->pending_error = 0;
                return false;
        }
        if (!classify_wants(s, in, false) || classify_start(s, in) < 0)
                return false;
        session_park(s, req);
        return true;
}

static void
do_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        const struct node_ops *ops = node_ops_of(in);
        int error;

        count(req, REQUEST_FSYNC, ino, NULL);
        if (parks(req, in) ||
            (fi->fh != 0 && handle_of(fi)->has_written && classify_first(req, in, &error)))
                return;
        if (ops->fsync == NULL)
                fuse_reply_err(req, in->kind == INODE_DIR ? 0 : EINVAL);
        else
                reply_unless_pending(req, ops->fsync(s, in, datasync != 0, reply_later(req)));
}

static void
do_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h = handle_of(fi);
        int error;

        count(req, REQUEST_FLUSH, ino, NULL);
        if (h->is_internal || !h->has_written) {
                fuse_reply_err(req, 0);
                return;
        }
        if (parks(req, in) || classify_first(req, in, &error))
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

static void
do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct session *s = session_of(req);
        struct inode *in = node_of(req, ino);
        struct handle *h = handle_of(fi);

        count(req, REQUEST_RELEASE, ino, NULL);
        if (!h->is_internal && h->has_written && in->fd < 0) {
                /* The locks of whoever closed it are gone now, those of a writer that was killed too. */
                if (in->kind == INODE_DB && db_has_unjournaled(in->db))
                        (void)mount_probe(s, in->db, (struct db_done){ ignore_result, NULL });
                else if (in->kind == INODE_WAL)
                        mount_check_wal_index(s, in->db);
        }
        drop_handle(s, h);
        fuse_reply_err(req, 0);
}

static void
do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
        struct inode *in = node_of(req, ino);

        (void)fi;
        count(req, REQUEST_FALLOCATE, ino, NULL);
        if (in->kind != INODE_PLAIN)
                fuse_reply_err(req, EOPNOTSUPP);
        else
                reply_result(req, NEG_ERRNO(fallocate(in->fd, mode, off, len)));
}

/* --- directories and the file system --- */

static void
do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        (void)fi;
        count(req, REQUEST_READDIR, ino, NULL);
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
        count(req, REQUEST_FSYNCDIR, ino, NULL);
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

        count(req, REQUEST_STATFS, ino != 0 ? ino : FUSE_ROOT_ID, NULL);
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
        .lookup = do_lookup,
        .forget = do_forget,
        .forget_multi = do_forget_multi,
        .getattr = do_getattr,
        .setattr = do_setattr,
        .readlink = do_readlink,
        .mknod = do_mknod,
        .mkdir = do_mkdir,
        .unlink = do_unlink,
        .rmdir = do_rmdir,
        .symlink = do_symlink,
        .rename = do_rename,
        .open = do_open,
        .create = do_create,
        .read = do_read,
        .write = do_write,
        .flush = do_flush,
        .release = do_release,
        .fsync = do_fsync,
        .readdir = do_readdir,
        .fsyncdir = do_fsyncdir,
        .statfs = do_statfs,
        .fallocate = do_fallocate,
};
