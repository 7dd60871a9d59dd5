/* Names: what stands behind one that the kernel asks for. */
#include "fuse/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/dbname.h"

struct db *
resolve_database(struct session *s, const char *path, enum dbname_kind *ret_kind)
{
        char base[PATH_MAX];
        struct db *db;
        size_t len;

        db = store_find(s->store, path);
        *ret_kind = DBNAME_DATABASE;
        if (db != NULL && db_exists(db))
                return db;
        *ret_kind = dbname_classify(path, &len);
        if (*ret_kind == DBNAME_DATABASE && dbname_is_lock(path, &len))
                *ret_kind = DBNAME_LOCK;
        if (*ret_kind == DBNAME_DATABASE)
                return NULL;
        memcpy(base, path, len);
        base[len] = '\0';
        db = store_find(s->store, base);
        if (db == NULL || db_exists(db))
                return db;
        /* The position of one that was deleted shows its deletion, unless somebody has made a file of that name. */
        return *ret_kind == DBNAME_POS && faccessat(s->files_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0
                       ? db
                       : NULL;
}

static bool
companion_exists(struct session *s, struct db *db, enum dbname_kind kind)
{
        switch (kind) {
        case DBNAME_JOURNAL:
                return db_journal_exists(db);
        case DBNAME_WAL:
                return db_wal_exists(db);
        case DBNAME_SHM:
                return shm_exists(s, db);
        default:
                return true;
        }
}

enum inode_kind
resolve_kind(enum dbname_kind kind)
{
        static const enum inode_kind kinds[] = { INODE_DB,  INODE_JOURNAL, INODE_WAL,
                                                 INODE_SHM, INODE_POS,     INODE_LOCK };

        return kinds[kind];
}

static int
lookup_special(struct session *s, const char *name, enum inode_kind *ret)
{
        struct lease_state holder;

        if (strcmp(name, ".lag") == 0) {
                *ret = INODE_LAG;
                return 1;
        }
        if (strcmp(name, ".primary") != 0)
                return 0;
        *ret = INODE_PRIMARY;
        return store_primary(s->store, &holder) ? 1 : -ENOENT;
}

int
resolve_name(struct session *s, struct inode *parent, const char *name, enum inode_kind *ret_kind,
             struct db **ret_db)
{
        char path[PATH_MAX];
        enum dbname_kind kind;
        struct stat st;
        int r;

        *ret_db = NULL;
        if (parent == &s->inodes.root && (r = lookup_special(s, name, ret_kind)) != 0)
                return r;
        r = inode_child_path(parent, name, path, sizeof path);
        if (r < 0)
                return r;
        *ret_db = resolve_database(s, path, &kind);
        if (*ret_db != NULL) {
                *ret_kind = resolve_kind(kind);
                return companion_exists(s, *ret_db, kind) ? 1 : -ENOENT;
        }
        if (store_is_broken(s->store, path))
                return -EIO;
        if (fstatat(s->files_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret_kind = S_ISDIR(st.st_mode) ? INODE_DIR : INODE_PLAIN;
        return 1;
}

int
resolve_node(struct session *s, struct inode *parent, const char *name, struct inode **ret)
{
        enum inode_kind kind;
        struct db *db;
        int r;

        *ret = inode_child(&s->inodes, parent, name);
        if (*ret != NULL) {
                inode_ref(*ret);
                return 0;
        }
        r = resolve_name(s, parent, name, &kind, &db);
        if (r < 0)
                return r;
        *ret = inode_add(&s->inodes, parent, name, kind, db);
        return *ret == NULL ? -ENOMEM : 0;
}

static int
has_prefix(void *arg, struct db *db)
{
        const char *prefix = arg;

        return db_exists(db) && strncmp(db_name(db), prefix, strlen(prefix)) == 0;
}

bool
resolve_has_databases(struct session *s, const char *path)
{
        char prefix[PATH_MAX + 1];

        snprintf(prefix, sizeof prefix, "%s/", path);
        return store_each(s->store, has_prefix, prefix) != 0;
}
