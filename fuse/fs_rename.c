/* RENAME. Plain files and directories are renamed where they are kept. A database is more than a file: its content goes over
 * to the other name, by a worker (store/renames.h), while the kernel holds the directories; so nothing here and nothing that
 * it waits for goes through our own mount.
 *
 * Afterwards the kernel takes the source's node for the target. That node stays with those who have the source open, who read
 * on in its old file; whoever opens it, or asks for its attributes, by name is told ESTALE, upon which the kernel looks the
 * name up anew. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fs.h"
#include "fuse/kernel_cache.h"
#include "fuse/remains.h"
#include "fuse/resolve.h"
#include "fuse/unprotected.h"
#include "store/leftovers.h"
#include "store/ownership.h"
#include "store/rename_note.h"
#include "store/renames.h"

struct renaming {
        fuse_req_t req;
        struct session *s;
        struct inode *in, *to_parent;
        const char *to_name;
        unsigned flags;
        char from[PATH_MAX], to[PATH_MAX];
};

/* --- plain files --- */

static int
rename_plain(const struct renaming *rn)
{
        struct session *s = rn->s;
        struct inode *old = inode_child(&s->inodes, rn->to_parent, rn->to_name);

        if (old != NULL && old->kind == INODE_PLAIN)
                (void)plain_open_fd(s, old);
        if (renameat2(s->files_fd, rn->from, s->files_fd, rn->to, rn->flags) < 0)
                return -errno;
        s->has_new_names = true;
        if (old != NULL)
                inode_unlink(&s->inodes, old);
        return inode_rename(&s->inodes, rn->in, rn->to_parent, rn->to_name);
}

/* What is left of a companion follows its database (mv app.db* dir/): it has gone there already. */
static int
drop_remains(const struct renaming *rn)
{
        struct session *s = rn->s;

        (void)plain_open_fd(s, rn->in);
        rn->in->is_moved = true; /* the kernel takes it for the companion, until somebody opens that */
        inode_unlink(&s->inodes, rn->in);
        (void)unlinkat(s->files_fd, rn->from, 0);
        return 0;
}

static bool
is_remains(const struct renaming *rn)
{
        struct stat st;

        return rn->in->kind == INODE_PLAIN &&
               fstatat(rn->s->files_fd, rn->from, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               leftovers_is_remains(rn->s->store, rn->from, &st);
}

/* --- databases: by a worker --- */

struct rename_job {
        struct work work;
        struct db_waiter waiter;
        struct renaming rn;  /* nodes referenced */
        struct db *from;     /* one database; NULL: a directory of them, or a plain file */
        struct db *replaced; /* by a plain file; or NULL */
        struct renames *renames;
        char to_name[NAME_MAX + 1];
};

static bool
is_source(const struct renaming *rn, const char *name)
{
        size_t n = strlen(rn->from);

        return strncmp(name, rn->from, n) == 0 && (name[n] == '\0' || name[n] == '/');
}

/* Those who have it open keep its old files. */
static void
detach_database(void *arg, struct db *db, int fd, int wal_fd, bool is_final)
{
        struct rename_job *job = arg;
        struct session *s = job->rn.s;
        struct remains rm;

        notify_moved(s, db, fd, wal_fd, is_final);
        if (!is_source(&job->rn, db_name(db)))
                return;
        pthread_mutex_lock(&s->lock);
        remains_note(s, db, &rm);
        remains_leave(s, db, &rm);
        pthread_mutex_unlock(&s->lock);
}

/* --- which ones --- */

struct collection {
        const struct renaming *rn;
        struct renames *renames; /* NULL: count only */
        size_t n;
        struct err e;
};

static int
collect_renamed(void *arg, struct db *db)
{
        struct collection *c = arg;
        size_t n = strlen(c->rn->from);
        char to[PATH_MAX];

        if (!db_exists(db) || !is_source(c->rn, db_name(db)) || db_name(db)[n] != '/')
                return 0;
        c->n++;
        if (c->renames == NULL)
                return 0;
        if (snprintf(to, sizeof to, "%s%s", c->rn->to, db_name(db) + n) >= (int)sizeof to)
                return -ENAMETOOLONG;
        return renames_add(c->renames, db, to, &c->e);
}

static int
collect_directory(struct rename_job *job, struct err *e)
{
        struct collection c = { .rn = &job->rn, .e = ERR_INIT };
        int r = store_each(job->rn.s->store, collect_renamed, &c);

        if (r == 0)
                r = renames_new(job->rn.s->store, c.n, &job->renames);
        c.renames = job->renames;
        if (r == 0)
                r = store_each(job->rn.s->store, collect_renamed, &c);
        if (r < 0 && e != NULL)
                *e = c.e;
        return r;
}

static int
collect_databases(struct rename_job *job, struct err *e)
{
        int r;

        if (job->from == NULL && job->replaced == NULL) {
                r = collect_directory(job, e);
        } else {
                r = renames_new(job->rn.s->store, 1, &job->renames);
                if (r == 0)
                        r = job->from != NULL ? renames_add(job->renames, job->from, job->rn.to, e)
                                              : renames_add_removal(job->renames, job->replaced, e);
        }
        if (r == 0 && job->from == NULL)
                r = renames_set_plain(job->renames, job->rn.from, job->rn.to);
        return r;
}

/* --- the job --- */

/* The tree, once all is done. With the session's lock. */
static int
settle_tree(struct rename_job *job)
{
        struct renaming *rn = &job->rn;
        struct session *s = rn->s;
        struct inode *old = inode_child(&s->inodes, rn->to_parent, rn->to_name);

        s->has_new_names = true;
        store_ownership_changed(s->store, rn->to);
        if (old != NULL && old->kind == INODE_PLAIN)
                (void)plain_open_fd(s, old);
        if (old != NULL && (old->kind == INODE_PLAIN || old->kind == INODE_DIR))
                inode_unlink(&s->inodes, old);
        notify_name_later(s, rn->to);
        if (job->replaced != NULL)
                unprotected_by_rename(s, rn->to);
        if (job->from == NULL)
                return inode_rename(&s->inodes, rn->in, rn->to_parent, rn->to_name);
        (void)unlinkat(s->files_fd, rn->to, 0); /* a plain file that was there */
        return 0;
}

static void
finish_rename(struct rename_job *job, int r)
{
        struct renaming *rn = &job->rn;
        struct session *s = rn->s;

        pthread_mutex_lock(&s->lock);
        if (r == 0 || r == E_UNCONFIRMED) {
                int n = settle_tree(job);

                r = r < 0 ? r : n;
        }
        if (r == E_UNCONFIRMED) /* the kernel believes that nothing has happened */
                notify_name_later(s, rn->from);
        reply_result(rn->req, r);
        pthread_mutex_unlock(&s->lock);
        renames_free(job->renames);
        pthread_mutex_lock(&s->lock);
        inode_unref(&s->inodes, rn->in, 1);
        inode_unref(&s->inodes, rn->to_parent, 1);
        pthread_mutex_unlock(&s->lock);
        free(job);
}

static void
run_rename(struct work *w)
{
        struct rename_job *job = (struct rename_job *)w;
        struct db_rename_detach detach = { detach_database, job };
        struct err e = ERR_INIT;
        int r = job->renames == NULL ? collect_databases(job, &e) : 0;

        if (r == 0)
                r = renames_begin(job->renames, &job->waiter, &e);
        if (r == E_BUSY)
                return; /* and it is the waiter's by now */
        if (r == 0)
                r = renames_perform(job->renames, &detach, &e);
        if (r < 0 && r != -EBUSY && r != E_NOT_PRIMARY && r != E_UNCONFIRMED)
                log_event(LOG_ERROR, job->rn.from, "not renamed to %s: %s", job->rn.to,
                          e.code != 0 ? e.text : err_code_text(r));
        finish_rename(job, r);
}

static void
rename_when_free(struct db_waiter *w)
{
        struct rename_job *job = (struct rename_job *)((char *)w - offsetof(struct rename_job, waiter));

        workers_post(job->rn.s->config.workers, &job->work);
}

/* DB_PENDING. */
static int
start_rename_job(const struct renaming *rn, struct db *from, struct db *replaced)
{
        struct rename_job *job = calloc(1, sizeof *job);

        if (job == NULL)
                return -ENOMEM;
        job->work.run = run_rename;
        job->waiter.fn = rename_when_free;
        job->rn = *rn;
        job->from = from;
        job->replaced = replaced;
        snprintf(job->to_name, sizeof job->to_name, "%s", rn->to_name);
        job->rn.to_name = job->to_name;
        inode_ref(rn->in);
        inode_ref(rn->to_parent);
        workers_post(rn->s->config.workers, &job->work);
        return DB_PENDING;
}

/* In place of a database. One that is a database itself by now is taken over first, and then renamed as one. */
static int
rename_plain_over_database(const struct renaming *rn, struct db *to)
{
        int r = rn->in->pending_error;

        if (r != 0) {
                rn->in->pending_error = 0;
                return r;
        }
        if (classify_wants(rn->s, rn->in, true) && classify_start(rn->s, rn->in) == 0)
                return E_BUSY;
        return start_rename_job(rn, NULL, to);
}

static int
rename_directory(const struct renaming *rn)
{
        struct collection c = { .rn = rn, .e = ERR_INIT };
        int r = store_each(rn->s->store, collect_renamed, &c);

        if (r < 0)
                return r;
        if (resolve_has_databases(rn->s, rn->to))
                return -ENOTEMPTY;
        r = remains_clear(rn->s, rn->to);
        if (r < 0 && r != -ENOENT)
                return r;
        if (c.n > RENAME_MAX_PAIRS)
                return -EXDEV;
        return c.n == 0 ? rename_plain(rn) : start_rename_job(rn, NULL, NULL);
}

/* --- the request --- */

/* As the kernel has it, or would have it if it knew what is here. */
static bool
has_target(const struct renaming *rn, const struct db *to, enum dbname_kind kind)
{
        struct stat st;

        return (to != NULL && kind == DBNAME_DATABASE) ||
               fstatat(rn->s->files_fd, rn->to, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
resume(void *arg, int r)
{
        (void)r;
        session_resume(arg);
}

/* Pages that were written without a journal, by somebody who has closed the file, and whom nobody has captured yet: that is a
 * transaction, and it is over. E_BUSY: it is being captured. */
static int
settle_unjournaled(struct session *s, struct db *db, const struct inode *in)
{
        int r;

        if (db == NULL || !db_has_unjournaled(db) || db_is_refused(db) ||
            (in != NULL && in->n_writers > 0))
                return 0;
        r = db_capture_unjournaled(db, (struct db_done){ resume, s });
        return r == DB_PENDING ? E_BUSY : 0; /* after an error it is open still */
}

/* 0, DB_PENDING, E_BUSY: to be handled again, or a negative errno. */
static int
do_rename(const struct renaming *rn)
{
        struct session *s = rn->s;
        enum dbname_kind from_kind, to_kind;
        struct db *from = resolve_database(s, rn->from, &from_kind);
        struct db *to = resolve_database(s, rn->to, &to_kind);

        if (inode_has_adopting(&s->inodes, rn->in) ||
            inode_has_adopting(&s->inodes, inode_child(&s->inodes, rn->to_parent, rn->to_name)))
                return E_BUSY; /* its name is the database's, and for good */
        if (to != NULL && to_kind != DBNAME_DATABASE && is_remains(rn))
                return drop_remains(rn);
        if ((from != NULL && from_kind != DBNAME_DATABASE) || (to != NULL && to_kind != DBNAME_DATABASE))
                return -EXDEV; /* a companion has no life of its own */
        if ((rn->flags & RENAME_NOREPLACE) && has_target(rn, to, to_kind))
                return -EEXIST;
        if (settle_unjournaled(s, from, rn->in) < 0 ||
            settle_unjournaled(s, to, inode_child(&s->inodes, rn->to_parent, rn->to_name)) < 0)
                return E_BUSY;
        if (from != NULL) /* as a plain file it may be called like a companion: mv makes one of it */
                return dbname_is_valid(rn->to, strlen(rn->to)) ? start_rename_job(rn, from, NULL)
                                                               : -EXDEV;
        if (rn->in->kind == INODE_DIR)
                return to != NULL ? -ENOTDIR : rename_directory(rn);
        if (rn->in->kind != INODE_PLAIN)
                return -EACCES;
        return to != NULL ? rename_plain_over_database(rn, to) : rename_plain(rn);
}

void
fs_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t to_parent_ino,
          const char *to_name, unsigned flags)
{
        struct session *s = session_of(req);
        struct inode *parent = request_dir(req, REQUEST_RENAME, parent_ino, name);
        struct renaming rn = { .req = req,
                               .s = s,
                               .to_parent = inode_find(&s->inodes, to_parent_ino),
                               .to_name = to_name,
                               .flags = flags };
        int r = 0;

        if (parent == NULL)
                return;
        if (rn.to_parent == NULL) {
                fuse_reply_err(req, ESTALE);
                return;
        }
        if (rn.to_parent->kind != INODE_DIR)
                r = -ENOTDIR;
        else if (strlen(to_name) > NAME_MAX)
                r = -ENAMETOOLONG;
        else if (flags & ~(unsigned)RENAME_NOREPLACE)
                r = -EINVAL;
        else if (!store_is_primary(s->store))
                r = E_NOT_PRIMARY;
        if (r == 0)
                r = inode_child_path(parent, name, rn.from, sizeof rn.from);
        if (r == 0)
                r = inode_child_path(rn.to_parent, to_name, rn.to, sizeof rn.to);
        if (r == 0)
                r = resolve_node(s, parent, name, &rn.in);
        if (r < 0) {
                reply_result(req, r);
                return;
        }
        r = rn.in->kind == INODE_HISTORY ? -EACCES : do_rename(&rn);
        inode_unref(&s->inodes, rn.in, 1);
        if (r != DB_PENDING && !request_was_busy(req, r))
                reply_result(req, r);
}
