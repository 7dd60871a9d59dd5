/* .history: which past states there are, as directories to look into. .history/PATH/OF/DB/ lists the last state of each
 * minute, newest first among those that are more than LISTED_MAX, by its time; a name there is a moment as behind an '@'
 * (moments.h), listed or not. It is in no listing itself, and a plain directory of that name wins. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/moments.h"
#include "fuse/resolve.h"

/* The path of a directory here, in the mount: without ".history/". */
static int
history_path(const struct inode *dir, const char *name, char buf[PATH_MAX])
{
        char path[PATH_MAX];
        int r = name != NULL ? inode_child_path(dir, name, path, sizeof path)
                             : inode_path(dir, path, sizeof path);
        size_t n = sizeof HISTORY_NAME - 1;

        if (r < 0)
                return r;
        strcpy(buf, path[n] == '/' ? path + n + 1 : "");
        return 0;
}

/* As the directory of the mount that it stands for, or it would be a way round that. */
static void
stat_as_directory(struct session *s, const struct inode *in, struct stat *ret)
{
        struct stat st;
        char path[PATH_MAX];

        *ret = (struct stat){ .st_uid = geteuid(), .st_gid = getegid(), .st_mode = 0500 };
        if (history_path(in, NULL, path) < 0 ||
            fstatat(s->files_fd, path[0] != '\0' ? path : ".", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISDIR(st.st_mode))
                return;
        *ret = (struct stat){ .st_uid = st.st_uid, .st_gid = st.st_gid, .st_mode = st.st_mode & 0555 };
}

static int
stat_history(struct session *s, struct inode *in, struct stat *ret)
{
        if (in->db == NULL) {
                stat_as_directory(s, in, ret);
        } else {
                *ret = (struct stat){ 0 };
                stat_as_database(in->db, ret);
                ret->st_mode &= 0444;
                ret->st_mode |= ret->st_mode >> 2; /* who may read it may look into it */
        }
        ret->st_mode |= S_IFDIR;
        return 0;
}

static int
chmod_history(struct session *s, struct inode *in, mode_t mode)
{
        (void)s, (void)in, (void)mode;
        return -EACCES;
}

static int
chown_history(struct session *s, struct inode *in, uid_t uid, gid_t gid)
{
        (void)s, (void)in, (void)uid, (void)gid;
        return -EACCES;
}

const struct node_ops node_history_ops = { .stat = stat_history,
                                           .chmod = chmod_history,
                                           .chown = chown_history };

/* --- names --- */

struct below {
        const char *prefix; /* with a slash, or "" */
        size_t n;
        const struct history_lister *list;
        char last[NAME_MAX + 1]; /* what was added last: names come sorted */
};

/* The next part of the name of a database that is below the prefix. */
static int
list_below(void *arg, struct db *db)
{
        struct below *b = arg;
        const char *part = db_name(db) + b->n;
        size_t n;

        if (strncmp(db_name(db), b->prefix, b->n) != 0)
                return 0;
        n = strcspn(part, "/");
        if (n > NAME_MAX || (strncmp(b->last, part, n) == 0 && b->last[n] == '\0'))
                return 0;
        memcpy(b->last, part, n);
        b->last[n] = '\0';
        return b->list != NULL ? b->list->add(b->list->arg, b->last, S_IFDIR) : 1;
}

static int
each_below(struct session *s, const char *path, const struct history_lister *list)
{
        char prefix[PATH_MAX + 1];
        struct below b = { .prefix = prefix, .list = list };

        b.n = (size_t)snprintf(prefix, sizeof prefix, "%s%s", path, path[0] != '\0' ? "/" : "");
        return store_each(s->store, list_below, &b);
}

int
history_list(struct session *s, struct inode *dir, const struct history_lister *list)
{
        const char *p = dir->moment != NULL ? dir->moment->names : NULL;
        char path[PATH_MAX];
        int r;

        if (dir->db == NULL) {
                r = history_path(dir, NULL, path);
                return r < 0 ? r : each_below(s, path, list);
        }
        for (r = 0; r == 0 && p != NULL && *p != '\0'; p += strlen(p) + 1)
                r = list->add(list->arg, p, S_IFREG);
        return r;
}

static struct inode *
history_node(struct session *s, struct inode *parent, const char *name, int *ret_error)
{
        char path[PATH_MAX] = "";
        struct db *db = NULL;
        struct inode *in;

        *ret_error = 0;
        if (parent->kind == INODE_HISTORY) {
                *ret_error = history_path(parent, name, path);
                if (*ret_error < 0)
                        return NULL;
                db = store_find(s->store, path);
                if (db == NULL && each_below(s, path, NULL) <= 0) {
                        *ret_error = -ENOENT;
                        return NULL;
                }
        }
        in = inode_add(&s->inodes, parent, name, INODE_HISTORY, db);
        if (in != NULL && db != NULL && (in->moment = calloc(1, sizeof *in->moment)) == NULL) {
                inode_unref(&s->inodes, in, 1);
                in = NULL;
        }
        *ret_error = in == NULL ? -ENOMEM : 0;
        return in;
}

bool
history_lookup(fuse_req_t req, struct inode *parent, const char *name)
{
        struct session *s = session_of(req);
        struct inode *in;
        int r;

        if (parent->kind != INODE_HISTORY &&
            (parent != &s->inodes.root || strcmp(name, HISTORY_NAME) != 0))
                return false;
        if (parent->db != NULL && moment_lookup(req, parent, name))
                return true;
        in = parent->db != NULL ? NULL : history_node(s, parent, name, &r);
        if (in != NULL)
                reply_entry(req, in, NULL);
        else
                reply_result(req, parent->db != NULL ? -ENOENT : r);
        return true;
}
