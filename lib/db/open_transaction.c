/* The transaction that is open outside the WAL: its pages (image/uncommitted.c), what is known of them, and its journal. */
#include "db/db_internal.h"

int
db_write_uncommitted(struct db_access *a, const uint8_t *p, size_t n, uint64_t off)
{
        struct db *db = a->db;
        int r = image_write(&db->image, p, n, off);

        if (r == 0 && !db->journal.is_hot)
                db->transaction.is_unjournaled = true;
        return r;
}

int
db_truncate_uncommitted(struct db_access *a, uint64_t size_bytes)
{
        struct db *db = a->db;
        int r = image_truncate(&db->image, size_bytes);

        if (r < 0)
                return r;
        db->transaction.is_refused = false;
        if (size_bytes != (uint64_t)db->image.page_count * db->image.page_size && !db->journal.is_hot)
                db->transaction.is_unjournaled = true;
        flush_trim_file(a);
        return 0;
}

void
db_discard_uncommitted(struct db_access *a)
{
        image_discard_uncommitted(&a->db->image);
        a->db->transaction.is_unjournaled = a->db->transaction.is_refused = false;
        a->db->transaction.wants_sync = false;
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

void
db_abandon_uncommitted(struct db_access *a)
{
        struct db *db = a->db;

        if (image_is_dirty(&db->image) || db->transaction.is_unjournaled)
                db_discard_uncommitted(a);
        db->image.size_bytes = (uint64_t)db->image.page_count * db->image.page_size;
        db_leave_no_journal(db);
        wal_forget_uncaptured(db->wal);
}
