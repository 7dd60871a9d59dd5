/* lease/consul_internal.h - the inside of the Consul lease, for consul*.c only.
 *
 *   consul.c          the lease: sessions, and who holds it
 *   consul_request.c  requests to Consul, the key as it has it, transactions */
#ifndef LITEFS_LEASE_CONSUL_INTERNAL_H
#define LITEFS_LEASE_CONSUL_INTERNAL_H

#include "lease/consul.h"
#include "lease/kv_lease.h"

#define STATUS_OK 200
#define STATUS_NOT_FOUND 404
#define STATUS_CONFLICT 409 /* a transaction whose checks failed */

struct consul_lease {
        struct kv_lease kv;
        char base[520];                 /* "http://127.0.0.1:8500/v1" */
        char key_path[KV_URL_SIZE / 2]; /* the key, percent-encoded */
        char node[KV_KEY_SIZE];         /* "PREFIX/litefs", registered for the sessions; or "" */
        bool is_registered;
};

/* A key as Consul has it. */
struct consul_entry {
        bool is_there;
        uint64_t index;                   /* when it was last written; 0: it is not there */
        char session[LEASE_SESSION_SIZE]; /* that locks it, or "" */
        char value[KV_VALUE_SIZE];        /* with a zero byte behind it */
        size_t value_size;
        uint64_t consul_index; /* of what was read */
};

/* @path and what follows it, e.g. "/kv/" KEY "?acquire=" SESSION. */
int consul_url(const struct consul_lease *c, char ret[KV_URL_SIZE], const char *path, const char *a,
               const char *b, const char *d, struct err *e);
int consul_ask(struct consul_lease *c, const char *method, const char *url, const char *body,
               struct http_response *ret, struct err *e);
/* Takes @body. */
int consul_put_json(struct consul_lease *c, const char *url, json_t *body, struct http_response *ret,
                    struct err *e);
/* A PUT that answers true (1) or false (0). */
int consul_put_bool(struct consul_lease *c, const char *url, const char *body, struct err *e);
/* The lease's key with @suffix: "" "/term", and so on. */
int consul_read_key(struct consul_lease *c, const char *suffix, struct consul_entry *ret, struct err *e);
/* The answer to a GET of a key. */
int consul_parse_key(const struct http_response *answer, const char *url, struct consul_entry *ret,
                     struct err *e);

/* --- transactions --- */

/* One operation on the lease's key with @suffix, over the members in @op, which it takes. */
json_t *consul_operation(const struct consul_lease *c, const char *verb, const char *suffix, json_t *op);
/* It must be as it was: of @index, or not there when that is 0. */
json_t *consul_check(const struct consul_lease *c, const char *suffix, uint64_t index);
json_t *consul_check_session(const struct consul_lease *c, const char *session);
json_t *consul_unlock(const struct consul_lease *c, const char *session);
json_t *consul_lock(const struct consul_lease *c, const char *session, const char *value);
json_t *consul_set(const struct consul_lease *c, const char *suffix, const char *value);
json_t *consul_set_term(const struct consul_lease *c, const char *suffix, uint64_t term);
/* Takes @ops, each of its elements must be there. E_NOT_PRIMARY: a check failed and nothing was changed. */
int consul_transact(struct consul_lease *c, json_t *ops, struct err *e);

#endif
