/* A snapshot of another history, or no such database in the cluster: what only this node has is set aside, not lost.
 *
 * The new state is built in DATA/tmp, whole and durable, with a base and an empty log (or empty). Then three renames,
 * each durable before the next:
 *
 *   tmp/DIR.new -> orphans/DIR.new                it is complete
 *   dbs/DIR     -> orphans/DIR-TXID-CHECKSUM
 *   orphans/DIR.new -> dbs/DIR
 *
 * So after a crash orphans/DIR.new is what dbs/DIR lacks, or else is not wanted: the next start puts it there or removes
 * it (store/orphans.h). RENAME_EXCHANGE would not spare that, and not every file system has it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "db/image/base_file.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"

struct replacement {
        struct db *db;
        const struct received *rx;
        char dir[PATH_MAX];     /* where the new state is built */
        char orphans[PATH_MAX]; /* DATA/orphans */
        char staged[PATH_MAX];  /* where the new one waits */
        char orphan[PATH_MAX];  /* where the old one goes */
        struct pagesum sums;
};

/* db->dir is DATA/dbs/DIR. */
static int
make_paths(struct replacement *rp)
{
        struct db *db = rp->db;
        const char *name = strrchr(db->dir, '/'), *dbs;
        int data, n, k, m, o;

        if (name == NULL || (dbs = memrchr(db->dir, '/', (size_t)(name - db->dir))) == NULL)
                return -EINVAL;
        data = (int)(dbs - db->dir);
        n = snprintf(rp->dir, sizeof rp->dir, "%s%s.new", db->env->tmp_dir, name);
        k = snprintf(rp->orphans, sizeof rp->orphans, "%.*s/orphans", data, db->dir);
        m = snprintf(rp->staged, sizeof rp->staged, "%s%s.new", rp->orphans, name);
        o = snprintf(rp->orphan, sizeof rp->orphan, "%s%s-%016llx-%016llx", rp->orphans, name,
                     (unsigned long long)db->pos.txid, (unsigned long long)db->pos.checksum);
        return n < (int)sizeof rp->dir && k < (int)sizeof rp->orphans && m < (int)sizeof rp->staged &&
                               o < (int)sizeof rp->orphan
                       ? 0
                       : -ENAMETOOLONG;
}

/* The pages into @fd, and their checksums. */
static int
write_pages(struct replacement *rp, int fd, struct err *e)
{
        const struct os *os = rp->db->env->os;
        struct received_pages *pages;
        struct ltx_header h;
        uint8_t *page = malloc(IMAGE_PAGE_MAX);
        uint32_t pgno;
        int r = page == NULL ? err_set(e, -ENOMEM, "replace") : 0;

        if (r < 0)
                return r;
        r = received_pages_open(rp->rx, &pages, &h, e);
        if (r < 0) {
                free(page);
                return r;
        }
        r = pagesum_resize(&rp->sums, h.commit);
        while (r == 0 && (r = received_pages_next(pages, page, &pgno, e)) > 0) {
                pagesum_set(&rp->sums, pgno, ltx_page_checksum(pgno, page, h.page_size));
                r = os_pwrite_all(os, "replace:write", fd, page, h.page_size,
                                  (off_t)(pgno - 1) * h.page_size);
        }
        received_pages_close(pages);
        free(page);
        if (r == 0)
                r = os_ftruncate(os, "replace:size", fd, (off_t)h.commit * h.page_size);
        if (r == 0 && pagesum_total(&rp->sums) != rp->rx->record.post_apply_checksum)
                return err_text(e, E_CHECKSUM, "the snapshot's pages do not have its checksum");
        return r < 0 && (e == NULL || e->code != r) ? err_set(e, r, "write %s/database", rp->dir) : r;
}

static int
write_replacement(struct replacement *rp, struct err *e)
{
        const struct os *os = rp->db->env->os;
        char path[PATH_MAX + 16];
        struct stat st;
        int fd, r;

        snprintf(path, sizeof path, "%s/database", rp->dir);
        fd = os_open(os, "replace:create", path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return err_set(e, fd, "create %s", path);
        if (rp->db->image.fd >= 0 && os_fstat(os, "replace:stat", rp->db->image.fd, &st) == 0) {
                if (geteuid() == 0)
                        (void)!fchown(fd, st.st_uid, st.st_gid);
                (void)!fchmod(fd, st.st_mode & 01777);
        }
        r = write_pages(rp, fd, e);
        if (r == 0 && (r = os_fdatasync(os, "replace:sync", fd)) < 0)
                err_set(e, r, "sync %s", path);
        os_close(os, "replace:close", fd);
        return r;
}

static int
build(struct replacement *rp, struct err *e)
{
        const struct txlog_record *rec = &rp->rx->record;
        const struct os *os = rp->db->env->os;
        struct base_info info = { .txid = rec->max_txid,
                                  .page_size = rec->page_size,
                                  .timestamp_ms = rec->timestamp_ms };
        int r;

        r = os_mkdir_all(os, "replace:mkdir", rp->dir, 0700);
        if (r == 0) /* of one that was cut short by a crash */
                r = os_empty_dir(os, "replace:empty", rp->dir);
        if (r < 0)
                return err_set(e, r, "create %s", rp->dir);
        if (rp->rx->is_absent)
                return 0;
        r = write_replacement(rp, e);
        if (r == 0)
                r = base_file_write(os, rp->dir, &info, pagesum_copy, &rp->sums, e);
        if (r == 0)
                r = base_file_publish(os, rp->dir, e);
        return r;
}

static int
sync_replaced_parent(const struct os *os, const char *dir)
{
        char parent[PATH_MAX + 8];

        snprintf(parent, sizeof parent, "%s/..", dir);
        return os_sync_dir(os, "replace:sync", parent);
}

/* The new state, complete, under the name by which the next start finds it. One of an earlier attempt gives way. */
static int
stage(struct replacement *rp, struct err *e)
{
        const struct os *os = rp->db->env->os;
        int r = os_mkdir_all(os, "replace:mkdir", rp->orphans, 0700);

        if (r ==
            0) /* also when it was there: a run before this one may have ended before it was durable */
                r = sync_replaced_parent(os, rp->orphans);
        if (r < 0)
                return err_set(e, r, "create %s", rp->orphans);
        r = os_empty_dir(os, "replace:empty", rp->staged);
        if (r == 0)
                r = os_rmdir(os, "replace:empty", rp->staged);
        if (r < 0 && r != -ENOENT)
                return err_set(e, r, "remove %s", rp->staged);
        r = os_rename(os, "replace:stage", rp->dir, rp->staged);
        if (r == 0)
                r = os_sync_dir(os, "replace:sync", rp->orphans);
        return r < 0 ? err_set(e, r, "move %s to %s", rp->dir, rp->staged) : 0;
}

/* The same state may have been set aside before. */
static void
number_orphan(struct replacement *rp)
{
        size_t len = strlen(rp->orphan);
        struct stat st;

        for (int i = 2; os_lstat(rp->db->env->os, "replace:orphan", rp->orphan, &st) == 0; i++)
                if (snprintf(rp->orphan + len, sizeof rp->orphan - len, "-%d", i) >=
                    (int)(sizeof rp->orphan - len))
                        return;
}

static int
set_aside(struct replacement *rp, struct err *e)
{
        struct db *db = rp->db;
        const struct os *os = db->env->os;
        int r;

        number_orphan(rp);
        r = os_rename(os, "replace:orphan", db->dir, rp->orphan);
        if (r < 0)
                return err_set(e, r, "move %s to %s", db->dir, rp->orphan);
        r = os_sync_dir(os, "replace:sync", rp->orphans);
        return r < 0 ? err_set(e, r, "sync %s", rp->orphans) : 0;
}

/* The old state goes on. */
static void
put_old_back(struct replacement *rp)
{
        struct db *db = rp->db;
        const struct os *os = db->env->os;
        int r = os_rename(os, "replace:back", rp->orphan, db->dir);

        if (r == 0)
                r = sync_replaced_parent(os, db->dir);
        if (r < 0) {
                db_lock(db);
                db_fail(db, "its directory could not be put back");
                pthread_mutex_unlock(&db->lock);
        }
}

static int
swap(struct replacement *rp, struct err *e)
{
        struct db *db = rp->db;
        const struct os *os = db->env->os;
        struct stat st;
        int r;

        r = set_aside(rp, e);
        if (r == 0 && (r = os_rename(os, "replace:swap", rp->staged, db->dir)) < 0)
                err_set(e, r, "move %s to %s", rp->staged, db->dir);
        if (r < 0) {
                if (os_lstat(os, "replace:orphan", db->dir, &st) == -ENOENT)
                        put_old_back(rp);
                return r;
        }
        r = sync_replaced_parent(os, db->dir);
        if (r == 0)
                return 0;
        /* The files in our hands are the orphan's: a restart opens what the disk has kept. */
        db_lock(db);
        db_fail(db, "its new state may not last");
        pthread_mutex_unlock(&db->lock);
        return err_set(e, r, "sync %s/..", db->dir);
}

/* Everything that was of the old state goes, and what @fresh has opened comes. With the lock. */
static void
take_state(struct db_access *a, struct db *fresh)
{
        struct db *db = a->db;

        db_discard_uncommitted(a);
        db_leave_no_journal(db);
        passed_end(a);
        os_close(db->env->os, "replace:close", wal_detach(db->wal));
        image_take(&db->image, &fresh->image);
        db->pos = fresh->pos;
        db->is_wal = fresh->is_wal;
        db->timestamp_ms = fresh->timestamp_ms;
        db->last.is_unconfirmed = false;
        db->n_replaced++;
        db->base.txid = fresh->base.txid;
        db->base.lsn = fresh->base.lsn;
        db->last.lsn = fresh->last.lsn;
        db->sync.replicable_txid = fresh->sync.replicable_txid;
        db->sync.pos = fresh->pos;
        db->sync.has_unsynced = false;
        /* Others may be looking at the one that is replaced. */
        if (txlog_swap_commit(db->log, fresh->log) < 0)
                db_fail(db, "its old log is in use");
        else
                fresh->log = NULL;
}

/* Opened without the lock, for that reads and syncs all of it, while readers go on with the old one. */
static int
reopen(struct db_access *a, struct err *e)
{
        struct db *db = a->db, *fresh = NULL;
        int r = db_open(db->env, db->name, db->dir, &fresh, e);

        access_lock(a);
        if (r == 0)
                take_state(a, fresh);
        else
                db_fail(db, e != NULL ? e->text : "the new state did not open");
        access_unlock(a);
        if (fresh != NULL)
                db_release(fresh);
        return r;
}

/* Nobody reads the old log, nor will; and no sync of it goes on: none begins, for all of it is durable. */
static int
swap_log_begin(struct db *db, struct err *e)
{
        int r;

        db_lock(db);
        r = db->sync.n_jobs > 0 ? -EAGAIN : txlog_swap_begin(db->log);
        pthread_mutex_unlock(&db->lock);
        return r < 0 ? err_set(e, r, "the old log of %s is being read", db->name) : 0;
}

static int
copy_file_bytes(const struct os *os, int from, int to, uint8_t *buf)
{
        uint64_t off = 0;
        ssize_t n = 1;
        int r = 0;

        while (r == 0 && n > 0) {
                n = os_pread_all(os, "replace:copy", from, buf, IMAGE_PAGE_MAX, (off_t)off);
                if (n > 0)
                        r = os_pwrite_all(os, "replace:copy", to, buf, (size_t)n, (off_t)off);
                off += n > 0 ? (uint64_t)n : 0;
        }
        return n < 0 ? (int)n : r;
}

/* A copy becomes the database's file, for the WAL's pages to go into: readers of the old file may stand before them. */
static int
take_file_copy(struct db_access *a)
{
        struct db *db = a->db;
        const struct os *os = db->env->os;
        char path[PATH_MAX], copy[PATH_MAX];
        int fd, r = db_path(db, "database", path, sizeof path);

        if (r == 0)
                r = db_path(db, "database.copy", copy, sizeof copy);
        if (r < 0)
                return r;
        fd = os_open(os, "replace:copy", copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return fd;
        r = copy_file_bytes(os, db->image.fd, fd, a->room);
        if (r == 0)
                r = os_rename(os, "replace:copy", copy, path);
        if (r < 0) {
                os_close(os, "replace:copy", fd);
                (void)os_unlink(os, "replace:copy", copy);
                return r;
        }
        db_lock(db);
        os_close(os, "replace:close", db->image.fd);
        db->image.fd = fd;
        pthread_mutex_unlock(&db->lock);
        return 0;
}

/* To whoever looks at it among the orphans, the old file is the old state. */
static int
complete_old_file(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r = 0;

        if (db->image.fd < 0)
                return 0;
        if (wal_has_pending(db->wal)) {
                r = take_file_copy(a);
                if (r < 0)
                        return err_set(e, r, "copy %s/database", db->dir);
                r = checkpoint_all(a, e);
        }
        return r < 0 ? r : sync_file(a, e);
}

/* What readers of the file need must be there. */
static int
complete_file(struct db_access *a, struct err *e)
{
        int r = txlog_sync(a->db->log, a->db->last.lsn, e);

        return r < 0                          ? r
               : (r = flush_writeback(a)) < 0 ? err_set(e, r, "write %s/database", a->db->dir)
                                              : 0;
}

static int
open_old(struct db *db, const char *file)
{
        char path[PATH_MAX];

        return db_path(db, file, path, sizeof path) < 0
                       ? -1
                       : os_open(db->env->os, "replace:open", path, O_RDONLY | O_CLOEXEC, 0);
}

/* Without readers of the log. */
static int
change_over(struct replacement *rp, struct db_access *a, void (*detach)(void *, int, int), void *arg,
            struct err *e)
{
        struct db *db = rp->db;
        int r = stage(rp, e);

        if (r < 0)
                return r;
        detach(arg, open_old(db, "database"), open_old(db, "wal"));
        r = complete_old_file(a, e);
        if (r == 0)
                r = swap(rp, e);
        if (r < 0)
                return r;
        return reopen(a, e);
}

static int
replace_all(struct replacement *rp, struct db_access *a, void (*detach)(void *, int, int), void *arg,
            struct err *e)
{
        struct db *db = rp->db;
        int r = build(rp, e);

        if (r < 0)
                return r;
        r = complete_file(a, e);
        if (r == 0 && (r = swap_log_begin(db, e)) == 0) {
                r = change_over(rp, a, detach, arg, e);
                if (r < 0)
                        txlog_swap_abort(db->log);
        }
        return r;
}

static void
tell_replaced(const struct replacement *rp, struct ltx_pos old)
{
        db_count(rp->db, DB_COUNT_DIVERGENCES);
        if (!rp->rx->is_absent) {
                db_count(rp->db, DB_COUNT_RECEIVED_SNAPSHOTS);
                db_count(rp->db, DB_COUNT_APPLIED);
        }
        log_event(LOG_WARN, rp->db->name,
                  "%s: the state at %016llx/%016llx is kept in %s (litefs ltx list takes that path)",
                  rp->rx->is_absent ? "the cluster does not have this database"
                                    : "its history differed from the cluster's",
                  (unsigned long long)old.txid, (unsigned long long)old.checksum, rp->orphan);
}

int
db_replace(struct db *db, const struct received *rx, void (*detach)(void *arg, int fd, int wal_fd),
           void *arg, struct err *e)
{
        struct replacement rp = { .db = db, .rx = rx };
        struct db_access a;
        struct ltx_pos old;
        int r = begin_apply(db, DB_BY_REPLACEMENT, rx, &a, e);

        if (r < 0)
                return r;
        old = db->pos;
        r = make_paths(&rp);
        if (r < 0)
                err_set(e, r, "replace %s", db->name);
        else
                r = replace_all(&rp, &a, detach, arg, e);
        if (r == 0)
                tell_replaced(&rp, old);
        pagesum_release(&rp.sums);
        return end_apply(&a, r, e);
}

/* --- whether that is needed --- */

/* Whether our last transaction was committed on this node: if so, the cluster need not have it. */
static bool
is_last_ours(struct db *db, uint64_t txid)
{
        struct txlog_reader *reader;
        struct txlog_record record;
        struct byte_src *src;
        struct ltx_header h;
        uint8_t head[LTX_HEADER_SIZE];
        bool is = false;

        if (txlog_reader_open(db->log, txid - 1, &reader, NULL) < 0)
                return false; /* the state came from elsewhere, as a whole */
        if (txlog_reader_next(reader, &record, &src, NULL) > 0 &&
            byte_src_read_all(src, head, sizeof head) == (ssize_t)sizeof head &&
            ltx_header_decode(head, LTX_V3, &h, NULL) == 0)
                is = h.node_id == db->env->node_id;
        txlog_reader_close(reader);
        return is;
}

bool
db_needs_replacing(struct db *db, const struct received *rx)
{
        struct ltx_pos pos;

        db_lock(db);
        pos = db->pos;
        pthread_mutex_unlock(&db->lock);
        if (pos.txid == 0 || rx->is_local)
                return false;
        if (rx->is_absent)
                return true;
        if (rx->record.min_txid != 1)
                return false;
        return rx->record.max_txid <= pos.txid || rx->history == TXLOG_HISTORY_OTHER ||
               (rx->history == TXLOG_HISTORY_UNKNOWN && is_last_ours(db, pos.txid));
}
