/* A plain file becomes the database: its first transaction holds every page. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

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

/* Pages come from db->fd, since nothing lies over it. */
static int
commit_file(const struct capturer *c, int fd, struct err *e)
{
        struct db *db = c->db;
        struct commit_request rq = { 0 };
        uint64_t size = 0;
        bool is_wal = false;
        int r;

        r = read_shape(db, fd, &rq, &size, &is_wal, e);
        if (r < 0)
                return r;
        rq.received = db->received;
        if (rq.received != NULL)
                rq.commit = rq.received->record.commit;
        pthread_mutex_lock(&db->lock);
        db->fd = fd;
        db->size_bytes = size;
        db->page_size = rq.page_size;
        db_discard_open(db);
        overlay_set_page_size(&db->late, rq.page_size);
        pthread_mutex_unlock(&db->lock);
        r = commit_transaction(c, &rq, e);
        pthread_mutex_lock(&db->lock);
        if (r <= 0) {
                db->fd = -1;
                db->size_bytes = 0;
                db->page_size = 0;
        } else {
                db->is_wal = is_wal;
        }
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? r : 0;
}

/* The log is the truth from here on: a crash before the rename rebuilds the file from it. */
static int
move_in(struct db *db, const char *path, struct err *e)
{
        char to[PATH_MAX];
        int r;

        r = sync_now(db, db->last_lsn, e);
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
db_adopt_file(struct db *db, const char *path, struct err *e)
{
        struct capturer c;
        int fd, r;

        if (db->fd >= 0)
                return err_set(e, -EEXIST, "database %s", db->name);
        fd = os_open(db->env->os, "adopt:open", path, O_RDWR, 0);
        if (fd < 0)
                return err_set(e, fd, "open %s", path);
        r = capturer_init_worker(&c, db);
        if (r == 0) {
                r = commit_file(&c, fd, e);
                capturer_release(&c);
        }
        if (r < 0 || db->fd != fd) {
                os_close(db->env->os, "adopt:close", fd);
                return r < 0 ? err_prefix(e, "take %s as a database", path), r : 0;
        }
        r = move_in(db, path, e);
        if (r < 0) {
                pthread_mutex_lock(&db->lock);
                db_fail(db, e != NULL ? e->text : "it could not be moved into place");
                pthread_mutex_unlock(&db->lock);
        }
        return r;
}
