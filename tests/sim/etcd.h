/* tests/sim/etcd.h - an etcd with the keys of one lease, as lease/etcd.c uses it: leases, transactions, the watch.
 *
 * A lease that ends deletes the keys that hang on it. As with the real one it may live for longer than its TTL: a new leader
 * of etcd's gives all of them their whole time again. What was asked may be done twice, for the nodes ask a second
 * endpoint when the first does not answer. */
#ifndef LITEFS_TESTS_SIM_ETCD_H
#define LITEFS_TESTS_SIM_ETCD_H

#include "lease/kv_lease.h"
#include "tests/sim/sim.h"

#define ETCD_LEASES_MAX 64

struct etcd_sim_lease {
        uint64_t id; /* 0: none */
        int64_t ttl_us, end_us;
};

enum etcd_name { ETCD_KEY, ETCD_TERM, ETCD_HEIR, ETCD_RELEASED, ETCD_CLUSTERID, ETCD_NAMES };

struct etcd_key {
        bool is_there;
        uint64_t revision; /* when it was written, or deleted, last */
        uint64_t lease;    /* 0: on none */
        char value[KV_VALUE_SIZE];
};

/* What a backup has. */
struct etcd_state {
        uint64_t revision;
        struct etcd_sim_lease leases[ETCD_LEASES_MAX];
        struct etcd_key keys[ETCD_NAMES];
};

struct etcd {
        struct sim *sim;
        uint64_t next_lease;
        int laziness_permille; /* how much of a second TTL a lease may live */
        struct etcd_state now, backup, old_backup, other;
        int64_t backup_us; /* when backup was made */
};

void etcd_end_lease(struct etcd *d);
void etcd_lose_key(struct etcd *d);
void etcd_lose_tree(struct etcd *d);
void etcd_restore(struct etcd *d);
void etcd_empty(struct etcd *d);
void etcd_exchange(struct etcd *d);
void etcd_back_up(struct etcd *d, int64_t age_us);

/* As service_request. @path is what follows "/v3/". */
int etcd_request(struct etcd *d, const char *path, const char *body, char *ret);

#endif
