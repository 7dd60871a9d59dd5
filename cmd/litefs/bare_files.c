#include "cmd/litefs/bare_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "cmd/litefs/shell_word.h"

#define DEPTH_MAX 16
#define LOCK_BYTES_BEGIN 0x40000000 /* SQLite's PENDING, RESERVED and SHARED */
#define LOCK_BYTES 512

enum kind { OTHER, DATABASE, COMPANION, DIRECTORY, UNREADABLE };

struct walk {
        /* @path is below the directory that is walked; @name is its last part, in the directory @fd. */
        int (*found)(struct walk *w, enum kind kind, int fd, const char *name, const char *path);
        unsigned n;
        bool is_cut;
        struct err *e;
};

/* --- what is what --- */

static bool
ends_with(const char *s, const char *end)
{
        size_t n = strlen(s), k = strlen(end);

        return n > k && strcmp(s + n - k, end) == 0;
}

static enum kind
kind_of_file(int fd, const struct stat *st, const char *name)
{
        static const unsigned char journal[] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        static const unsigned char wal[] = { 0x37, 0x7f, 0x06 }; /* then 0x82 or 0x83 */
        unsigned char head[16] = { 0 };

        if (pread(fd, head, sizeof head, 0) < 0)
                return OTHER;
        if (memcmp(head, "SQLite format 3", 16) == 0 || memcmp(head, journal, sizeof journal) == 0 ||
            (memcmp(head, wal, sizeof wal) == 0 && (head[3] | 1) == 0x83))
                return DATABASE;
        /* Of a journal that was committed nothing but the name may be left. */
        if (st->st_size > 0 && (ends_with(name, "-journal") || ends_with(name, "-wal")))
                return DATABASE;
        return ends_with(name, "-shm") ? COMPANION : OTHER;
}

/* DIRECTORY leaves *@ret_fd open. */
static enum kind
kind_of_entry(int dir_fd, const char *name, int *ret_fd)
{
        enum kind kind = OTHER;
        struct stat st;
        int fd;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return OTHER;
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
                return OTHER;
        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return S_ISDIR(st.st_mode) ? UNREADABLE : OTHER;
        if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
                *ret_fd = fd;
                return DIRECTORY;
        }
        if (S_ISREG(st.st_mode))
                kind = kind_of_file(fd, &st, name);
        close(fd);
        return kind;
}

/* --- the walk --- */

static int walk_bare_dir(struct walk *w, int fd, const char *path, int depth);

static int
walk_entry(struct walk *w, int dir_fd, const char *name, const char *path, int depth)
{
        char below[PATH_MAX];
        enum kind kind;
        int fd = -1;

        if (w->n++ >= BARE_FILES_MAX ||
            snprintf(below, sizeof below, "%s%s%s", path, path[0] != '\0' ? "/" : "", name) >=
                    (int)sizeof below) {
                w->is_cut = true;
                return 0;
        }
        kind = kind_of_entry(dir_fd, name, &fd);
        if (kind == DIRECTORY && depth < DEPTH_MAX)
                return walk_bare_dir(w, fd, below, depth + 1);
        if (kind == DIRECTORY) {
                close(fd);
                w->is_cut = true;
                return 0;
        }
        return w->found(w, kind, dir_fd, name, below);
}

/* Closes @fd. */
static int
walk_bare_dir(struct walk *w, int fd, const char *path, int depth)
{
        DIR *dir = fdopendir(fd);
        struct dirent *entry;
        int r = 0;

        if (dir == NULL) {
                close(fd);
                return err_set(w->e, -ENOMEM, "read %s", path);
        }
        while (r == 0 && !w->is_cut && (entry = readdir(dir)) != NULL)
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        r = walk_entry(w, dirfd(dir), entry->d_name, path, depth);
        closedir(dir);
        return r;
}

static int
walk_begin(struct walk *w, const char *dir)
{
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return errno == ENOENT ? 0 : err_set(w->e, -errno, "look into %s", dir);
        return walk_bare_dir(w, fd, "", 0);
}

/* --- looking --- */

struct look {
        struct walk base;
        struct bare_files *ret;
};

static void
remember_first(char first[PATH_MAX], const char *path)
{
        if (first[0] == '\0')
                snprintf(first, PATH_MAX, "%s", path);
}

static int
look_found(struct walk *w, enum kind kind, int fd, const char *name, const char *path)
{
        struct bare_files *b = ((struct look *)w)->ret;

        (void)fd;
        (void)name;
        if (kind == UNREADABLE) {
                remember_first(b->unreadable, path);
        } else if (kind == DATABASE) {
                b->n_databases++;
                remember_first(b->database, path);
        } else {
                b->n_others++;
                remember_first(b->other, path);
        }
        return 0;
}

int
bare_files_look(const char *dir, struct bare_files *ret, struct err *e)
{
        struct look l = { .base = { .found = look_found, .e = e }, .ret = ret };
        int r;

        memset(ret, 0, sizeof *ret);
        r = walk_begin(&l.base, dir);
        ret->is_cut = l.base.is_cut;
        return r;
}

void
bare_files_suggest(const char *dir, const char *data_dir, const struct bare_files *b, char *buf,
                   size_t size)
{
        char to[PATH_MAX], from[PATH_MAX];
        size_t n;

        /* What is at the top, with all below it. */
        snprintf(from, sizeof from, "%s/%.*s", dir, (int)strcspn(b->database, "/"), b->database);
        snprintf(to, sizeof to, "%s/orphans/mount-point", data_dir);
        snprintf(buf, size, "mkdir -p ");
        shell_word_add(buf, size, to);
        n = strlen(buf);
        snprintf(buf + n, size - n, " && mv ");
        shell_word_add(buf, size, from);
        n = strlen(buf);
        /* The journal and the WAL come along. */
        if (strchr(b->database, '/') == NULL)
                n += (size_t)snprintf(buf + n, size - n, "*");
        if (n + 1 < size)
                snprintf(buf + n, size - n, " ");
        shell_word_add(buf, size, to);
}

/* --- moving --- */

struct moving {
        struct walk base;
        const char *dir, *to;
};

/* A connection holds these while it reads or writes, and with a WAL as long as it is open. */
static int
check_unlocked(struct moving *m, int fd, const char *path)
{
        struct flock fl = {
                .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTES_BEGIN, .l_len = LOCK_BYTES
        };

        if (fcntl(fd, F_GETLK, &fl) < 0 || fl.l_type == F_UNLCK)
                return 0;
        return err_text(
                m->base.e, -EBUSY,
                "%s/%s, written while litefs was not mounted there, is open in process %d: end it first",
                m->dir, path, (int)fl.l_pid);
}

static int
copy_bare_bytes(int from, int to)
{
        char buf[65536];
        off_t at = 0;
        ssize_t n;
        int r = 0;

        while (r == 0 && (n = os_pread_all(os_host(), "mount-point", from, buf, sizeof buf, at)) != 0) {
                if (n < 0)
                        return (int)n;
                r = os_pwrite_all(os_host(), "mount-point", to, buf, (size_t)n, at);
                at += n;
        }
        return r == 0 ? os_fsync(os_host(), "mount-point", to) : r;
}

/* To another file system. */
static int
copy_file(int from_fd, const char *to)
{
        int fd = os_open(os_host(), "mount-point", to,
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return fd;
        r = copy_bare_bytes(from_fd, fd);
        os_close(os_host(), "mount-point", fd);
        if (r < 0)
                (void)unlink(to);
        return r;
}

static int
sync_bare_parent(const char *path)
{
        char dir[PATH_MAX];

        snprintf(dir, sizeof dir, "%s", path);
        *strrchr(dir, '/') = '\0';
        return os_sync_dir(os_host(), "mount-point", dir);
}

static int
make_parent(const char *path)
{
        char dir[PATH_MAX];

        snprintf(dir, sizeof dir, "%s", path);
        *strrchr(dir, '/') = '\0';
        return os_mkdir_all(os_host(), "mount-point", dir, 0700);
}

static int
move_opened(struct moving *m, int file_fd, int dir_fd, const char *name, const char *path)
{
        char to[PATH_MAX];
        int r = check_unlocked(m, file_fd, path);

        if (r < 0)
                return r;
        if (snprintf(to, sizeof to, "%s/%s", m->to, path) >= (int)sizeof to)
                return err_set(m->base.e, -ENAMETOOLONG, "%s/%s", m->dir, path);
        r = make_parent(to);
        if (r == 0 && renameat2(dir_fd, name, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r == -EXDEV && (r = copy_file(file_fd, to)) == 0 && (r = sync_bare_parent(to)) == 0 &&
            unlinkat(dir_fd, name, 0) < 0)
                r = -errno;
        if (r == 0)
                r = sync_bare_parent(to);
        if (r < 0)
                return err_set(m->base.e, r, "move %s/%s to %s", m->dir, path, to);
        log_warn("%s/%s was written while litefs was not mounted there: moved to %s", m->dir, path, to);
        return 0;
}

static int
move_found(struct walk *w, enum kind kind, int dir_fd, const char *name, const char *path)
{
        struct moving *m = (struct moving *)w;
        int fd, r;

        if (kind != DATABASE && kind != COMPANION)
                return 0;
        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return err_set(m->base.e, -errno, "open %s/%s", m->dir, path);
        r = move_opened(m, fd, dir_fd, name, path);
        close(fd);
        return r;
}

int
bare_files_move(const char *dir, const char *data_dir, struct err *e)
{
        struct moving m = { .base = { .found = move_found, .e = e }, .dir = dir };
        char to[PATH_MAX], stamp[32];
        time_t now = time(NULL);
        struct tm tm;
        int r;

        strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
        if (snprintf(to, sizeof to, "%s/orphans/mount-point-%s", data_dir, stamp) >= (int)sizeof to)
                return err_set(e, -ENAMETOOLONG, "%s/orphans", data_dir);
        m.to = to;
        r = walk_begin(&m.base, dir);
        if (r == 0 && m.base.is_cut)
                r = err_text(
                        e, -EFBIG,
                        "%s holds more than %d files: move away by hand what is wanted of them, or choose "
                        "another fuse.dir",
                        dir, BARE_FILES_MAX);
        return r;
}
