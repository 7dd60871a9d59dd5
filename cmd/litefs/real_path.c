#include "cmd/litefs/real_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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
