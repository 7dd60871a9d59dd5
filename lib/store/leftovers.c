#include "store/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sqlite/dbheader.h"
#include "store/dbname.h"
#include "store/renames.h"

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
        return n == (ssize_t)sizeof buf && st->st_nlink == 1 &&
               sqlite_dbheader_parse(buf, sizeof buf, &h) == 0 && st->st_size >= (off_t)h.page_size &&
               (!h.is_page_count_valid || (off_t)h.page_count * h.page_size <= st->st_size) &&
               !has_content(w, path, "-journal") && !has_content(w, path, "-wal");
}

static void
take_leftover(struct walk *w, const char *path)
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

/* The database that @name is, or is a companion of; NULL when there never was one. */
static struct db *
find_database_of(struct store *s, const char *name, enum dbname_kind *ret_kind)
{
        char base[PATH_MAX];
        size_t len;

        *ret_kind = dbname_classify(name, &len);
        snprintf(base, sizeof base, "%.*s", (int)len, name);
        return store_find(s, base);
}

bool
leftovers_is_remains(struct store *s, const char *name, const struct stat *st)
{
        enum dbname_kind kind;
        struct db *db = find_database_of(s, name, &kind);

        return db != NULL && !db_exists(db) && S_ISREG(st->st_mode) && st->st_size == 0 &&
               (kind == DBNAME_JOURNAL || kind == DBNAME_WAL || kind == DBNAME_SHM);
}

/* A plain file behind a database. One that is called like its position is somebody's, who sees it again when the database
 * is gone. */
static bool
is_superseded(struct walk *w, const char *name)
{
        enum dbname_kind kind;
        struct db *db = find_database_of(w->s, name, &kind);

        return db != NULL && db_exists(db) && kind != DBNAME_POS;
}

static int visit_leftover(void *arg, const char *name);

static void
walk_leftovers(struct walk *w)
{
        int r;

        if (w->depth == DEPTH_MAX)
                return;
        w->depth++;
        r = os_list_dir(w->os, "leftovers:list", w->path, visit_leftover, w);
        w->depth--;
        if (r < 0)
                log_warn("look through %s: %s", w->path, err_code_text(r));
}

/* Set-id bits that an earlier version let through. */
static void
drop_set_id(const char *path, const struct stat *st)
{
        if ((st->st_mode & (S_ISUID | S_ISGID)) != 0 && chmod(path, st->st_mode & 01777) < 0)
                log_warn("%s is a set-id file and could not be changed: %s", path, strerror(errno));
}

static void
visit_file(struct walk *w, const struct stat *st)
{
        const char *name = w->path + w->root_len;
        size_t len;

        drop_set_id(w->path, st);

        if (is_superseded(w, name) || leftovers_is_remains(w->s, name, st)) {
                int r = os_unlink(w->os, "leftovers:unlink", w->path);

                if (r < 0)
                        log_warn("remove %s: %s", w->path, err_code_text(r));
                return;
        }
        if (store_may_commit(w->s) == 0 && dbname_classify(name, &len) == DBNAME_DATABASE &&
            !store_is_broken(w->s, name) && is_complete_database(w, w->path, st))
                take_leftover(w, w->path);
}

static int
visit_leftover(void *arg, const char *name)
{
        struct walk *w = arg;
        size_t len = strlen(w->path);
        struct stat st;

        if (len + strlen(name) + 2 > sizeof w->path)
                return 0;
        snprintf(w->path + len, sizeof w->path - len, "%s%s", w->path[len - 1] == '/' ? "" : "/", name);
        if (os_lstat(w->os, "leftovers:stat", w->path, &st) == 0) {
                if (S_ISDIR(st.st_mode))
                        walk_leftovers(w);
                else if (S_ISREG(st.st_mode))
                        visit_file(w, &st);
        }
        w->path[len] = '\0';
        return 0;
}

void
leftovers_tell_hidden(struct store *s, struct db *db)
{
        static const char *const suffixes[] = { "-pos", "-lock" };
        char path[PATH_MAX];
        struct stat st;

        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
                int n = snprintf(path, sizeof path, "%s/%s%s", store_files_dir(s), db_name(db),
                                 suffixes[i]);

                if (n > 0 && (size_t)n < sizeof path &&
                    os_lstat(os_host(), "leftovers:stat", path, &st) == 0)
                        log_event(
                                LOG_WARN, db_name(db),
                                "the file %s%s is hidden by what litefs shows under that name, until the "
                                "database is deleted; it is kept as %s",
                                db_name(db), suffixes[i], path);
        }
}

static int
tell_hidden(void *arg, struct db *db)
{
        if (db_exists(db))
                leftovers_tell_hidden(arg, db);
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
        renames_redo(s, NULL);
        walk_leftovers(&w);
        (void)store_each(s, tell_hidden, s);
}
