/* Requests that take names away or change them. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/notify.h"
#include "fuse/resolve.h"

struct later_unlink {
        fuse_req_t req;
        struct inode *in; /* referenced; NULL when the kernel did not know it */
};

static void
finish_unlink_locked(struct session *s, struct later_unlink *lu, int r)
{
        struct db *journal = NULL;

        if (lu->in != NULL) {
                if (r >= 0)
                        inode_unlink(&s->inodes, lu->in);
                else if (r == E_UNCONFIRMED && lu->in->kind == INODE_JOURNAL)
                        journal = lu->in->db;
                inode_unref(&s->inodes, lu->in, 1);
        }
        reply_result(lu->req, r);
        if (journal != NULL)
                mount_forget_journal(s, journal);
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
unlink_database(struct session *s, struct inode *in)
{
        struct dropped *d = malloc(sizeof *d);
        struct err e = ERR_INIT;
        int fd = -1, wal_fd = -1, r;

        if (d == NULL)
                return -ENOMEM;
        r = db_drop(in->db, &fd, &wal_fd, &e);
        if (r < 0) {
                free(d);
                log_event(LOG_ERROR, db_name(in->db), "not deleted: %s", e.text);
                return r == E_NOT_PRIMARY ? -EACCES : r;
        }
        in->fd = fd;
        forget_companions(s, in->db, wal_fd, d);
        return 0;
}

static int
unlink_node(struct session *s, struct inode *in, struct db_done done)
{
        char path[PATH_MAX];
        int r, fd = -1;

        switch (in->kind) {
        case INODE_DB:
                return unlink_database(s, in);
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
        case INODE_POS:
        case INODE_LOCK:
                /* They go with their database, and who removes all that a directory lists comes here after it. */
                return db_exists(in->db) ? -EACCES : 0;
        default:
                return -EACCES;
        }
}

void
fs_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino);
        struct later_unlink *lu;
        int r, error = 0;

        request_count(req, REQUEST_UNLINK, parent_ino, name);
        lu = calloc(1, sizeof *lu);
        if (lu == NULL) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        lu->req = req;
        r = resolve_node(s, parent, name, &lu->in);
        if (r == 0 && request_parks(req, lu->in)) {
                inode_unref(&s->inodes, lu->in, 1);
                free(lu);
                return;
        }
        if (r == 0 && may_finalise(lu->in) && classify_by_journal(req, parent, name, &error)) {
                inode_unref(&s->inodes, lu->in, 1);
                free(lu);
                return;
        }
        if (r == 0)
                r = error < 0 ? error : unlink_node(s, lu->in, (struct db_done){ finish_unlink, lu });
        if (r != DB_PENDING)
                finish_unlink_locked(s, lu, r);
}

void
fs_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *in;
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        request_count(req, REQUEST_RMDIR, parent_ino, name);
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && resolve_database(s, path, &kind) != NULL)
                r = -ENOTDIR;
        if (r == 0 && resolve_has_databases(s, path))
                r = -ENOTEMPTY;
        if (r == 0)
                r = NEG_ERRNO(unlinkat(s->files_fd, path, AT_REMOVEDIR));
        in = inode_child(&s->inodes, parent, name);
        if (r == 0 && in != NULL)
                inode_unlink(&s->inodes, in);
        reply_result(req, r);
}

/* --- renaming --- */

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
void
fs_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t to_parent_ino,
          const char *to_name, unsigned flags)
{
        struct session *s = session_of(req);
        struct inode *parent = node_of(req, parent_ino), *to_parent = node_of(req, to_parent_ino), *in;
        char from[PATH_MAX], to[PATH_MAX];
        enum dbname_kind kind;
        int r;

        request_count(req, REQUEST_RENAME, parent_ino, name);
        if ((r = inode_child_path(parent, name, from, sizeof from)) < 0 ||
            (r = inode_child_path(to_parent, to_name, to, sizeof to)) < 0) {
                reply_result(req, r);
                return;
        }
        if (flags & ~(unsigned)RENAME_NOREPLACE)
                r = -EINVAL;
        else if (!store_is_primary(s->store))
                r = -EACCES;
        else if (resolve_database(s, from, &kind) != NULL || resolve_database(s, to, &kind) != NULL ||
                 resolve_has_databases(s, from))
                r = -EXDEV;
        if (r == 0)
                r = resolve_node(s, parent, name, &in);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        if (in->kind != INODE_PLAIN && in->kind != INODE_DIR) {
                r = -EACCES;
        } else if (inode_has_busy(&s->inodes, in) ||
                   inode_has_busy(&s->inodes, inode_child(&s->inodes, to_parent, to_name))) {
                session_park(s, req); /* its name is the database's, and for good */
                inode_unref(&s->inodes, in, 1);
                return;
        } else {
                r = rename_plain(s, in, to_parent, to_name, from, to, flags);
        }
        inode_unref(&s->inodes, in, 1);
        reply_result(req, r);
}
