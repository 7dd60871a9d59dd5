/* tests/sim/world.h - machines with the real program on them, but for its mount: lib/store with its databases on a disk,
 * lib/repl with its streams, and the lease, in one thread from a seed.
 *
 *   machine.c         a machine and the process on it
 *   disk.c            its disk
 *   watched_lease.c   its lease
 *   application.c     what writes there
 *   history.c         every transaction that was ever committed, and which follow which
 *   judge.c           what must hold after each step
 *   trouble.c         crashes, pauses, cuts, hand-overs
 *
 * What is simulated is below: sim.h (time, chance), threads.h, net.h, service.h (consul.h or etcd.h). */
#ifndef LITEFS_TESTS_SIM_WORLD_H
#define LITEFS_TESTS_SIM_WORLD_H

#include "repl/node.h"
#include "tests/lib/os_crash.h"
#include "tests/sim/service.h"
#include "tests/sim/net.h"

#define MACHINES_MAX 5
#define DBS_MAX 2
#define TERMS_MAX 65536
#define PAGE_SIZE 512u
#define PAGES_MAX 12u
#define FDS_MAX 4096

/* --- history.c --- */

/* A transaction of database @db, made on the state that @parent made (-1: on nothing). */
struct txn {
        int db, parent, machine;
        struct ltx_pos pos;
        uint64_t term;
};

struct history {
        struct txn *v;
        int n, capacity;
};

/* -1: there was never such a state; also for 0. */
int history_find(const struct history *h, int db, struct ltx_pos pos);
/* Its number. The same again, after it was lost, is the same. */
int history_add(struct history *h, const struct txn *t);
/* Whether the state @descendant (-1: nothing) has transaction @txn in it. */
bool history_has(const struct history *h, int descendant, int txn);
void history_release(struct history *h);

/* --- machines --- */

struct world;

/* A disk: the host's files, of which those are closed that a process leaves open when it dies. */
struct disk {
        struct os os; /* first */
        const struct os *under;
        struct machine *m;
        bool is_open[FDS_MAX];
};

/* The lease, with what the checks want to hear of it. */
struct watched_lease {
        struct lease base; /* first */
        struct lease *under;
        struct machine *m;
};

struct machine {
        struct sim_host host; /* first: sim_host and machine are one */
        struct world *w;
        int index;
        char url[32], dir[200], data[240], node_data[240];
        bool is_candidate;
        bool is_cut_off; /* from the service */
        bool is_gone;    /* in trouble for good: nobody waits for it */
        struct disk disk;
        struct os_crash *crash; /* NULL: its power is never cut */

        /* Of one life. */
        struct workers *workers, *appliers;
        struct store *store;
        struct watched_lease lease;
        struct node *node;
        bool is_ready; /* all of these are there */
        bool is_handing_over, is_stopping, leads;
        bool is_unjudged[DBS_MAX]; /* it took over while something was still to be applied there */
        bool has_offer;            /* it took the lease over with world.offered */
        uint64_t term;             /* that it leads or follows, as far as the checks have seen */
        bool is_locked[DBS_MAX];   /* an application has SQLite's locks */
        int64_t reader_until_us[DBS_MAX];
        /* An application commits; on what state, and what has become of it (-1: nothing yet). */
        bool is_committing[DBS_MAX];
        int parent[DBS_MAX], made[DBS_MAX];

        /* For the checks: transactions, or -1. */
        int acked[DBS_MAX]; /* the last that it told its primary to have; while that counts */
        uint64_t acked_term[DBS_MAX];
        int confirmed[DBS_MAX]; /* the last that an application was told to be committed; while that counts */
        int durable[DBS_MAX]; /* and that it was told to be so whatever happens to the power */
};

/* A transaction that was acknowledged after another node had been granted the lease: that one must have it. */
struct late_ack {
        int txn;
        uint64_t term; /* of the other */
};

struct world {
        struct sim *sim;
        struct service service;
        struct service_net service_net;
        struct net net;
        int n_machines, n_dbs;
        struct machine machines[MACHINES_MAX];
        bool is_cut[MACHINES_MAX][MACHINES_MAX]; /* from, to */
        struct history history;
        const char *dir;

        /* Of this run. */
        int64_t ttl_ms, lock_delay_ms, latency_us, commit_ms, trouble_ms;
        int spike_permille, loss_permille, reader_permille;
        bool loses_power; /* crashes may be of the machine's power, with unsynced writes lost */
        bool is_restored; /* the service has forgotten something: terms may come again for those who were not there */
        int64_t trouble_us; /* when anything happened to a node or a link last */
        bool is_calm;       /* no trouble, no losses */
        bool is_read_only;  /* nobody commits any more */

        /* For the checks. */
        uint8_t owners[TERMS_MAX]; /* of each term: the machine's index + 1 */
        uint64_t granted_term;     /* the last */
        uint64_t led_term;         /* the last whose holder has taken over */
        uint64_t term_before;      /* in which somebody led before that */
        struct machine *leader;    /* and that holder */
        int offered[DBS_MAX];      /* what the last who offered its lease had then */
        char offered_token[LEASE_SESSION_SIZE];
        struct late_ack late[256];
        int n_late;
        uint64_t n_commits, n_take_overs, n_handoffs, n_lost, n_applied, n_snapshots, n_power,
                n_heirless;
};

void world_init(struct world *w, struct sim *s, enum service_kind kind, const char *dir);
int64_t world_delay_us(struct world *w);
extern const char *const world_db_names[DBS_MAX];
int world_db_index(const struct db *db);

/* --- disk.c, watched_lease.c, application.c --- */

void disk_start(struct machine *m);
void disk_stop(struct machine *m, bool is_silent);
void lease_open(struct machine *m);
/* In a fiber, for as long as the process lives. */
void application_run(struct machine *m);
/* As store_set_listener. */
void application_committed(void *arg, struct db *db);

/* --- machine.c --- */

/* Begins a process; it may take a while. */
void machine_boot(struct machine *m);
/* @is_silent: nobody hears of it, and what was not synced may be lost. */
void machine_crash(struct machine *m, bool is_silent);
/* As SIGTERM: hands over if it can, releases, ends. */
void machine_stop(struct machine *m);
void machine_hand_over(struct machine *m);
/* What it has of database @db, as a transaction of the history (-1: nothing). Fails when that never was. */
int machine_state(struct machine *m, int db);
bool machine_may_commit(const struct machine *m);
/* As service_net wants it. */
bool machine_get_answer(void *arg, struct sim_host *h, const char *path, char **ret, size_t *ret_n);

/* --- judge.c --- */
void judge_step(struct world *w);
/* By the offer of @token, or "". */
void judge_granted(struct machine *m, const struct lease_state *s, const char *token);
void judge_offered(struct machine *m, const char *token);
void judge_takes_over(struct machine *m);
/* The transaction is in the log of @m; and later: its application was told so. */
void judge_commit(struct machine *m, int txn);
void judge_confirmed(struct machine *m, int txn, bool is_durable);
/* @m, a replica, has told its primary that it has what it shows of @db. */
void judge_applied(struct machine *m, int db);
/* Its databases are open: what must have survived the last life has. */
void judge_booted(struct machine *m);
bool judge_converged(struct world *w, char *ret_why, size_t size);
bool judge_has_heir(const struct world *w);

/* --- trouble.c --- */
void trouble_start(struct world *w);
void trouble_heal(struct world *w);
void trouble_revive(struct world *w);
bool trouble_ends(struct world *w);

#endif
