#include "db/habit.h"

#include "db/db_internal.h"

static void
count_commit(struct db *db, enum db_counter as)
{
        db->habit.is_open = false;
        db_count(db, as);
}

void
habit_committed(struct db *db)
{
        struct db_habit *h = &db->habit;

        if (h->is_open)
                count_commit(db, h->n_syncs > 0 ? DB_COUNT_SYNCED : DB_COUNT_UNSYNCED);
        *h = (struct db_habit){ .is_open = true };
}

void
habit_synced(struct db *db)
{
        db->habit.n_syncs++;
}

/* Not synced at all: its checkpoint began before the commit, whose own sync is yet to come. */
void
habit_checkpoints(struct db *db)
{
        const struct db_habit *h = &db->habit;

        if (h->is_open && h->n_syncs > 0)
                count_commit(db, h->n_syncs > 1 ? DB_COUNT_SYNCED : DB_COUNT_UNCLEAR);
}

bool
db_syncs_each(struct db *db)
{
        uint64_t n = db_counter(db, DB_COUNT_SYNCED);

        return n >= HABIT_SURE && db_counter(db, DB_COUNT_UNSYNCED) == 0 &&
               db_counter(db, DB_COUNT_UNCLEAR) <= n / 100;
}
