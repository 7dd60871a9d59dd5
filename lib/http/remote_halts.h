/* lib/http/remote_halts.h - halt locks that this node, a replica, holds of its primary: databases that applications may
 * write here meanwhile.
 *
 * A database's lock is taken when the first user asks for it and given back when the last one has gone. While it is
 * held, transactions go to the primary before they are committed here (db/forward.h); it is renewed, and when that
 * fails, or the primary is another, it is lost: the database is a replica's again, and users hear of it by errors.
 *
 * What waits for the network waits on threads of its own; a transaction's sending on the thread that captures it. */
#ifndef LITEFS_HTTP_REMOTE_HALTS_H
#define LITEFS_HTTP_REMOTE_HALTS_H

#include "http/halt_client.h"
#include "net/loop.h"
#include "store/store.h"

struct remote_halts;

struct remote_halts_config {
        struct loop *loop;
        struct store *store;
        const struct clock *clock;
        struct halt_client_config client;
};

int remote_halts_new(const struct remote_halts_config *config, struct remote_halts **ret, struct err *e);
/* One more user, on a node that is not the primary. 0: @db is writable already; DB_PENDING: @done tells within about ten
 * seconds; else an error, and there is no user. Any thread, any lock. */
int remote_halts_open(struct remote_halts *rh, struct db *db, struct db_done done);
/* One less of those whom open, or its @done, told 0. Any thread, any lock. */
void remote_halts_close(struct remote_halts *rh, struct db *db);
/* Another node is the primary, or this one is. Any thread. */
void remote_halts_role_changed(struct remote_halts *rh);
/* Gives all back; remote_halts_open fails from now on. Again is fine, and NULL. Not from the loop. */
void remote_halts_stop(struct remote_halts *rh);
/* After that, the loop's stop, and when no database commits any more. NULL is fine. */
void remote_halts_free(struct remote_halts *rh);

#endif
