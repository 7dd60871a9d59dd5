/* Requests that ask about nodes and change their attributes. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fuse/kernel_cache.h"
#include "fuse/moments.h"
#include "fuse/resolve.h"
#include "store/dbname.h"
#include "store/ownership.h"

static void
reply_negative(fuse_req_t req, const char *name)
{
        struct fuse_entry_param e = { .entry_timeout = CACHE_FOREVER };
        size_t len;

        /* Names that appear without a request that creates them must not be remembered as absent. */
        if (dbname_classify(name, &len) == DBNAME_POS || dbname_is_lock(name, &len) ||
            strcmp(name, ".primary") == 0)
                fuse_reply_err(req, ENOENT);
        else
                fuse_reply_entry(req, &e);
}

void
fs_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_LOOKUP, parent_ino, name), *in;
        enum inode_kind kind;
        struct db *db;
        int r;

        if (parent == NULL)
                return;
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
        if (parent->kind == INODE_HISTORY && history_lookup(req, parent, name))
                return;
        r = resolve_name(s, parent, name, &kind, &db);
        if (r == -ENOENT && (moment_lookup(req, parent, name) || history_lookup(req, parent, name)))
                return;
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

/* Told more often than it was looked up, a node would be gone under those who have it open. */
static void
forget_one(struct session *s, fuse_ino_t ino, uint64_t n)
{
        struct inode *in = inode_find(&s->inodes, ino);

        if (in == NULL || !inode_forget(&s->inodes, in, n))
                log_error(
                        "internal error: the kernel forgets node %llx %llu times, which it does not know as often",
                        (unsigned long long)ino, (unsigned long long)n);
}

void
fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
        forget_one(session_of(req), ino, n);
        fuse_reply_none(req);
}

void
fs_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *list)
{
        for (size_t i = 0; i < n; i++)
                forget_one(session_of(req), list[i].ino, list[i].nlookup);
        fuse_reply_none(req);
}

/* --- attributes --- */

void
fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct inode *in = request_node(req, REQUEST_GETATTR, ino, NULL);
        struct handle *h;

        if (in == NULL || !request_handle(req, in, fi, &h))
                return;
        /* The kernel does not say whether it asks for a name or for an open file. What was left of a companion is no file, but
         * mv looks whether it has got where it was moved to. */
        if (in->is_moved && in->n_handles == 0 && in->kind != INODE_PLAIN)
                fuse_reply_err(req, ESTALE);
        else
                reply_attr(req, in);
}

struct later_attr {
        fuse_req_t req;
        struct inode *in; /* referenced */
};

static void
reply_size(fuse_req_t req, struct inode *in, int r)
{
        struct session *s = session_of(req); /* the answer frees the request */

        if (r >= 0)
                reply_attr(req, in);
        else
                reply_result(req, r);
        if (r == E_UNCONFIRMED && in->kind == INODE_JOURNAL)
                notify_forget_journal(s, in->db);
}

/* Under no lock, from a worker. */
static void
finish_truncate(void *arg, int r)
{
        struct later_attr *la = arg;
        struct session *s = session_of(la->req);

        pthread_mutex_lock(&s->lock);
        reply_size(la->req, la->in, r);
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

struct modes_job {
        struct work work;
        fuse_req_t req;
        struct inode *in; /* referenced */
};

static void
run_modes_job(struct work *w)
{
        struct modes_job *job = (struct modes_job *)w;
        struct session *s = session_of(job->req);

        notify_modes(s, job->in->db);
        pthread_mutex_lock(&s->lock);
        reply_attr(job->req, job->in);
        inode_unref(&s->inodes, job->in, 1);
        pthread_mutex_unlock(&s->lock);
        free(job);
}

/* Once whoever took his right to a database away from others hears that it is done, they have none to its WAL either:
 * the kernel keeps the companions' modes, and a worker tells it, for it may wait for a request. */
static int
set_database_owner(fuse_req_t req, struct inode *in, const struct stat *attr, int to_set)
{
        struct session *s = session_of(req);
        struct modes_job *job = malloc(sizeof *job);
        int r = job == NULL ? -ENOMEM : set_owner_and_times(s, in, attr, to_set);

        if (r < 0) {
                free(job);
                return r;
        }
        store_ownership_changed(s->store, db_name(in->db));
        *job = (struct modes_job){ { run_modes_job, NULL }, req, in };
        inode_ref(in);
        workers_post(s->config.workers, &job->work);
        return DB_PENDING;
}

static int
set_attributes(fuse_req_t req, struct inode *in, const struct stat *attr, int to_set)
{
        const int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
        struct session *s = session_of(req);
        char path[PATH_MAX];
        int r;

        if ((to_set & owner) && (in->kind == INODE_DB || in->kind == INODE_DIR) &&
            !store_is_primary(s->store))
                return E_NOT_PRIMARY; /* they are the primary's */
        if ((to_set & owner) && in->kind == INODE_DB && in->fd < 0 && !(to_set & FUSE_SET_ATTR_SIZE))
                return set_database_owner(req, in, attr, to_set);
        if ((to_set & owner) && in->kind == INODE_DB)
                to_set &= ~owner; /* of a truncation: set-id bits, which no database has */
        r = set_owner_and_times(s, in, attr, to_set);
        if (r == 0 && (to_set & owner) && in->kind == INODE_DIR &&
            inode_path(in, path, sizeof path) == 0)
                store_ownership_changed(s->store, path);
        if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE))
                r = attr->st_size < 0 ? -EINVAL : set_size(req, in, (uint64_t)attr->st_size);
        return r;
}

void
fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
        struct inode *in = request_node(req, REQUEST_SETATTR, ino, NULL);
        struct handle *h;
        int r, error = 0;

        if (in == NULL || !request_handle(req, in, fi, &h))
                return;
        if (in->is_moved && fi == NULL) {
                fuse_reply_err(req, ESTALE);
                return;
        }
        if (request_parks(req, in))
                return;
        if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size == 0 && in->name != NULL &&
            may_finalise(in) && classify_by_journal(req, in->parent, in->name, &error))
                return;
        r = error < 0 ? error : set_attributes(req, in, attr, to_set);
        if (r != DB_PENDING && !request_was_busy(req, r))
                reply_size(req, in, r);
}
