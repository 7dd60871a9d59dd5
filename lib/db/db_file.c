/* The file NAME: what applications read, and what they write outside the WAL. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/db_internal.h"
#include "db/parked.h"

ssize_t
db_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        db_lock(db);
        r = db_wake(db);
        if (r == 0)
                r = image_read(&db->image, buf, n, off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* --- writes --- */

/* A checkpoint's write that waits until the log is durable. */
struct checkpoint_call {
        struct parked_call call;
        uint64_t off;
        size_t n;
        uint8_t buf[];
};

/* Goes through, unless it turns out to need more of the log. */
static int
go_on_with_checkpoint(struct db_access *a, struct parked_call *c)
{
        struct checkpoint_call *cc = (struct checkpoint_call *)c;
        uint64_t lsn;
        int r = 0;

        while (r == 0) {
                r = checkpoint_write(a, cc->buf, cc->n, cc->off, &lsn);
                if (r != -EAGAIN)
                        break;
                r = sync_log(a, lsn, (struct db_done){ parked_call_go_on, c });
        }
        return r == -ENOENT ? -EIO : r;
}

static int
park_checkpoint_write(struct db_access *a, const void *buf, size_t n, uint64_t off, uint64_t lsn,
                      struct db_done done)
{
        struct checkpoint_call *cc = malloc(sizeof *cc + n);
        int r;

        if (cc == NULL)
                return -ENOMEM;
        *cc = (struct checkpoint_call){
                .call = { .db = a->db, .done = done, .run = go_on_with_checkpoint }, .off = off, .n = n
        };
        memcpy(cc->buf, buf, n);
        r = sync_log(a, lsn, (struct db_done){ parked_call_go_on, cc });
        if (r != DB_PENDING)
                free(cc);
        return r;
}

/* A transaction that was begun when it was allowed may write on: it must be able to roll back. Committing is what is
 * refused then (commit.c). One without a journal cannot be refused at its end, so it may not begin where it could
 * have to be (remote_commit.h). */
static int
may_go_on(struct db *db)
{
        if (db->journal.is_hot || db->transaction.is_unjournaled)
                return 0;
        return db_remote_commit_of(db) != NULL ? E_NOT_PRIMARY : db_may_commit(db);
}

static int
write_with_access(struct db_access *a, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db *db = a->db;
        uint64_t lsn = 0;
        int r;

        if (db->image.fd < 0 || db->image.page_size == 0)
                return -ENOENT;
        if (off > INT64_MAX - n)
                return -EFBIG;
        r = passed_before_call(a); /* whatever it says: what is not captured is no checkpoint's either */
        if (r == E_BUSY)
                return r;
        if (!db->journal.is_hot && wal_is_live(db->wal)) {
                r = checkpoint_write(a, buf, n, off, &lsn);
                if (r != -ENOENT)
                        habit_checkpoints(db);
                if (r == -EAGAIN) {
                        r = park_checkpoint_write(a, buf, n, off, lsn, done);
                        if (r != 0)
                                return r;
                        r = checkpoint_write(a, buf, n, off, &lsn);
                }
                if (r != -ENOENT) /* ENOENT: not an image from the WAL */
                        return r;
        }
        /* A checkpoint adds nothing, and may be made on any node. This does. */
        r = may_go_on(db);
        return r < 0 ? r : db_write_uncommitted(a, buf, n, off);
}

int
db_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        db_count(db, DB_COUNT_DATABASE_WRITES);
        r = write_with_access(&a, buf, n, off, done);
        db_access_end(&a);
        return r;
}

/* What is cut may be needed until the transaction that freed it is durable. */
static int
cut_by_checkpoint(struct db_access *a, uint64_t size_bytes)
{
        struct db *db = a->db;
        struct err e = ERR_INIT;
        int r;

        if (sync_or_fail(a, db->last.lsn, &e) < 0)
                return -EIO;
        r = flush_writeback(a);
        if (r == 0)
                r = image_cut_file(&db->image, "db:cut", size_bytes);
        if (r == 0)
                db->image.size_bytes = size_bytes;
        return r;
}

static int
truncate_database(struct db_access *a, uint64_t size_bytes)
{
        struct db *db = a->db;
        int r;

        if (db->image.fd < 0 || db->image.page_size == 0)
                return -ENOENT;
        if (size_bytes > (uint64_t)UINT32_MAX * db->image.page_size)
                return -EFBIG;
        r = passed_before_call(a);
        if (r == E_BUSY)
                return r;
        if (!db->journal.is_hot && wal_is_checkpoint_cut(db->wal, size_bytes))
                return cut_by_checkpoint(a, size_bytes);
        /* SQLite cuts what it has freed after the commit that freed it: no new transaction. */
        r = size_bytes == (uint64_t)db->image.page_count * db->image.page_size ? 0 : may_go_on(db);
        return r < 0 ? r : db_truncate_uncommitted(a, size_bytes);
}

int
db_truncate(struct db *db, uint64_t size_bytes)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = truncate_database(&a, size_bytes);
        db_access_end(&a);
        return r;
}

int
db_fsync(struct db *db, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        db->transaction.wants_sync = true;
        if (db->journal.is_hot)
                r = 0; /* the commit will be synced; until then the pages stay out of the file */
        else if (db->transaction.is_unjournaled)
                r = capture_and_finish(&a, true, NULL, done);
        else
                r = sync_commit(&a, NULL, done);
        db_access_end(&a);
        return r;
}

int
db_may_close(struct db *db)
{
        return db_looks_busy(db) ? E_BUSY : 0;
}
