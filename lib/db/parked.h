/* lib/db/parked.h - a call that goes on by itself when the database is to be had.
 *
 * For calls that end by a struct db_done: after a sync that they have waited for somebody else may have the database, and the
 * application, which waits for the answer, is not there to make the call again.
 *
 * Memory: the first member of what the call needs, from malloc(); freed when the call ends. Threads: begun by any thread
 * without the database's lock; it may end on another. */
#ifndef LITEFS_DB_PARKED_H
#define LITEFS_DB_PARKED_H

#include "db/access.h"

struct parked_call {
        struct db *db;
        struct db_done done;
        /* With the database, for the length of a call: 0 or negative, and the call has ended; DB_PENDING: it belongs to whoever
         * has it now, by parked_call_go_on, or was freed and .done is somebody's. */
        int (*run)(struct db_access *a, struct parked_call *c);
        struct db_waiter waiter; /* filled in here */
};

/* Runs it, now or later. 0 or negative: it has ended, and .done is not called; DB_PENDING: it will be. */
int parked_call_begin(struct parked_call *c);
/* What it waited for has ended with @result: it runs, unless that is negative, and .done is called in the end. Of a
 * struct parked_call *, as the fn of a struct db_done. */
void parked_call_go_on(void *c, int result);

#endif
