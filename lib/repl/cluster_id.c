#include "repl/cluster_id.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

bool
cluster_id_is_valid(const char *id)
{
        return strlen(id) == LEASE_CLUSTER_ID_SIZE - 1 && strncmp(id, "LFSC", 4) == 0 &&
               strspn(id + 4, "0123456789ABCDEF") == 16;
}

void
cluster_id_make(char ret[LEASE_CLUSTER_ID_SIZE])
{
        uint64_t v;

        while (getrandom(&v, sizeof v, 0) != sizeof v)
                ;
        snprintf(ret, LEASE_CLUSTER_ID_SIZE, "LFSC%016" PRIX64, v);
}

int
cluster_id_load(const struct os *os, const char *data_dir, char ret[LEASE_CLUSTER_ID_SIZE],
                struct err *e)
{
        char path[PATH_MAX], buf[64];
        ssize_t n;
        int fd;

        ret[0] = '\0';
        snprintf(path, sizeof path, "%s/clusterid", data_dir);
        fd = os_open(os, "clusterid:open", path, O_RDONLY | O_CLOEXEC, 0);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return err_set(e, fd, "open %s", path);
        n = os_pread_all(os, "clusterid:read", fd, buf, sizeof buf - 1, 0);
        os_close(os, "clusterid:close", fd);
        if (n < 0)
                return err_set(e, (int)n, "read %s", path);
        buf[n] = '\0';
        buf[strcspn(buf, " \t\r\n")] = '\0';
        if (!cluster_id_is_valid(buf))
                return err_text(
                        e, E_FORMAT,
                        "%s does not hold a cluster id (LFSC and 16 hex digits); restore it from "
                        "another node of the cluster, or remove it to adopt the primary's",
                        path);
        memcpy(ret, buf, LEASE_CLUSTER_ID_SIZE);
        return 0;
}

int
cluster_id_save(const struct os *os, const char *data_dir, const char *id, struct err *e)
{
        char path[PATH_MAX], tmp[PATH_MAX];
        int fd, r;

        snprintf(path, sizeof path, "%s/clusterid", data_dir);
        snprintf(tmp, sizeof tmp, "%s/clusterid.tmp", data_dir);
        fd = os_open(os, "clusterid:create", tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_set(e, fd, "create %s", tmp);
        r = os_pwrite_all(os, "clusterid:write", fd, id, strlen(id), 0);
        if (r == 0)
                r = os_fsync(os, "clusterid:sync", fd);
        os_close(os, "clusterid:close", fd);
        if (r == 0)
                r = os_rename(os, "clusterid:rename", tmp, path);
        if (r == 0)
                r = os_sync_dir(os, "clusterid:rename", data_dir);
        return r < 0 ? err_set(e, r, "write %s", path) : 0;
}
