#include "store/orphans.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

struct settling {
        const struct os *os;
        const char *data_dir;
        struct err error; /* of the last one that failed */
};

static int
forget(struct settling *s, const char *path)
{
        int r = os_empty_dir(s->os, "orphans:forget", path);

        if (r == 0)
                r = os_rmdir(s->os, "orphans:forget", path);
        return r < 0 ? err_set(&s->error, r, "remove %s", path) : 0;
}

static int
finish_replacement(struct settling *s, const char *path, const char *dir)
{
        char dbs[PATH_MAX];
        int r = os_rename(s->os, "orphans:finish", path, dir);

        snprintf(dbs, sizeof dbs, "%.*s", (int)(strrchr(dir, '/') - dir), dir);
        if (r == 0)
                r = os_sync_dir(s->os, "orphans:finish", dbs);
        if (r < 0)
                return err_set(&s->error, r, "move %s to %s", path, dir);
        log_info("%s: the replacement that a crash had cut short is finished", dir);
        return 0;
}

static int
settle_one(void *arg, const char *name)
{
        struct settling *s = arg;
        char path[PATH_MAX], dir[PATH_MAX];
        size_t len = strlen(name);
        struct stat st;
        int r;

        if (len <= 4 || strcmp(name + len - 4, ".new") != 0)
                return 0;
        if (snprintf(path, sizeof path, "%s/orphans/%s", s->data_dir, name) >= (int)sizeof path ||
            snprintf(dir, sizeof dir, "%s/dbs/%.*s", s->data_dir, (int)len - 4, name) >= (int)sizeof dir)
                return 0;
        r = os_lstat(s->os, "orphans:settle", dir, &st);
        if (r == -ENOENT)
                (void)finish_replacement(s, path, dir);
        else if (r == 0)
                (void)forget(s, path);
        else
                err_set(&s->error, r, "look at %s", dir);
        return 0;
}

void
orphans_settle(const struct os *os, const char *data_dir)
{
        struct settling s = { os, data_dir, ERR_INIT };
        char path[PATH_MAX];
        int r;

        if (snprintf(path, sizeof path, "%s/orphans", data_dir) >= (int)sizeof path)
                return;
        r = os_list_dir(os, "orphans:settle", path, settle_one, &s);
        if (r < 0 && r != -ENOENT)
                err_set(&s.error, r, "read %s", path);
        if (s.error.code != 0)
                log_error("settle replacements of databases: %s", s.error.text);
}

int
orphans_take_damaged(const struct os *os, const char *data_dir, const char *dir, int64_t now_ms,
                     struct err *e)
{
        char from[PATH_MAX], to[PATH_MAX];
        int r;

        if (snprintf(from, sizeof from, "%s/dbs/%s", data_dir, dir) >= (int)sizeof from ||
            snprintf(to, sizeof to, "%s/orphans/%s-damaged-%lld", data_dir, dir, (long long)now_ms) >=
                    (int)sizeof to)
                return err_set(e, -ENAMETOOLONG, "set %s aside", dir);
        *strrchr(to, '/') = '\0';
        r = os_mkdir_all(os, "store:orphan", to, 0700);
        to[strlen(to)] = '/';
        if (r == 0)
                r = os_rename(os, "store:orphan", from, to);
        if (r < 0 && r != -ENOENT)
                return err_set(e, r, "move %s to %s", from, to);
        return 0;
}
