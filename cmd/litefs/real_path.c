#include "cmd/litefs/real_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int
real_path(const char *path, char buf[PATH_MAX])
{
        char link[40];
        ssize_t n;
        int fd = open(path, O_PATH | O_CLOEXEC), r;

        if (fd < 0)
                return -errno;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, buf, PATH_MAX);
        r = n < 0 ? -errno : n == PATH_MAX ? -ENAMETOOLONG : 0;
        close(fd);
        if (r == 0)
                buf[n] = '\0';
        return r;
}

int
real_path_above(const char *path, char dir[PATH_MAX], char name[PATH_MAX])
{
        char up[PATH_MAX], *slash;
        size_t n = (size_t)snprintf(up, sizeof up, "%s", path);
        int r;

        if (n >= sizeof up)
                return -ENAMETOOLONG;
        while (n > 1 && up[n - 1] == '/')
                up[--n] = '\0';
        slash = strrchr(up, '/');
        strcpy(name, slash != NULL ? slash + 1 : up);
        if (slash != NULL)
                slash[slash == up] = '\0'; /* that of the root stays */
        r = real_path(slash != NULL ? up : ".", dir);
        if (r == 0 && strcmp(dir, "/") == 0)
                dir[0] = '\0';
        return r;
}
