/* Listings: DATA/files of the directory, and the databases whose path lies in it. What litefs itself makes (NAME-pos,
 * NAME-lock, .lag, .primary) is there for who asks for it by name, and in no listing: who copies, archives or deletes what a
 * directory lists could neither write it nor take it away. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/fuse_internal.h"
#include "fuse/moments.h"
#include "fuse/resolve.h"

/* What readdir gives out: entries in the kernel's form (struct fuse_dirent: ino u64, off u64, namelen u32,
 * type u32, name, padded to 8), made at offset 0. An entry's offset is its number: there is no OPENDIR, so
 * two processes that list a directory at once share this, and the second renews it under the first. */
#define DIRENT_HEADER 24u

struct listing {
        size_t size;
        size_t capacity;
        off_t n_entries;
        char bytes[];
};

struct lister {
        fuse_req_t req;
        struct session *s;
        struct inode *dir;
        const char *prefix; /* path of the directory with a slash, or "" */
        size_t prefix_len;
        struct listing *list;
};

static int
lister_add(void *arg, const char *name, mode_t type)
{
        struct lister *l = arg;
        struct stat st = { .st_mode = type, .st_ino = 2 };
        struct inode *known = inode_child(&l->s->inodes, l->dir, name);
        size_t need = fuse_add_direntry(l->req, NULL, 0, name, NULL, 0);
        struct listing *list = l->list;

        if (known != NULL)
                st.st_ino = known->number;
        if (list == NULL || list->size + need > list->capacity) {
                size_t capacity = list == NULL ? 4096 : list->capacity * 2 + need;

                list = realloc(list, sizeof *list + capacity);
                if (list == NULL)
                        return -ENOMEM;
                if (l->list == NULL)
                        *list = (struct listing){ 0 };
                list->capacity = capacity;
                l->list = list;
        }
        fuse_add_direntry(l->req, list->bytes + list->size, need, name, &st, ++list->n_entries);
        list->size += need;
        return 0;
}

static int
add_companion(struct lister *l, const char *name, const char *suffix, bool exists)
{
        char buf[NAME_MAX + 16];

        if (!exists || strlen(name) > NAME_MAX)
                return 0;
        strcpy(buf, name);
        strcat(buf, suffix);
        return lister_add(l, buf, S_IFREG);
}

static int
list_database(void *arg, struct db *db)
{
        struct lister *l = arg;
        const char *name = db_name(db);
        int r;

        if (strncmp(name, l->prefix, l->prefix_len) != 0 || strchr(name + l->prefix_len, '/') != NULL ||
            !db_exists(db))
                return 0;
        name += l->prefix_len;
        if ((r = lister_add(l, name, S_IFREG)) < 0 ||
            (r = add_companion(l, name, "-journal", db_journal_exists(db))) < 0 ||
            (r = add_companion(l, name, "-shm", shm_exists(l->s, db))) < 0)
                return r;
        return add_companion(l, name, "-wal", db_wal_exists(db));
}

/* A plain file behind a database or a companion of its: one that is being made a database is in both places for a moment,
 * and one that is called like a position may be there for good. */
static bool
is_hidden(struct lister *l, const char *name)
{
        char path[PATH_MAX];
        enum dbname_kind kind;

        return inode_child_path(l->dir, name, path, sizeof path) == 0 &&
               resolve_database(l->s, path, &kind) != NULL;
}

static int
add_plain(struct lister *l, const char *path)
{
        int fd = openat(l->s->files_fd, path[0] == '\0' ? "." : path,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct dirent *d;
        DIR *dir;
        int r = 0;

        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (dir == NULL) {
                close(fd);
                return -ENOMEM;
        }
        while (r == 0 && (d = readdir(dir)) != NULL) {
                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
                    is_hidden(l, d->d_name))
                        continue;
                r = lister_add(l, d->d_name, (mode_t)DTTOIF(d->d_type));
        }
        closedir(dir);
        return r;
}

static int
list_directory(struct lister *l, const char *path)
{
        int r;

        if ((r = lister_add(l, ".", S_IFDIR)) < 0 || (r = lister_add(l, "..", S_IFDIR)) < 0)
                return r;
        if (l->dir->kind == INODE_HISTORY)
                return history_list(l->s, l->dir, &(struct history_lister){ lister_add, l });
        r = store_each(l->s->store, list_database, l);
        return r < 0 ? r : add_plain(l, path);
}

static int
make_listing(fuse_req_t req, struct inode *dir)
{
        char path[PATH_MAX], prefix[PATH_MAX + 1];
        struct lister l = { .req = req, .s = session_of(req), .dir = dir, .prefix = prefix };
        int r = inode_path(dir, path, sizeof path);

        if (r < 0)
                return r;
        strcpy(prefix, path);
        if (path[0] != '\0')
                strcat(prefix, "/");
        l.prefix_len = strlen(prefix);
        r = list_directory(&l, path);
        if (r < 0) {
                free(l.list);
                return r;
        }
        free(dir->listing);
        dir->listing = l.list;
        return 0;
}

static size_t
entry_size(const struct listing *list, size_t at)
{
        uint32_t namelen;

        memcpy(&namelen, list->bytes + at + 16, sizeof namelen);
        return (DIRENT_HEADER + (size_t)namelen + 7) & ~(size_t)7;
}

void
dir_readdir(fuse_req_t req, struct inode *dir, size_t size, off_t off)
{
        struct listing *list;
        size_t start = 0, end;
        int r;

        if (off == 0 && dir->kind == INODE_HISTORY && dir->db != NULL) {
                if (moment_list_states(req, dir, &r))
                        return;
                if (r < 0) {
                        reply_result(req, r);
                        return;
                }
        }
        if (off == 0 || dir->listing == NULL) {
                r = make_listing(req, dir);
                if (r < 0) {
                        reply_result(req, r);
                        return;
                }
        }
        list = dir->listing;
        for (off_t i = 0; i < off && start < list->size; i++)
                start += entry_size(list, start);
        end = start;
        while (end < list->size && end + entry_size(list, end) - start <= size)
                end += entry_size(list, end);
        fuse_reply_buf(req, list->bytes + start, end - start);
}
