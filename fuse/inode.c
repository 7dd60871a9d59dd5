#include "fuse/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/live_nodes.h"
#include "fuse/moments.h"
#include "store/dbname.h"

static uint64_t
hash_name(const struct inode *parent, const char *name, size_t len)
{
        uint64_t h = 14695981039346656037u ^ parent->number * 0x9e3779b97f4a7c15u;

        for (size_t i = 0; i < len; i++)
                h = (h ^ (unsigned char)name[i]) * 1099511628211u;
        return h ^ h >> 29;
}

static struct inode **
inode_bucket(struct inode_table *t, const struct inode *parent, const char *name)
{
        return &t->buckets[hash_name(parent, name, strlen(name)) & (t->n_buckets - 1)];
}

int
inode_table_init(struct inode_table *t)
{
        *t = (struct inode_table){ .n_buckets = 256, .next_number = 2 };
        t->root = (struct inode){ .number = 1, .kind = INODE_DIR, .n_refs = 1, .fd = -1 };
        t->root.id = INODE_ROOT_ID;
        t->buckets = calloc(t->n_buckets, sizeof *t->buckets);
        return t->buckets == NULL ? -ENOMEM : 0;
}

static void
free_node(void *item)
{
        struct inode *in = item;

        if (in->fd >= 0)
                close(in->fd);
        moment_node_free(in->moment);
        free(in->listing);
        free(in->name);
        free(in);
}

void
inode_table_release(struct inode_table *t)
{
        id_table_release(&t->ids, free_node); /* also those that have no name any more */
        free(t->root.listing);
        t->root.listing = NULL;
        free(t->buckets);
        t->buckets = NULL;
}

struct inode *
inode_find(struct inode_table *t, uint64_t id)
{
        return id == INODE_ROOT_ID ? &t->root : id_table_find(&t->ids, id);
}

struct inode *
inode_child(struct inode_table *t, const struct inode *parent, const char *name)
{
        struct inode *in = *inode_bucket(t, parent, name);

        while (in != NULL && (in->parent != parent || strcmp(in->name, name) != 0))
                in = in->next;
        return in;
}

/* More chains once they get long. Staying as it is costs time only, so no memory is no error. */
static void
maybe_grow(struct inode_table *t)
{
        size_t old_n = t->n_buckets;
        struct inode **old = t->buckets, **p;

        if (t->n_inodes < old_n * 2 || (p = calloc(old_n * 4, sizeof *p)) == NULL)
                return;
        t->buckets = p;
        t->n_buckets = old_n * 4;
        for (size_t i = 0; i < old_n; i++) {
                while (old[i] != NULL) {
                        struct inode *in = old[i], **b;

                        old[i] = in->next;
                        b = inode_bucket(t, in->parent, in->name);
                        in->next = *b;
                        *b = in;
                }
        }
        free(old);
}

static void
link_node(struct inode_table *t, struct inode *in)
{
        struct inode **b = inode_bucket(t, in->parent, in->name);

        in->next = *b;
        *b = in;
        t->n_inodes++;
        maybe_grow(t);
}

static void
unhash_inode(struct inode_table *t, struct inode *in)
{
        struct inode **p = inode_bucket(t, in->parent, in->name);

        while (*p != in)
                p = &(*p)->next;
        *p = in->next;
        t->n_inodes--;
}

static void
show_live(struct inode_table *t, struct inode *in)
{
        size_t len; /* of the database's name, which a file that is to become one has already */
        enum dbname_kind kind = dbname_classify(in->name, &len);

        live_nodes_add(t->live, in->id, hash_name(in->parent, in->name, len),
                       in->kind == INODE_SHM     ? LIVE_WAL_INDEX
                       : kind == DBNAME_DATABASE ? LIVE_DATABASE
                                                 : LIVE_OTHER);
}

struct inode *
inode_add(struct inode_table *t, struct inode *parent, const char *name, enum inode_kind kind,
          struct db *db)
{
        struct inode *in = calloc(1, sizeof *in);

        if (in == NULL)
                return NULL;
        in->name = strdup(name);
        in->id = in->name != NULL ? id_table_add(&t->ids, in) : 0;
        if (in->id == 0) {
                free(in->name);
                free(in);
                return NULL;
        }
        in->number = t->next_number++;
        in->kind = kind;
        in->parent = parent;
        in->n_refs = 1;
        in->db = db;
        in->fd = -1;
        parent->n_refs++;
        link_node(t, in);
        if (t->live != NULL && kind != INODE_DIR)
                show_live(t, in);
        return in;
}

struct inode *
inode_restore(struct inode_table *t, uint64_t id, enum inode_kind kind, struct db *db)
{
        struct inode *in = calloc(1, sizeof *in);

        if (in == NULL)
                return NULL;
        in->id = id;
        in->kind = kind;
        in->db = db;
        in->fd = -1;
        t->ids.slots[id_index(id)].item = in;
        return in;
}

int
inode_place_restored(struct inode_table *t, struct inode *in, struct inode *parent, const char *name)
{
        if (name != NULL && (in->name = strdup(name)) == NULL)
                return -ENOMEM;
        in->parent = parent;
        parent->n_refs++;
        if (name != NULL)
                link_node(t, in);
        if (name != NULL && t->live != NULL && in->kind != INODE_DIR)
                show_live(t, in);
        return 0;
}

void
inode_ref(struct inode *in)
{
        in->n_refs++;
}

void
inode_unref(struct inode_table *t, struct inode *in, uint64_t n)
{
        while (in != NULL && in != &t->root) {
                struct inode *parent = in->parent;

                in->n_refs -= n < in->n_refs ? n : in->n_refs;
                if (in->n_refs > 0)
                        return;
                if (in->name != NULL)
                        unhash_inode(t, in);
                if (t->live != NULL)
                        live_nodes_remove(t->live, in->id);
                id_table_remove(&t->ids, in->id);
                free_node(in);
                in = parent;
                n = 1;
        }
}

bool
inode_forget(struct inode_table *t, struct inode *in, uint64_t n)
{
        bool is_exact = n <= in->n_lookups;

        if (in == &t->root)
                return true; /* it is there without a lookup */
        if (!is_exact)
                n = in->n_lookups;
        in->n_lookups -= n;
        if (n > 0)
                inode_unref(t, in, n);
        return is_exact;
}

void
inode_unlink(struct inode_table *t, struct inode *in)
{
        if (in->name == NULL)
                return;
        unhash_inode(t, in);
        free(in->name);
        in->name = NULL;
}

int
inode_rename(struct inode_table *t, struct inode *in, struct inode *parent, const char *name)
{
        char *copy = strdup(name);
        struct inode *old_parent = in->parent;

        if (copy == NULL)
                return -ENOMEM;
        unhash_inode(t, in);
        free(in->name);
        in->name = copy;
        in->parent = parent;
        parent->n_refs++;
        link_node(t, in);
        inode_unref(t, old_parent, 1);
        return 0;
}

static bool
is_at_or_below(const struct inode *in, const struct inode *top)
{
        while (in != NULL && in != top)
                in = in->parent;
        return in != NULL;
}

bool
inode_has_adopting(const struct inode_table *t, const struct inode *top)
{
        if (top == NULL || top->kind != INODE_DIR)
                return top != NULL && top->is_adopting;
        for (size_t i = 0; i < t->n_buckets; i++)
                for (const struct inode *in = t->buckets[i]; in != NULL; in = in->next)
                        if (in->is_adopting && is_at_or_below(in, top))
                                return true;
        return false;
}

int
inode_path(const struct inode *in, char *buf, size_t size)
{
        size_t end = size, n;

        if (size == 0)
                return -ENAMETOOLONG;
        buf[--end] = '\0';
        for (; in->parent != NULL; in = in->parent) {
                if (in->name == NULL)
                        return -ENOENT;
                n = strlen(in->name);
                if (n + 1 > end)
                        return -ENAMETOOLONG;
                if (buf[end] != '\0')
                        buf[--end] = '/';
                end -= n;
                memcpy(buf + end, in->name, n);
        }
        memmove(buf, buf + end, size - end);
        return 0;
}

int
inode_child_path(const struct inode *parent, const char *name, char *buf, size_t size)
{
        size_t n = strlen(name), at;
        int r = inode_path(parent, buf, size);

        if (r < 0)
                return r;
        at = strlen(buf);
        if (at + n + 2 > size)
                return -ENAMETOOLONG;
        if (at > 0)
                buf[at++] = '/';
        memcpy(buf + at, name, n + 1);
        return 0;
}
