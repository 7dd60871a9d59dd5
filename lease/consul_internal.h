/* lease/consul_internal.h - the inside of the Consul lease, for consul*.c only.
 *
 *   consul.c          the lease: sessions, and who holds it
 *   consul_request.c  requests to Consul, the key as it has it, transactions */
#ifndef LITEFS_LEASE_CONSUL_INTERNAL_H
#define LITEFS_LEASE_CONSUL_INTERNAL_H

#include "lease/consul.h"
#include "lease/remote.h"

#define STATUS_OK 200
#define STATUS_NOT_FOUND 404
#define STATUS_CONFLICT 409 /* a transaction whose checks failed */

struct consul_lease {
        struct remote_lease r;
        char base[520];                     /* "http://127.0.0.1:8500/v1" */
        char key_path[REMOTE_URL_SIZE / 2]; /* the key, percent-encoded */
        char node[REMOTE_KEY_SIZE];         /* "PREFIX/litefs", registered for the sessions; or "" */
        bool is_registered;
};

/* The key as Consul has it. */
struct consul_entry {
        bool is_locked;
        uint64_t index;
        struct lease_state holder;
};

/* @path and what follows it, e.g. "/kv/" KEY "?acquire=" SESSION. */
int consul_url(const struct consul_lease *c, char ret[REMOTE_URL_SIZE], const char *path, const char *a,
               const char *b, const char *d, struct err *e);
int consul_ask(struct consul_lease *c, const char *method, const char *url, const char *body,
               struct http_response *ret, struct err *e);
/* Takes @body. */
int consul_put_json(struct consul_lease *c, const char *url, json_t *body, struct http_response *ret,
                    struct err *e);
/* A PUT that answers true (1) or false (0). */
int consul_put_bool(struct consul_lease *c, const char *url, const char *body, struct err *e);
int consul_read_entry(struct consul_lease *c, struct consul_entry *ret, struct err *e);

/* --- operations of a transaction --- */
json_t *consul_check_session(const struct consul_lease *c, const char *session);
json_t *consul_check_index(const struct consul_lease *c, uint64_t index);
json_t *consul_unlock_key(const struct consul_lease *c, const char *session);
json_t *consul_lock_key(const struct consul_lease *c, const char *session, const char *value);
/* Takes @ops. E_NOT_PRIMARY: a check failed and nothing was changed. */
int consul_transact(struct consul_lease *c, json_t *ops, uint64_t *ret_index, struct err *e);

#endif
