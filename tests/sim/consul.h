/* tests/sim/consul.h - a Consul with one key, as lease/consul.c uses it; and the network to it.
 *
 * Sessions live for their TTL and, as with the real one, up to as long again. A session that ends while it locks the
 * key deletes it, and nobody can acquire it for the lock-delay. Transactions do not mind the lock-delay.
 *
 * Unlike the real one, it can be made to answer some reads with what was true a while ago: terms are there for
 * whoever does not keep the promise of "consistent", and for what they cannot do nothing else would be tested. */
#ifndef LITEFS_TESTS_SIM_CONSUL_H
#define LITEFS_TESTS_SIM_CONSUL_H

#include "lease/remote.h"
#include "tests/sim/sim.h"

#define CONSUL_SESSIONS_MAX 64

struct consul_session {
        uint64_t id; /* 0: none */
        int64_t ttl_us, lock_delay_us, end_us;
};

struct consul {
        struct sim *sim;
        uint64_t next_session, index;
        int laziness_permille; /* how much of a second TTL a session may live */
        struct consul_session sessions[CONSUL_SESSIONS_MAX];
        struct consul_key {
                bool is_there;
                uint64_t index, session; /* 0: not locked */
                char value[REMOTE_VALUE_SIZE];
        } key, old_key;
        int stale_permille;
        int64_t old_key_us; /* when old_key was true */
        int64_t no_lock_until_us;
        char cluster_id[LEASE_CLUSTER_ID_SIZE], last_term[24]; /* KEY/clusterid, KEY/term; "": none */
};

#define CONSUL_ANSWER_SIZE 4096

/* Does what is asked: the status and the body of the answer. @path is what follows "/v1". */
int consul_request(struct consul *c, const char *method, const char *path, const char *body,
                   char ret[CONSUL_ANSWER_SIZE]);

/* --- the network to it, by which net/http_client.h is done --- */

struct consul_net {
        struct sim *sim;
        struct consul *consul;
        /* The host whose lease is being made: http_client_new has no argument for it. */
        struct sim_host *client_host;
        /* Whether the host cannot reach the service now, and how long one way takes (<0: it is lost). */
        bool (*is_cut)(void *arg, const struct sim_host *h);
        int64_t (*delay_us)(void *arg, const struct sim_host *h);
        void *arg;
};

/* All http_client_new from now on are of @net. */
void consul_net_use(struct consul_net *net);

#endif
