/* tests/sim/service.h - the service that has the lease, a Consul, an etcd or a bucket, and the network to it. */
#ifndef LITEFS_TESTS_SIM_SERVICE_H
#define LITEFS_TESTS_SIM_SERVICE_H

#include "tests/sim/bucket.h"
#include "tests/sim/consul.h"
#include "tests/sim/etcd.h"

enum service_kind { SERVICE_CONSUL, SERVICE_ETCD, SERVICE_BUCKET };

struct service {
        struct sim *sim;
        enum service_kind kind;
        struct consul consul;
        struct etcd etcd;
        struct bucket bucket;
};

/* What ends the holder's lease before its time, or may. */
enum service_trouble {
        SERVICE_ENDS_SESSION,
        SERVICE_LOSES_KEY,
        SERVICE_LOSES_TREE,
        SERVICE_IS_RESTORED, /* from service_back_up's */
        SERVICE_IS_EMPTIED,  /* or another one, with nothing, at the same address */
        SERVICE_IS_EXCHANGED, /* for another one; that has what it was left with when it was exchanged the last time */
        SERVICE_TROUBLES
};

void service_init(struct service *s, struct sim *sim, enum service_kind kind);
void service_strike(struct service *s, enum service_trouble what);
/* Whether its counter goes back with it, so that terms may come again. */
bool service_forgets(const struct service *s, enum service_trouble what);
/* Each @age_us; the one before is what it is restored to. */
void service_back_up(struct service *s, int64_t age_us);
bool service_has_backup(const struct service *s);
/* What it says the last term was; 0: it does not say. */
uint64_t service_last_term(const struct service *s);

/* --- the network to it, by which net/http_client.h is done --- */

struct service_net {
        struct sim *sim;
        struct service *service;
        /* The host whose lease is being made: http_client_new has no argument for it. */
        struct sim_host *client_host;
        /* Whether the host cannot reach the service now, and how long one way takes (<0: it is lost). */
        bool (*is_cut)(void *arg, const struct sim_host *h);
        int64_t (*delay_us)(void *arg, const struct sim_host *h);
        void *arg;
        /* Other nodes: the one at "name:port", whether one way is cut, and what it answers to GET @path (false: nothing;
         * else @ret is the caller's to free). In a fiber of @h. */
        struct sim_host *(*find)(void *arg, const char *address);
        bool (*is_cut_between)(void *arg, const struct sim_host *from, const struct sim_host *to);
        bool (*get_answer)(void *arg, struct sim_host *h, const char *path, char **ret, size_t *ret_n);
};

/* All http_client_new from now on are of @net. */
void service_net_use(struct service_net *net);

#define SERVICE_ANSWER_SIZE 8192
#define SERVICE_CONDITION_SIZE 64

struct service_question {
        const char *method, *path, *body; /* @path is what follows the host */
        const char *condition;            /* a header of S3's, or "" */
        bool may_wait;
};

struct service_answer {
        char body[SERVICE_ANSWER_SIZE];
        uint64_t number; /* the service's counter */
        char etag[32];   /* "": it has none */
};

/* Does what is asked: the status. SERVICE_WAITS: it waits for a change of the key, and is to be asked again. SERVICE_IS_SILENT, if
 * not may_wait: it has nothing to say after all. */
#define SERVICE_WAITS (-1)
#define SERVICE_IS_SILENT (-2)
int service_request(struct service *s, const struct service_question *q, struct service_answer *ret);

#endif
