/* A directory as a destination. An object is written under a name of its own, synced, and linked to its name, which fails if
 * that is taken; or renamed to it, under a lock on the directory, when it replaces what the caller has seen. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "backup/dest.h"
#include "ltx/checksum.h"

#define TMP_MARK ".tmp-"
#define TMP_OLD_S 86400 /* what a crash has left is removed then */
#define SMALL_MAX 65536 /* objects up to here have an etag */

struct dest_file {
        struct dest base;
        const struct os *os;
        char root[PATH_MAX];
};

struct file_put {
        struct dest_put base;
        char path[PATH_MAX], tmp[PATH_MAX], dir[PATH_MAX];
        enum dest_condition condition;
        char etag[DEST_ETAG_SIZE];
        int64_t time_ms;
        int fd;
        off_t n;
        uint64_t crc;
};

struct file_get {
        struct dest_get base;
        int fd;
        off_t at;
        uint64_t left;
};

static struct dest_file *
file_of(struct dest *d)
{
        return (struct dest_file *)d;
}

static int
path_of_key(struct dest_file *d, const char *key, char ret[PATH_MAX])
{
        return snprintf(ret, PATH_MAX, "%s/%s", d->root, key) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int
fail_file(struct dest *d, struct err *e, int r, const char *what, const char *path)
{
        return r == -ENOENT ? err_text(e, E_NOT_FOUND, "%s: no such object", path)
                            : err_set(e, r, "%s: %s %s", d->url, what, path);
}

static void
format_etag(uint64_t n, uint64_t crc, char ret[DEST_ETAG_SIZE])
{
        snprintf(ret, DEST_ETAG_SIZE, "%llx-%016llx", (unsigned long long)n, (unsigned long long)crc);
}

/* --- put --- */

static int
file_write(struct byte_sink *sink, const void *buf, size_t n)
{
        struct file_put *p = (struct file_put *)sink;
        int r = os_pwrite_all(file_of(p->base.dest)->os, "backup:write", p->fd, buf, n, p->n);

        if (r < 0)
                return r;
        p->n += (off_t)n;
        p->crc = ltx_crc64(p->crc, buf, n);
        atomic_fetch_add(&p->base.dest->counters.sent_bytes, n);
        return 0;
}

static void
file_put_abort(struct dest_put *put)
{
        struct file_put *p = (struct file_put *)put;
        const struct os *os = file_of(put->dest)->os;

        if (p->fd >= 0) {
                os_close(os, "backup:close", p->fd);
                (void)os_unlink(os, "backup:unlink", p->tmp);
        }
        free(p);
}

/* A name that nobody else writes to. */
static int
open_tmp(struct file_put *p, const struct os *os)
{
        uint64_t random = 0;
        int n;

        if (getrandom(&random, sizeof random, 0) != sizeof random)
                return -EAGAIN;
        n = snprintf(p->tmp, sizeof p->tmp, "%s" TMP_MARK "%016llx", p->path,
                     (unsigned long long)random);
        if (n >= (int)sizeof p->tmp)
                return -ENAMETOOLONG;
        p->fd = os_open(os, "backup:open", p->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        return p->fd < 0 ? p->fd : 0;
}

/* The directories above it last as it does. */
static int
make_dest_dirs(const struct os *os, const char *dir, const char *root)
{
        char path[PATH_MAX];
        size_t root_n = strlen(root);
        struct stat st;
        int r;

        if (os_lstat(os, "backup:stat", dir, &st) == 0)
                return 0;
        r = os_mkdir_all(os, "backup:mkdir", dir, 0700);
        snprintf(path, sizeof path, "%s", dir);
        while (r == 0 && strlen(path) > root_n) {
                *strrchr(path, '/') = '\0';
                r = os_sync_dir(os, "backup:sync_dir", path);
        }
        return r;
}

static int
file_put_begin(struct dest *dest, const char *key, const struct dest_put_options *options,
               struct dest_put **ret, struct err *e)
{
        struct dest_file *d = file_of(dest);
        struct file_put *p = calloc(1, sizeof *p);
        int r = p == NULL ? -ENOMEM : 0;

        if (r < 0)
                return fail_file(dest, e, r, "write", key);
        p->base.sink.write = file_write;
        p->base.dest = dest;
        p->fd = -1;
        p->condition = options->condition;
        p->time_ms = options->time_ms;
        if (options->condition == DEST_IF_MATCH)
                snprintf(p->etag, sizeof p->etag, "%s", options->etag);
        r = path_of_key(d, key, p->path);
        if (r == 0) {
                memcpy(p->dir, p->path, sizeof p->dir);
                *strrchr(p->dir, '/') = '\0';
                r = make_dest_dirs(d->os, p->dir, d->root);
        }
        if (r == 0)
                r = open_tmp(p, d->os);
        if (r < 0) {
                file_put_abort(&p->base);
                return err_set(e, r, "%s: write %s", dest->url, key);
        }
        *ret = &p->base;
        return 0;
}

static int
read_etag(const struct os *os, const char *path, char ret[DEST_ETAG_SIZE])
{
        char *buf = malloc(SMALL_MAX);
        int fd = buf == NULL ? -ENOMEM : os_open(os, "backup:read", path, O_RDONLY | O_CLOEXEC, 0);
        ssize_t n = fd < 0 ? fd : os_pread_all(os, "backup:read", fd, buf, SMALL_MAX, 0);

        if (n >= 0)
                format_etag((uint64_t)n, ltx_crc64(0, buf, (size_t)n), ret);
        if (fd >= 0)
                os_close(os, "backup:close", fd);
        free(buf);
        return n < 0 ? (int)n : 0;
}

/* The lock makes "is it still that" and "replace it" one step among all who use this directory. */
static int
replace_seen(struct file_put *p, const struct os *os)
{
        int dir_fd = os_open(os, "backup:lock", p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        char now[DEST_ETAG_SIZE];
        int r = dir_fd < 0 ? dir_fd : 0;

        if (r == 0 && flock(dir_fd, LOCK_EX) < 0)
                r = -errno;
        if (r == 0)
                r = read_etag(os, p->path, now);
        if (r == -ENOENT || (r == 0 && strcmp(now, p->etag) != 0))
                r = -ESTALE;
        if (r == 0)
                r = os_rename(os, "backup:rename", p->tmp, p->path);
        if (dir_fd >= 0)
                os_close(os, "backup:close", dir_fd);
        return r;
}

static int
give_object_name(struct file_put *p, const struct os *os)
{
        int r;

        if (p->condition == DEST_IF_MATCH)
                return replace_seen(p, os);
        if (p->condition == DEST_ALWAYS)
                return os_rename(os, "backup:rename", p->tmp, p->path);
        r = os_link(os, "backup:link", p->tmp, p->path);
        /* Under both names it is whole: the other one may stay for a day. */
        if (r == 0)
                (void)os_unlink(os, "backup:unlink", p->tmp);
        return r;
}

/* Its time is that of its last transaction, as Litestream has it; only tools that list look at it. */
static void
set_time(struct file_put *p)
{
        struct timespec t = { (time_t)(p->time_ms / 1000), (long)(p->time_ms % 1000) * 1000000 };
        struct timespec times[2] = { t, t };

        if (p->time_ms > 0)
                (void)futimens(p->fd, times);
}

static int
file_put_finish(struct dest_put *put, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct file_put *p = (struct file_put *)put;
        const struct os *os = file_of(put->dest)->os;
        int r;

        set_time(p);
        r = os_fsync(os, "backup:sync", p->fd);
        if (r == 0)
                r = give_object_name(p, os);
        if (r < 0) {
                err_set(e, r, "%s: write %s", put->dest->url, p->path);
                file_put_abort(put);
                return r;
        }
        format_etag((uint64_t)p->n, p->crc, ret_etag);
        os_close(os, "backup:close", p->fd);
        r = os_sync_dir(os, "backup:sync_dir", p->dir);
        if (r < 0)
                err_set(e, r, "%s: sync %s", put->dest->url, p->dir);
        free(p);
        return r;
}

/* --- get --- */

static ssize_t
file_read(struct byte_src *src, void *buf, size_t n)
{
        struct file_get *g = (struct file_get *)src;
        const struct os *os = file_of(g->base.dest)->os;
        ssize_t r = os_pread_all(os, "backup:read", g->fd, buf, n < g->left ? n : (size_t)g->left,
                                 g->at);

        if (r > 0) {
                g->at += r;
                g->left -= (uint64_t)r;
                atomic_fetch_add(&g->base.dest->counters.received_bytes, (uint64_t)r);
        }
        return r;
}

static void
file_get_end(struct dest_get *get)
{
        struct file_get *g = (struct file_get *)get;

        os_close(file_of(get->dest)->os, "backup:close", g->fd);
        free(g);
}

static int
file_get_begin(struct dest *dest, const char *key, uint64_t off, uint64_t max_bytes,
               struct dest_get **ret, struct err *e)
{
        struct dest_file *d = file_of(dest);
        struct file_get *g = calloc(1, sizeof *g);
        char path[PATH_MAX];
        struct stat st;
        int r = g == NULL ? -ENOMEM : path_of_key(d, key, path);

        if (r < 0) {
                free(g);
                return fail_file(dest, e, r, "read", key);
        }
        g->base.src.read = file_read;
        g->base.dest = dest;
        g->at = (off_t)off;
        g->left = max_bytes != 0 ? max_bytes : UINT64_MAX;
        g->fd = os_open(d->os, "backup:read", path, O_RDONLY | O_CLOEXEC, 0);
        r = g->fd < 0 ? g->fd : os_fstat(d->os, "backup:read", g->fd, &st);
        if (r == 0 && off == 0 && max_bytes == 0 && st.st_size < SMALL_MAX)
                r = read_etag(d->os, path, g->base.etag);
        if (r < 0) {
                file_get_end(&g->base);
                return fail_file(dest, e, r, "read", path);
        }
        *ret = &g->base;
        return 0;
}

/* --- list --- */

struct listing {
        struct dest_file *d;
        char dir[PATH_MAX]; /* with its slash */
        char level[BACKUP_NAME_SIZE];
        dest_list_fn fn;
        void *arg;
        int result; /* of fn, when it ended the list */
};

static int
list_entry(void *arg, const char *entry)
{
        struct listing *l = arg;
        char path[PATH_MAX], name[BACKUP_NAME_SIZE + NAME_MAX];
        struct stat st;

        int r;

        if (snprintf(path, sizeof path, "%s%s", l->dir, entry) >= (int)sizeof path)
                return 0; /* no name of ours */
        r = os_lstat(l->d->os, "backup:stat", path, &st);
        if (r < 0 && r != -ENOENT)
                return r; /* what is left out would be overlooked, not gone */
        if (r < 0 || !S_ISREG(st.st_mode))
                return 0;
        if (strstr(entry, TMP_MARK) != NULL) {
                if (st.st_mtime < time(NULL) - TMP_OLD_S && st.st_ctime < time(NULL) - TMP_OLD_S)
                        (void)os_unlink(l->d->os, "backup:unlink", path);
                return 0;
        }
        snprintf(name, sizeof name, "%s%s", l->level, entry);
        l->result = l->fn(l->arg, name, (uint64_t)st.st_size,
                          (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
        return l->result;
}

static int
file_list(struct dest *dest, const char *place, dest_list_fn fn, void *arg, struct err *e)
{
        struct dest_file *d = file_of(dest);
        struct listing l = { .d = d, .fn = fn, .arg = arg };
        int r = 0;

        for (unsigned level = 0; level < BACKUP_LEVELS && r == 0; level++) {
                backup_level_name(BACKUP_IN_DIRECTORY, level, l.level);
                if (snprintf(l.dir, sizeof l.dir, "%s/%s%s%s", d->root, place,
                             place[0] != '\0' ? "/" : "", l.level) >= (int)sizeof l.dir)
                        return err_set(e, -ENAMETOOLONG, "%s: list %s", dest->url, place);
                r = os_list_dir(d->os, "backup:list", l.dir, list_entry, &l);
                if (r == -ENOENT)
                        r = 0;
        }
        return r < 0 && l.result >= 0 ? err_set(e, r, "%s: list %s", dest->url, l.dir) : r;
}

static int
file_remove(struct dest *dest, const char *key, struct err *e)
{
        struct dest_file *d = file_of(dest);
        char path[PATH_MAX];
        int r = path_of_key(d, key, path);

        if (r == 0)
                r = os_unlink(d->os, "backup:unlink", path);
        return r < 0 ? fail_file(dest, e, r, "remove", path) : 0;
}

static void
file_free(struct dest *d)
{
        free(d);
}

int
dest_file_open(const struct os *os, const char *url, struct dest **ret, struct err *e)
{
        static const struct dest_ops ops = {
                .put_begin = file_put_begin,
                .put_finish = file_put_finish,
                .put_abort = file_put_abort,
                .get_begin = file_get_begin,
                .get_end = file_get_end,
                .list = file_list,
                .remove = file_remove,
                .free = file_free,
        };
        const char *path = strncmp(url, "file://", 7) == 0 ? url + 7 : url;
        struct dest_file *d;
        size_t n = strlen(path);

        if (path[0] != '/')
                return err_text(
                        e, E_CONFIG,
                        "%s: want file:///PATH, the path from the root on, or s3://BUCKET/PREFIX", url);
        while (n > 1 && path[n - 1] == '/')
                n--;
        if (n + 8 >= DEST_URL_SIZE)
                return err_set(e, -ENAMETOOLONG, "%s", url);
        d = calloc(1, sizeof *d);
        if (d == NULL)
                return err_set(e, -ENOMEM, "%s", url);
        d->base.ops = &ops;
        d->base.layout = BACKUP_IN_DIRECTORY;
        d->os = os;
        snprintf(d->root, sizeof d->root, "%.*s", (int)n, path);
        snprintf(d->base.url, sizeof d->base.url, "file://%.*s", (int)n, path);
        *ret = &d->base;
        return 0;
}
