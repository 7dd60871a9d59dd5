/* Requests that take names away. */
#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/kernel_cache.h"
#include "fuse/passthrough.h"
#include "fuse/remains.h"
#include "fuse/resolve.h"
#include "store/groups.h"

struct later_unlink {
        fuse_req_t req;
        struct inode *in;  /* referenced; NULL when the kernel did not know it */
        struct db **group; /* that its removal commits, when it is a super-journal */
        unsigned n_group;
};

static int
unlink_plain(struct session *s, struct inode *in)
{
        char path[PATH_MAX];
        int r;

        (void)plain_open_fd(s, in); /* those who have it open keep it */
        r = inode_path(in, path, sizeof path);
        return r < 0 ? r : NEG_ERRNO(unlinkat(s->files_fd, path, 0));
}

static void
finish_unlink_locked(struct session *s, struct later_unlink *lu, int r)
{
        struct db *journal = NULL;

        if (lu->n_group > 0 && r >= 0)
                r = unlink_plain(s, lu->in);
        if (lu->in != NULL) {
                if (r >= 0)
                        inode_unlink(&s->inodes, lu->in);
                else if (r == E_UNCONFIRMED && lu->in->kind == INODE_JOURNAL)
                        journal = lu->in->db;
                inode_unref(&s->inodes, lu->in, 1);
        }
        reply_result(lu->req, r);
        if (journal != NULL)
                notify_forget_journal(s, journal);
        for (unsigned i = 0; i < lu->n_group && r == E_UNCONFIRMED; i++)
                notify_forget_journal(s, lu->group[i]);
        free(lu->group);
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
        struct remains rm;
        int fd = -1, wal_fd = -1, r;

        if (d == NULL)
                return -ENOMEM;
        remains_note(s, in->db, &rm);
        r = db_drop(in->db, &fd, &wal_fd, &e);
        if (r < 0) {
                free(d);
                if (r != E_BUSY)
                        log_event(LOG_ERROR, db_name(in->db), "not deleted: %s", e.text);
                return r == E_NOT_PRIMARY ? -EACCES : r;
        }
        in->fd = fd;
        forget_companions(s, in->db, wal_fd, d);
        remains_leave(s, in->db, &rm);
        return 0;
}

static int
unlink_by_kind(struct session *s, struct inode *in, struct db_done done)
{
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
                r = shm_remove(s, in);
                if (r == 0)
                        passthrough_detach(in);
                return r;
        case INODE_PLAIN:
                return unlink_plain(s, in);
        case INODE_POS:
        case INODE_LOCK:
                return db_exists(in->db) ? -EACCES : 0; /* they go with their database */
        default:
                return -EACCES;
        }
}

/* SQLite's commit of a transaction over several databases: DB_PENDING, 0 when it is an ordinary file, or an error. */
static int
commit_by_unlink(struct session *s, struct later_unlink *lu)
{
        int n;

        if (lu->in->kind != INODE_PLAIN || !groups_is_super(lu->in->name))
                return 0;
        n = groups_find(s->store, lu->in->name, &lu->group);
        if (n <= 0)
                return n;
        lu->n_group = (unsigned)n;
        return groups_commit(s->store, lu->group, lu->n_group, (struct db_done){ finish_unlink, lu });
}

void
fs_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_UNLINK, parent_ino, name);
        struct later_unlink *lu;
        bool is_aside;
        int r, error = 0;

        if (parent == NULL)
                return;
        lu = calloc(1, sizeof *lu);
        if (lu == NULL) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        lu->req = req;
        r = resolve_node(s, parent, name, &lu->in);
        is_aside = r == 0 && (request_parks(req, lu->in) ||
                              (may_finalise(lu->in) && classify_by_journal(req, parent, name, &error)));
        if (r == 0 && !is_aside) {
                r = error < 0 ? error : commit_by_unlink(s, lu);
                if (r == 0)
                        r = unlink_by_kind(s, lu->in, (struct db_done){ finish_unlink, lu });
                is_aside = request_was_busy(req, r);
        }
        if (is_aside) {
                inode_unref(&s->inodes, lu->in, 1);
                free(lu);
        } else if (r != DB_PENDING) {
                finish_unlink_locked(s, lu, r);
        }
}

void
fs_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_RMDIR, parent_ino, name), *in;
        char path[PATH_MAX];
        enum dbname_kind kind;
        int r;

        if (parent == NULL)
                return;
        r = inode_child_path(parent, name, path, sizeof path);
        if (r == 0 && resolve_database(s, path, &kind) != NULL)
                r = -ENOTDIR;
        if (r == 0 && resolve_has_databases(s, path))
                r = -ENOTEMPTY;
        if (r == 0)
                r = remains_rmdir(s, path);
        in = inode_child(&s->inodes, parent, name);
        if (r == 0 && in != NULL)
                inode_unlink(&s->inodes, in);
        reply_result(req, r);
}
