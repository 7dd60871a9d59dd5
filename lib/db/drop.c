/* The end of a database: a transaction that leaves no page; then its files go. */
#include <errno.h>

#include "db/db_internal.h"

int
db_append_drop(struct db_access *a, const struct ltx_mark *mark, struct err *e)
{
        struct db *db = a->db;
        struct commit_request rq = { .page_size = db->image.page_size, .commit = 0, .mark = *mark };
        int r;

        if (db->image.page_count == 0)
                return 0;
        r = commit_transaction(a, &rq, e);
        if (r < 0)
                return r;
        access_lock(a);
        db_discard_uncommitted(a);
        access_unlock(a);
        return sync_or_fail(a, db->last.lsn, e);
}

void
db_leave_no_file(struct db_access *a, int *ret_fd, int *ret_wal_fd)
{
        struct db *db = a->db;

        passed_end(a);
        /* The transaction is durable: the file no longer matters, so no error below does. */
        *ret_wal_fd = wal_detach(db->wal);
        overlay_reset(&db->image.writeback);
        db_leave_no_journal(db);
        db_remove_file(db, "database");
        db_remove_file(db, "wal");
        db_remove_file(db, "shm");
        *ret_fd = db->image.fd;
        db->image.fd = -1;
        db->image.size_bytes = 0;
        db->is_wal = false;
        db->image.page_size = 0;
}

int
db_drop(struct db *db, int *ret_fd, int *ret_wal_fd, struct err *e)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_DROP, &a, e);

        if (r < 0)
                return r;
        r = db->image.fd < 0 ? err_set(e, -ENOENT, "drop %s", db->name)
                             : db_append_drop(&a, &(struct ltx_mark){ 0 }, e);
        if (r >= 0) {
                db_leave_no_file(&a, ret_fd, ret_wal_fd);
                r = 0;
        }
        db_access_end(&a);
        return r;
}
