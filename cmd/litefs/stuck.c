#include "cmd/litefs/stuck.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TOLD_MAX 3

/* Calls that a thread is in for long only where a file system does not answer, and how they say which file. */
enum stuck_file { BY_FD, BY_PATH, BY_DIR_AND_PATH };

static const struct {
        long number;
        const char *name;
        enum stuck_file file;
} calls[] = {
#define CALL(n, file) \
        { \
                SYS_##n, #n, file \
        }
        CALL(fdatasync, BY_FD),
        CALL(fsync, BY_FD),
        CALL(pwrite64, BY_FD),
        CALL(pwritev, BY_FD),
        CALL(pread64, BY_FD),
        CALL(preadv, BY_FD),
        CALL(ftruncate, BY_FD),
        CALL(fallocate, BY_FD),
        CALL(sync_file_range, BY_FD),
        CALL(copy_file_range, BY_FD),
        CALL(fstat, BY_FD),
        CALL(fchmod, BY_FD),
        CALL(fchown, BY_FD),
        CALL(getdents64, BY_FD),
        CALL(fcntl, BY_FD),
        CALL(flock, BY_FD),
        CALL(close, BY_FD),
        CALL(umount2, BY_PATH),
        CALL(openat, BY_DIR_AND_PATH),
        CALL(newfstatat, BY_DIR_AND_PATH),
        CALL(statx, BY_DIR_AND_PATH),
        CALL(unlinkat, BY_DIR_AND_PATH),
        CALL(renameat2, BY_DIR_AND_PATH),
        CALL(mkdirat, BY_DIR_AND_PATH),
        CALL(linkat, BY_DIR_AND_PATH),
#ifdef SYS_rename
        CALL(rename, BY_PATH),
        CALL(unlink, BY_PATH),
        CALL(mkdir, BY_PATH),
        CALL(rmdir, BY_PATH),
        CALL(stat, BY_PATH),
        CALL(lstat, BY_PATH),
        CALL(access, BY_PATH),
#endif
#undef CALL
};

/* "9 0x7 0x..." of a thread that is in a call, "running" of one that is in none. */
static bool
stuck_read_call(const char *task, long *ret_number, unsigned long ret_args[2])
{
        char path[64];
        FILE *f;
        bool is_there;

        snprintf(path, sizeof path, "/proc/self/task/%.16s/syscall", task);
        f = fopen(path, "re");
        if (f == NULL)
                return false;
        is_there = fscanf(f, "%ld %lx %lx", ret_number, &ret_args[0], &ret_args[1]) == 3;
        fclose(f);
        return is_there;
}

/* The name that the call was given. By the file that is this process's memory: should the thread be gone by now, there may
 * be nothing at that address. */
static void
stuck_read_name(unsigned long address, char *buf, size_t size)
{
        int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        ssize_t n = -1;

        for (; fd >= 0 && n < 0 && size > 1; size /= 2) /* it may lie at the end of what is mapped */
                n = pread(fd, buf, size - 1, (off_t)address);
        buf[n > 0 ? n : 0] = '\0';
        if (fd >= 0)
                close(fd);
}

static void
stuck_read_fd(int fd, char *buf, size_t size)
{
        char link[32];
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, buf, size - 1);
        buf[n > 0 ? n : 0] = '\0';
}

/* False: it is in no such call. */
static bool
stuck_describe_thread(const char *task, char *buf, size_t size)
{
        char file[200];
        unsigned long args[2];
        long number;

        if (!stuck_read_call(task, &number, args))
                return false;
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
                if (calls[i].number != number)
                        continue;
                if (calls[i].file == BY_FD)
                        stuck_read_fd((int)args[0], file, sizeof file);
                else
                        stuck_read_name(args[calls[i].file == BY_PATH ? 0 : 1], file, sizeof file);
                snprintf(buf, size, "a thread waits in %s%s%s", calls[i].name,
                         file[0] != '\0' ? " of " : "", file);
                return true;
        }
        return false;
}

void
stuck_describe(char *buf, size_t size)
{
        DIR *tasks = opendir("/proc/self/task");
        struct dirent *entry;
        unsigned n = 0;
        size_t len = 0;
        char one[256];

        buf[0] = '\0';
        while (tasks != NULL && n < TOLD_MAX && (entry = readdir(tasks)) != NULL) {
                if (entry->d_name[0] == '.' || !stuck_describe_thread(entry->d_name, one, sizeof one) ||
                    strstr(buf, one) != NULL)
                        continue;
                len += (size_t)snprintf(buf + len, size - len, "%s%s", n++ > 0 ? ", " : "", one);
                if (len >= size)
                        break;
        }
        if (tasks != NULL)
                closedir(tasks);
}
