/* lib/base/os.h - every system call on storage that the daemon may see fail.
 *
 * Code that touches the data directory goes through a `struct os`, so that a test can make the n-th
 * call fail, run the disk full, or drop and tear what was not synced. `os_host()` is the kernel.
 * Each call takes a short tag ("txlog:append") that says what it is for; a test aims by it.
 *
 * All return 0 or a count, else a negative errno. os_pread_all and os_pwrite_all continue after short
 * transfers and EINTR. Safe from any thread; the vtable is immutable. Tags are static strings. */
#ifndef LITEFS_BASE_OS_H
#define LITEFS_BASE_OS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct os {
        int (*open)(const struct os *os, const char *tag, const char *path, int flags, mode_t mode);
        int (*close)(const struct os *os, const char *tag, int fd);
        ssize_t (*pread)(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off);
        ssize_t (*pwrite)(const struct os *os, const char *tag, int fd, const void *buf, size_t n,
                          off_t off);
        int (*fdatasync)(const struct os *os, const char *tag, int fd);
        int (*fsync)(const struct os *os, const char *tag, int fd);
        int (*ftruncate)(const struct os *os, const char *tag, int fd, off_t size);
        int (*fstat)(const struct os *os, const char *tag, int fd, struct stat *ret);
        int (*lstat)(const struct os *os, const char *tag, const char *path, struct stat *ret);
        int (*rename)(const struct os *os, const char *tag, const char *from, const char *to);
        int (*link)(const struct os *os, const char *tag, const char *from, const char *to);
        int (*unlink)(const struct os *os, const char *tag, const char *path);
        int (*mkdir)(const struct os *os, const char *tag, const char *path, mode_t mode);
        int (*rmdir)(const struct os *os, const char *tag, const char *path);
};

/* The kernel. */
const struct os *os_host(void);

int os_open(const struct os *os, const char *tag, const char *path, int flags, mode_t mode);
/* Closes @fd; the result matters only after writes. -1 as @fd is fine and does nothing. */
int os_close(const struct os *os, const char *tag, int fd);
/* Reads until @n bytes or end of file: returns the bytes read, which is < @n only at end of file. */
ssize_t os_pread_all(const struct os *os, const char *tag, int fd, void *buf, size_t n, off_t off);
/* Writes all @n bytes: 0, else a negative errno, and then an unknown part was written. */
int os_pwrite_all(const struct os *os, const char *tag, int fd, const void *buf, size_t n, off_t off);
/* The whole file: opens it for writing with @flags besides (O_CREAT, mode 0600; O_TRUNC), writes all @n bytes at its
 * beginning, fdatasyncs and closes it. That its name lasts is the caller's: os_sync_dir. */
int os_write_file(const struct os *os, const char *tag, const char *path, int flags, const void *buf,
                  size_t n);
/* Its first @n bytes at the most: how many there are, or a negative errno (-ENOENT). */
ssize_t os_read_file(const struct os *os, const char *tag, const char *path, void *buf, size_t n);
int os_fdatasync(const struct os *os, const char *tag, int fd);
int os_fsync(const struct os *os, const char *tag, int fd);
int os_ftruncate(const struct os *os, const char *tag, int fd, off_t size);
int os_fstat(const struct os *os, const char *tag, int fd, struct stat *ret);
int os_lstat(const struct os *os, const char *tag, const char *path, struct stat *ret);
int os_rename(const struct os *os, const char *tag, const char *from, const char *to);
/* A second name; -EEXIST when there is something of that name. */
int os_link(const struct os *os, const char *tag, const char *from, const char *to);
int os_unlink(const struct os *os, const char *tag, const char *path);
int os_mkdir(const struct os *os, const char *tag, const char *path, mode_t mode);
int os_rmdir(const struct os *os, const char *tag, const char *path);

/* Opens the directory @path, fsyncs and closes it: what makes a create, rename or unlink in it last. */
int os_sync_dir(const struct os *os, const char *tag, const char *path);
/* Like mkdir -p; existing directories are fine. */
int os_mkdir_all(const struct os *os, const char *tag, const char *path, mode_t mode);
/* Calls @fn for each entry of @path but "." and "..", in name order; stops at the first result that
 * is not 0 and returns it. -ENOENT when @path is absent. */
int os_list_dir(const struct os *os, const char *tag, const char *path,
                int (*fn)(void *arg, const char *name), void *arg);
/* Removes all that is in the directory, with what is below it; symbolic links are not followed. Stops at the first
 * error. */
int os_empty_dir(const struct os *os, const char *tag, const char *path);

#endif
