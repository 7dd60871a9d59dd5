#include "repl/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static int
make_small_path(char ret[PATH_MAX], const char *dir, const char *name, const char *suffix)
{
        int n = snprintf(ret, PATH_MAX, "%s/%s%s", dir, name, suffix);

        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int
small_file_read_all(const struct os *os, const char *dir, const char *name, char *buf, size_t size,
                    struct err *e)
{
        char path[PATH_MAX];
        int fd, r = make_small_path(path, dir, name, "");
        ssize_t n;

        if (r < 0)
                return err_set(e, r, "read %s/%s", dir, name);
        buf[0] = '\0';
        fd = os_open(os, "small:open", path, O_RDONLY | O_CLOEXEC, 0);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return err_set(e, fd, "open %s", path);
        n = os_pread_all(os, "small:read", fd, buf, size - 1, 0);
        os_close(os, "small:close", fd);
        if (n < 0)
                return err_set(e, (int)n, "read %s", path);
        buf[n] = '\0';
        return (int)strlen(buf);
}

int
small_file_read(const struct os *os, const char *dir, const char *name, char *buf, size_t size,
                struct err *e)
{
        int r = small_file_read_all(os, dir, name, buf, size, e);

        if (r <= 0)
                return r;
        buf[strcspn(buf, " \t\r\n")] = '\0';
        return (int)strlen(buf);
}

static int
write_tmp(const struct os *os, const char *tmp, const char *text, size_t n)
{
        int fd = os_open(os, "small:create", tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int r = fd < 0 ? fd : os_pwrite_all(os, "small:write", fd, text, n, 0);

        if (r == 0)
                r = os_fsync(os, "small:sync", fd);
        os_close(os, "small:close", fd);
        return r;
}

int
small_file_write(const struct os *os, const char *dir, const char *name, const char *text, size_t n,
                 struct err *e)
{
        char path[PATH_MAX], tmp[PATH_MAX];
        int r = make_small_path(path, dir, name, "");

        if (r == 0)
                r = make_small_path(tmp, dir, name, ".tmp");
        if (r == 0)
                r = write_tmp(os, tmp, text, n);
        if (r == 0)
                r = os_rename(os, "small:rename", tmp, path);
        if (r == 0)
                r = os_sync_dir(os, "small:rename", dir);
        return r < 0 ? err_set(e, r, "write %s/%s", dir, name) : 0;
}
