/* lib/store/sync_all.h - makes durable what a replica has applied.
 *
 * Applying does not wait for the disk: the primary has the transactions, and has them as durable as their applications were
 * told. So the logs of a replica are synced afterwards: about a second later by the housekeeper, and before this node leads,
 * for from then on it is the one that has to have them. */
#ifndef LITEFS_STORE_SYNC_ALL_H
#define LITEFS_STORE_SYNC_ALL_H

#include "store/store.h"

/* Syncs the logs of all databases with transactions of other nodes that are not durable (db_sync_applied), several at once
 * and on the store's workers; the listener of the store hears of each. Then calls @done (NULL: nobody), from a worker or,
 * when there is nothing to do, from the caller. One that cannot be synced is stopped (db_fail), the others go on. Any thread
 * but the loop's: it takes each database's lock. */
void store_sync_applied(struct store *s, void (*done)(void *arg), void *arg);
/* Whether there is something to do for it. */
bool store_has_unsynced(struct store *s);

#endif
