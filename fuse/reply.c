#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/fuse_internal.h"
#include "fuse/kernel_cache.h"
#include "fuse/passthrough.h"

#define LINKED_FILE_BIT \
        ((ino_t)1 << 62) /* of their numbers, which are those of DATA/files; above all of ours */

int
reply_errno(int r)
{
        switch (r) {
        case E_NOT_PRIMARY:
        case E_FENCED:
                return EROFS;
        case E_NOT_FOUND:
                return ENOENT;
        case E_BUSY_DB:
        case E_BUSY:
                return EBUSY;
        case -ESTALE: /* db/wal/write.c: SQLite is made to read the WAL anew, and to fail this once */
                return EIO;
        default:
                return r < 0 && r > -4096 ? -r : EIO;
        }
}

static int
count_errno(struct session *s, int error)
{
        if (error == EIO)
                atomic_fetch_add(&s->n_io_errors, 1);
        else if (error == ENOSPC)
                atomic_fetch_add(&s->n_no_space, 1);
        else if (error == EROFS)
                atomic_fetch_add(&s->n_readonly, 1);
        return error;
}

void
reply_result(fuse_req_t req, int r)
{
        fuse_reply_err(req, r < 0 ? count_errno(session_of(req), reply_errno(r)) : 0);
}

const struct node_ops *
node_ops_of(const struct inode *in)
{
        static const struct node_ops *const table[] = {
                [INODE_DIR] = &node_dir_ops,       [INODE_PLAIN] = &node_plain_ops,
                [INODE_DB] = &node_db_ops,         [INODE_JOURNAL] = &node_journal_ops,
                [INODE_WAL] = &node_wal_ops,       [INODE_SHM] = &node_shm_ops,
                [INODE_POS] = &node_pos_ops,       [INODE_PRIMARY] = &node_primary_ops,
                [INODE_LAG] = &node_lag_ops,       [INODE_LOCK] = &node_lock_ops,
                [INODE_MOMENT] = &node_moment_ops, [INODE_HISTORY] = &node_history_ops,
        };

        return table[in->kind];
}

/* Attributes of a node and how long the kernel may keep them. */
static int
fill_attr(struct session *s, struct inode *in, struct stat *ret, double *ret_timeout)
{
        const struct node_ops *ops = node_ops_of(in);
        int r;

        memset(ret, 0, sizeof *ret);
        r = ops->stat(s, in, ret);
        ret->st_blksize = 4096;
        /* What is in .history is as what it stands for: the kernel is told when that changes, but not that this does. */
        *ret_timeout = ops->is_uncached || in->is_moved || in->kind == INODE_HISTORY ? 0
                       : in->moment != NULL                                          ? CACHE_MOMENT
                                                                                     : CACHE_FOREVER;
        if (r == 0 && in->kind == INODE_PLAIN && ret->st_nlink > 1) {
                /* A node for each of its names, so the kernel must not keep what may be changed by another one. */
                ret->st_ino |= LINKED_FILE_BIT;
                *ret_timeout = 0;
                return 0;
        }
        ret->st_ino = in->number;
        ret->st_nlink = in->name == NULL && in->parent != NULL ? 0 : S_ISDIR(ret->st_mode) ? 2 : 1;
        return r;
}

/* Whether the kernel is to ask again before it believes what the answer that tells it of a node says: this daemon changes the
 * node, too, and its notification of that may get there before the answer does, find no such node, and come to nothing. Asked
 * for by id, attributes are safe: the kernel knows whether a notification came between. A journal that is created (at each
 * commit) has nothing yet that could change. */
static bool
is_told_too_early(const struct inode *in, bool is_created)
{
        switch (in->kind) {
        case INODE_DIR:
        case INODE_DB:
        case INODE_WAL:
        case INODE_SHM:
                return true;
        case INODE_JOURNAL:
                return !is_created;
        default:
                return false;
        }
}

bool
reply_entry(fuse_req_t req, struct inode *in, const struct fuse_file_info *create)
{
        struct session *s = session_of(req);
        struct fuse_entry_param e = { .ino = in->id };
        int r;

        r = fill_attr(s, in, &e.attr, &e.attr_timeout);
        /* What a moment is called means another one a moment later. */
        e.entry_timeout = in->kind == INODE_MOMENT ? 0 : e.attr_timeout;
        if (is_told_too_early(in, create != NULL))
                e.attr_timeout = 0;
        if (r < 0) {
                inode_unref(&s->inodes, in, 1);
                reply_result(req, r);
                return false;
        }
        in->n_lookups++;
        if (create == NULL)
                r = fuse_reply_entry(req, &e);
        else if (in->backing_id > 0)
                r = passthrough_reply_create(req, in, &e, create);
        else
                r = fuse_reply_create(req, &e, create);
        if (r != -ENOENT)
                return true;
        in->n_lookups--;
        inode_unref(&s->inodes, in, 1);
        return false;
}

void
reply_attr(fuse_req_t req, struct inode *in)
{
        struct stat st;
        double timeout;
        int r = fill_attr(session_of(req), in, &st, &timeout);

        if (r < 0)
                reply_result(req, r);
        else
                fuse_reply_attr(req, &st, timeout);
}

struct later_write {
        fuse_req_t req;
        struct session *session;
        struct inode *in; /* stays while the kernel waits for the answer */
        size_t n;
        bool is_sync;
};

struct later_write *
later_write_new(fuse_req_t req, struct inode *in, size_t n)
{
        struct later_write *lw = malloc(sizeof *lw);

        if (lw != NULL)
                *lw = (struct later_write){ req, session_of(req), in, n, false };
        return lw;
}

struct later_write *
later_sync_new(fuse_req_t req, struct inode *in)
{
        struct later_write *lw = later_write_new(req, in, 0);

        if (lw != NULL)
                lw->is_sync = true;
        return lw;
}

static void
answer_write(void *arg, int r)
{
        struct later_write *lw = arg;
        struct db *journal = r == E_UNCONFIRMED && lw->in->kind == INODE_JOURNAL ? lw->in->db : NULL;

        if (r < 0)
                fuse_reply_err(lw->req, count_errno(lw->session, reply_errno(r)));
        else if (lw->is_sync) {
                if (lw->in->backing_id > 0) /* the wal-index follows at once */
                        atomic_store(&lw->session->fresh, lw->in->db);
                fuse_reply_err(lw->req, 0);
        } else
                fuse_reply_write(lw->req, lw->n);
        if (journal != NULL)
                notify_forget_journal(lw->session, journal);
        free(lw);
}

static void
refuse_write(void *arg, int r)
{
        (void)r; /* repaired or not */
        answer_write(arg, -EIO);
}

void
later_write_finish(struct later_write *lw, int r)
{
        /* The write does not fit the WAL; or it was captured, and its application must not hear that it is committed. */
        if ((r == -ESTALE || r == E_UNCONFIRMED) && lw->in->kind == INODE_WAL &&
            mount_repair_wal_index(lw->session, lw->in->db, (struct db_done){ refuse_write, lw }) == 0)
                return;
        answer_write(lw, r);
}

void
later_write_cancel(struct later_write *lw)
{
        free(lw);
}

static void
finish_write(void *arg, int r)
{
        later_write_finish(arg, r);
}

struct db_done
later_write_done(struct later_write *lw)
{
        return (struct db_done){ finish_write, lw };
}
