/* A plain file becomes the database: its first transaction holds every page. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "db/adopt.h"
#include "db/db_internal.h"
#include "sqlite/dbheader.h"

static int
read_shape(struct db *db, int fd, struct commit_request *rq, uint64_t *ret_size, bool *ret_is_wal,
           struct err *e)
{
        uint8_t buf[100];
        struct sqlite_dbheader h;
        struct stat st;
        uint64_t pages;
        ssize_t n;
        int r;

        r = os_fstat(db->env->os, "adopt:stat", fd, &st);
        if (r < 0)
                return err_set(e, r, "stat");
        n = os_pread_all(db->env->os, "adopt:read", fd, buf, sizeof buf, 0);
        if (n < 0)
                return err_set(e, (int)n, "read the header");
        r = sqlite_dbheader_parse(buf, (size_t)n, &h);
        if (r < 0)
                return err_set(e, r, "no SQLite header");
        pages = ((uint64_t)st.st_size + h.page_size - 1) / h.page_size;
        if (pages > UINT32_MAX)
                return err_set(e, -EFBIG, "%llu bytes", (unsigned long long)st.st_size);
        rq->page_size = h.page_size;
        rq->commit = h.is_page_count_valid && h.page_count <= pages ? h.page_count : (uint32_t)pages;
        *ret_size = (uint64_t)st.st_size;
        *ret_is_wal = h.is_wal;
        return 0;
}

/* Pages come from db->image.fd, since nothing lies over it. */
static int
commit_file(struct db_access *a, int fd, struct err *e)
{
        struct db *db = a->db;
        struct commit_request rq = { 0 };
        uint64_t size = 0;
        bool is_wal = false;
        int r;

        r = read_shape(db, fd, &rq, &size, &is_wal, e);
        if (r < 0)
                return r;
        if (db->applying.rx != NULL)
                rq.commit = db->applying.rx->record.commit;
        access_lock(a);
        db->image.fd = fd;
        db->image.size_bytes = size;
        db->image.page_size = rq.page_size;
        db_discard_uncommitted(a);
        image_follow_page_size(&db->image);
        access_unlock(a);
        r = commit_transaction(a, &rq, e);
        access_lock(a);
        if (r <= 0) {
                db->image.fd = -1;
                db->image.size_bytes = 0;
                db->image.page_size = 0;
        } else {
                db->is_wal = is_wal;
        }
        access_unlock(a);
        return r < 0 ? r : 0;
}

/* The log is the truth from here on: a crash before the rename rebuilds the file from it. */
static int
move_in(struct db_access *a, const char *path, struct err *e)
{
        struct db *db = a->db;
        char to[PATH_MAX];
        int r;

        r = sync_now(db, db->last.lsn, e);
        if (r < 0)
                return r;
        r = db_path(db, "database", to, sizeof to);
        if (r == 0)
                r = os_rename(db->env->os, "adopt:rename", path, to);
        if (r == 0)
                r = os_sync_dir(db->env->os, "adopt:rename", db->dir);
        return r < 0 ? err_set(e, r, "move %s to %s", path, to) : 0;
}

int
adopt_file(struct db_access *a, const char *path, struct err *e)
{
        struct db *db = a->db;
        int fd, r = access_check(a, e);

        if (r < 0)
                return r;
        if (db->image.fd >= 0)
                return err_set(e, -EEXIST, "database %s", db->name);
        fd = os_open(db->env->os, "adopt:open", path, O_RDWR, 0);
        if (fd < 0)
                return err_set(e, fd, "open %s", path);
        r = commit_file(a, fd, e);
        if (r < 0 || db->image.fd != fd) {
                os_close(db->env->os, "adopt:close", fd);
                return r < 0 ? err_prefix(e, "take %s as a database", path), r : 0;
        }
        r = move_in(a, path, e);
        if (r < 0) {
                access_lock(a);
                db_fail(db, e != NULL ? e->text : "it could not be moved into place");
                access_unlock(a);
        }
        return r;
}

int
db_adopt_file(struct db *db, const char *path, struct err *e)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_ADOPTION, &a, e);

        if (r == 0)
                r = adopt_file(&a, path, e);
        db_access_end(&a);
        return r;
}
