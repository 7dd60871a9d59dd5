#include "fuse/live_nodes.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse/id_table.h"
#include "sqlite/wal_index.h"

#define NODES_MAX (1u << 20) /* pages of the table that are not used cost nothing */

struct live_node {
        uint64_t id; /* 0: none */
        uint64_t database;
        enum live_kind kind;
};

struct live_nodes {
        uint32_t n; /* no node is at a place as high */
        bool is_passed;
        struct live_node nodes[NODES_MAX]; /* by the index in the id */
};

struct live_nodes *
live_nodes_new(void)
{
        struct live_nodes *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return t == MAP_FAILED ? NULL : t;
}

void
live_nodes_add(struct live_nodes *t, uint64_t id, uint64_t database, enum live_kind kind)
{
        uint32_t i = id_index(id);

        if (i >= NODES_MAX)
                return;
        t->nodes[i] = (struct live_node){ id, database, kind };
        if (i >= t->n)
                t->n = i + 1; /* last, for whoever is killed in between */
}

void
live_nodes_set_passed(struct live_nodes *t)
{
        t->is_passed = true;
}

bool
live_nodes_are_passed(const struct live_nodes *t)
{
        return t->is_passed;
}

void
live_nodes_remove(struct live_nodes *t, uint64_t id)
{
        if (id_index(id) < NODES_MAX)
                t->nodes[id_index(id)].id = 0;
}

static void
send_notification(int fuse_fd, int what, const void *body, size_t n, const void *data, size_t n_data)
{
        struct fuse_out_header head = { .len = (uint32_t)(sizeof head + n + n_data), .error = what };
        struct iovec iov[3] = { { &head, sizeof head },
                                { (void *)(uintptr_t)body, n },
                                { (void *)(uintptr_t)data, n_data } };
        ssize_t r = writev(fuse_fd, iov, n_data > 0 ? 3 : 2);

        (void)r; /* the kernel has forgotten the node */
}

void
live_node_revoke(int fuse_fd, uint64_t id, enum live_kind kind, bool has_wal_index)
{
        static const uint8_t invalid[2 * WAL_INDEX_COPY_SIZE];
        struct fuse_notify_store_out store = { .nodeid = id, .size = sizeof invalid };
        /* From -1: its attributes only. */
        struct fuse_notify_inval_inode_out forget = {
                .ino = id, .off = kind == LIVE_DATABASE && has_wal_index ? -1 : 0
        };

        /* A page that is mapped is not taken away: whoever touches it would be killed. */
        if (kind == LIVE_WAL_INDEX)
                send_notification(fuse_fd, FUSE_NOTIFY_STORE, &store, sizeof store, invalid,
                                  sizeof invalid);
        else
                send_notification(fuse_fd, FUSE_NOTIFY_INVAL_INODE, &forget, sizeof forget, NULL, 0);
}

static int
compare_databases(const void *a, const void *b)
{
        uint64_t x = ((const struct live_node *)a)->database,
                 y = ((const struct live_node *)b)->database;

        return x < y ? -1 : x > y;
}

/* Sorts @nodes, to have those of a database together. */
static void
revoke_all(struct live_node *nodes, uint32_t n_places, int fuse_fd)
{
        uint32_t begin, end, n = 0;

        for (uint32_t i = 0; i < n_places; i++)
                if (nodes[i].id != 0)
                        nodes[n++] = nodes[i];
        qsort(nodes, n, sizeof *nodes, compare_databases);
        for (begin = 0; begin < n; begin = end) {
                bool has_wal_index = false;

                for (end = begin; end < n && nodes[end].database == nodes[begin].database; end++)
                        has_wal_index = has_wal_index || nodes[end].kind == LIVE_WAL_INDEX;
                for (uint32_t i = begin; i < end; i++)
                        live_node_revoke(fuse_fd, nodes[i].id, nodes[i].kind, has_wal_index);
        }
}

void
live_nodes_revoke_after_death(struct live_nodes *t, int fuse_fd)
{
        revoke_all(t->nodes, t->n < NODES_MAX ? t->n : NODES_MAX, fuse_fd);
}

int
live_nodes_revoke(const struct live_nodes *t, pthread_mutex_t *lock, int fuse_fd)
{
        struct live_node *copy;
        uint32_t n;

        pthread_mutex_lock(lock);
        n = t->n;
        copy = malloc((n + 1) * sizeof *copy);
        if (copy != NULL)
                memcpy(copy, t->nodes, n * sizeof *copy);
        pthread_mutex_unlock(lock);
        if (copy == NULL)
                return -ENOMEM;
        revoke_all(copy, n, fuse_fd);
        free(copy);
        return 0;
}
