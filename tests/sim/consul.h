/* tests/sim/consul.h - a Consul with the keys of one lease, as lease/consul.c uses it.
 *
 * Sessions live for their TTL and, as with the real one, up to as long again. A session that ends while it locks the
 * key deletes it, and nobody can acquire it for the lock-delay.
 *
 * Unlike the real one, it can be made to answer some reads with what was true a while ago: terms are there for
 * whoever does not keep the promise of "consistent", and for what they cannot do nothing else would be tested. */
#ifndef LITEFS_TESTS_SIM_CONSUL_H
#define LITEFS_TESTS_SIM_CONSUL_H

#include "lease/kv_lease.h"
#include "tests/sim/sim.h"

#define CONSUL_SESSIONS_MAX 64

struct consul_session {
        uint64_t id; /* 0: none */
        int64_t ttl_us, lock_delay_us, end_us;
};

enum consul_name {
        CONSUL_KEY,
        CONSUL_TERM,
        CONSUL_HEIR,
        CONSUL_RELEASED,
        CONSUL_CLUSTERID,
        CONSUL_NAMES
};

struct consul_key {
        bool is_there;
        uint64_t index, session; /* 0: not locked */
        char value[KV_VALUE_SIZE];
};

/* What a backup has. */
struct consul_state {
        uint64_t index;
        struct consul_session sessions[CONSUL_SESSIONS_MAX];
        struct consul_key keys[CONSUL_NAMES];
};

struct consul {
        struct sim *sim;
        uint64_t next_session;
        int laziness_permille; /* how much of a second TTL a session may live */
        struct consul_state now, backup, old_backup, other;
        int64_t backup_us; /* when backup was made */
        struct consul_key old_key;
        int stale_permille;
        int64_t old_key_us; /* when old_key was true */
        int64_t no_lock_until_us;
};

/* What ends the holder's lease before its time. */
void consul_end_session(struct consul *c);
void consul_lose_key(struct consul *c);
void consul_lose_tree(struct consul *c);
void consul_restore(struct consul *c);
void consul_empty(struct consul *c);
void consul_exchange(struct consul *c);
void consul_back_up(struct consul *c, int64_t age_us);

/* As service_request. @path is what follows "/v1". */
int consul_request(struct consul *c, const char *method, const char *path, const char *body, char *ret);

#endif
