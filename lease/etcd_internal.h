/* lease/etcd_internal.h - the inside of the etcd lease, for etcd*.c only.
 *
 *   etcd.c          the lease: etcd leases, and who holds it
 *   etcd_request.c  requests to one endpoint after another, transactions
 *   etcd_watch.c    the watch */
#ifndef LITEFS_LEASE_ETCD_INTERNAL_H
#define LITEFS_LEASE_ETCD_INTERNAL_H

#include "lease/etcd.h"
#include "base/base64.h"
#include "lease/kv_lease.h"

#define STATUS_OK 200
#define STATUS_NOT_FOUND 404 /* also an etcd lease that is no longer there */
#define MAX_ENDPOINTS 16
#define ETCD_KEY_SIZE BASE64_SIZE(KV_KEY_SIZE + 16)

struct etcd_lease {
        struct kv_lease kv;
        char (*endpoints)[512];
        size_t n_endpoints;
        _Atomic size_t endpoint; /* the one that answered last */
        char key64[ETCD_KEY_SIZE], term_key64[ETCD_KEY_SIZE], released_key64[ETCD_KEY_SIZE];
        char heir_key64[ETCD_KEY_SIZE], cluster_key64[ETCD_KEY_SIZE];
};

/* Takes @body. 1: *@ret is the answer, to decref. 0: 404, what was named is not there. */
int etcd_post(struct etcd_lease *c, const char *path, json_t *body, json_t **ret, struct err *e);
int etcd_malformed(const char *path, struct err *e);
/* etcd writes 64 bits as text, and leaves out what is 0. */
bool etcd_get_u64(const json_t *object, const char *name, uint64_t *ret);

/* --- transactions --- */
/* "this of the key is that" */
json_t *etcd_compare(const char *key64, const char *target, const char *member, const char *value);
/* It must be as it was: last written in @revision, or not there when that is 0. */
json_t *etcd_is_unmoved(const char *key64, uint64_t revision);
json_t *etcd_get_key(const char *key64);
json_t *etcd_put_key(const char *key64, const char *value, size_t n, const char *session);
json_t *etcd_put_term(const char *key64, uint64_t term);
/* The key that the @i-th request of a transaction read, or NULL: there is none. */
const json_t *etcd_key_of(const json_t *answer, size_t i);
/* Takes the arrays; NULL (no memory) fails. 1: @then was done, since all of @compares held, 0: @otherwise was, < 0: either, or
 * neither. *@ret is to decref, and *@ret_revision that of the change. */
int etcd_transact(struct etcd_lease *c, json_t *compares, json_t *then, json_t *otherwise, json_t **ret,
                  uint64_t *ret_revision, struct err *e);
/* Where nothing is to be read: E_NOT_PRIMARY when @compares did not hold. */
int etcd_change(struct etcd_lease *c, json_t *compares, json_t *then, struct err *e);
/* The bytes of a key's value. */
int etcd_value_of(const json_t *kv, char *ret, size_t size, struct err *e);

/* --- etcd_watch.c --- */
int etcd_watch_key(struct kv_lease *kv, const struct lease_state *held, struct err *e);

#endif
