#include "db/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/db_internal.h"
#include "db/import.h"
#include "ltx/checksum.h"

#define JOURNAL_HEADER_SIZE 28
#define COPY "renamed" /* dbs/DIR/renamed: what is to become the database; recovery removes it */

void
db_rename_init(struct db_rename *rn, struct db *from, struct db *to)
{
        *rn = (struct db_rename){ .from = from, .to = to, .fd = -1 };
}

/* --- may it be --- */

/* A transaction begins with a header that has at least the nonce. One of zeros is over, as PERSIST leaves it; copied in, it
 * looks as if somebody had begun to write. */
static bool
has_open_journal(const struct db *db)
{
        static const uint8_t zeros[JOURNAL_HEADER_SIZE];
        uint8_t header[JOURNAL_HEADER_SIZE];

        return db->journal.is_active &&
               (spool_read(&db->journal.content, header, sizeof header, 0) != (ssize_t)sizeof header ||
                memcmp(header, zeros, sizeof header) != 0);
}

/* Frames that were written and are not committed are a transaction's that is open, or was rolled back: SQLite tells nobody
 * which. */
static bool
has_open_transaction(const struct db *db)
{
        return image_is_dirty(&db->image) || db->transaction.is_unjournaled || has_open_journal(db) ||
               wal_has_uncaptured(db->wal);
}

static int
check_one(struct db_access *a, struct ltx_pos *ret_pos, struct err *e)
{
        struct db *db = a->db;
        int r;

        if (db_remote_commit_of(db) != NULL || atomic_load(&db->is_halted))
                return err_text(e, E_NOT_PRIMARY, "another node has the halt lock of %s", db->name);
        r = db_may_commit(db);
        if (r < 0)
                return err_set(e, r, "rename");
        r = passed_catch_up(a, e);
        if (r < 0)
                return r;
        access_lock(a);
        *ret_pos = db->pos;
        if (has_open_transaction(db))
                r = err_text(e, -EBUSY, "a transaction of %s is open", db->name);
        access_unlock(a);
        return r;
}

int
db_rename_check(struct db_rename *rn, struct err *e)
{
        int r = check_one(&rn->to_access, &rn->to_pos, e);

        if (r < 0 || rn->from == NULL)
                return r;
        r = check_one(&rn->from_access, &rn->from_pos, e);
        if (r == 0 && rn->from->image.fd < 0)
                r = err_set(e, -ENOENT, "rename %s", rn->from->name);
        /* Two in one millisecond differ, too. */
        if (r == 0 && rn->fresh == 0)
                rn->fresh = (uint32_t)clock_wall_ms(rn->to->env->clock) + (uint32_t)rn->to_pos.txid;
        return r;
}

/* --- the copy --- */

static int
copy_page(struct db_rename *rn, uint32_t pgno, uint8_t *buf, uint64_t *sum, struct err *e)
{
        struct db_access *a = &rn->from_access;
        const struct os *os = a->db->env->os;
        bool stays_wal = rn->to->image.page_count > 0 && rn->to->is_wal;
        int r;

        access_lock(a);
        r = verify_read_page(a->db, buf, pgno, e);
        access_unlock(a);
        if (r < 0)
                return r;
        if (pgno == 1) {
                import_mark_first_page(buf, rn->page_count, rn->fresh, stays_wal);
                rn->is_wal = stays_wal || a->db->is_wal;
        }
        *sum ^= ltx_page_checksum(pgno, buf, rn->page_size);
        r = os_pwrite_all(os, "rename:copy", rn->fd, buf, rn->page_size,
                          (off_t)(pgno - 1) * rn->page_size);
        return r < 0 ? err_set(e, r, "write page %u", pgno) : 0;
}

static int
copy_pages(struct db_rename *rn, struct err *e)
{
        struct db *from = rn->from;
        uint32_t lock_pgno = ltx_lock_pgno(rn->page_size);
        uint64_t sum = 0;
        int r = 0;

        for (uint32_t pgno = 1; pgno <= rn->page_count && r == 0; pgno++)
                if (pgno != lock_pgno)
                        r = copy_page(rn, pgno, rn->to_access.room, &sum, e);
        if (r == 0 &&
            (r = os_ftruncate(from->env->os, "rename:copy", rn->fd, (off_t)rn->size_bytes)) < 0)
                err_set(e, r, "set the size");
        rn->made_pos = (struct ltx_pos){ rn->to_pos.txid + 1, sum | LTX_CHECKSUM_FLAG };
        return r;
}

/* Whether somebody may read the one who may not read the other. */
static bool
is_open_to_more(const struct stat *st, const struct stat *than)
{
        return st->st_uid != than->st_uid || st->st_gid != than->st_gid ||
               (st->st_mode & ~than->st_mode & 0444) != 0;
}

/* As after a rename on a disk. What cannot be given stays the daemon's. Whoever may move files in a directory may put one of his
 * own, or one that all may read, over one that he may not read; and gets nothing of that one by it. */
static void
give_as_source(struct db_rename *rn)
{
        const struct os *os = rn->from->env->os;
        struct stat st, old;

        rn->hides_past = rn->to->image.page_count > 0;
        if (os_fstat(os, "rename:stat", rn->from->image.fd, &st) < 0)
                return;
        if (rn->hides_past && os_fstat(os, "rename:stat", rn->to->image.fd, &old) == 0)
                rn->hides_past = is_open_to_more(&st, &old);
        if (geteuid() == 0)
                (void)!fchown(rn->fd, st.st_uid, st.st_gid);
        (void)!fchmod(rn->fd, st.st_mode & 01777);
}

int
db_rename_prepare(struct db_rename *rn, struct err *e)
{
        const struct os *os = rn->to->env->os;
        char path[PATH_MAX];
        int r = db_path(rn->to, COPY, path, sizeof path);

        if (r < 0)
                return err_set(e, r, "rename");
        rn->page_size = rn->from->image.page_size;
        rn->page_count = rn->from->image.page_count;
        rn->size_bytes = (uint64_t)rn->page_size * rn->page_count;
        rn->fd = os_open(os, "rename:copy", path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (rn->fd < 0)
                return err_set(e, rn->fd, "create %s", path);
        give_as_source(rn);
        r = copy_pages(rn, e);
        /* The target's base may be older than the next transaction: the pages that neither changes must be there. */
        if (r == 0 && (r = os_fdatasync(os, "rename:sync", rn->fd)) < 0)
                err_set(e, r, "sync %s", path);
        return r < 0 ? err_prefix(e, "copy %s", rn->from->name), r : 0;
}

/* --- the target --- */

static const uint8_t *
get_copied_page(const struct commit_request *rq, uint32_t i, uint8_t *room, int *ret_error)
{
        const struct db_rename *rn = rq->arg;
        ssize_t n = os_pread_all(rn->to->env->os, "rename:read", rn->fd, room, rq->page_size,
                                 (off_t)(rq->pgnos[i] - 1) * rq->page_size);

        if (n == (ssize_t)rq->page_size)
                return room;
        *ret_error = n < 0 ? (int)n : -EIO;
        return NULL;
}

static int
commit_copy(struct db_rename *rn, struct err *e)
{
        struct db_access *a = &rn->to_access;
        uint32_t old_count = a->db->image.page_count, *pgnos;
        struct commit_request rq = { .page_size = rn->page_size,
                                     .commit = rn->page_count,
                                     .n_pgnos = rn->page_count,
                                     .mark = { .hides_past = rn->hides_past,
                                               .renamed_name = ltx_name_hash(rn->from->name),
                                               .renamed_at = rn->from_pos.checksum,
                                               .renamed_count = rn->count,
                                               .renamed_group = rn->group },
                                     .get = get_copied_page,
                                     .arg = rn };
        int r;

        rq.is_snapshot = old_count > 0 && a->db->image.page_size != rn->page_size;
        rq.pgnos = pgnos = malloc(((size_t)rn->page_count + 1) * sizeof *pgnos);
        if (pgnos == NULL)
                return err_set(e, -ENOMEM, "rename");
        for (uint32_t i = 0; i < rn->page_count; i++)
                pgnos[i] = i + 1;
        r = commit_transaction(a, &rq, e);
        free(pgnos);
        return r < 0 ? r : sync_or_fail(a, a->db->last.lsn, e);
}

struct old_files {
        int fd, wal_fd;
};

/* For those who have the database open: to be read, by whoever has them, whatever its name stands for by then. */
static struct old_files
open_old_files(struct db *db)
{
        static const char *const names[] = { "database", "wal" };
        char path[PATH_MAX];
        int fds[2];

        for (int i = 0; i < 2; i++)
                fds[i] = db_path(db, names[i], path, sizeof path) < 0
                                 ? -1
                                 : os_open(db->env->os, "rename:open", path, O_RDONLY | O_CLOEXEC, 0);
        return (struct old_files){ fds[0] < 0 ? -1 : fds[0], fds[1] < 0 ? -1 : fds[1] };
}

static void
detach_old_files(const struct db_rename_detach *detach, struct db *db, struct old_files old,
                 bool is_final)
{
        if (detach != NULL) {
                detach->fn(detach->arg, db, old.fd, old.wal_fd, is_final);
                return;
        }
        os_close(db->env->os, "rename:close", old.fd);
        os_close(db->env->os, "rename:close", old.wal_fd);
}

/* The copy is the database's file now, by name. With the lock. */
static void
take_renamed_copy(struct db_rename *rn)
{
        struct db_access *a = &rn->to_access;
        struct db *db = a->db;

        db_leave_no_journal(db);
        passed_end(a);
        os_close(db->env->os, "rename:close", wal_detach(db->wal));
        db_remove_file(db, "wal");
        db_remove_file(db, "shm");
        os_close(db->env->os, "rename:close", db->image.fd);
        db->image.fd = rn->fd;
        rn->fd = -1;
        db->image.size_bytes = rn->size_bytes;
        db->is_wal = rn->is_wal;
        db_discard_uncommitted(a);
        image_follow_page_size(&db->image);
}

/* A crash before the file has its name finds the transaction in the log. */
static int
move_copy_in(struct db_rename *rn, struct err *e)
{
        struct db *db = rn->to;
        char from[PATH_MAX], to[PATH_MAX];
        int r = db_path(db, COPY, from, sizeof from);

        if (r == 0)
                r = db_path(db, "database", to, sizeof to);
        if (r == 0)
                r = os_rename(db->env->os, "rename:move", from, to);
        if (r == 0)
                r = os_sync_dir(db->env->os, "rename:move", db->dir);
        return r < 0 ? err_set(e, r, "move %s/%s to %s/database", db->dir, COPY, db->dir) : 0;
}

int
db_rename_put(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e)
{
        struct db_access *a = &rn->to_access;
        struct db *db = a->db;
        struct old_files old;
        int r = sync_or_fail(a, db->last.lsn, e);

        if (r == 0 && db->image.fd >= 0 && (r = flush_writeback(a)) < 0) /* for those who read on */
                err_set(e, r, "write %s/database", db->dir);
        if (r == 0)
                r = commit_copy(rn, e);
        if (r < 0)
                return r;
        old = open_old_files(db);
        r = move_copy_in(rn, e);
        detach_old_files(detach, db, old, rn->is_wal || db->is_wal);
        access_lock(a);
        if (r == 0)
                take_renamed_copy(rn);
        else
                db_fail(db, e != NULL ? e->text : "its new file could not be moved into place");
        access_unlock(a);
        return r < 0 ? r : verify_commit(a, e);
}

/* --- the source --- */

static int
drop_renamed(struct db_access *a, const struct ltx_mark *mark, const struct db_rename_detach *detach,
             struct err *e)
{
        struct db *db = a->db;
        int fd = -1, wal_fd = -1;
        int r = sync_or_fail(a, db->last.lsn, e);

        if (r == 0 && (r = flush_writeback(a)) < 0)
                err_set(e, r, "write %s/database", db->dir);
        if (r == 0)
                r = db_append_drop(a, mark, e);
        if (r < 0)
                return r;
        detach_old_files(detach, db, open_old_files(db), false);
        access_lock(a);
        db_leave_no_file(a, &fd, &wal_fd);
        access_unlock(a);
        os_close(db->env->os, "rename:close", fd);
        os_close(db->env->os, "rename:close", wal_fd);
        return 0;
}

int
db_rename_remove(struct db_access *a, const struct db_rename_detach *detach, struct err *e)
{
        return drop_renamed(a, &(struct ltx_mark){ 0 }, detach, e);
}

int
db_rename_drop(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e)
{
        struct ltx_mark mark = { .renamed_name = ltx_name_hash(rn->to->name),
                                 .renamed_at = rn->made_pos.txid };

        return drop_renamed(&rn->from_access, &mark, detach, e);
}

/* --- on the way to replicas --- */

int
db_read_mark(struct db *db, uint64_t txid, struct ltx_mark *ret, struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record record;
        struct ltx_header h;
        struct byte_src *src;
        int r = txlog_reader_open(db->log, txid - 1, &reader, e);

        *ret = (struct ltx_mark){ 0 };
        if (r < 0)
                return r == E_NOT_FOUND ? 0 : r;
        r = txlog_reader_next(reader, &record, &src, e);
        if (r > 0)
                r = ltx_header_read(src, &h, e);
        else if (r == 0)
                r = 1;
        if (r == 0 && record.max_txid == txid)
                *ret = h.mark;
        txlog_reader_close(reader);
        return r < 0 ? r : 0;
}

void
db_rename_end(struct db_rename *rn)
{
        if (rn->fd >= 0) {
                os_close(rn->to->env->os, "rename:close", rn->fd);
                db_remove_file(rn->to, COPY);
                rn->fd = -1;
        }
        db_access_end(&rn->from_access);
        db_access_end(&rn->to_access);
}
