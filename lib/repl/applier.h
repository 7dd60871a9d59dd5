/* lib/repl/applier.h - a replica's transactions on their way from the stream to the databases.
 *
 * One queue for each database, worked off in order by a pool of its own, so that a database which waits for its
 * readers holds up no other. What is queued is bounded: is_full says when the stream should not be read. A database that
 * waits does not fill the queues of all: past a bound of its own it keeps the transaction that it waits with, the others
 * are dropped, and asked for again when that one is applied.
 *
 * Threads: all calls on the loop's thread; the work itself on the pool. */
#ifndef LITEFS_REPL_APPLIER_H
#define LITEFS_REPL_APPLIER_H

#include <stdbool.h>

#include "base/workers.h"
#include "db/apply.h"
#include "net/loop.h"
#include "store/store.h"

struct applier;

/* How a transaction gets under SQLite's locks: the mount's part (fuse/apply.h). Called on the pool. */
struct apply_ops {
        int (*begin)(void *arg, struct db *db, void **ret);
        /* 0, -EAGAIN (in the way; call again), or an error. */
        int (*apply)(void *handle, const struct received *rx, struct err *e);
        void (*end)(void *handle);
        /* Gives the database mode and owner, and what the kernel keeps of them is renewed. NULL: nothing is to be done. */
        int (*take_ownership)(void *arg, struct db *db, const struct path_ownership *po, struct err *e);
        /* Before apply of a transaction that is made here: keeps writers out. As apply_reserve of fuse/apply.h. */
        int (*reserve)(void *handle, struct err *e);
};

struct applier_config {
        struct loop *loop;
        struct workers *workers; /* for this alone */
        struct store *store;
        const struct apply_ops *ops;
        void *ops_arg;
        /* On the loop, for each transaction in the order of the queue. */
        void (*applied)(void *arg, struct db *db, struct ltx_pos pos);
        /* Nothing that was queued behind it will be tried. @db is NULL when the database could not be made. */
        void (*failed)(void *arg, const char *name, struct db *db, int code, const struct err *e);
        /* What came is not a transaction, or not the one announced. Likewise. */
        void (*invalid)(void *arg, const char *name, const struct err *e);
        /* What came behind the transaction that was applied last was dropped. */
        void (*cut)(void *arg, const char *name, struct db *db);
        /* The queues have room again, or are empty. */
        void (*drained)(void *arg);
        void *arg;
};

int applier_new(const struct applier_config *config, struct applier **ret);
/* Takes @rx, which was made by malloc, its record as it was announced; -ENOMEM: it is still the caller's. It is verified,
 * and the database found or made, on the pool. */
int applier_push(struct applier *a, const char *name, struct received *rx, struct err *e);
/* The bytes of what came for @name could not be kept: it is asked for again, after a pause, with what comes behind it.
 * -ENOMEM. */
int applier_lose(struct applier *a, const char *name, const struct err *why);
bool applier_is_full(const struct applier *a);
/* Something was dropped that has yet to be asked for. */
bool applier_has_gaps(const struct applier *a);
/* All that was pushed is applied, and there are no gaps. */
bool applier_is_whole(const struct applier *a);
bool applier_is_empty(const struct applier *a);
/* Forgets what is queued and not begun. */
void applier_clear(struct applier *a);
/* After the loop and the pool have stopped. NULL is fine. */
void applier_free(struct applier *a);

#endif
