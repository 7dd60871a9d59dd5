#include "repl/cluster_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "repl/small_file.h"

static bool
is_valid_id(const char *id)
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
        char buf[64];
        int r = small_file_read(os, data_dir, "clusterid", buf, sizeof buf, e);

        ret[0] = '\0';
        if (r <= 0)
                return r;
        if (!is_valid_id(buf))
                return err_text(
                        e, E_FORMAT,
                        "%s/clusterid does not hold a cluster id (LFSC and 16 hex digits); restore it "
                        "from another node of the cluster, or remove it to adopt the primary's",
                        data_dir);
        memcpy(ret, buf, LEASE_CLUSTER_ID_SIZE);
        return 0;
}

int
cluster_id_save(const struct os *os, const char *data_dir, const char *id, struct err *e)
{
        return small_file_write(os, data_dir, "clusterid", id, strlen(id), e);
}
