#include "fuse/kernel_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "fuse/fuse_internal.h"
#include "fuse/live_nodes.h"
#include "fuse/own_mount.h"
#include "fuse/passthrough.h"
#include "fuse/wal_spoil.h"
#include "sqlite/wal_index.h"
#include "store/leftovers.h"

static const char *const suffixes[] = { "", "-journal", "-wal", "-shm", "-pos", "-lock" };
#define STORE_BYTES (128u << 10) /* at a time */
#define N_SUFFIXES (sizeof suffixes / sizeof *suffixes)

/* The node at @path, or the last directory on the way that there is, with what is left in *@ret_rest. */
static struct inode *
walk_known(struct session *s, const char *path, const char **ret_rest)
{
        char part[NAME_MAX + 1];
        struct inode *in = &s->inodes.root;

        while (*path != '\0') {
                size_t n = strcspn(path, "/");
                struct inode *child;

                if (n > NAME_MAX)
                        break;
                memcpy(part, path, n);
                part[n] = '\0';
                child = inode_child(&s->inodes, in, part);
                if (child == NULL)
                        break;
                in = child;
                path += n + (path[n] == '/');
        }
        *ret_rest = path;
        return in;
}

/* With the lock: with a reference, or NULL. */
static struct inode *
find_locked(struct session *s, struct db *db, const char *suffix)
{
        char path[PATH_MAX];
        const char *rest = "";
        struct inode *in;

        if (snprintf(path, sizeof path, "%s%s", db_name(db), suffix) >= (int)sizeof path)
                return NULL;
        in = walk_known(s, path, &rest);
        if (*rest != '\0' || in->db != db)
                return NULL;
        inode_ref(in);
        return in;
}

static struct inode *
find_known(struct session *s, struct db *db, const char *suffix)
{
        struct inode *in;

        pthread_mutex_lock(&s->lock);
        in = find_locked(s, db, suffix);
        pthread_mutex_unlock(&s->lock);
        return in;
}

static void
put_known(struct session *s, struct inode *in)
{
        pthread_mutex_lock(&s->lock);
        inode_unref(&s->inodes, in, 1);
        pthread_mutex_unlock(&s->lock);
}

static void
invalidate_inode(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len)
{
        struct inode *in = find_known(s, db, suffix);

        if (in == NULL)
                return;
        if (own_mount_enter(s, "invalidation") == 0)
                (void)fuse_lowlevel_notify_inval_inode(s->se, in->id, off, len);
        put_known(s, in);
}

struct telling {
        struct work work;
        struct session *s;
        struct db *db;
        const char *suffix; /* a literal */
        int64_t off, len;
};

static void
run_telling(struct work *w)
{
        struct telling *t = (struct telling *)w;

        invalidate_inode(t->s, t->db, t->suffix, t->off, t->len);
        free(t);
}

/* By a teller, which looks for the node as well: whoever asks may have the session's lock. */
static void
tell_later(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len)
{
        struct telling *t = malloc(sizeof *t);

        if (t == NULL) {
                log_error("out of memory: the kernel may show applications old pages");
                return;
        }
        *t = (struct telling){ { run_telling, NULL }, s, db, suffix, off, len };
        workers_post(s->config.tellers, &t->work);
}

static void
tell_inode(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len)
{
        if (thread_may_enter_own_mount())
                invalidate_inode(s, db, suffix, off, len);
        else
                tell_later(s, db, suffix, off, len);
}

void
notify_attr(struct session *s, struct db *db)
{
        tell_inode(s, db, "", -1, 0);
}

/* Not by own_mount_enter: that needs no lock of a directory and no page, and waits at most for the kernel to forget a node
 * that it is about to forget. So a request may wait for it, as one that changes the modes has to. */
void
notify_modes(struct session *s, struct db *db)
{
        for (size_t i = 0; i < N_SUFFIXES; i++) {
                struct inode *in = find_known(s, db, suffixes[i]);

                if (in == NULL)
                        continue;
                (void)fuse_lowlevel_notify_inval_inode(s->se, in->id, -1, 0);
                put_known(s, in);
        }
}

void
notify_content(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len)
{
        tell_inode(s, db, suffix, off, len);
}

void
notify_forget_journal(struct session *s, struct db *db)
{
        tell_later(s, db, "-journal", 0, 0);
}

void
notify_wal(struct session *s, struct db *db, uint64_t off, uint64_t n)
{
        struct inode *in = find_known(s, db, "-wal");
        uint8_t *buf = malloc(STORE_BYTES);

        while (in != NULL && in->backing_id == 0 && buf != NULL && n > 0 &&
               own_mount_enter(s, "store") == 0) {
                size_t part = n < STORE_BYTES ? (size_t)n : STORE_BYTES;
                struct fuse_bufvec v = FUSE_BUFVEC_INIT(part);

                if (db_wal_read(db, buf, part, off) != (ssize_t)part)
                        break;
                v.buf[0].mem = buf;
                if (fuse_lowlevel_notify_store(s->se, in->id, (off_t)off, &v, 0) < 0)
                        break; /* the kernel does not know the node any more */
                off += part;
                n -= part;
        }
        free(buf);
        if (in != NULL)
                put_known(s, in);
}

/* The first part of @path that the kernel may believe to be absent. */
static void
invalidate_name(struct session *s, const char *path)
{
        const char *rest;
        struct inode *parent;
        size_t n;

        pthread_mutex_lock(&s->lock);
        parent = walk_known(s, path, &rest);
        inode_ref(parent);
        pthread_mutex_unlock(&s->lock);
        n = strcspn(rest, "/");
        if (n > 0 && own_mount_enter(s, "invalidation of a name") == 0)
                (void)fuse_lowlevel_notify_inval_entry(s->se, parent->id, rest, n);
        put_known(s, parent);
}

/* Directories of databases are directories among the plain files. */
static void
make_directories(struct session *s, const char *name)
{
        char path[PATH_MAX];
        const char *slash = name;

        while ((slash = strchr(slash, '/')) != NULL) {
                snprintf(path, sizeof path, "%.*s", (int)(slash - name), name);
                if (mkdirat(s->files_fd, path, 0755) == 0)
                        invalidate_name(s, path);
                slash++;
        }
}

void
notify_ownership(struct session *s, struct db *db)
{
        char path[PATH_MAX];
        const char *slash = db_name(db), *rest;

        (void)fuse_lowlevel_notify_inval_inode(s->se, FUSE_ROOT_ID, -1, 0);
        while ((slash = strchr(slash, '/')) != NULL) {
                struct inode *in;

                snprintf(path, sizeof path, "%.*s", (int)(slash - db_name(db)), db_name(db));
                pthread_mutex_lock(&s->lock);
                in = walk_known(s, path, &rest);
                inode_ref(in);
                pthread_mutex_unlock(&s->lock);
                (void)fuse_lowlevel_notify_inval_inode(s->se, in->id, -1, 0);
                put_known(s, in);
                slash++;
        }
        notify_modes(s, db);
}

/* As the kernel's copy of it will be (live_nodes.h). It is read on, for whoever maps a page that cannot be read is killed. */
static void
forget_wal_index(struct inode *in)
{
        static const uint8_t invalid[2 * WAL_INDEX_COPY_SIZE];
        struct stat st;

        if (in->backing_id > 0)
                wal_spoil(in->fd);
        else if (in->fd >= 0 && fstat(in->fd, &st) == 0 && st.st_size >= (off_t)sizeof invalid)
                (void)!pwrite(in->fd, invalid, sizeof invalid, 0);
}

/* Takes the node, with the reference, out of the tree; those who have it open go on with @fd (taken over; -1: as it was).
 * With the lock. */
static void
detach_found(struct session *s, struct inode *in, int fd, struct detached *list)
{
        struct detached_node *d = &list->nodes[list->n];

        if (in->kind == INODE_SHM)
                (void)shm_open_fd(s, in); /* by its path, which may soon be another's */
        else if (in->kind == INODE_PLAIN)
                (void)plain_open_fd(s, in); /* likewise */
        *d = (struct detached_node){ .in = in, .parent = in->parent };
        inode_ref(d->parent);
        if (list->is_replaced && in->kind == INODE_SHM)
                forget_wal_index(in);
        else
                in->is_revoked = list->is_replaced;
        passthrough_detach(in);
        snprintf(d->name, sizeof d->name, "%s", in->name != NULL ? in->name : "");
        if (in->fd < 0)
                in->fd = fd;
        else if (fd >= 0)
                close(fd);
        in->is_moved = true; /* until the kernel has been told, it opens this node by that name */
        if (in->name != NULL)
                inode_unlink(&s->inodes, in);
        list->n++;
}

static void
detach_locked(struct session *s, struct db *db, const char *suffix, int fd, struct detached *list)
{
        struct inode *in = find_locked(s, db, suffix);

        if (in != NULL)
                detach_found(s, in, fd, list);
        else if (fd >= 0)
                close(fd);
}

/* A plain file of that name. With the lock. */
static void
detach_plain_locked(struct session *s, struct db *db, const char *suffix, struct detached *list)
{
        char path[PATH_MAX];
        const char *rest = "";
        struct inode *in;

        if (snprintf(path, sizeof path, "%s%s", db_name(db), suffix) >= (int)sizeof path)
                return;
        in = walk_known(s, path, &rest);
        if (*rest != '\0' || in->kind != INODE_PLAIN)
                return;
        inode_ref(in);
        detach_found(s, in, -1, list);
}

static void
detach_node(struct session *s, struct db *db, const char *suffix, int fd, struct detached *list)
{
        pthread_mutex_lock(&s->lock);
        detach_locked(s, db, suffix, fd, list);
        pthread_mutex_unlock(&s->lock);
}

void
notify_detached(struct session *s, struct detached *list)
{
        bool has_wal_index = false;

        for (int i = 0; i < list->n; i++)
                has_wal_index = has_wal_index || list->nodes[i].in->kind == INODE_SHM;
        while (list->n > 0) {
                struct detached_node *d = &list->nodes[--list->n];

                if (list->is_replaced && own_mount_enter(s, "invalidation") == 0)
                        live_node_revoke(fuse_session_fd(s->se), d->in->id,
                                         d->in->kind == INODE_SHM  ? LIVE_WAL_INDEX
                                         : d->in->kind == INODE_DB ? LIVE_DATABASE
                                                                   : LIVE_OTHER,
                                         has_wal_index);
                if (own_mount_enter(s, "removal of a name") == 0)
                        (void)fuse_lowlevel_notify_delete(s->se, d->parent->id, d->in->id, d->name,
                                                          strlen(d->name));
                put_known(s, d->in);
                put_known(s, d->parent);
        }
}

void
detach_companions(struct session *s, struct db *db, int old_wal_fd, struct detached *list)
{
        detach_node(s, db, "-wal", old_wal_fd, list);
        detach_node(s, db, "-journal", -1, list);
        detach_node(s, db, "-shm", -1, list);
}

void
detach_all(struct session *s, struct db *db, int old_fd, int old_wal_fd, struct detached *list)
{
        detach_node(s, db, "", old_fd, list);
        detach_companions(s, db, old_wal_fd, list);
}

void
notify_dropped(struct session *s, struct db *db, int old_fd, int old_wal_fd)
{
        struct detached list = { .n = 0 };

        detach_all(s, db, old_fd, old_wal_fd, &list);
        detach_node(s, db, "-pos", -1, &list);
        detach_node(s, db, "-lock", -1, &list);
        notify_detached(s, &list);
}

void
notify_created(struct session *s, struct db *db)
{
        struct detached list = { .n = 0 };
        char path[PATH_MAX];

        make_directories(s, db_name(db));
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < N_SUFFIXES; i++)
                detach_plain_locked(s, db, suffixes[i], &list);
        pthread_mutex_unlock(&s->lock);
        notify_detached(s, &list);
        leftovers_tell_hidden(s->store, db);
        for (size_t i = 0; i < N_SUFFIXES; i++)
                if (snprintf(path, sizeof path, "%s%s", db_name(db), suffixes[i]) < (int)sizeof path)
                        invalidate_name(s, path);
}

/* --- dropped by a request --- */

static void
run_forget(struct work *w)
{
        struct dropped *d = (struct dropped *)w;

        notify_detached(d->s, &d->list);
        free(d);
}

void
forget_companions(struct session *s, struct db *db, int old_wal_fd, struct dropped *d)
{
        *d = (struct dropped){ .work.run = run_forget, .s = s };
        detach_locked(s, db, "-wal", old_wal_fd, &d->list);
        detach_locked(s, db, "-journal", -1, &d->list);
        detach_locked(s, db, "-shm", -1, &d->list);
        detach_locked(s, db, "-pos", -1, &d->list);
        detach_locked(s, db, "-lock", -1, &d->list);
        workers_post(s->config.tellers, &d->work);
}

void
notify_moved(struct session *s, struct db *db, int fd, int wal_fd, bool is_final)
{
        struct dropped *d = malloc(sizeof *d);
        struct dropped without = { .s = s };
        struct detached *list = d != NULL ? &d->list : &without.list;

        if (d != NULL)
                *d = (struct dropped){ .work.run = run_forget, .s = s };
        list->is_replaced = is_final;
        pthread_mutex_lock(&s->lock);
        detach_locked(s, db, "", fd, list);
        detach_locked(s, db, "-wal", wal_fd, list);
        for (size_t i = 0; i < N_SUFFIXES; i++)
                if (strcmp(suffixes[i], "") != 0 && strcmp(suffixes[i], "-wal") != 0)
                        detach_locked(s, db, suffixes[i], -1, list);
        pthread_mutex_unlock(&s->lock);
        if (d != NULL)
                workers_post(s->config.tellers, &d->work);
        else /* the nodes are not given back: by name the kernel hears of it */
                log_error("out of memory: %s was moved", db_name(db));
}

struct name_telling {
        struct work work;
        struct session *s;
        char path[];
};

static void
run_name_telling(struct work *w)
{
        struct name_telling *t = (struct name_telling *)w;

        invalidate_name(t->s, t->path);
        free(t);
}

void
notify_name_later(struct session *s, const char *path)
{
        size_t n = strlen(path) + 1;
        struct name_telling *t = malloc(sizeof *t + n);

        if (t == NULL)
                return; /* it finds out when it opens it */
        t->work = (struct work){ run_name_telling, NULL };
        t->s = s;
        memcpy(t->path, path, n);
        workers_post(s->config.tellers, &t->work);
}

void
forget_hidden(struct session *s, struct db *db)
{
        struct dropped *d = malloc(sizeof *d);

        leftovers_tell_hidden(s->store, db);
        if (d == NULL) {
                log_error("out of memory: the kernel may show applications an old %s-pos", db_name(db));
                return;
        }
        *d = (struct dropped){ .work.run = run_forget, .s = s };
        detach_plain_locked(s, db, "-pos", &d->list);
        detach_plain_locked(s, db, "-lock", &d->list);
        workers_post(s->config.tellers, &d->work);
}

void
notify_abandoned(struct session *s, struct db *db)
{
        struct detached list = { .n = 0 };

        notify_content(s, db, "", 0, 0);
        detach_node(s, db, "-journal", -1, &list);
        notify_detached(s, &list);
}
