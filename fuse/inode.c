#include "fuse/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t
hash_name(const struct inode *parent, const char *name)
{
        uint64_t h = 14695981039346656037u ^ parent->number * 0x9e3779b97f4a7c15u;

        for (; *name != '\0'; name++)
                h = (h ^ (unsigned char)*name) * 1099511628211u;
        return h ^ h >> 29;
}

static struct inode **
bucket_of(struct inode_table *t, const struct inode *parent, const char *name)
{
        return &t->buckets[hash_name(parent, name) & (t->n_buckets - 1)];
}

int
inode_table_init(struct inode_table *t)
{
        *t = (struct inode_table){ .n_buckets = 256, .next_number = 2 };
        t->root = (struct inode){ .number = 1, .kind = INODE_DIR, .n_refs = 1, .fd = -1 };
        t->buckets = calloc(t->n_buckets, sizeof *t->buckets);
        return t->buckets == NULL ? -ENOMEM : 0;
}

static void
free_node(struct inode *in)
{
        if (in->fd >= 0)
                close(in->fd);
        free(in->listing);
        free(in->name);
        free(in);
}

void
inode_table_release(struct inode_table *t)
{
        for (size_t i = 0; t->buckets != NULL && i < t->n_buckets; i++) {
                while (t->buckets[i] != NULL) {
                        struct inode *in = t->buckets[i];

                        t->buckets[i] = in->next;
                        free_node(in);
                }
        }
        free(t->root.listing);
        t->root.listing = NULL;
        free(t->buckets);
        t->buckets = NULL;
}

struct inode *
inode_child(struct inode_table *t, const struct inode *parent, const char *name)
{
        struct inode *in = *bucket_of(t, parent, name);

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
                        b = bucket_of(t, in->parent, in->name);
                        in->next = *b;
                        *b = in;
                }
        }
        free(old);
}

static void
link_node(struct inode_table *t, struct inode *in)
{
        struct inode **b = bucket_of(t, in->parent, in->name);

        in->next = *b;
        *b = in;
        t->n_inodes++;
        maybe_grow(t);
}

static void
unlink_node(struct inode_table *t, struct inode *in)
{
        struct inode **p = bucket_of(t, in->parent, in->name);

        while (*p != in)
                p = &(*p)->next;
        *p = in->next;
        t->n_inodes--;
}

struct inode *
inode_add(struct inode_table *t, struct inode *parent, const char *name, enum inode_kind kind,
          struct db *db)
{
        struct inode *in = calloc(1, sizeof *in);

        if (in == NULL || (in->name = strdup(name)) == NULL) {
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
        return in;
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
                        unlink_node(t, in);
                free_node(in);
                in = parent;
                n = 1;
        }
}

void
inode_unlink(struct inode_table *t, struct inode *in)
{
        if (in->name == NULL)
                return;
        unlink_node(t, in);
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
        unlink_node(t, in);
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
inode_has_busy(const struct inode_table *t, const struct inode *top)
{
        if (top == NULL || top->kind != INODE_DIR)
                return top != NULL && top->is_busy;
        for (size_t i = 0; i < t->n_buckets; i++)
                for (const struct inode *in = t->buckets[i]; in != NULL; in = in->next)
                        if (in->is_busy && is_at_or_below(in, top))
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
