/* lib/backup/drill.h - restores the newest state of each database from one destination, again and again, to nowhere.
 *
 * A backup that nobody has restored is a hope. A thread of its own, with a destination of its own; it works while the node is
 * the primary, one database after the other, into an unlinked file that takes as much space as the database. What was
 * restored is proved as by any restore, and its position has to be one that this node's database has been at. */
#ifndef LITEFS_BACKUP_DRILL_H
#define LITEFS_BACKUP_DRILL_H

#include "backup/dest.h"
#include "store/store.h"

struct drill;

struct drill_config {
        struct store *store;
        const struct os *os;
        const struct clock *clock;
        const char *tmp_dir;
        struct dest *dest;   /* the drill's from then on, if it could be made */
        int64_t interval_ms; /* between two rounds; the first comes after a part of it */
        void *arg;
        bool (*is_wanted)(void *arg, struct db *db); /* NULL: each is */
};

int drill_new(const struct drill_config *config, struct drill **ret, struct err *e);

struct drill_status {
        int64_t done_ms;                /* wall clock of the last round that ended; 0: none has */
        uint64_t n_databases, n_failed; /* of that round */
        char trouble[ERR_TEXT_SIZE];    /* of one of those */
};
void drill_get_status(struct drill *d, struct drill_status *ret);
/* Gives up what it does. NULL is fine. */
void drill_free(struct drill *d);

#endif
