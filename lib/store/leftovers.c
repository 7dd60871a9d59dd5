#include "store/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sqlite/dbheader.h"
#include "store/dbname.h"

#define DEPTH_MAX 64

struct walk {
        struct store *s;
        const struct os *os;
        char path[PATH_MAX]; /* DATA/files/... of the directory being read */
        size_t root_len;     /* of "DATA/files/" */
        int depth;
};

static bool
has_content(struct walk *w, const char *path, const char *suffix)
{
        char name[PATH_MAX + 16];
        struct stat st;

        snprintf(name, sizeof name, "%s%s", path, suffix);
        return os_lstat(w->os, "leftovers:stat", name, &st) == 0 && st.st_size > 0;
}

static bool
is_complete_database(struct walk *w, const char *path, const struct stat *st)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;
        ssize_t n;
        int fd;

        fd = os_open(w->os, "leftovers:open", path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0)
                return false;
        n = os_pread_all(w->os, "leftovers:read", fd, buf, sizeof buf, 0);
        os_close(w->os, "leftovers:close", fd);
        return n == (ssize_t)sizeof buf && sqlite_dbheader_parse(buf, sizeof buf, &h) == 0 &&
               st->st_size >= (off_t)h.page_size &&
               (!h.is_page_count_valid || (off_t)h.page_count * h.page_size <= st->st_size) &&
               !has_content(w, path, "-journal") && !has_content(w, path, "-wal");
}

static void
take_over(struct walk *w, const char *path)
{
        const char *name = path + w->root_len;
        struct err e = ERR_INIT;
        struct db *db;

        if (store_create_db(w->s, name, &db, &e) < 0 || db_adopt_file(db, path, &e) < 0)
                log_event(LOG_ERROR, name, "not captured: %s", e.text);
        else
                log_event(LOG_INFO, name,
                          "captured: it was complete when litefs ended, but not taken over");
}

/* @path is a plain file whose name, or whose name without -journal and the like, is a database's. */
static bool
is_superseded(struct walk *w, const char *path)
{
        char name[PATH_MAX];
        struct db *db;
        size_t len;

        (void)dbname_classify(path + w->root_len, &len);
        snprintf(name, sizeof name, "%.*s", (int)len, path + w->root_len);
        db = store_find(w->s, name);
        return db != NULL && db_exists(db);
}

static int visit(void *arg, const char *name);

static void
walk_dir(struct walk *w)
{
        int r;

        if (w->depth == DEPTH_MAX)
                return;
        w->depth++;
        r = os_list_dir(w->os, "leftovers:list", w->path, visit, w);
        w->depth--;
        if (r < 0)
                log_warn("look through %s: %s", w->path, err_code_text(r));
}

static void
visit_file(struct walk *w, const struct stat *st)
{
        size_t len;

        if (is_superseded(w, w->path)) {
                int r = os_unlink(w->os, "leftovers:unlink", w->path);

                if (r < 0)
                        log_warn("remove %s: %s", w->path, err_code_text(r));
                return;
        }
        if (store_may_commit(w->s) == 0 &&
            dbname_classify(w->path + w->root_len, &len) == DBNAME_DATABASE &&
            !store_is_broken(w->s, w->path + w->root_len) && is_complete_database(w, w->path, st))
                take_over(w, w->path);
}

static int
visit(void *arg, const char *name)
{
        struct walk *w = arg;
        size_t len = strlen(w->path);
        struct stat st;

        if (len + strlen(name) + 2 > sizeof w->path)
                return 0;
        snprintf(w->path + len, sizeof w->path - len, "%s%s", w->path[len - 1] == '/' ? "" : "/", name);
        if (os_lstat(w->os, "leftovers:stat", w->path, &st) == 0) {
                if (S_ISDIR(st.st_mode))
                        walk_dir(w);
                else if (S_ISREG(st.st_mode))
                        visit_file(w, &st);
        }
        w->path[len] = '\0';
        return 0;
}

void
leftovers_settle(struct store *s)
{
        struct walk w = { .s = s, .os = os_host() };
        int n = snprintf(w.path, sizeof w.path, "%s/", store_files_dir(s));

        if (n < 0 || (size_t)n >= sizeof w.path)
                return;
        w.root_len = (size_t)n;
        walk_dir(&w);
}
