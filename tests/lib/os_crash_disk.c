#include "tests/lib/os_crash_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u

/* A write, or with @data NULL a truncation or extension, since the file's last sync. */
struct change {
        uint64_t off;
        size_t n;
        uint8_t *data;
        uint64_t size; /* of the file afterwards */
};

struct entry {
        char *name;
        struct node *node;
};

struct dir {
        struct entry *entries;
        size_t n;
};

struct node {
        struct node *next; /* all of the disk */
        bool is_dir;
        struct dir live, durable; /* of a directory */
        uint8_t *bytes;           /* of a file: durable */
        uint64_t size, live_size;
        struct change *changes;
        size_t n_changes, capacity;
};

/* A change of names that no sync has made durable. @from NULL: a new name; @to NULL: a name that went. */
struct name_op {
        struct node *node, *from, *to;
        char *from_name, *to_name;
};

struct disk {
        char *root;
        struct node *nodes, *top;
        struct name_op *ops;
        size_t n_ops, capacity;
};

static void
require(bool is_so, const char *what)
{
        if (is_so)
                return;
        fprintf(stderr, "os_crash: %s: %s\n", what, strerror(errno));
        abort();
}

static void *
grow(void *p, size_t n, size_t size)
{
        p = realloc(p, n * size + 1);
        require(p != NULL, "memory");
        return p;
}

static char *
copy_name(const char *name)
{
        char *p = strdup(name);

        require(p != NULL, "memory");
        return p;
}

/* --- directories --- */

static struct entry *
dir_find(struct dir *d, const char *name)
{
        for (size_t i = 0; i < d->n; i++)
                if (strcmp(d->entries[i].name, name) == 0)
                        return &d->entries[i];
        return NULL;
}

static void
dir_set(struct dir *d, const char *name, struct node *n)
{
        struct entry *en = dir_find(d, name);

        if (en == NULL) {
                d->entries = grow(d->entries, d->n + 1, sizeof *d->entries);
                en = &d->entries[d->n++];
                en->name = copy_name(name);
        }
        en->node = n;
}

static void
dir_remove(struct dir *d, const char *name, const struct node *n)
{
        struct entry *en = dir_find(d, name);

        if (en == NULL || en->node != n)
                return;
        free(en->name);
        *en = d->entries[--d->n];
}

static void
dir_free(struct dir *d)
{
        for (size_t i = 0; i < d->n; i++)
                free(d->entries[i].name);
        free(d->entries);
}

static struct node *
new_node(struct disk *d, bool is_dir)
{
        struct node *n = calloc(1, sizeof *n);

        require(n != NULL, "memory");
        n->is_dir = is_dir;
        n->next = d->nodes;
        d->nodes = n;
        return n;
}

/* The directory that @path lies in, and its last component in @name; "a/.." is taken out. */
static struct node *
walk(struct disk *d, const char *path, char name[NAME_MAX + 1])
{
        struct node *stack[64];
        size_t depth = 0, len = strlen(d->root);

        require(strncmp(path, d->root, len) == 0 && (path[len] == '/' || path[len] == '\0'), path);
        path += len;
        stack[0] = d->top;
        name[0] = '\0';
        while (*path != '\0') {
                size_t n = strcspn(path, "/");

                if (n > 0 && strncmp(path, "..", n) == 0 && n == 2) {
                        /* The component before it is still pending: it is undone. */
                        if (name[0] != '\0')
                                name[0] = '\0';
                        else if (depth > 0)
                                depth--;
                } else if (n > 0 && !(n == 1 && *path == '.')) {
                        if (name[0] != '\0') {
                                struct entry *en = dir_find(&stack[depth]->live, name);

                                if (en == NULL || !en->node->is_dir)
                                        return NULL;
                                require(depth + 1 < 64, "depth");
                                stack[++depth] = en->node;
                        }
                        require(n <= NAME_MAX, path);
                        memcpy(name, path, n);
                        name[n] = '\0';
                }
                path += n;
                path += *path == '/';
        }
        return stack[depth];
}

struct node *
disk_find(struct disk *d, const char *path)
{
        char name[NAME_MAX + 1];
        struct node *dir = walk(d, path, name);
        struct entry *en;

        if (dir == NULL || name[0] == '\0')
                return dir;
        en = dir_find(&dir->live, name);
        return en != NULL ? en->node : NULL;
}

static void
add_op(struct disk *d, const struct name_op *op)
{
        if (d->n_ops == d->capacity) {
                d->capacity = d->capacity * 2 + 16;
                d->ops = grow(d->ops, d->capacity, sizeof *d->ops);
        }
        d->ops[d->n_ops++] = *op;
}

struct node *
disk_create(struct disk *d, const char *path, bool is_dir)
{
        char name[NAME_MAX + 1];
        struct node *dir = walk(d, path, name);
        struct name_op op = { .node = new_node(d, is_dir), .to = dir, .to_name = copy_name(name) };

        require(dir != NULL, path);
        dir_set(&dir->live, name, op.node);
        add_op(d, &op);
        return op.node;
}

void
disk_unlink(struct disk *d, const char *path)
{
        char name[NAME_MAX + 1];
        struct node *dir = walk(d, path, name), *n = disk_find(d, path);
        struct name_op op = { .node = n, .from = dir, .from_name = copy_name(name) };

        require(dir != NULL && n != NULL, path);
        dir_remove(&dir->live, name, n);
        add_op(d, &op);
}

void
disk_rename(struct disk *d, const char *from, const char *to)
{
        char from_name[NAME_MAX + 1], to_name[NAME_MAX + 1];
        struct node *n = disk_find(d, from), *a = walk(d, from, from_name), *b = walk(d, to, to_name);
        struct name_op op = { n, a, b, copy_name(from_name), copy_name(to_name) };

        require(n != NULL && b != NULL, from);
        dir_remove(&a->live, from_name, n);
        dir_set(&b->live, to_name, n);
        add_op(d, &op);
}

static void
apply_op(const struct name_op *op)
{
        if (op->from != NULL)
                dir_remove(&op->from->durable, op->from_name, op->node);
        if (op->to != NULL)
                dir_set(&op->to->durable, op->to_name, op->node);
}

static void
free_op(struct name_op *op)
{
        free(op->from_name);
        free(op->to_name);
}

static void
sync_names(struct disk *d, const struct node *dir)
{
        size_t kept = 0;

        for (size_t i = 0; i < d->n_ops; i++) {
                struct name_op *op = &d->ops[i];

                if (op->from != dir && op->to != dir) {
                        d->ops[kept++] = *op;
                        continue;
                }
                apply_op(op);
                free_op(op);
        }
        d->n_ops = kept;
}

/* --- content --- */

static void
add_change(struct node *n, uint64_t off, const void *buf, size_t size, uint64_t new_size)
{
        struct change *c;

        if (n->n_changes == n->capacity) {
                n->capacity = n->capacity * 2 + 16;
                n->changes = grow(n->changes, n->capacity, sizeof *n->changes);
        }
        c = &n->changes[n->n_changes++];
        *c = (struct change){ off, size, NULL, new_size };
        if (buf != NULL) {
                c->data = grow(NULL, size, 1);
                memcpy(c->data, buf, size);
        }
        n->live_size = new_size;
}

void
disk_write(struct node *n, const void *buf, size_t size, uint64_t off)
{
        add_change(n, off, buf, size, off + size > n->live_size ? off + size : n->live_size);
}

void
disk_resize(struct node *n, uint64_t size)
{
        add_change(n, 0, NULL, 0, size);
}

static void
drop_changes(struct node *n)
{
        for (size_t i = 0; i < n->n_changes; i++)
                free(n->changes[i].data);
        n->n_changes = 0;
}

static void
resize_bytes(uint8_t **p, uint64_t *size, uint64_t want)
{
        if (want > *size) {
                *p = grow(*p, want, 1);
                memset(*p + *size, 0, want - *size);
        }
        *size = want;
}

static void
sync_content(struct node *n)
{
        for (size_t i = 0; i < n->n_changes; i++) {
                const struct change *c = &n->changes[i];

                resize_bytes(&n->bytes, &n->size, c->size);
                if (c->data != NULL)
                        memcpy(n->bytes + c->off, c->data, c->n);
        }
        drop_changes(n);
}

void
disk_sync(struct disk *d, struct node *n)
{
        if (n->is_dir)
                sync_names(d, n);
        else
                sync_content(n);
}

/* --- what survives --- */

static uint64_t
random_next(uint64_t *s)
{
        uint64_t z = *s += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

/* How the sectors of one file fare: most real crashes are near one of the extremes. */
enum fate { ALL_LOST, ALL_KEPT, MOST_LOST, MOST_KEPT, MIXED, N_FATES };

static uint32_t
choose_version(enum fate fate, uint32_t n, uint64_t *seed)
{
        uint64_t x = random_next(seed);

        switch (fate) {
        case ALL_LOST:
                return 0;
        case ALL_KEPT:
                return n;
        case MOST_LOST:
                return x % 16 == 0 ? n : 0;
        case MOST_KEPT:
                return x % 16 == 0 ? 0 : n;
        default:
                return (uint32_t)(x % (n + 1u));
        }
}

/* The image being built, and the file as it went by. */
struct survival {
        uint8_t *result, *live;
        uint64_t capacity;
        uint32_t *n_writes; /* to each sector: first counted, then counted down to the chosen one */
        uint64_t live_size;
};

static void
for_sectors(struct survival *sv, const struct change *c, void (*fn)(struct survival *, uint64_t))
{
        if (c->data != NULL && c->n > 0)
                for (uint64_t s = c->off / SECTOR; s <= (c->off + c->n - 1) / SECTOR; s++)
                        fn(sv, s);
}

static void
count_write(struct survival *sv, uint64_t sector)
{
        sv->n_writes[sector]++;
}

static void
keep_if_chosen(struct survival *sv, uint64_t sector)
{
        if (sv->n_writes[sector] == 0 || --sv->n_writes[sector] > 0)
                return;
        memcpy(sv->result + sector * SECTOR, sv->live + sector * SECTOR, SECTOR);
}

static void
cut(struct survival *sv, uint8_t *p, uint64_t size)
{
        if (size < sv->capacity)
                memset(p + size, 0, sv->capacity - size);
}

static void
replay_change(struct survival *sv, const struct change *c, bool is_size_kept)
{
        if (c->size < sv->live_size) {
                cut(sv, sv->live, c->size);
                if (is_size_kept)
                        cut(sv, sv->result, c->size);
        }
        sv->live_size = c->size;
        if (c->data != NULL)
                memcpy(sv->live + c->off, c->data, c->n);
        for_sectors(sv, c, keep_if_chosen);
}

static uint64_t
capacity_of(const struct node *n)
{
        uint64_t size = n->size;

        for (size_t i = 0; i < n->n_changes; i++)
                if (n->changes[i].size > size)
                        size = n->changes[i].size;
        return (size / SECTOR + 1) * SECTOR;
}

/* The durable content becomes what survives. */
static void
survive(struct node *n, uint64_t *seed)
{
        struct survival sv = { .capacity = capacity_of(n), .live_size = n->size };
        enum fate fate = random_next(seed) % N_FATES;
        size_t n_sizes;
        uint64_t size = n->size;

        sv.n_writes = calloc(sv.capacity / SECTOR, sizeof *sv.n_writes);
        sv.result = calloc(1, sv.capacity);
        sv.live = calloc(1, sv.capacity);
        require(sv.n_writes != NULL && sv.result != NULL && sv.live != NULL, "memory");
        if (n->size > 0) {
                memcpy(sv.result, n->bytes, n->size);
                memcpy(sv.live, n->bytes, n->size);
        }
        for (size_t i = 0; i < n->n_changes; i++)
                for_sectors(&sv, &n->changes[i], count_write);
        for (uint64_t s = 0; s < sv.capacity / SECTOR; s++)
                sv.n_writes[s] = choose_version(fate, sv.n_writes[s], seed);
        n_sizes = fate == ALL_LOST   ? 0
                  : fate == ALL_KEPT ? n->n_changes
                                     : random_next(seed) % (n->n_changes + 1);
        for (size_t i = 0; i < n->n_changes; i++) {
                replay_change(&sv, &n->changes[i], i < n_sizes);
                if (i < n_sizes)
                        size = n->changes[i].size;
        }
        free(n->bytes);
        free(sv.live);
        free(sv.n_writes);
        n->bytes = sv.result;
        n->size = size;
        drop_changes(n);
}

static void
survive_names(struct disk *d, uint64_t *seed)
{
        bool is_prefix = random_next(seed) % 2;
        size_t n_kept = random_next(seed) % (d->n_ops + 1);

        if (random_next(seed) % 4 == 0)
                n_kept = 0;
        for (size_t i = 0; i < d->n_ops; i++) {
                if (is_prefix ? i < n_kept : random_next(seed) % 2)
                        apply_op(&d->ops[i]);
                free_op(&d->ops[i]);
        }
        d->n_ops = 0;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        (void)st, (void)flag;
        return ftw->level == 0 ? 0 : remove(path);
}

static void
put_file(const struct node *n, const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

        require(fd >= 0, path);
        require(n->size == 0 || pwrite(fd, n->bytes, n->size, 0) == (ssize_t)n->size, path);
        close(fd);
}

static void
put_tree(struct node *dir, const char *path, uint64_t *seed)
{
        char child[PATH_MAX];

        for (size_t i = 0; i < dir->durable.n; i++) {
                struct node *n = dir->durable.entries[i].node;

                require(snprintf(child, sizeof child, "%s/%s", path, dir->durable.entries[i].name) <
                                (int)sizeof child,
                        path);
                if (n->is_dir) {
                        require(mkdir(child, 0777) == 0, child);
                        put_tree(n, child, seed);
                } else {
                        survive(n, seed);
                        put_file(n, child);
                }
        }
}

void
disk_crash(struct disk *d, const char *root, uint64_t seed)
{
        survive_names(d, &seed);
        require(nftw(root, remove_one, 32, FTW_DEPTH | FTW_PHYS) == 0, root);
        put_tree(d->top, root, &seed);
}

/* --- what is there at first --- */

static void
load_file(struct node *n, const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        require(fd >= 0 && fstat(fd, &st) == 0, path);
        resize_bytes(&n->bytes, &n->size, (uint64_t)st.st_size);
        require(pread(fd, n->bytes, n->size, 0) == st.st_size, path);
        n->live_size = n->size;
        close(fd);
}

static void
load_tree(struct disk *d, struct node *dir, const char *path)
{
        char child[PATH_MAX];
        DIR *list = opendir(path);
        struct dirent *en;
        struct stat st;

        require(list != NULL, path);
        while ((en = readdir(list)) != NULL) {
                struct node *n;

                if (strcmp(en->d_name, ".") == 0 || strcmp(en->d_name, "..") == 0)
                        continue;
                require(snprintf(child, sizeof child, "%s/%s", path, en->d_name) < (int)sizeof child &&
                                lstat(child, &st) == 0,
                        path);
                n = new_node(d, S_ISDIR(st.st_mode));
                dir_set(&dir->live, en->d_name, n);
                dir_set(&dir->durable, en->d_name, n);
                if (n->is_dir)
                        load_tree(d, n, child);
                else
                        load_file(n, child);
        }
        closedir(list);
}

struct disk *
disk_new(const char *root)
{
        struct disk *d = calloc(1, sizeof *d);

        require(d != NULL, "memory");
        d->root = copy_name(root);
        d->top = new_node(d, true);
        load_tree(d, d->top, root);
        return d;
}

void
disk_free(struct disk *d)
{
        while (d->nodes != NULL) {
                struct node *n = d->nodes;

                d->nodes = n->next;
                drop_changes(n);
                free(n->changes);
                free(n->bytes);
                dir_free(&n->live);
                dir_free(&n->durable);
                free(n);
        }
        for (size_t i = 0; i < d->n_ops; i++)
                free_op(&d->ops[i]);
        free(d->ops);
        free(d->root);
        free(d);
}
