/* The file NAME-journal, kept in memory: finalising it is the commit (capture_journal.c). */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "db/db_internal.h"

bool
db_journal_exists(struct db *db)
{
        bool exists;

        pthread_mutex_lock(&db->lock);
        exists = db->journal.exists;
        pthread_mutex_unlock(&db->lock);
        return exists;
}

int
db_journal_create(struct db *db)
{
        return db_journal_create_finalised(db, 0);
}

int
db_journal_create_finalised(struct db *db, uint64_t size_bytes)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = db->state == DB_FAILED ? -EIO : db_may_commit(db);
        if (r == 0 && db->journal.exists)
                r = -EEXIST;
        if (r == 0)
                r = spool_truncate(&db->journal.content, size_bytes);
        if (r == 0) {
                db->journal.exists = true;
                db->journal.is_active = db->journal.is_hot = false;
        }
        pthread_mutex_unlock(&db->lock);
        return r;
}

uint64_t
db_journal_size(struct db *db)
{
        uint64_t n;

        pthread_mutex_lock(&db->lock);
        n = db->journal.content.size_bytes;
        pthread_mutex_unlock(&db->lock);
        return n;
}

ssize_t
db_journal_read(struct db *db, void *buf, size_t n, uint64_t off)
{
        ssize_t r;

        pthread_mutex_lock(&db->lock);
        r = spool_read(&db->journal.content, buf, n, off);
        pthread_mutex_unlock(&db->lock);
        return r;
}

static bool
is_zero(const uint8_t *p, size_t n)
{
        return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* The three ways to finalise differ in what is left of the file. */
void
db_leave_no_journal(struct db *db)
{
        spool_reset(&db->journal.content);
        db->journal.exists = false;
        db->journal.is_active = db->journal.is_hot = false;
}

void
db_leave_empty_journal(struct db *db)
{
        spool_reset(&db->journal.content);
        db->journal.is_active = db->journal.is_hot = false;
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
begin_journaled(struct db *db)
{
        struct capturer c = capturer_here(db);
        struct err e = ERR_INIT;
        int r = 0;

        if (db->is_unjournaled) {
                r = capture_open(&c, &e);
                if (r < 0)
                        log_event(LOG_ERROR, db->name, "commit failed: %s", e.text);
        }
        if (r == 0 && !db->journal.is_active) {
                db->journal.is_active = true;
                db->wants_sync = false;
        }
        return r;
}

static int
write_journal(struct db *db, const uint8_t *buf, size_t n, uint64_t off, struct db_done done)
{
        int r;

        if (db->state == DB_FAILED)
                return -EIO;
        r = db->journal.is_active ? 0 : db_may_commit(db); /* see may_go_on in db_file.c */
        if (r < 0)
                return r;
        if (off == 0 && n >= 12 && is_zero(buf, n) && db->journal.is_active)
                return capture_and_finish(db, db->wants_sync, leave_zeroed_journal, done);
        if (!db->journal.is_hot && !(off == 0 && is_zero(buf, n))) {
                r = begin_journaled(db);
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
        int r;

        db_count(db, DB_COUNT_JOURNAL_WRITES);
        pthread_mutex_lock(&db->lock);
        r = write_journal(db, buf, n, off, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_journal_truncate(struct db *db, uint64_t size_bytes, struct db_done done)
{
        int r;

        pthread_mutex_lock(&db->lock);
        if (size_bytes == 0 && db->journal.is_active)
                r = capture_and_finish(db, db->wants_sync, db_leave_empty_journal, done);
        else
                r = spool_truncate(&db->journal.content, size_bytes);
        pthread_mutex_unlock(&db->lock);
        return r;
}

int
db_journal_unlink(struct db *db, struct db_done done)
{
        int r = 0;

        pthread_mutex_lock(&db->lock);
        if (db->journal.is_active)
                r = capture_and_finish(db, db->wants_sync, db_leave_no_journal, done);
        else
                db_leave_no_journal(db);
        pthread_mutex_unlock(&db->lock);
        return r;
}

/* Nothing to sync: the journal exists for the living. But it says that the application wants the commit
 * to last. */
int
db_journal_fsync(struct db *db, struct db_done done)
{
        int r = 0;

        pthread_mutex_lock(&db->lock);
        if (db->journal.is_active)
                db->wants_sync = true;
        else
                r = sync_commit(db, NULL, done);
        pthread_mutex_unlock(&db->lock);
        return r;
}
