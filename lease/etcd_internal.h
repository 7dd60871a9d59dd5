/* lease/etcd_internal.h - the inside of the etcd lease, for etcd*.c only.
 *
 *   etcd.c          the lease: etcd leases, and who holds it
 *   etcd_request.c  requests to one endpoint after another, transactions */
#ifndef LITEFS_LEASE_ETCD_INTERNAL_H
#define LITEFS_LEASE_ETCD_INTERNAL_H

#include "lease/etcd.h"
#include "lease/remote.h"

#define STATUS_OK 200
#define STATUS_NOT_FOUND 404 /* also an etcd lease that is no longer there */
#define MAX_ENDPOINTS 16

struct etcd_lease {
        struct remote_lease r;
        char (*endpoints)[512];
        size_t n_endpoints, endpoint; /* the one that answered last */
        char key64[BASE64_SIZE(REMOTE_KEY_SIZE)];
        char cluster_key64[BASE64_SIZE(REMOTE_KEY_SIZE + sizeof "/clusterid")];
        char term_key64[BASE64_SIZE(REMOTE_KEY_SIZE + sizeof "/term")];
};

/* Takes @body. 1: *@ret is the answer, to decref. 0: 404, what was named is not there. */
int etcd_post(struct etcd_lease *c, const char *path, json_t *body, json_t **ret, struct err *e);
int etcd_malformed(const char *path, struct err *e);
/* etcd writes 64 bits as text, and leaves out what is 0. */
bool etcd_get_u64(const json_t *object, const char *name, uint64_t *ret);

/* --- transactions --- */
/* "this of the key is that" */
json_t *etcd_compare(const char *key64, const char *target, const char *member, const char *value);
json_t *etcd_is_absent(const char *key64);
json_t *etcd_get_key(const char *key64);
json_t *etcd_put_key(const char *key64, const char *value, size_t n, const char *session);
/* The first key that a transaction read, or NULL: there is none. */
const json_t *etcd_first_key(const json_t *answer);
/* One request of a transaction's branch. It takes @request, and NULL (no memory) makes NULL: a transaction
 * without its request would succeed. */
json_t *etcd_branch(json_t *request);
/* Takes the JSON. 1: @then was done, 0: @otherwise was, < 0: either, or neither. *@ret is to decref, and
 * *@ret_revision that of the change. */
int etcd_transact(struct etcd_lease *c, json_t *is_equal, json_t *then, json_t *otherwise, json_t **ret,
                  uint64_t *ret_revision, struct err *e);
/* The bytes of a key's value. */
int etcd_value_of(const json_t *kv, char *ret, size_t size, struct err *e);

#endif
