/* lib/repl/node_internal.h - the inside of a node, for node*.c only.
 *
 *   node.c           life, and the role machine's wishes
 *   node_status.c    what operators look at
 *   node_handover.c  the lease to another node
 *   node_primary.c   the stream from the primary
 *   node_lead.c      from the lease to leading, and back
 *   node_replicas.c  streams to replicas, and the listener
 *   node_lease.c     lease requests, on a thread of their own
 *   node_wait.c      why it neither leads nor follows
 *   node_members.c   what this node says of itself; who has left
 *   node_watchers.c  who is told of what happens, and who waits for it
 *
 * They call each other downwards.
 *
 * All of it is the loop thread's, but where a field says otherwise. */
#ifndef LITEFS_REPL_NODE_INTERNAL_H
#define LITEFS_REPL_NODE_INTERNAL_H

#include <pthread.h>

#include "base/backoff.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/upgrade.h"
#include "repl/stream_sender.h"
#include "repl/stream_receiver.h"
#include "repl/members.h"
#include "repl/node.h"
#include "repl/peers.h"
#include "repl/role.h"
#include "repl/term_file.h"

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

/* What was applied becomes durable (store/sync_all.h), by workers. */
struct node_sync {
        struct work work;
        struct mail mail;
        bool is_running;
        unsigned n_at_work; /* under ready_lock: node_free waits for them */
        bool is_wanted;     /* once more, when it has ended */
        uint64_t lead_term; /* it began when all was applied for this node to lead in that term; 0: it did not */
};

/* A node that follows this one. */
struct replica {
        struct stream_transport transport;
        struct node *node;
        struct replica *next;
        struct conn *conn; /* NULL once closed */
        struct upgrade head;
        struct stream_sender *sender; /* NULL until the upgrade */
        int64_t since_ms;
};

/* The node that this one follows. */
struct primary {
        struct stream_transport transport;
        struct node *node;
        struct conn *conn;
        struct upgrade head;
        bool is_upgraded;
        bool is_deaf; /* we do not read for now */
        struct loop_timer *silence;
        struct stream_receiver *receiver; /* NULL until is_upgraded, and what was being applied then is */
        char address[LEASE_URL_SIZE];
};

struct lease_job {
        struct work work;
        struct mail mail;
        struct node *node;
        enum role_request what;
        struct lease_state seen, state;
        uint64_t known_term; /* the last that the node has heard of */
        int64_t asked_ms;    /* when the answer that it follows from had just come */
        bool is_regaining;   /* what this node has just lost: nobody is ahead of it */
        char stopped_url
                [LEASE_URL_SIZE]; /* whose word this node has, behind all that it acknowledged; "": nobody's */
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
        struct workers *senders; /* read the log for senders */
        struct workers *lease_worker;
        struct applier *applier;
        struct db_env env; /* for what is received */
        struct listener *listener;
        int port;
        uint64_t boot_id;
        char cluster_id[LEASE_CLUSTER_ID_SIZE]; /* "" until known; lease jobs set it through the loop */

        /* The last term that this node has all the data of, as saved. The lease's thread alone. */
        uint64_t last_complete_term;
        struct term_claims claims;
        bool has_warned_stale;
        uint64_t yields_term; /* the last term when it left the lease to one that is ahead, */
        int64_t yields_since_ms;
        struct workers *lease_watcher; /* one thread */

        struct role role;
        struct loop_timer *role_timer, *heartbeat, *take_over;
        bool is_primary;         /* the role, once what was received is applied */
        bool is_taking_over;     /* waits for that, */
        bool is_drained;         /* and now for the disk */
        struct lease_state held; /* of this node, when is_primary or is_taking_over */
        char offered[LEASE_SESSION_SIZE];
        bool is_offering; /* the lease to another: its deadline says nothing, but this one does */
        int64_t offer_deadline_ms;
        struct frame_successor
                successor; /* who was sent the offer; boot_id 0: nobody, since this node led last */
        struct peers peers;
        struct members members; /* that followed this node as it led, and do so no more */
        struct member followed; /* the primary that this node followed last; boot_id 0: none */
        struct replica *replicas;
        struct primary *primary;          /* NULL: follows nobody */
        int64_t left_ms;                  /* the last one */
        uint64_t dialed_term;             /* whose holder is tried to be followed */
        uint64_t told_term;               /* the log has that this node follows it */
        struct trouble streamless;        /* since all was there the last time */
        struct trouble unread, unchanged; /* the lease: requests that only read, and others */
        struct commits commits;
        struct node_sync sync;
        struct node_watcher watchers[NODE_MAX_WATCHERS];
        unsigned n_watchers;
        void (*accepted)(void *arg, struct conn *c); /* NULL: node_accept */
        void *accepted_arg;
        struct node_trouble lease_trouble, stream_trouble; /* the last that was not overcome */
        uint64_t n_streams, n_stream_errors, n_lease_errors, bytes_sent, bytes_received;

        pthread_mutex_t handover_lock; /* held over a hand-over: one at a time; rank above all others */
        pthread_mutex_t ready_lock;    /* guards what follows; a leaf */
        pthread_cond_t ready_cond;
        bool is_ready;
        bool is_role_known; /* a primary, or a replica of one: for those who wait for a hand-over */
        bool is_holder;
};

static inline int64_t
node_now_ms(const struct node *n)
{
        return clock_boot_ms(n->config.clock);
}

/* --- node_watchers.c --- */
void node_set_ready(struct node *n);
void node_set_holder(struct node *n, bool is_holder);
/* The watchers: who is the primary. */
void node_tell_role_changed(struct node *n);
/* @db may show a new position. */
void node_tell_shown(struct node *n, struct db *db);
void node_tell_connected(struct node *n);
void node_tell_pong(struct node *n, const struct frame_pong *p);

/* --- node_lead.c --- */
/* This node has the lease: it leads once what it has received is applied and durable. */
void node_begin_to_lead(struct node *n, const struct lease_state *held);
/* At once, if there is nothing left to apply. What waits for a reader may take as long as the reader likes: until
 * it is applied, that database alone takes no writes (db_set_receiving). */
void node_lead_if_drained(struct node *n);
/* The last step but one: what was received is applied, or has had its time. */
void node_end_drain(struct node *n);
void node_step_down(struct node *n);
/* Makes durable what is applied; the primary hears of it. */
void node_sync(struct node *n);
/* After the loop has stopped. */
void node_wait_for_syncs(struct node *n);

/* --- node_lease.c --- */
/* Until when this node is the primary for sure. */
int64_t node_deadline_ms(const struct node *n);
void node_lease_request(struct node *n, enum role_request what, const struct lease_state *seen);
/* Watches over the lease that this node holds now, until it does not. */
void node_watch_lease(struct node *n, const struct lease_state *held);
/* As struct lease's; @arg is the node. */
int node_claim_term(void *arg, uint64_t term, const char *session, struct err *e);
/* Remembers that this node has all the data of @term. */
void node_save_term(struct node *n, uint64_t term);
/* And who may lead besides. */
void node_save_peers(struct node *n);
/* On the lease's thread: remembers that this node leads in @term, which the service has already. An error: it must not, and
 * has released the lease. */
int node_begin_term(struct node *n, uint64_t term, struct err *e);
/* Runs @fn on the lease's thread and waits for it. Any thread but that and the loop's. */
int node_lease_call(struct node *n, int (*fn)(struct lease *l, void *arg, struct err *e), void *arg,
                    struct err *e);

/* --- node_wait.c --- */
/* What came of a request for the lease. */
void node_lease_trouble(struct node *n, const struct lease_job *job);
/* In words, what to do with the lease if @key ("term", "clusterid") keeps everybody from it. */
void node_format_forget(const struct lease *l, const char *key, char *buf, size_t size);
/* The stream from the primary failed; it is there. */
void node_stream_trouble(struct node *n, const struct err *why);
void node_stream_is_well(struct node *n);
void node_get_wait(const struct node *n, struct node_wait *ret);

/* --- node_members.c --- */
/* What it says of itself as one that has been in @term. */
void node_fill_hello(const struct node *n, uint64_t term, struct frame_hello *ret);
void node_member_joined(struct node *n, const struct frame_hello *peer);
/* Its stream has ended. */
void node_member_left(struct node *n, const struct frame_hello *peer);
/* This node leads from now on: whom it followed has yet to follow it. */
void node_members_lead(struct node *n);
/* This node follows the primary that has said @hello; it was heard of. */
void node_followed(struct node *n, const struct frame_hello *hello);
void node_followed_until_now(struct node *n);

/* --- node_handover.c --- */
/* On the thread that hands over, or ends the node: see pause_writes in node.h. */
void node_pause_writes(struct node *n, bool is_paused);
/* As this node ends: to a replica that has everything, if there is one soon. Not on the loop. */
void node_hand_over_last(struct node *n);

/* --- node_replicas.c --- */
extern const struct upgrade_protocol node_protocol;
/* All replicas: @code and @text as in stream_sender_end. */
void node_end_senders(struct node *n, int code, const char *text);
void node_heartbeat(struct node *n);

/* --- node_primary.c --- */
/* Connects to @holder, or only leaves whom it follows. */
void node_follow(struct node *n, const struct lease_state *holder);
/* The primary, if there is one: whether this node may lead. */
void node_tell_candidacy(struct node *n);
/* What the applier tells. */
void node_drained(struct node *n);
void node_applied(void *arg, struct db *db, struct ltx_pos pos);
void node_failed(void *arg, const char *name, struct db *db, int code, const struct err *e);
void node_invalid(void *arg, const char *name, const struct err *e);
void node_cut(void *arg, const char *name, struct db *db);

#endif
