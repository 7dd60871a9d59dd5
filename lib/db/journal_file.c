/* The file NAME-journal, kept in memory: finalising it is the commit (capture_journal.c). */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "db/adopt.h"
#include "db/db_internal.h"

bool
db_journal_exists(struct db *db)
{
        bool exists;

        db_lock(db);
        exists = db->journal.exists;
        pthread_mutex_unlock(&db->lock);
        return exists;
}

/* With the lock. */
static int
create_journal(struct db_access *a, uint64_t size_bytes)
{
        struct db *db = a->db;
        int r = db_may_commit(db);

        if (r == 0 && db->journal.exists)
                r = -EEXIST;
        if (r == 0)
                r = spool_truncate(&db->journal.content, size_bytes);
        if (r == 0) {
                db->journal.exists = true;
                db->journal.is_active = db->journal.is_hot = false;
        }
        return r;
}

int
db_journal_create(struct db *db)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0)
                r = create_journal(&a, 0);
        db_access_end(&a);
        return r;
}

int
adopt_journal(struct db_access *a, uint64_t size_bytes)
{
        int r;

        access_lock(a);
        r = create_journal(a, size_bytes);
        access_unlock(a);
        return r;
}

uint64_t
db_journal_size(struct db *db)
{
        uint64_t n;

        db_lock(db);
        n = db->journal.content.size_bytes;
        pthread_mutex_unlock(&db->lock);
        return n;
}

ssize_t
db_journal_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        db_lock(db);
        r = spool_read(&db->journal.content, buf, n, off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

static bool
is_zero(const uint8_t *p, size_t n)
{
        return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Behind a header of zeros nobody reads, so the content need not be kept. */
static void
leave_zeroed_journal(struct db *db)
{
        uint64_t size = db->journal.content.size_bytes;

        spool_reset(&db->journal.content);
        (void)spool_truncate(&db->journal.content, size); /* of an empty spool: cannot fail */
        db->journal.is_active = db->journal.is_hot = false;
}

/* Pages that were written before this journal was begun belong to an earlier, finished transaction. So do those written
 * beside one that never became hot: its writer died before it wrote a page, and others who need no journal go on. */
static int
begin_journaled(struct db_access *a)
{
        struct db *db = a->db;
        struct err e = ERR_INIT;
        int r = 0;

        if (db->transaction.is_unjournaled) {
                r = capture_uncommitted(a, &e);
                if (r < 0)
                        capture_tell_failed(a, r, &e);
        }
        if (r == 0 && !db->journal.is_active) {
                db->journal.is_active = true;
                db->transaction.wants_sync = false;
        }
        return r;
}

static int
journal_write_with_access(struct db_access *a, const uint8_t *buf, size_t n, uint64_t off,
                          struct db_done done)
{
        struct db *db = a->db;
        int r;

        r = db->journal.is_active ? 0 : db_may_commit(db); /* see may_go_on in db_file.c */
        if (r == 0 && !db->journal.is_active)
                r = db_may_enter(db, false);
        if (r < 0)
                return r;
        if (off == 0 && n >= 12 && is_zero(buf, n) && db->journal.is_active)
                return capture_and_finish(a, db->transaction.wants_sync, leave_zeroed_journal, done);
        if (!db->journal.is_hot && !(off == 0 && is_zero(buf, n))) {
                r = begin_journaled(a);
                if (r < 0)
                        return r;
        }
        r = spool_write(&db->journal.content, buf, n, off);
        if (r == 0 && off == 0 && n > 0)
                db->journal.is_hot = buf[0] != 0;
        return r;
}

int
db_journal_write(struct db *db, const void *buf, size_t n, uint64_t off, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        db_count(db, DB_COUNT_JOURNAL_WRITES);
        r = journal_write_with_access(&a, buf, n, off, done);
        db_access_end(&a);
        return r;
}

int
db_journal_truncate(struct db *db, uint64_t size_bytes, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        if (size_bytes == 0 && db->journal.is_active)
                r = capture_and_finish(&a, db->transaction.wants_sync, db_leave_empty_journal, done);
        else
                r = spool_truncate(&db->journal.content, size_bytes);
        db_access_end(&a);
        return r;
}

int
db_journal_unlink(struct db *db, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        if (db->journal.is_active)
                r = capture_and_finish(&a, db->transaction.wants_sync, db_leave_no_journal, done);
        else
                db_leave_no_journal(db);
        db_access_end(&a);
        return r;
}

/* Nothing to sync: the journal exists for the living. But it says that the application wants the commit
 * to last. */
int
db_journal_fsync(struct db *db, struct db_done done)
{
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r < 0)
                return r;
        if (db->journal.is_active)
                db->transaction.wants_sync = true;
        else
                r = sync_commit(&a, NULL, done);
        db_access_end(&a);
        return r;
}
