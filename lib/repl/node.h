/* lib/repl/node.h - a node of the cluster: the loop with its listener and streams, the lease, and the role.
 *
 * Threads: node_open, node_start and node_stop are the owner's; node_committed any, under any lock. Callbacks come
 * from the threads that they name. */
#ifndef LITEFS_REPL_NODE_H
#define LITEFS_REPL_NODE_H

#include "lease/lease.h"
#include "repl/applier.h"
#include "store/store.h"

struct node;

struct node_config {
        struct store *store;
        struct lease *lease;
        const struct clock *clock;
        const char *data_dir;       /* for the cluster's id */
        const char *listen_address; /* "" or NULL: none, and no replica can follow this node */
        const char *hostname, *advertise_url;
        bool is_candidate;
        int64_t reconnect_ms;
        const struct apply_ops *apply_ops;
        void *apply_arg;
        struct workers *appliers; /* the threads that apply_ops run on, for this alone */
        /* From a worker: the node has begun or ceased to be the primary; what is cached of that is stale. */
        void (*role_changed)(void *arg, bool is_primary);
        void *arg;
};

/* Listens, but plays no part yet. */
int node_open(const struct node_config *config, struct node **ret, struct err *e);
/* Looks for the primary, or becomes it. */
void node_start(struct node *n);
/* Waits until the role is known: the primary, or a replica that has what the primary had. True, or false at
 * @timeout_ms. */
bool node_wait_ready(struct node *n, int64_t timeout_ms);
int node_port(const struct node *n); /* that it listens on, 0: none */
/* Hands the lease over to a replica that has everything, if there is one, or gives it up; ends all streams. The
 * store must have been told to stop writes. */
void node_stop(struct node *n);
void node_free(struct node *n); /* NULL is fine */

/* @db has transactions to send. */
void node_committed(struct node *n, struct db *db);

/* Passes the lease to the node called @hostname, or to any that is caught up when it is NULL; waits for it, at most
 * @timeout_ms. E_NOT_PRIMARY, E_NOT_FOUND (no such replica), -ETIMEDOUT (and then this node goes on as primary, if
 * it can), -ENOTSUP. Any thread but the loop's. */
int node_handoff(struct node *n, const char *hostname, int64_t timeout_ms, struct err *e);

#endif
