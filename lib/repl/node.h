/* lib/repl/node.h - a node of the cluster: the loop with its listener and streams, the lease, and the role.
 *
 * Threads: node_open, node_start and node_stop are the owner's; node_committed any, under any lock. Callbacks come
 * from the threads that they name. */
#ifndef LITEFS_REPL_NODE_H
#define LITEFS_REPL_NODE_H

#include "base/token.h"
#include "lease/lease.h"
#include "repl/applier.h"
#include "repl/fetch.h"
#include "store/store.h"

struct conn;
struct loop;
struct tls_context;
struct node;

struct http_client_options;

struct node_config {
        struct store *store;
        struct lease *lease;
        const struct clock *clock;
        const char *data_dir;       /* for the cluster's id */
        const char *listen_address; /* "" or NULL: none, and no replica can follow this node */
        int listen_fd;              /* that listens there already (net/listener.h); 0: none */
        const char *hostname, *advertise_url;
        struct tls_context *tls;      /* that it listens with; NULL: none. Borrowed, as the next */
        struct tls_context *tls_peer; /* that it follows a primary at https:// with; NULL: it cannot */
        bool needs_tls; /* it follows no primary that is not at https://, and tells it nothing */
        const struct http_client_options
                *peer_http;  /* of requests to other nodes; NULL: plain. Borrowed */
        struct token *token; /* that streams need, in either direction; NULL: none. Borrowed */
        bool is_candidate;
        int64_t reconnect_ms;
        const struct apply_ops *apply_ops;
        void *apply_arg;
        struct workers *appliers; /* the threads that apply_ops run on, for this alone */
        /* From the thread that hands the lease over: begin no write on behalf of others until false, and wait a while for
         * those that have begun. Each true has its false. NULL: there are no such writes. */
        void (*hold_writes)(void *arg, bool is_held);
        /* From the same thread: as store_pause_writes, but lets the write transactions of this node's applications end, for a
         * bounded time, before it refuses any. The one of node_stop, on its thread, is for good. NULL: store_pause_writes. */
        void (*pause_writes)(void *arg, bool is_paused);
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
/* What it listens with, borrowed until node_free; negative: nothing. */
int node_listener_fd(struct node *n);

/* Who wants to know, on the loop; NULL for what it does not want. At most NODE_MAX_WATCHERS, before node_start. */
#define NODE_MAX_WATCHERS 8
struct node_watcher {
        /* @db may show a new position, here or on this replica. */
        void (*committed)(void *arg, struct db *db);
        /* This node's role, or whom it knows to be the primary. */
        void (*role_changed)(void *arg);
        /* A stream from the primary has begun, or has brought all that the primary had then. */
        void (*connected)(void *arg);
        /* What the primary of @term has, by node_ask. */
        void (*answered)(void *arg, uint64_t nonce, uint64_t term, struct ltx_pos pos);
        /* This node leads, and that one follows it now, or does so no more. */
        void (*member)(void *arg, const char *hostname, const char *advertise_url, bool is_gone);
        void *arg;
};
void node_watch(struct node *n, const struct node_watcher *w);

/* Looks for the primary, or becomes it. @held: it is the primary, by the lease that config.lease has taken on; NULL: it holds
 * none. */
void node_start(struct node *n, const struct lease_state *held);
/* Waits until the role is known: the primary, or a replica that has what the primary had. True, or false at
 * @timeout_ms. */
bool node_wait_ready(struct node *n, int64_t timeout_ms);
/* Waits until this node is the primary; true, or false at @timeout_ms. */
bool node_wait_primary(struct node *n, int64_t timeout_ms);
uint64_t node_boot_id(const struct node *n); /* drawn at its start */
int node_port(const struct node *n);         /* that it listens on, 0: none */
/* Hands the lease over to a replica that has everything, if there is one soon, and does not take it again; goes on as a
 * replica, or as the primary if there is none, until node_stop. Any thread but the loop's. */
void node_leave(struct node *n);
/* Hands the lease over to a replica that has everything, if there is one, or gives it up; ends all streams. The
 * store must have been told to stop writes. */
void node_stop(struct node *n);
/* node_stop for a node that the next program of this process goes on with: the lease stays as it is. Its users are nobody but the
 * caller then; the watch goes on until it is handed on or released. */
void node_pause(struct node *n);
void node_free(struct node *n); /* NULL is fine */

/* Asks the primary that this node follows where it is with the database @name ("": only whether it leads). The answer, as
 * it is after this call, may never come: when the stream ends, when the primary's lease cannot be proved, when it is
 * older than the question. Any thread. */
void node_ask(struct node *n, uint64_t nonce, const char *name);

/* Whether this node can serve a primary's applications; the loop's thread. One that cannot gives the lease up and does
 * not take it. */
void node_set_able(struct node *n, bool is_able);

/* @db has transactions to send. */
void node_committed(struct node *n, struct db *db);

/* Passes the lease to the node called @hostname (NULL: any) with the id @boot_id (0: any), which has to be caught
 * up; waits for it, at most @timeout_ms, and until the other has taken it. E_NOT_PRIMARY, E_NOT_FOUND (no such replica, or
 * none that has everything), -EPERM (none that may lead); -ETIMEDOUT: it was offered and not taken, and is free for all now;
 * -ENOTSUP. One at a time, others wait. Any thread but the loop's. */
int node_handoff(struct node *n, const char *hostname, uint64_t boot_id, int64_t timeout_ms,
                 struct err *e);
/* Gives the lease up and does not take it again for @pause_ms. E_NOT_PRIMARY, -ENOTSUP (a static lease). */
int node_demote(struct node *n, int64_t pause_ms, struct err *e);

/* What GET /transactions answers (fetch.h): 0 or -ENOMEM. Any thread but the loop's. */
int node_get_transactions(struct node *n, const char *name, struct ltx_pos from,
                          struct fetch_source **ret);
/* What GET /positions answers (survey.h): bytes that are the caller's to free. 0 or -ENOMEM. Any thread but the loop's. */
int node_get_positions(struct node *n, char **ret, size_t *ret_n);

/* --- what operators look at; the loop's thread --- */

/* What a node that neither leads nor follows waits for. */
enum node_wait_cause {
        NODE_WAIT_NOTHING,
        NODE_WAIT_TERM,      /* a node that was there in the last term */
        NODE_WAIT_DATA,      /* a node that has data of the cluster */
        NODE_WAIT_TERMS,     /* terms that do not go down: the lease service has lost its data */
        NODE_WAIT_HOLDER,    /* that the last holder must have stopped */
        NODE_WAIT_CLUSTER,   /* a lease, or a primary, of its own cluster */
        NODE_WAIT_LEASE,     /* the lease service */
        NODE_WAIT_PLACE,     /* the lease in its place, where there is none: somebody has to look */
        NODE_WAIT_PRIMARY,   /* an answer of the primary */
        NODE_WAIT_CANDIDATE, /* another node that may lead */
        NODE_WAIT_MOUNT,     /* an answer of its own mount */
        NODE_WAIT_ADDRESS,   /* an address of its own: the holder has this node's */
};
struct node_wait {
        enum node_wait_cause cause;
        char reason[ERR_TEXT_SIZE];
        char next[1200]; /* a command that helps, with a comment of the shell's behind it */
};
/* For machines; "" for nothing. */
const char *node_wait_name(enum node_wait_cause cause);

struct node_status {
        uint64_t boot_id;
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
        uint64_t boot_id;
        const char *hostname, *advertise_url;
        bool is_caught_up;
};
/* The replicas, and what each has applied. @fn may be NULL to leave the latter out. */
void node_each_replica(struct node *n, void (*peer)(void *arg, const struct node_peer *p),
                       void (*acked)(void *arg, struct db *db, struct ltx_pos pos), void *arg);
/* Those that followed this primary and do so no more. */
struct member;
void node_each_gone(struct node *n, void (*fn)(void *arg, const struct member *m), void *arg);

#endif
