/* A plain file becomes a database.
 *
 * Which files are databases is known by their content, not their name: at the first moment that may be the
 * end of a transaction (its journal is finalised, it is synced, or closed after writing) a file that begins
 * with a valid SQLite header and has all the pages that the header speaks of is taken over. Until then it is
 * a plain file with a plain journal, and a crash leaves just what SQLite expects to find. */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "db/adopt.h"
#include "fuse/kernel_cache.h"
#include "fuse/resolve.h"
#include "fuse/unprotected.h"
#include "sqlite/dbheader.h"
#include "store/dbname.h"
#include "store/ownership.h"

/* A journal that SQLite would roll back: the file is in the middle of a transaction. */
static bool
has_hot_journal(struct session *s, const char *path)
{
        char journal[PATH_MAX];
        char first = 0;
        int fd, n;

        n = snprintf(journal, sizeof journal, "%s-journal", path);
        if (n < 0 || (size_t)n >= sizeof journal)
                return false;
        fd = openat(s->files_fd, journal, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return false;
        /* Until its first sync the header's magic is zero, but the file has a length. */
        n = (int)pread(fd, &first, 1, 0);
        if (n == 1 && first == 0) {
                char header[28];

                n = pread(fd, header, sizeof header, 0) == (ssize_t)sizeof header &&
                    memcmp(header, (char[28]){ 0 }, sizeof header) != 0;
        }
        close(fd);
        return n == 1;
}

static bool
is_companion_name(const char *path)
{
        size_t len;

        return dbname_classify(path, &len) != DBNAME_DATABASE;
}

bool
classify_wants(struct session *s, struct inode *in, bool is_finalising)
{
        struct sqlite_dbheader h;
        char path[PATH_MAX];
        uint8_t buf[100];
        struct stat st;

        if (in->kind != INODE_PLAIN || in->name == NULL || in->is_adopting ||
            inode_path(in, path, sizeof path) < 0 || is_companion_name(path) ||
            plain_open_fd(s, in) < 0 || store_may_commit(s->store) < 0 ||
            store_is_broken(s->store, path))
                return false;
        if (pread(in->fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf ||
            sqlite_dbheader_parse(buf, sizeof buf, &h) < 0 || fstat(in->fd, &st) < 0 ||
            !S_ISREG(st.st_mode) || st.st_nlink > 1) /* the other name would go on being its file */
                return false;
        if (st.st_size < (off_t)h.page_size ||
            (h.is_page_count_valid && (off_t)h.page_count * h.page_size > st.st_size))
                return false;
        return is_finalising || !has_hot_journal(s, path);
}

struct job {
        struct work work;
        struct db_waiter waiter;
        struct session *s;
        struct inode *in; /* referenced */
        struct db *db;
        struct db_access access; /* from before the first byte is read until the node is the database */
        char name[];
};

/* The journal of the transaction just taken over, if it is still there, becomes one that is finalised. */
static void
take_journal(struct job *job, const char *path)
{
        struct session *s = job->s;
        struct inode *in;
        struct stat st;
        char name[NAME_MAX + 16];

        if (fstatat(s->files_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return;
        if (adopt_journal(&job->access, (uint64_t)st.st_size) < 0)
                return;
        unlinkat(s->files_fd, path, 0);
        snprintf(name, sizeof name, "%s-journal", job->in->name);
        in = inode_child(&s->inodes, job->in->parent, name);
        if (in == NULL)
                return;
        in->kind = INODE_JOURNAL;
        in->db = job->db;
        close(in->fd);
        in->fd = -1;
}

struct taken_wal {
        struct session *s;
        struct db *db;
        struct inode *in; /* its, referenced */
};

/* The capture of a WAL by another worker has ended: before the requests that wait for the database go on. */
static void
note_taken(void *arg, int r)
{
        struct taken_wal *tw = arg;
        struct session *s = tw->s;

        if (r < 0)
                notify_content(s, tw->db, "-wal", 0, 0);
        pthread_mutex_lock(&s->lock);
        if (r < 0)
                tw->in->pending_error = r;
        inode_unref(&s->inodes, tw->in, 1);
        pthread_mutex_unlock(&s->lock);
        free(tw);
}

static int
capture_wal(struct job *job, const char *path, struct err *e)
{
        struct taken_wal *tw = malloc(sizeof *tw);
        int r;

        if (tw == NULL)
                return err_set(e, -ENOMEM, "take over %s", path);
        *tw = (struct taken_wal){ job->s, job->db, job->in };
        inode_ref(job->in);
        r = adopt_wal(&job->access, path, (struct db_done){ note_taken, tw }, e);
        if (r != DB_PENDING) {
                inode_unref(&job->s->inodes, job->in, 1);
                free(tw);
        }
        return r < 0 ? r : 0;
}

/* A WAL that was copied in before the database: 0, or why some of its transactions are not in the log, and then they are
 * nowhere. */
static int
take_wal(struct job *job, const char *path)
{
        struct session *s = job->s;
        char full[PATH_MAX];
        struct err e = ERR_INIT;
        struct inode *in;
        char name[NAME_MAX + 16];
        int n = snprintf(full, sizeof full, "%s/%s", store_files_dir(s->store), path), r;

        if (n < 0 || (size_t)n >= sizeof full || access(full, F_OK) < 0)
                return 0;
        r = capture_wal(job, full, &e);
        if (r < 0) {
                log_event(LOG_ERROR, job->name, "%s", e.text);
                (void)unlink(full); /* if it is still there: nobody must write to it */
        }
        snprintf(name, sizeof name, "%s-wal", job->in->name);
        in = inode_child(&s->inodes, job->in->parent, name);
        if (in == NULL)
                return r;
        in->kind = INODE_WAL;
        in->db = job->db;
        close(in->fd);
        in->fd = -1;
        return r;
}

/* A wal-index that was there before is worth nothing. The kernel may know its name, so the node goes on as the database's:
 * all who open that name have to get the same. */
static void
drop_shm(struct job *job, const char *path)
{
        struct session *s = job->s;
        struct inode *in;
        char name[NAME_MAX + 16];

        (void)unlinkat(s->files_fd, path, 0);
        snprintf(name, sizeof name, "%s-shm", job->in->name);
        in = inode_child(&s->inodes, job->in->parent, name);
        if (in == NULL || in->kind != INODE_PLAIN)
                return;
        if (in->fd >= 0)
                close(in->fd);
        in->kind = INODE_SHM;
        in->db = job->db;
        (void)shm_create(s, in);
}

/* Under the session's lock: from now on the node is the database. 0, or what its application has to hear. */
static int
switch_node(struct job *job)
{
        struct inode *in = job->in;
        char path[PATH_MAX];
        int r = 0;

        close(in->fd);
        in->fd = -1;
        in->kind = INODE_DB;
        in->db = job->db;
        store_ownership_changed(job->s->store, job->name);
        if (snprintf(path, sizeof path, "%s-journal", job->name) < (int)sizeof path)
                take_journal(job, path);
        if (snprintf(path, sizeof path, "%s-wal", job->name) < (int)sizeof path)
                r = take_wal(job, path);
        if (snprintf(path, sizeof path, "%s-shm", job->name) < (int)sizeof path)
                drop_shm(job, path);
        forget_hidden(job->s, job->db);
        return r;
}

/* Somebody else had the database of this name (an import, what a primary sends): now it may be had. */
static void
adopt_when_free(struct db_waiter *w)
{
        struct job *job = (struct job *)((char *)w - offsetof(struct job, waiter));

        workers_post(job->s->config.workers, &job->work);
}

/* With the access: 0, or why the file stays plain. */
static int
adopt_plain(struct job *job, struct err *e)
{
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", store_files_dir(job->s->store), job->name);

        if (n < 0 || (size_t)n >= sizeof path)
                return err_set(e, -ENAMETOOLONG, "adopt %s", job->name);
        return adopt_file(&job->access, path, e);
}

static void
run_adoption(struct work *w)
{
        struct job *job = (struct job *)w;
        struct session *s = job->s;
        struct err e = ERR_INIT;
        int n, r;

        r = store_create_db(s->store, job->name, &job->db, &e);
        if (r == 0) {
                job->waiter.fn = adopt_when_free;
                r = db_access_begin_or_wait(job->db, DB_BY_ADOPTION, &job->access, &job->waiter, &e);
        }
        if (r == E_BUSY)
                return; /* and it is the waiter's by now */
        if (r == 0)
                r = adopt_plain(job, &e);
        pthread_mutex_lock(&s->lock);
        job->in->is_adopting = false;
        job->in->pending_error = r == 0 ? db_may_confirm(job->db) : r;
        n = r == 0 ? switch_node(job) : 0;
        if (n < 0)
                job->in->pending_error = n;
        pthread_mutex_unlock(&s->lock);
        if (r < 0)
                log_event(LOG_ERROR, job->name, "not captured: %s", e.text);
        else if (n < 0) /* the kernel has the frames that were revoked */
                notify_content(s, job->db, "-wal", 0, 0);
        db_access_end(&job->access);
        session_resume(s);
        pthread_mutex_lock(&s->lock);
        inode_unref(&s->inodes, job->in, 1);
        pthread_mutex_unlock(&s->lock);
        free(job);
}

int
classify_start(struct session *s, struct inode *in)
{
        char path[PATH_MAX];
        struct job *job;
        size_t n;
        int r = inode_path(in, path, sizeof path);

        if (r < 0)
                return r;
        n = strlen(path) + 1;
        job = calloc(1, sizeof *job + n);
        if (job == NULL)
                return -ENOMEM;
        memcpy(job->name, path, n);
        job->work.run = run_adoption;
        job->s = s;
        job->in = in;
        inode_ref(in);
        in->is_adopting = true;
        workers_post(s->config.workers, &job->work);
        return 0;
}

/* --- what may show that a plain file is a database --- */

bool
classify_by_journal(fuse_req_t req, struct inode *parent, const char *name, int *ret_error)
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
                if (resolve_name(s, parent, base, &kind, &db) != 1 || kind != INODE_PLAIN)
                        return false;
                in = inode_add(&s->inodes, parent, base, INODE_PLAIN, NULL);
                if (in == NULL)
                        return false;
        } else {
                inode_ref(in);
        }
        if (in->pending_error != 0) { /* also when it is a database by now */
                *ret_error = in->pending_error;
                in->pending_error = 0;
        } else if (in->is_adopting || (classify_wants(s, in, true) && classify_start(s, in) == 0)) {
                session_park(s, req);
                inode_unref(&s->inodes, in, 1);
                return true;
        } else {
                unprotected_by_journal(s, in);
        }
        inode_unref(&s->inodes, in, 1);
        return false;
}

bool
classify_by_sync(fuse_req_t req, struct inode *in, int *ret_error)
{
        struct session *s = session_of(req);

        *ret_error = in->pending_error; /* likewise */
        in->pending_error = 0;
        if (*ret_error != 0 || in->kind != INODE_PLAIN)
                return false;
        if (!classify_wants(s, in, false)) {
                unprotected_by_sync(s, in);
                return false;
        }
        if (classify_start(s, in) < 0)
                return false;
        session_park(s, req);
        return true;
}
