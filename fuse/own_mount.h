/* fuse/own_mount.h - the one door through which the daemon goes into its own mount.
 *
 * A call on a file of the mount may wait in the kernel until a request of an application is answered: an open that looks
 * its name up waits for the unlink that holds the directory, a notification for the write that holds the page. If the
 * answer to that request waits for the thread that makes the call, the mount hangs for good. So each function here first
 * asks whether the calling thread may enter (thread_may_enter_own_mount): -EDEADLK and an error in the log if it may not.
 *
 * Requests may wait for jobs of session_config.visitors, as long as the kernel holds no directory for them: FLUSH, and a
 * WRITE to the WAL. Nothing ever waits for the tellers. */
#ifndef LITEFS_FUSE_OWN_MOUNT_H
#define LITEFS_FUSE_OWN_MOUNT_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct db;
struct session;

/* A file opened through the mount; a struct of its own so that it gets to no other call by accident. */
struct own_file {
        int fd; /* -1: none */
};

#define OWN_FILE_NONE ((struct own_file){ -1 })

/* 0 or -EDEADLK. @what is for the log. */
int own_mount_enter(struct session *s, const char *what);
/* NAME@suffix, O_RDWR and @flags. */
int own_open(struct session *s, struct db *db, const char *suffix, int flags, mode_t mode,
             struct own_file *ret);
/* From any thread: one that may not enter has it done. *@f is none then. */
void own_close(struct session *s, struct own_file *f);
int own_stat(struct session *s, const struct own_file *f, struct stat *ret);
/* The number of bytes, or negative. */
ssize_t own_read(struct session *s, const struct own_file *f, void *buf, size_t n, off_t off);
/* 0: all of it. */
int own_write(struct session *s, const struct own_file *f, const void *buf, size_t n, off_t off);
int own_truncate(struct session *s, const struct own_file *f, off_t size);

/* SQLite's locks, as OFD locks, which the kernel keeps without a request: any thread, never waits. 0; -EAGAIN when another
 * has it. @type as for fcntl. */
int own_lock(const struct own_file *f, short type, off_t start, off_t len);
/* By one of SQLite's, that is: the daemon's own are of open files. */
bool own_is_locked_by_process(const struct own_file *f, off_t byte);
bool own_is_locked_by_another(const struct own_file *f, off_t byte);

#endif
