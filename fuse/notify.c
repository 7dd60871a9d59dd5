#include "fuse/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"

static const char *const suffixes[] = { "", "-journal", "-wal", "-shm", "-pos" };
#define STORE_BYTES (128u << 10) /* at a time */
#define N_SUFFIXES (sizeof suffixes / sizeof *suffixes)

/* The node at @path, or the last directory on the way that there is, with what is left in *@ret_rest. */
static struct inode *
walk(struct session *s, const char *path, const char **ret_rest)
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

static fuse_ino_t
ino_of(struct session *s, struct inode *in)
{
        return in == &s->inodes.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)in;
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
        in = walk(s, path, &rest);
        if (*rest != '\0' || in->db != db)
                return NULL;
        inode_ref(in);
        return in;
}

static struct inode *
find(struct session *s, struct db *db, const char *suffix)
{
        struct inode *in;

        pthread_mutex_lock(&s->lock);
        in = find_locked(s, db, suffix);
        pthread_mutex_unlock(&s->lock);
        return in;
}

static void
put(struct session *s, struct inode *in)
{
        pthread_mutex_lock(&s->lock);
        inode_unref(&s->inodes, in, 1);
        pthread_mutex_unlock(&s->lock);
}

void
notify_attr(struct session *s, struct db *db)
{
        struct inode *in = find(s, db, "");

        if (in == NULL)
                return;
        (void)fuse_lowlevel_notify_inval_inode(s->se, ino_of(s, in), -1, 0);
        put(s, in);
}

void
notify_content(struct session *s, struct db *db, const char *suffix, int64_t off, int64_t len)
{
        struct inode *in = find(s, db, suffix);

        if (in == NULL)
                return;
        (void)fuse_lowlevel_notify_inval_inode(s->se, ino_of(s, in), off, len);
        put(s, in);
}

void
notify_wal(struct session *s, struct db *db, uint64_t off, uint64_t n)
{
        struct inode *in = find(s, db, "-wal");
        uint8_t *buf = malloc(STORE_BYTES);

        while (in != NULL && buf != NULL && n > 0) {
                size_t part = n < STORE_BYTES ? (size_t)n : STORE_BYTES;
                struct fuse_bufvec v = FUSE_BUFVEC_INIT(part);

                if (db_wal_read(db, buf, part, off) != (ssize_t)part)
                        break;
                v.buf[0].mem = buf;
                if (fuse_lowlevel_notify_store(s->se, ino_of(s, in), (off_t)off, &v, 0) < 0)
                        break; /* the kernel does not know the node any more */
                off += part;
                n -= part;
        }
        free(buf);
        if (in != NULL)
                put(s, in);
}

/* The first part of @path that the kernel may believe to be absent. */
static void
invalidate_name(struct session *s, const char *path)
{
        const char *rest;
        struct inode *parent;
        size_t n;

        pthread_mutex_lock(&s->lock);
        parent = walk(s, path, &rest);
        inode_ref(parent);
        pthread_mutex_unlock(&s->lock);
        n = strcspn(rest, "/");
        if (n > 0)
                (void)fuse_lowlevel_notify_inval_entry(s->se, ino_of(s, parent), rest, n);
        put(s, parent);
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
notify_created(struct session *s, struct db *db)
{
        char path[PATH_MAX];

        make_directories(s, db_name(db));
        for (size_t i = 0; i < N_SUFFIXES; i++)
                if (snprintf(path, sizeof path, "%s%s", db_name(db), suffixes[i]) < (int)sizeof path)
                        invalidate_name(s, path);
}

/* Takes the node out of the tree; those who have it open go on with @fd (taken over; -1: as it was). With the lock. */
static void
detach_locked(struct session *s, struct db *db, const char *suffix, int fd, struct detached *list)
{
        struct inode *in = find_locked(s, db, suffix);
        struct detached_node *d = &list->nodes[list->n];

        if (in == NULL) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        if (in->kind == INODE_SHM)
                (void)shm_open_fd(s, in); /* by its path, which may soon be another's */
        *d = (struct detached_node){ .in = in, .parent = in->parent };
        inode_ref(d->parent);
        snprintf(d->name, sizeof d->name, "%s", in->name != NULL ? in->name : "");
        if (in->fd < 0)
                in->fd = fd;
        else if (fd >= 0)
                close(fd);
        if (in->name != NULL)
                inode_unlink(&s->inodes, in);
        list->n++;
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
        while (list->n > 0) {
                struct detached_node *d = &list->nodes[--list->n];

                (void)fuse_lowlevel_notify_delete(s->se, ino_of(s, d->parent), ino_of(s, d->in), d->name,
                                                  strlen(d->name));
                put(s, d->in);
                put(s, d->parent);
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
        notify_detached(s, &list);
}

/* --- dropped by a request --- */

static void
run_forget(struct work *w)
{
        struct session *s = (struct session *)((char *)w - offsetof(struct session, forgetting));
        struct dropped *d;

        for (;;) {
                pthread_mutex_lock(&s->lock);
                d = s->dropped;
                s->is_forgetting = d != NULL;
                if (d != NULL)
                        s->dropped = d->next;
                pthread_mutex_unlock(&s->lock);
                if (d == NULL)
                        return;
                notify_detached(s, &d->list);
                free(d);
        }
}

void
forget_companions(struct session *s, struct db *db, int old_wal_fd, struct dropped *d)
{
        d->list.n = 0;
        detach_locked(s, db, "-wal", old_wal_fd, &d->list);
        detach_locked(s, db, "-journal", -1, &d->list);
        detach_locked(s, db, "-shm", -1, &d->list);
        d->next = s->dropped;
        s->dropped = d;
        if (s->is_forgetting)
                return;
        s->is_forgetting = true;
        s->forgetting = (struct work){ run_forget, NULL };
        workers_post(s->config.workers, &s->forgetting);
}

void
notify_abandoned(struct session *s, struct db *db)
{
        struct detached list = { .n = 0 };

        notify_content(s, db, "", 0, 0);
        detach_node(s, db, "-journal", -1, &list);
        notify_detached(s, &list);
}
