/* So that the thread sanitizer sees each descriptor begin: it follows open(2) and dup(2), but neither openat(2) nor
 * F_DUPFD_CLOEXEC nor opendir(3), and takes what these make for the descriptor that had the number before and that a library
 * closed unseen. Linked by --wrap in builds with that sanitizer, so that races about descriptors that are really used again
 * need not be hidden. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_openat64(int dir_fd, const char *path, int flags, ...);
DIR *__wrap_opendir(const char *path);

int
__wrap_openat64(int dir_fd, const char *path, int flags, ...)
{
        char text[PATH_MAX];
        mode_t mode = 0;
        va_list args;

        if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
                va_start(args, flags);
                mode = va_arg(args, mode_t);
                va_end(args);
        }
        if (path[0] == '/' || dir_fd == AT_FDCWD)
                return open(path, flags, mode);
        if (snprintf(text, sizeof text, "/proc/self/fd/%d/%s", dir_fd, path) >= (int)sizeof text) {
                errno = ENAMETOOLONG;
                return -1;
        }
        return open(text, flags, mode);
}

/* dup(2) is taken for the end of what had the number before: open(2) begins it anew. The least number that the caller asks
 * for is 3 at most, and those below are in use. */
static int
duplicate(int fd)
{
        int made = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (made >= 0 && dup3(fd, made, O_CLOEXEC) < 0) {
                close(made);
                return -1;
        }
        return made;
}

int
__wrap_fcntl64(int fd, int command, ...)
{
        va_list args;
        void *argument;

        va_start(args, command);
        argument = va_arg(args, void *);
        va_end(args);
        return command == F_DUPFD_CLOEXEC ? duplicate(fd) : __real_fcntl64(fd, command, argument);
}

DIR *
__wrap_opendir(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (fd >= 0 && dir == NULL)
                close(fd);
        return dir;
}
