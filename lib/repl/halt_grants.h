/* lib/repl/halt_grants.h - halt locks that this node, the primary, has given to others: databases whose transactions another
 * node makes for a while.
 *
 * A halt is SQLite's RESERVED (and WRITE, with a WAL) in the hands of this process: writers of this node wait or see
 * SQLITE_BUSY, readers go on. Its holder is a node's id and a number that the node drew; nobody else may write by it
 * or give it back. It ends HALT_TTL_MS after its holder last asked for it, and when this node is no longer the primary.
 *
 * Threads: any that may wait, but the loop's and the appliers'. -EAGAIN always means: call again in a while; nothing
 * is lost meanwhile. */
#ifndef LITEFS_REPL_HALT_GRANTS_H
#define LITEFS_REPL_HALT_GRANTS_H

#include "repl/applier.h"

#define HALT_TTL_MS 10000
#define HALT_WAIT_MS 10000 /* that a node may wait for one */

struct halt_grants;

struct halt_grants_config {
        struct loop *loop;
        struct store *store;
        const struct clock *clock;
        const struct apply_ops *ops;
        void *ops_arg;
        struct workers *appliers;
};

struct halt_key {
        uint64_t boot_id;
        int64_t id;
};

struct halt_grant {
        struct ltx_pos pos; /* of the database, until its holder makes a transaction */
        int64_t ttl_ms;
};

int halt_grants_new(const struct halt_grants_config *config, struct halt_grants **ret, struct err *e);
/* Gives the halt of @name to @key, or prolongs it. -EAGAIN: a writer is at work, or another node has it. E_NOT_PRIMARY,
 * E_FENCED, E_NOT_FOUND. */
int halt_grants_grant(struct halt_grants *h, const char *name, struct halt_key key,
                      struct halt_grant *ret, struct err *e);
/* Whether @key may send a transaction now: 0, E_NOT_FOUND, E_NOT_HELD. */
int halt_grants_check(struct halt_grants *h, const char *name, struct halt_key key, struct err *e);
/* Commits @rx, which was verified, durably. The last one again is fine: its answer may have been lost. -EAGAIN: readers
 * are in the way. E_NOT_HELD, E_POS_MISMATCH, E_CHECKSUM, -ENOTSUP; E_UNCONFIRMED: committed, but perhaps not the
 * cluster's. */
int halt_grants_apply(struct halt_grants *h, const char *name, struct halt_key key, struct received *rx,
                      struct err *e);
/* 0 also when @key does not have it. */
int halt_grants_release(struct halt_grants *h, const char *name, struct halt_key key, struct err *e);
/* Whether another node has one, or is about to: -EBUSY, and which. */
int halt_grants_check_none(struct halt_grants *h, struct err *e);
/* The same; after 0 none is given until halt_grants_go_on: -EAGAIN. */
int halt_grants_pause(struct halt_grants *h, struct err *e);
void halt_grants_go_on(struct halt_grants *h);
/* This node is no longer the primary. On the loop. */
void halt_grants_role_changed(struct halt_grants *h);
/* Ends them all, before the mount goes; halt_grants_grant fails from now on. Again is fine, and NULL. */
void halt_grants_stop(struct halt_grants *h);
/* After halt_grants_stop and the loop's stop. NULL is fine. */
void halt_grants_free(struct halt_grants *h);

#endif
