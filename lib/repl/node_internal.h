/* lib/repl/node_internal.h - the inside of a node, for node*.c only.
 *
 *   node.c           life, and the role machine's wishes
 *   node_handover.c  the lease to another node
 *   node_lease.c     lease requests, on a thread of their own
 *   node_primary.c   the stream from the primary
 *   node_replicas.c  streams to replicas, and the listener
 *   node_status.c    what operators look at
 *   node_wait.c      why it neither leads nor follows
 *
 * All of it is the loop thread's, but where a field says otherwise. */
#ifndef LITEFS_REPL_NODE_INTERNAL_H
#define LITEFS_REPL_NODE_INTERNAL_H

#include <pthread.h>

#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/upgrade.h"
#include "repl/feed.h"
#include "repl/follow.h"
#include "repl/node.h"
#include "repl/role.h"

#define HEARTBEAT_MS 1000
#define SILENCE_MS 3000 /* a primary that has said nothing for so long is taken for gone */
#define CONNECT_TIMEOUT_MS 5000
#define GREETING_MS 10000 /* that a replica has to say who and where it is */
#define MAX_REPLICAS 128
#define FINISH_MS 2000 /* that what is left to be sent on a connection has */
#define DRAIN_MS 500   /* how long what was received may hold up a new stream, or a new primary */

/* Tells the loop which databases have something to send. */
struct commits {
        pthread_mutex_t lock; /* a leaf */
        struct db **dbs;
        uint32_t n, capacity;
        bool is_posted;
        struct mail mail;
};

/* A node that follows this one. */
struct replica {
        struct link link;
        struct node *node;
        struct replica *next;
        struct conn *conn; /* NULL once closed */
        struct upgrade head;
        struct feed *feed; /* NULL until the upgrade */
        int64_t since_ms;
};

/* The node that this one follows. */
struct primary {
        struct link link;
        struct node *node;
        struct conn *conn;
        struct upgrade head;
        bool is_upgraded;
        bool is_deaf; /* we do not read for now */
        struct loop_timer *silence;
        struct follow *follow; /* NULL until is_upgraded, and what was being applied then is */
        char address[LEASE_URL_SIZE];
};

struct lease_job {
        struct work work;
        struct mail mail;
        struct node *node;
        enum role_request what;
        struct lease_state seen, state;
        char token[LEASE_SESSION_SIZE];
        char cluster_id[LEASE_CLUSTER_ID_SIZE]; /* the node's; what it is named, if it had none */
        int result;
        enum node_wait_cause cause; /* of the result, unless it is good */
        struct err e;
};

struct node_trouble {
        enum node_wait_cause cause;
        struct err why;
};

struct node {
        struct node_config config;
        struct loop *loop;
        struct workers *senders; /* read the log for feeds */
        struct workers *lease_worker;
        struct applier *applier;
        struct db_env env; /* for what is received */
        struct listener *listener;
        int port;
        uint64_t node_id;
        char cluster_id[LEASE_CLUSTER_ID_SIZE]; /* "" until known; lease jobs set it through the loop */

        /* The last term that this node has all the data of, as saved. The lease's thread alone. */
        uint64_t whole_term;
        bool has_warned_stale;

        struct role role;
        struct loop_timer *role_timer, *heartbeat, *take_over;
        bool is_primary;         /* the role, once what was received is applied */
        bool is_taking_over;     /* waits for that */
        struct lease_state held; /* of this node, when is_primary or is_taking_over */
        char offered[LEASE_SESSION_SIZE];
        bool is_offering; /* the lease to another: its deadline says nothing, but this one does */
        int64_t offer_deadline_ms;
        struct replica *replicas;
        struct primary *primary; /* NULL: follows nobody */
        int64_t left_ms;         /* the last one */
        struct commits commits;
        struct node_watcher watchers[NODE_MAX_WATCHERS];
        unsigned n_watchers;
        void (*accepted)(void *arg, struct conn *c); /* NULL: node_accept */
        void *accepted_arg;
        struct node_trouble lease_trouble, stream_trouble; /* the last that was not overcome */
        uint64_t n_streams, n_stream_errors, n_lease_errors, bytes_sent, bytes_received;

        pthread_mutex_t ready_lock; /* guards what follows; a leaf */
        pthread_cond_t ready_cond;
        bool is_ready;
        bool is_role_known; /* a primary, or a replica of one: for those who wait for a hand-over */
        bool is_holder;
};

int64_t node_now_ms(const struct node *n);
/* Until when this node is the primary for sure. */
int64_t node_deadline_ms(const struct node *n);
void node_set_ready(struct node *n);
void node_tell_role(struct node *n, bool is_primary);
/* The watchers: @db may show a new position. */
void node_tell_shown(struct node *n, struct db *db);

/* --- node_lease.c --- */
void node_lease_request(struct node *n, enum role_request what, const struct lease_state *seen);
/* Remembers that this node has all the data of @term. */
void node_save_term(struct node *n, uint64_t term);
/* On the lease's thread: remembers that this node leads in @term. An error: it must not, and has released the lease. */
int node_begin_term(struct node *n, uint64_t term, struct err *e);
/* Runs @fn on the lease's thread and waits for it. Any thread but that and the loop's. */
int node_lease_call(struct node *n, int (*fn)(struct lease *l, void *arg, struct err *e), void *arg,
                    struct err *e);

/* --- node_wait.c --- */
/* What came of a request for the lease. */
void node_lease_trouble(struct node *n, const struct lease_job *job);
/* The stream from the primary failed; it is there. */
void node_stream_trouble(struct node *n, const struct err *why);
void node_stream_is_well(struct node *n);
void node_get_wait(const struct node *n, struct node_wait *ret);

/* --- node_handover.c --- */
/* As this node ends: to a replica that has everything, if there is one soon. Not on the loop. */
void node_hand_over_last(struct node *n);

/* --- node_replicas.c --- */
extern const struct upgrade_protocol node_protocol;
void node_fill_hello(const struct node *n, uint64_t term, struct frame_hello *ret);
/* All replicas: @code and @text as in feed_end. */
void node_end_feeds(struct node *n, int code, const char *text);
void node_heartbeat(struct node *n);
void node_send_commits(struct node *n);

/* --- node_primary.c --- */
/* Connects to @holder, or only leaves whom it follows. */
void node_follow(struct node *n, const struct lease_state *holder);
/* What the applier tells. */
void node_drained(struct node *n);
void node_applied(void *arg, struct db *db, struct ltx_pos pos);
void node_failed(void *arg, const char *name, struct db *db, int code, const struct err *e);
void node_invalid(void *arg, const char *name, const struct err *e);
void node_cut(void *arg, const char *name, struct db *db);

#endif
