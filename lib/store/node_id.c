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
        ssize_t n = os_read_file(os, "node-id:read", path, text, TEXT_LEN);

        *ret = n == TEXT_LEN ? strtoull(text, NULL, 16) : 0;
        return n < 0 && n != -ENOENT ? (int)n : 0;
}

static int
write_id(const struct os *os, const char *path, uint64_t id)
{
        char text[TEXT_LEN + 1];

        snprintf(text, sizeof text, "%016" PRIx64 "\n", id);
        return os_write_file(os, "node-id:write", path, O_CREAT, text, TEXT_LEN);
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
