/* lib/http/halt_holder.h - halt locks that this node, a replica, holds of its primary: databases that applications may
 * write here meanwhile.
 *
 * A database's lock is taken when the first user asks for it and given back when the last one has gone. While it is
 * held, transactions go to the primary before they are committed here (db/remote_commit.h); it is renewed, and when that
 * fails, or the primary is another, it is lost: the database is a replica's again, and users hear of it by errors.
 *
 * What waits for the network waits on threads of its own; a transaction's sending on the thread that captures it. */
#ifndef LITEFS_HTTP_HALT_HOLDER_H
#define LITEFS_HTTP_HALT_HOLDER_H

#include "http/halt_client.h"
#include "net/loop.h"
#include "store/store.h"

struct halt_holder;

struct halt_holder_config {
        struct loop *loop;
        struct store *store;
        const struct clock *clock;
        struct halt_client_config client;
};

int halt_holder_new(const struct halt_holder_config *config, struct halt_holder **ret, struct err *e);
/* One more user, on a node that is not the primary. 0: @db is writable already; DB_PENDING: @done tells within about ten
 * seconds; else an error, and there is no user. Any thread, any lock. */
int halt_holder_open(struct halt_holder *rh, struct db *db, struct db_done done);
/* One less of those whom open, or its @done, told 0. Any thread, any lock. */
void halt_holder_close(struct halt_holder *rh, struct db *db);
/* Another node is the primary, or this one is. Any thread. */
void halt_holder_role_changed(struct halt_holder *rh);
/* Gives all back; halt_holder_open fails from now on. Again is fine, and NULL. Not from the loop. */
void halt_holder_stop(struct halt_holder *rh);
/* After that, the loop's stop, and when no database commits any more. NULL is fine. */
void halt_holder_free(struct halt_holder *rh);

#endif
