/* The data directory: who uses it, what is in it, and where each database stands. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/os.h"
#include "cmd/litefs/doctor.h"
#include "db/adopt_litefs.h"
#include "history/images.h"
#include "txlog/txlog.h"
#include "store/dbname.h"

/* --- the lock --- */

/* Who holds a flock on the file; /proc tells it without taking the lock, which would keep a starting litefs out. */
static int
find_lock_holder(const char *path)
{
        FILE *f = fopen("/proc/locks", "re");
        struct stat st;
        char line[256];
        int found = 0;

        while (f != NULL && found == 0 && stat(path, &st) == 0 && fgets(line, sizeof line, f) != NULL) {
                unsigned long long inode;
                unsigned major_id, minor_id;
                int pid;

                if (sscanf(line, "%*s FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_id, &minor_id,
                           &inode) == 4 &&
                    inode == st.st_ino && makedev(major_id, minor_id) == st.st_dev)
                        found = pid;
        }
        if (f != NULL)
                fclose(f);
        return found;
}

/* --- the directory --- */

static bool
is_read_only(const char *dir)
{
        struct statvfs v;

        return statvfs(dir, &v) == 0 && (v.f_flag & ST_RDONLY) != 0;
}

static bool
check_data_directory(struct doctor *d)
{
        const char *dir = d->config.data.dir;
        char next[PATH_MAX + 64], lock[PATH_MAX];
        struct stat st;

        snprintf(next, sizeof next, "ls -la %s", dir);
        if (stat(dir, &st) < 0 && errno == ENOENT) {
                doctor_add(
                        d, DOCTOR_WARN, "data", "litefs mount",
                        "%s is not there: the first start makes it, and this node is new to its cluster",
                        dir);
                return false;
        }
        if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
                doctor_add(d, DOCTOR_FAIL, "data", next, "%s: %s", dir,
                           errno == ENOENT || S_ISDIR(st.st_mode) ? strerror(errno) : "not a directory");
                return false;
        }
        if (is_read_only(dir)) {
                snprintf(next, sizeof next, "mount -o remount,rw $(findmnt -n -o TARGET -T %s)", dir);
                doctor_add(d, DOCTOR_FAIL, "data", next,
                           "%s is on a file system that is mounted read-only", dir);
                return false;
        }
        if (access(dir, R_OK | W_OK | X_OK) < 0) {
                snprintf(next, sizeof next, "sudo chown -R %u %s", (unsigned)geteuid(), dir);
                doctor_add(d, DOCTOR_FAIL, "data", next, "%s: %s", dir, strerror(errno));
                return false;
        }
        snprintf(lock, sizeof lock, "%s/lock", dir);
        d->lock_pid = find_lock_holder(lock);
        if (d->lock_pid != 0)
                doctor_add(d, DOCTOR_OK, "data", NULL, "%s is used by the litefs that runs (process %d)",
                           dir, d->lock_pid);
        else
                doctor_add(d, DOCTOR_OK, "data", NULL, "%s can be used; no litefs runs on it", dir);
        return true;
}

/* --- what a database's directory has --- */

static int
database_dir(const struct doctor *d, const char *name, const char *file, char *buf, size_t size)
{
        char dir[DBNAME_MAX + 1];
        int r = dbname_encode(name, dir);

        if (r < 0)
                return r;
        return snprintf(buf, size, "%s/dbs/%s%s", d->config.data.dir, dir, file) < (int)size
                       ? 0
                       : -ENAMETOOLONG;
}

static int
open_log_of(const struct doctor *d, const char *name, struct txlog **ret, struct err *e)
{
        char path[PATH_MAX];
        int r = database_dir(d, name, "/log", path, sizeof path);

        return r < 0 ? err_set(e, r, "%s", name) : txlog_open_readonly(os_host(), path, ret, e);
}

int
doctor_local_position(const struct doctor *d, const char *name, struct ltx_pos *ret, struct err *e)
{
        struct txlog *log = NULL;
        struct txlog_record last;
        int r = open_log_of(d, name, &log, e);

        if (r == 0 && txlog_last(log, &last)) {
                *ret = (struct ltx_pos){ last.max_txid, last.post_apply_checksum };
                r = 1;
        }
        txlog_close(log);
        return r;
}

int
doctor_has_been_at(const struct doctor *d, const char *name, struct ltx_pos pos)
{
        enum txlog_history history = TXLOG_HISTORY_UNKNOWN;
        struct txlog *log = NULL;
        int r = open_log_of(d, name, &log, NULL);

        if (r == 0)
                r = txlog_find_history(log, pos, &history, NULL);
        txlog_close(log);
        if (r < 0 || history == TXLOG_HISTORY_UNKNOWN)
                return -1;
        return history == TXLOG_HISTORY_OURS;
}

void
doctor_each_database(const struct doctor *d, void (*fn)(void *arg, const char *name), void *arg)
{
        char path[PATH_MAX], name[DBNAME_MAX + 1];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof path, "%s/dbs", d->config.data.dir);
        dir = opendir(path);
        while (dir != NULL && (entry = readdir(dir)) != NULL)
                if (entry->d_name[0] != '.' && entry->d_type == DT_DIR &&
                    dbname_decode(entry->d_name, name) == 0)
                        fn(arg, name);
        if (dir != NULL)
                closedir(dir);
}

/* Past states that are wanted, and that nothing leads to. */
static void
check_past(struct doctor *d, const char *name, const char *dir, struct txlog *log)
{
        char images[PATH_MAX + 16], next[PATH_MAX];
        struct txlog_record first, last;

        snprintf(images, sizeof images, "%s/%s", dir, HISTORY_DIR);
        snprintf(next, sizeof next, "litefs log %s", name);
        if (d->config.data.history_ns > 0 && d->lock_pid != 0 && txlog_first(log, &first) &&
            txlog_last(log, &last) && last.commit > 0 && first.min_txid != 1 &&
            history_images_begin(os_host(), images) == UINT64_MAX)
                doctor_add(
                        d, DOCTOR_WARN, "database", next,
                        "no past state of %s can be opened, though data.history wants them: no whole database "
                        "is kept beside its log, and if it stays so the log of litefs says why",
                        name);
}

/* The end of the log of a stopped node: bytes that are no record are cut at the next start, which is harmless after a
 * crash; but a start is also the time to look. */
static void
check_log(struct doctor *d, const char *name, const char *dir)
{
        struct err e = ERR_INIT;
        struct txlog *log = NULL;
        char next[PATH_MAX], end[PATH_MAX + 64];
        int r = open_log_of(d, name, &log, &e);

        snprintf(next, sizeof next, "litefs ltx verify -data-dir %s %s", d->config.data.dir, name);
        if (r < 0) {
                doctor_add(d, DOCTOR_FAIL, "database", next, "the log of %s is damaged: %s", name,
                           e.text);
        } else if (d->lock_pid == 0 && txlog_torn_bytes(log) > 0) {
                txlog_describe_end(log, end, sizeof end);
                doctor_add(
                        d, DOCTOR_WARN, "database", next,
                        "the log of %s has %llu bytes that are not a record behind its last one (%s): a crash leaves "
                        "that, and the next start cuts it",
                        name, (unsigned long long)txlog_torn_bytes(log), end);
        }
        if (r == 0)
                check_past(d, name, dir, log);
        txlog_close(log);
}

struct layout {
        struct doctor *d;
        unsigned n, n_litefs;
};

/* Modes and owners in the mount are those of the files behind it. */
static void
check_access(struct doctor *d, const char *name, const char *dir)
{
        char path[PATH_MAX + 16], next[PATH_MAX + DBNAME_MAX];
        struct stat st;

        snprintf(path, sizeof path, "%s/database", dir);
        if (stat(path, &st) < 0)
                return;
        snprintf(next, sizeof next, "chmod o-w %s/%s   # in the mount, on the primary",
                 d->config.fuse.dir, name);
        if ((st.st_mode & S_IWOTH) != 0)
                doctor_add(d, DOCTOR_WARN, "database", next, "everybody may write %s (mode %03o)", name,
                           (unsigned)st.st_mode & 0777);
        if (!d->config.fuse.allow_other && geteuid() == 0 && st.st_uid != 0)
                doctor_add(
                        d, DOCTOR_WARN, "database", "man litefs.yml",
                        "%s belongs to user %u, but the mount is for root alone: set fuse.allow-other: true if that "
                        "is the user that the application runs as",
                        name, (unsigned)st.st_uid);
}

static void
check_database(void *arg, const char *name)
{
        struct layout *l = arg;
        char dir[PATH_MAX], path[PATH_MAX + 16], next[PATH_MAX + 32];
        struct err e = ERR_INIT;
        int r = database_dir(l->d, name, "", dir, sizeof dir);

        l->n++;
        r = r < 0 ? r : adopt_litefs_wanted(os_host(), dir, &e);
        if (r < 0)
                doctor_add(l->d, DOCTOR_FAIL, "database", NULL, "%s: %s", name,
                           e.code != 0 ? e.text : err_code_text(r));
        if (r > 0)
                l->n_litefs++;
        if (r != 0)
                return;
        check_access(l->d, name, dir);
        snprintf(path, sizeof path, "%s/log", dir);
        snprintf(next, sizeof next, "ls -la %s", dir);
        if (access(path, F_OK) < 0)
                doctor_add(l->d, DOCTOR_FAIL, "database", next, "%s has no log: %s: %s", name, path,
                           strerror(errno));
        else
                check_log(l->d, name, dir);
}

/* What was set aside, and what is no database, under dbs/. */
static void
check_strangers(struct doctor *d)
{
        char path[PATH_MAX], next[PATH_MAX + 16], name[DBNAME_MAX + 1];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof path, "%s/dbs", d->config.data.dir);
        snprintf(next, sizeof next, "ls -la %s", path);
        dir = opendir(path);
        while (dir != NULL && (entry = readdir(dir)) != NULL)
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                    (entry->d_type != DT_DIR || dbname_decode(entry->d_name, name) < 0))
                        doctor_add(d, DOCTOR_WARN, "data", next,
                                   "dbs/%s is not a database, and is left alone", entry->d_name);
        if (dir != NULL)
                closedir(dir);
}

static void
check_orphans(struct doctor *d)
{
        char path[PATH_MAX], one[NAME_MAX + 1] = "", next[PATH_MAX + NAME_MAX + 64];
        struct dirent *entry;
        unsigned n = 0;
        DIR *dir;

        snprintf(path, sizeof path, "%s/orphans", d->config.data.dir);
        dir = opendir(path);
        while (dir != NULL && (entry = readdir(dir)) != NULL)
                if (strncmp(entry->d_name, "mount-point", 11) == 0) {
                        snprintf(next, sizeof next, "ls -lR %s/%s", path, entry->d_name);
                        doctor_add(
                                d, DOCTOR_WARN, "data", next,
                                "%s/%s has what was written into the bare mount point: see what in it is wanted "
                                "(operations.md says how to get it in), then remove it",
                                path, entry->d_name);
                } else if (entry->d_name[0] != '.') {
                        snprintf(one, sizeof one, "%s", entry->d_name);
                        n++;
                }
        if (dir != NULL)
                closedir(dir);
        snprintf(next, sizeof next, "litefs ltx list %s/%s", path, one);
        if (n > 0)
                doctor_add(
                        d, DOCTOR_WARN, "data", next,
                        "%s has %u states of databases that the cluster does not have: see what in them is "
                        "wanted (operations.md says how to get it out), then remove them",
                        path, n);
}

enum beginning { BEGINS_NOWHERE, BEGINS_AS_DATABASE, BEGINS_AS_OTHER };

/* BEGINS_NOWHERE: it cannot be read, or is shorter than that. */
static enum beginning
begins_as(int dir_fd, const char *name)
{
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        unsigned char head[16] = { 0 };
        ssize_t n;

        if (fd < 0)
                return BEGINS_NOWHERE;
        n = pread(fd, head, sizeof head, 0);
        close(fd);
        if (n != sizeof head)
                return BEGINS_NOWHERE;
        return memcmp(head, "SQLite format 3", 16) == 0 ? BEGINS_AS_DATABASE : BEGINS_AS_OTHER;
}

/* A database that litefs never looks at: by its name it belongs to another one. */
static bool
doctor_is_named_as_companion(int dir_fd, const char *name)
{
        static const char *const ends[] = { "-wal", "-shm", "-journal", "-pos", "-lock" };
        size_t len = strlen(name);
        bool is_named = false;

        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
                is_named = is_named ||
                           (len > strlen(ends[i]) && strcmp(name + len - strlen(ends[i]), ends[i]) == 0);
        return is_named && begins_as(dir_fd, name) == BEGINS_AS_DATABASE;
}

/* A database in a file that has another name, too (a hard link). */
static bool
is_linked_database(int dir_fd, const char *name)
{
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
               st.st_nlink > 1 && begins_as(dir_fd, name) == BEGINS_AS_DATABASE;
}

/* What is named as a database and is a plain file for litefs: an encrypted one, as a rule. */
static bool
is_unreadable_database(int dir_fd, const char *name)
{
        static const char *const ends[] = { ".db", ".db3", ".sqlite", ".sqlite3" };
        const char *dot = strrchr(name, '.');
        bool is_named = false;
        struct stat st;

        for (size_t i = 0; dot != NULL && i < sizeof ends / sizeof ends[0]; i++)
                is_named = is_named || strcmp(dot, ends[i]) == 0;
        return is_named && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
               st.st_size >= 512 && st.st_size % 512 == 0 && begins_as(dir_fd, name) == BEGINS_AS_OTHER;
}

#define PLAIN_FILES_MAX 10000
#define PLAIN_DEPTH_MAX 16

static void
check_plain_files(struct doctor *d, int fd, const char *path, int depth, unsigned *n)
{
        DIR *dir = fdopendir(fd);
        struct dirent *entry;
        char below[PATH_MAX], next[4 * PATH_MAX];
        int sub;

        if (dir == NULL) {
                close(fd);
                return;
        }
        while ((entry = readdir(dir)) != NULL && (*n)++ < PLAIN_FILES_MAX) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    snprintf(below, sizeof below, "%s/%s", path, entry->d_name) >= (int)sizeof below)
                        continue;
                if (entry->d_type == DT_DIR && depth < PLAIN_DEPTH_MAX) {
                        sub = openat(dirfd(dir), entry->d_name,
                                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        if (sub >= 0)
                                check_plain_files(d, sub, below, depth + 1, n);
                } else if (is_unreadable_database(dirfd(dir), entry->d_name)) {
                        snprintf(next, sizeof next, "file %s%s", d->config.fuse.dir, below);
                        doctor_add(
                                d, DOCTOR_WARN, "database", next,
                                "%s is not a database that litefs can read, encrypted perhaps: it is neither logged nor "
                                "replicated",
                                below + 1);
                } else if (doctor_is_named_as_companion(dirfd(dir), entry->d_name)) {
                        snprintf(next, sizeof next, "mv %s%s %s%s.db", d->config.fuse.dir, below,
                                 d->config.fuse.dir, below);
                        doctor_add(
                                d, DOCTOR_WARN, "database", next,
                                "%s is a database, but its name is that of a companion of another one: it is neither "
                                "logged nor replicated",
                                below + 1);
                } else if (is_linked_database(dirfd(dir), entry->d_name)) {
                        snprintf(next, sizeof next, "find %s -samefile %s%s", d->config.fuse.dir,
                                 d->config.fuse.dir, below);
                        doctor_add(
                                d, DOCTOR_WARN, "database", next,
                                "%s is a database, but its file has another name, too (a hard link): it is neither "
                                "logged nor replicated",
                                below + 1);
                }
        }
        closedir(dir);
}

static void
check_unprotected(struct doctor *d)
{
        char path[PATH_MAX];
        unsigned n = 0;
        int fd;

        snprintf(path, sizeof path, "%s/files", d->config.data.dir);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                check_plain_files(d, fd, "", 0, &n);
}

void
doctor_check_data(struct doctor *d)
{
        struct layout l = { .d = d };

        if (!check_data_directory(d))
                return;
        check_strangers(d);
        check_unprotected(d);
        check_orphans(d);
        doctor_each_database(d, check_database, &l);
        if (l.n_litefs > 0)
                doctor_add(d, DOCTOR_OK, "data", NULL,
                           "%u of %u databases are as LiteFS left them: the next start takes them over",
                           l.n_litefs, l.n);
}
