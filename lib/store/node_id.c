#include "store/node_id.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define TEXT_LEN 17 /* 16 hex digits and a newline */

/* 0 when there is none, or not a whole one. */
static int
read_id(const struct os *os, const char *path, uint64_t *ret)
{
        char text[TEXT_LEN + 1] = "";
        int fd = os_open(os, "node-id:read", path, O_RDONLY | O_CLOEXEC, 0);
        ssize_t n;

        *ret = 0;
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        n = os_pread_all(os, "node-id:read", fd, text, TEXT_LEN, 0);
        os_close(os, "node-id:read", fd);
        if (n == TEXT_LEN)
                *ret = strtoull(text, NULL, 16);
        return n < 0 ? (int)n : 0;
}

static int
write_id(const struct os *os, const char *path, uint64_t id)
{
        char text[TEXT_LEN + 1];
        int fd = os_open(os, "node-id:write", path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        int r;

        if (fd < 0)
                return fd;
        snprintf(text, sizeof text, "%016" PRIx64 "\n", id);
        r = os_pwrite_all(os, "node-id:write", fd, text, TEXT_LEN, 0);
        if (r == 0)
                r = os_fdatasync(os, "node-id:write", fd);
        os_close(os, "node-id:write", fd);
        return r;
}

int
node_id_load(const struct os *os, const char *dir, uint64_t *ret, struct err *e)
{
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/node-id", dir), r;

        if (n < 0 || n >= (int)sizeof path)
                return err_set(e, -ENAMETOOLONG, "%s/node-id", dir);
        r = read_id(os, path, ret);
        if (r < 0)
                return err_set(e, r, "read %s", path);
        if (*ret != 0)
                return 0;
        if (getrandom(ret, sizeof *ret, GRND_NONBLOCK) != sizeof *ret || *ret == 0)
                return err_set(e, -EAGAIN, "draw the id for %s", path);
        r = write_id(os, path, *ret);
        return r < 0 ? err_set(e, r, "write %s", path) : 0;
}
