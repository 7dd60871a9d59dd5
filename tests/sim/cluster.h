/* tests/sim/cluster.h - simulated nodes: the real role machine and Consul lease, around a model of the rest.
 *
 *   node.c      what lib/repl/node.c does with them: take-over after queued applies, handing over, stepping down
 *   stream.c    what feed, follow and applier promise: an ordered link, terms compared, positions, acknowledgements
 *   txlog.c     a node's transactions: numbers and a checksum of all before
 *   check.c     what must hold after each step
 *   nemesis.c   crashes, pauses, cuts, hand-overs
 *
 * What a node has in its log survives everything; all else is lost when its host dies. */
#ifndef LITEFS_TESTS_SIM_CLUSTER_H
#define LITEFS_TESTS_SIM_CLUSTER_H

#include "repl/role.h"
#include "tests/sim/consul.h"
#include "tests/sim/sim.h"

#define N_NODES_MAX 5
#define TXNS_MAX 4096
#define TERMS_MAX 65536
#define BATCH_MAX 32 /* transactions of a message */

/* --- txlog.c --- */

struct txn {
        uint64_t term; /* in which it was committed */
        uint64_t sum;  /* of it and all before */
};

struct txn_pos {
        uint32_t txid;
        uint64_t sum, term;
};

struct txn_log {
        uint32_t n;
        struct txn txns[TXNS_MAX]; /* [txid - 1] */
};

struct txn_pos txn_log_pos(const struct txn_log *l);
/* Also for 0, where every history begins. */
bool txn_log_has(const struct txn_log *l, uint32_t txid, uint64_t sum);
void txn_log_commit(struct txn_log *l, uint64_t term, uint64_t salt);

/* --- nodes --- */

struct cluster;

enum lease_call {
        CALL_ROLE, /* what role.request says */
        CALL_OFFER,
        CALL_TAKE_BACK,
        CALL_RELEASE,
        CALL_SAVE_TERM,
};

struct lease_job {
        struct lease_job *next;
        struct node *node;
        enum lease_call call;
        enum role_request what;
        struct lease_state seen, state;
        uint64_t term;
        char token[LEASE_SESSION_SIZE];
        int result;
        bool is_done;
        struct fiber *waiting;
};

/* Something received and not yet applied. */
struct item {
        struct item *next;
        uint64_t term; /* of the stream */
        uint32_t first_txid, n;
        uint64_t before;
        bool is_snapshot;
        struct txn txns[]; /* @n */
};

struct node {
        struct sim_host host; /* first: sim_host and node are one */
        struct cluster *c;
        int index;
        char url[32];
        bool is_candidate, is_stopping;
        bool is_cut_off; /* from Consul */
        struct txn_log log;
        uint64_t whole_term; /* as lib/repl/term_file.h */
        /* For the checks. */
        uint64_t highest_term; /* that it followed or led */
        uint64_t synced_term;  /* of the last primary whose history its log is part of */
        struct txn_pos
                acked;  /* the last that it acknowledged, while that counts; its term is the stream's */
        bool is_gone;   /* in trouble for good: nobody waits for it */
        bool has_offer; /* it took the lease over with what is in offered */

        /* Of one life. */
        struct lease *lease;
        struct role role;
        int64_t wake_ms;
        bool has_wake;
        bool is_primary, is_taking_over, is_handing_over;
        int64_t drain_end_ms;
        bool store_is_primary, store_is_paused;
        struct lease_state held;
        char offered[LEASE_SESSION_SIZE];
        struct lease_job *jobs, **jobs_end;
        bool has_worker;
        struct stream *primary; /* that it follows */
        struct item *items, **items_end;
        struct item *running; /* being applied: not to be taken back any more */
        bool has_applier;     /* a job or a timer is under way */
        bool is_resyncing;
        int64_t left_ms; /* whom it followed before */
        bool leads;      /* is the primary, with all that it had received */
};

struct cluster {
        struct sim *sim;
        struct consul consul;
        struct consul_net net;
        int n_nodes;
        struct node nodes[N_NODES_MAX];
        struct stream *streams;
        bool is_cut[N_NODES_MAX][N_NODES_MAX];

        /* Of this run. */
        int64_t ttl_ms, lock_delay_ms, latency_us, commit_ms, trouble_ms;
        int spike_permille, loss_permille;
        bool is_calm;      /* no trouble, no losses */
        bool is_read_only; /* nobody commits any more */

        /* For the checks. */
        uint8_t owners[TERMS_MAX]; /* of each term: the node's index + 1 */
        struct node *leader;       /* who was primary last */
        uint64_t commit_term;      /* of the last commit */
        struct txn_pos offered;
        char offered_token[LEASE_SESSION_SIZE]; /* what goes with it; "": nothing is being handed over */
        uint64_t n_commits, n_lost, n_take_overs, n_handoffs, n_heirless;
};

void cluster_init(struct cluster *c, struct sim *s);
void cluster_release(struct cluster *c);
bool cluster_is_cut(const struct cluster *c, const struct node *a, const struct node *b);
/* One way of a message between two nodes. */
int64_t cluster_delay_us(struct cluster *c);

/* --- node.c --- */

void node_boot(struct node *n);
/* @is_silent: nobody hears of it (power loss), else the peers' connections break. */
void node_crash(struct node *n, bool is_silent);
/* As SIGTERM: hands over if it can, releases, ends. */
void node_stop(struct node *n);
void node_handoff(struct node *n);
bool node_may_commit(const struct node *n);
void node_applies_drained(struct node *n);
/* The log has all of what the primary of role.term had when it was asked. */
void node_whole(struct node *n);
void node_offered(struct node *n, const char *token);
void node_free_life(struct node *n);

/* --- stream.c --- */

struct stream;
/* What node_follow() does with @holder, or NULL. */
void stream_follow(struct node *n, const struct lease_state *holder);
void stream_committed(struct node *n);
/* As primary: once a second. */
void stream_heartbeat(struct node *n);
/* As primary: tells all replicas that it is over. */
void stream_end_all(struct node *n);
/* A replica that has everything, by @index or any (-1): its index, or -1. */
int stream_find_target(struct node *n, int index);
int stream_offer(struct node *n, int index, const char *token);
void stream_host_died(struct node *n, bool is_silent);
/* Breaks a connection, if there is one. */
void stream_break_one(struct cluster *c);
bool stream_is_connected(const struct node *n, const struct node *primary);
void stream_drop_items(struct node *n);
/* Nothing is left to apply. */
bool stream_is_drained(const struct node *n);

/* --- check.c --- */

void check_step(struct cluster *c);
void check_commit(struct node *n);
/* By a stream of @term. */
void check_ack(struct node *n, uint64_t term);
void check_apply(struct node *n, const struct item *it);
void check_follow(struct node *n, uint64_t term);
/* Holds the lease; and later: leads, with all that it had received. */
void check_granted(struct node *n, const struct lease_state *s, const char *token);
void check_takes_over(struct node *n);
/* Whether a candidate that is there was there in the last term, too; else all wait for one, rather than lose data. */
bool check_has_heir(const struct cluster *c);
/* Whether all is as it should be when nothing has happened for a while; says what is not. */
bool check_converged(struct cluster *c, char *ret_why, size_t size);

/* --- nemesis.c --- */

/* Troubles begin, until cluster.is_calm. */
void nemesis_start(struct cluster *c);
/* Ends them; or leaves one node dead, stopped or cut off, if a candidate remains. */
void nemesis_heal(struct cluster *c);
/* Starts again what has ended, or was about to, when the troubles ended. */
void nemesis_revive(struct cluster *c);
/* Also for the one that was left. False: there was none. */
bool nemesis_ends(struct cluster *c);

#endif
