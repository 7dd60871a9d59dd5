/* The files of the lease in a file: trusted, locked, read, replaced. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "lease/file_internal.h"

#define LOCK_RETRY_NS 2000000
#define NO_LOCK_FILE (-ENODATA)

/* --- what is trusted --- */

/* File systems that one kernel has to itself, with locks that it keeps: the magic numbers of linux/magic.h and their own. */
static const unsigned local_magics[] = {
        0xef53 /* ext4 */,      0x58465342 /* xfs */,      0x9123683e /* btrfs */,
        0x01021994 /* tmpfs */, 0x794c7630 /* overlay */,  0xf2f52010 /* f2fs */,
        0x2fc12fc1 /* zfs */,   0xca451a4e /* bcachefs */, 0x858458f6 /* ramfs */,
};

static int
check_file_system(const struct file_lease *f, int fd, struct err *e)
{
        struct statfs s;

        if (fstatfs(fd, &s) < 0)
                return err_set(e, -errno, "%s", f->lock_path);
        for (size_t i = 0; i < sizeof local_magics / sizeof local_magics[0]; i++)
                if ((unsigned)s.f_type == local_magics[i])
                        return 0;
        return err_text(
                e, -ENOTSUP,
                "%s is on a file system of type %#x, whose locks other machines may not see: want a "
                "local disk, or a lease in etcd or Consul",
                f->kv.key, (unsigned)s.f_type);
}

/* Another user could have planted it, and say who leads. */
static int
check_file_owner(const char *path, int fd, struct err *e)
{
        struct stat st;
        int r = os_fstat(os_host(), "lease:stat", fd, &st);

        if (r < 0)
                return err_set(e, r, "%s", path);
        if (!S_ISREG(st.st_mode))
                return err_text(e, -EINVAL,
                                "%s is not a file: want the name of a file that litefs makes", path);
        if (st.st_uid != geteuid())
                return err_text(
                        e, -EPERM,
                        "%s belongs to another user (%u): run all nodes as the same user, or choose another file",
                        path, (unsigned)st.st_uid);
        return 0;
}

int
file_identity(int fd, char ret[FILE_IDENTITY_SIZE], struct err *e)
{
        struct stat st;
        int r = os_fstat(os_host(), "lease:stat", fd, &st);

        if (r < 0)
                return err_set(e, r, "lock file");
        snprintf(ret, FILE_IDENTITY_SIZE, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        return 0;
}

/* --- locks --- */

/* Of the open file rather than the process (F_OFD_SETLK): a thread that closes another one of this name does not lose it. */
static int
lock_bytes(int fd, short type, off_t start, off_t n)
{
        struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = n };

        return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static off_t
byte_of(const char *session)
{
        return (off_t)(strtoull(session, NULL, 10) & INT64_MAX);
}

/* Before there is a lock file. */
static int
check_directory(const struct file_lease *f, struct err *e)
{
        int fd = os_open(os_host(), "lease:dir", f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), r;

        if (fd < 0)
                return err_set(e, fd, "%s", f->dir);
        r = check_file_system(f, fd, e);
        os_close(os_host(), "lease:dir", fd);
        return r;
}

/* NO_LOCK_FILE: there is none, though its directory is good. */
static int
open_lock_file(const struct file_lease *f, enum file_use use, struct err *e)
{
        int fd = os_open(
                os_host(), "lease:lock", f->lock_path,
                O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (use == FILE_CHANGE ? O_CREAT : 0), 0600);
        int r;

        if (fd == -ENOENT) {
                r = check_directory(f, e);
                return r < 0 ? r : NO_LOCK_FILE;
        }
        if (fd < 0)
                return err_set(e, fd, "%s", f->lock_path);
        r = check_file_owner(f->lock_path, fd, e);
        if (r == 0)
                r = check_file_system(f, fd, e);
        if (r < 0) {
                os_close(os_host(), "lease:lock", fd);
                return r;
        }
        return fd;
}

/* Whether @fd is what has the name now: else it was removed between open and lock, and excludes nobody. */
static bool
has_its_name(const struct file_lease *f, int fd)
{
        struct stat named, opened;

        return os_lstat(os_host(), "lease:stat", f->lock_path, &named) == 0 &&
               os_fstat(os_host(), "lease:stat", fd, &opened) == 0 && named.st_dev == opened.st_dev &&
               named.st_ino == opened.st_ino;
}

/* 0: *@ret is locked, or -1. -EAGAIN: somebody else has it. */
static int
try_lock(const struct file_lease *f, enum file_use use, int *ret, struct err *e)
{
        int fd = open_lock_file(f, use, e), r;

        *ret = -1;
        if (fd == NO_LOCK_FILE)
                return use == FILE_READ ? 0 : -EAGAIN;
        if (fd < 0)
                return fd;
        r = lock_bytes(fd, F_WRLCK, 0, 1);
        if (r == 0 && !has_its_name(f, fd))
                r = -EAGAIN;
        if (r == 0) {
                *ret = fd;
                return 0;
        }
        os_close(os_host(), "lease:lock", fd);
        if (r == -EAGAIN || r == -EACCES)
                return -EAGAIN;
        return err_set(e, r, "lock %s", f->lock_path);
}

static int
wait_lock(struct file_lease *f, enum file_use use, int *ret, struct err *e)
{
        const struct timespec pause = { 0, LOCK_RETRY_NS };
        int r;

        while ((r = try_lock(f, use, ret, e)) == -EAGAIN) {
                if (kv_left_ms(&f->kv) == 0)
                        return err_text(
                                e, -ETIMEDOUT,
                                "%s: no answer within %lld ms, for another process has it locked: "
                                "`fuser %s` says which; one that is stopped must go on, or end",
                                f->kv.key, (long long)f->kv.timeout_ms, f->lock_path);
                nanosleep(&pause, NULL);
        }
        return r;
}

int
file_lock_session(struct file_lease *f, const struct file_txn *t, const char *session, struct err *e)
{
        char mine[FILE_IDENTITY_SIZE] = "", now[FILE_IDENTITY_SIZE];
        off_t kept = byte_of(document_text(t->root, "session"));
        int r = file_identity(t->fd, now, e);

        if (r == 0 && f->session_fd >= 0)
                r = file_identity(f->session_fd, mine, e);
        if (r == 0 && strcmp(mine, now) != 0) {
                os_close(os_host(), "lease:lock", f->session_fd);
                f->session_fd = r = open_lock_file(f, FILE_CHANGE, e);
                if (r >= 0)
                        r = file_identity(f->session_fd, mine, e);
                if (r == 0 && strcmp(mine, now) != 0)
                        r = err_text(e, -EAGAIN, "%s was replaced", f->lock_path);
        }
        if (r < 0)
                return r;
        /* What was offered and taken over ends here; the one that PATH names may be an offer that still stands. */
        if (kept > 1)
                lock_bytes(f->session_fd, F_UNLCK, 1, kept - 1);
        lock_bytes(f->session_fd, F_UNLCK, kept + 1, 0);
        r = lock_bytes(f->session_fd, F_WRLCK, byte_of(session), 1);
        return r < 0 ? err_set(e, r, "lock %s", f->lock_path) : 0;
}

void
file_unlock_session(struct file_lease *f, const char *session)
{
        if (f->session_fd >= 0 && byte_of(session) > 0)
                lock_bytes(f->session_fd, F_UNLCK, byte_of(session), 1);
}

bool
file_is_session_alive(const struct file_txn *t)
{
        off_t at = byte_of(document_text(t->root, "session"));
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
        char now[FILE_IDENTITY_SIZE];

        if (at <= 0 || t->fd < 0 || file_identity(t->fd, now, NULL) < 0 ||
            strcmp(document_text(t->root, "lock-file"), now) != 0)
                return true;
        return fcntl(t->fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* --- the state --- */

static int
parse_state(const struct file_lease *f, const char *text, size_t n, json_t **ret, struct err *e)
{
        if (document_parse(text, n, ret))
                return 0;
        return err_text(
                e, E_FORMAT,
                "%s is not a lease that litefs wrote: stop the nodes and move it away, or choose another file",
                f->kv.key);
}

/* A file that is not there is a state that nobody has written. */
int
file_peek(struct file_lease *f, json_t **ret, struct err *e)
{
        char text[DOCUMENT_MAX_SIZE];
        ssize_t n;
        int r, fd = os_open(os_host(), "lease:state", f->kv.key,
                            O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

        if (fd == -ENOENT) {
                *ret = json_object();
                return *ret != NULL ? 0 : err_set(e, -ENOMEM, "%s", f->kv.key);
        }
        if (fd < 0)
                return err_set(e, fd, "%s", f->kv.key);
        r = check_file_owner(f->kv.key, fd, e);
        n = r == 0 ? os_pread_all(os_host(), "lease:state", fd, text, sizeof text, 0) : r;
        os_close(os_host(), "lease:state", fd);
        if (n < 0)
                return r < 0 ? r : err_set(e, (int)n, "read %s", f->kv.key);
        return parse_state(f, text, (size_t)n, ret, e);
}

int
file_begin(struct file_lease *f, enum file_use use, struct file_txn *ret, struct err *e)
{
        int r = wait_lock(f, use, &ret->fd, e);

        ret->root = NULL;
        if (r < 0)
                return r;
        r = file_peek(f, &ret->root, e);
        if (r < 0)
                os_close(os_host(), "lease:lock", ret->fd);
        return r;
}

/* PATH is never half written: the rename is what changes it, and lasts when the directory was synced. */
int
file_save(struct file_lease *f, struct file_txn *t, struct err *e)
{
        char text[DOCUMENT_MAX_SIZE];
        ssize_t n = document_format(t->root, text);
        int r;

        if (n < 0)
                return err_set(e, (int)n, "%s", f->kv.key);
        r = os_unlink(os_host(), "lease:new", f->new_path);
        if (r == 0 || r == -ENOENT)
                r = os_write_file(os_host(), "lease:new", f->new_path, O_CREAT | O_EXCL | O_NOFOLLOW,
                                  text, (size_t)n);
        if (r < 0)
                return err_set(e, r, "write %s", f->new_path);
        r = os_rename(os_host(), "lease:commit", f->new_path, f->kv.key);
        if (r == 0)
                r = os_sync_dir(os_host(), "lease:commit", f->dir);
        return r < 0 ? err_set(e, r, "replace %s", f->kv.key) : 0;
}

void
file_end(struct file_txn *t)
{
        json_decref(t->root);
        os_close(os_host(), "lease:lock", t->fd);
}
