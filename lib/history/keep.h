/* lib/history/keep.h - what has to stay of one database so that its past states can be opened: whole databases beside the log
 * (images.h), and the log behind the oldest of them.
 *
 * States begin with a *base*: such a database, or the log's own first record where that has the whole one. A new one is made
 * when there is none, or when the log behind the last has grown as long as the database, so that both together take at most
 * about twice what the log takes. The oldest goes once the next one is old enough to reach back as far as is wanted, or when
 * all takes more space than it may; then also the last one, and its log, should no other have come. */
#ifndef LITEFS_HISTORY_KEEP_H
#define LITEFS_HISTORY_KEEP_H

#include "base/clock.h"
#include "db/db.h"

#define HISTORY_EVERY (16ull << 20) /* bytes of log between two whole databases, at the least */

struct keep_policy {
        const struct os *os;
        const struct clock *clock;
        int64_t keep_ms;     /* how far back states are wanted */
        uint64_t max_bytes;  /* of log and whole databases, for each database */
        uint64_t every;      /* 0: HISTORY_EVERY */
        uint64_t free_bytes; /* on the disk; 0: as many as its file system says */
        void *arg;
        bool (*goes_on)(void *arg); /* asked while one is made, and may sleep; false: the end is near */
};

/* Lets go what need not stay, and makes a whole database in @dir if one is due. 1: it has, 0: none is due, or the database is
 * busy for a while; else an error, and then the log that is kept is no longer than max_bytes all the same. -ENOSPC: none is
 * kept, and states begin anew once there is room. Waits for the disk. One thread at a time for a database. */
int history_keep(const struct keep_policy *p, struct db *db, const char *dir, struct err *e);

#endif
