/* lib/repl/node.h - a node of the cluster: the loop with its listener and streams, the lease, and the role.
 *
 * Threads: node_open, node_start and node_stop are the owner's; node_committed any, under any lock. Callbacks come
 * from the threads that they name. */
#ifndef LITEFS_REPL_NODE_H
#define LITEFS_REPL_NODE_H

#include "base/token.h"
#include "lease/lease.h"
#include "repl/applier.h"
#include "store/store.h"

struct conn;
struct loop;
struct tls_context;
struct node;

struct node_config {
        struct store *store;
        struct lease *lease;
        const struct clock *clock;
        const char *data_dir;       /* for the cluster's id */
        const char *listen_address; /* "" or NULL: none, and no replica can follow this node */
        const char *hostname, *advertise_url;
        struct tls_context *tls;      /* that it listens with; NULL: none. Borrowed, as the next */
        struct tls_context *tls_peer; /* that it follows a primary at https:// with; NULL: it cannot */
        struct token *token;          /* that streams need, in either direction; NULL: none. Borrowed */
        bool is_candidate;
        int64_t reconnect_ms;
        const struct apply_ops *apply_ops;
        void *apply_arg;
        struct workers *appliers; /* the threads that apply_ops run on, for this alone */
        /* From a worker: the node has begun or ceased to be the primary; what is cached of that is stale. */
        void (*role_changed)(void *arg, bool is_primary);
        void *arg;
};

/* Plays no part yet. */
int node_open(const struct node_config *config, struct node **ret, struct err *e);
/* Of its own, for others to use as well. */
struct loop *node_loop(const struct node *n);
/* Listens at config.listen_address, if there is one. @accepted gets each connection on the loop and passes those on
 * that open a stream, by node_accept; NULL: all are taken for such. */
int node_listen(struct node *n, void (*accepted)(void *arg, struct conn *c), void *arg, struct err *e);
void node_accept(struct node *n, struct conn *c);

/* Who wants to know, on the loop; NULL for what it does not want. At most NODE_MAX_WATCHERS, before node_start. */
#define NODE_MAX_WATCHERS 8
struct node_watcher {
        /* @db may show a new position, here or on this replica. */
        void (*committed)(void *arg, struct db *db);
        /* This node's role, or whom it knows to be the primary. */
        void (*role_changed)(void *arg);
        void *arg;
};
void node_watch(struct node *n, const struct node_watcher *w);

/* Looks for the primary, or becomes it. */
void node_start(struct node *n);
/* Waits until the role is known: the primary, or a replica that has what the primary had. True, or false at
 * @timeout_ms. */
bool node_wait_ready(struct node *n, int64_t timeout_ms);
uint64_t node_id(const struct node *n); /* drawn at its start */
int node_port(const struct node *n);    /* that it listens on, 0: none */
/* Hands the lease over to a replica that has everything, if there is one, or gives it up; ends all streams. The
 * store must have been told to stop writes. */
void node_stop(struct node *n);
void node_free(struct node *n); /* NULL is fine */

/* @db has transactions to send. */
void node_committed(struct node *n, struct db *db);

/* Passes the lease to the node called @hostname (NULL: any) with the id @node_id (0: any), which has to be caught
 * up; waits for it, at most @timeout_ms. E_NOT_PRIMARY, E_NOT_FOUND (no such replica), -ETIMEDOUT (and then this node goes on as primary, if
 * it can), -ENOTSUP. Any thread but the loop's. */
int node_handoff(struct node *n, const char *hostname, uint64_t node_id, int64_t timeout_ms,
                 struct err *e);
/* Gives the lease up and does not take it again for @pause_ms. E_NOT_PRIMARY, -ENOTSUP (a static lease). */
int node_demote(struct node *n, int64_t pause_ms, struct err *e);

/* --- what operators look at; the loop's thread --- */

/* What a node that neither leads nor follows waits for. */
enum node_wait_cause {
        NODE_WAIT_NOTHING,
        NODE_WAIT_TERM,      /* a node that was there in the last term */
        NODE_WAIT_DATA,      /* a node that has data of the cluster */
        NODE_WAIT_TERMS,     /* terms that do not go down: the lease service has lost its data */
        NODE_WAIT_CLUSTER,   /* a lease, or a primary, of its own cluster */
        NODE_WAIT_LEASE,     /* the lease service */
        NODE_WAIT_PRIMARY,   /* an answer of the primary */
        NODE_WAIT_CANDIDATE, /* another node that may lead */
};
struct node_wait {
        enum node_wait_cause cause;
        char reason[ERR_TEXT_SIZE];
        char next[1200]; /* a command that helps, with a comment of the shell's behind it */
};
/* For machines; "" for nothing. */
const char *node_wait_name(enum node_wait_cause cause);

struct node_status {
        uint64_t node_id;
        char cluster_id[LEASE_CLUSTER_ID_SIZE];
        const char *role; /* "primary", "replica", "candidate", ... */
        bool is_primary;
        bool is_ready;
        bool is_connected;        /* a replica: to its primary */
        uint64_t term;            /* the highest that it has seen */
        int64_t lease_ms;         /* that a primary may still commit; -1: no end, or no primary */
        unsigned n_replicas;      /* streams of other nodes that follow this one */
        uint64_t n_streams;       /* so far, in either direction */
        uint64_t n_stream_errors; /* streams that ended otherwise than they were meant to */
        uint64_t n_lease_errors;  /* requests for the lease that failed */
        uint64_t bytes_sent, bytes_received;
        struct node_wait wait;
};
void node_get_status(struct node *n, struct node_status *ret);
struct node_peer {
        uint64_t node_id;
        const char *hostname, *advertise_url;
        bool is_caught_up;
};
/* The replicas, and what each has applied. @fn may be NULL to leave the latter out. */
void node_each_replica(struct node *n, void (*peer)(void *arg, const struct node_peer *p),
                       void (*acked)(void *arg, struct db *db, struct ltx_pos pos), void *arg);

#endif
