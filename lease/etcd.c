#include "lease/etcd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* --- requests --- */

/* Whether another endpoint may do better: none came through, or this one has lost its cluster. */
static bool
is_endpoint_failure(int r, const struct http_response *answer)
{
        return r < 0 ? r != -ENOMEM && r != -EMSGSIZE : answer->status >= 500;
}

/* POSTs @text to one endpoint after another until one answers. What was sent twice may have been done twice;
 * the callers' transactions see to it that this changes nothing. */
static int
post_text(struct etcd_lease *c, const char *path, const char *text, char url[REMOTE_URL_SIZE],
          struct http_response *ret, struct err *e)
{
        int r = -ETIMEDOUT;

        for (size_t left = c->n_endpoints; left > 0; left--) {
                /* The share of those left; the last has all. */
                int64_t timeout_ms = remote_left_ms(&c->r) / (int64_t)left;

                snprintf(url, REMOTE_URL_SIZE, "%s/v3/%s", c->endpoints[c->endpoint], path);
                r = remote_request(&c->r, "POST", url, text, timeout_ms, ret, e);
                if (!is_endpoint_failure(r, ret))
                        break;
                c->endpoint = (c->endpoint + 1) % c->n_endpoints;
        }
        return r;
}

/* Takes @body. 1: *@ret is the answer, to decref. 0: 404, what was named is not there. */
static int
post(struct etcd_lease *c, const char *path, json_t *body, json_t **ret, struct err *e)
{
        char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
        char url[REMOTE_URL_SIZE];
        struct http_response answer;
        int r;

        json_decref(body);
        if (text == NULL)
                return err_set(e, -ENOMEM, "etcd: %s", path);
        r = post_text(c, path, text, url, &answer, e);
        free(text);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND && strstr(answer.body, "lease not found") != NULL)
                return 0;
        if (answer.status != STATUS_OK)
                return remote_refused("POST", url, &answer, e);
        *ret = remote_json(&answer, url, e);
        return *ret != NULL ? 1 : -EPROTO;
}

static int
malformed(const char *path, struct err *e)
{
        return err_text(e, -EPROTO, "etcd: the answer to %s is not what it should be", path);
}

/* etcd writes 64 bits as text, and leaves out what is 0. */
static bool
get_u64(const json_t *object, const char *name, uint64_t *ret)
{
        const json_t *j = json_object_get(object, name);
        const char *text = json_string_value(j);
        char *end;

        *ret = 0;
        if (j == NULL)
                return true;
        if (json_is_integer(j) && json_integer_value(j) >= 0) {
                *ret = (uint64_t)json_integer_value(j);
                return true;
        }
        if (text == NULL || text[0] < '0' || text[0] > '9')
                return false;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        return *end == '\0' && errno == 0;
}

/* --- etcd leases --- */

/* *@ret_ttl_ms is what was granted. */
static int
grant(struct etcd_lease *c, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms, struct err *e)
{
        int64_t seconds = (c->r.base.ttl_ms + 999) / 1000;
        uint64_t id, ttl;
        json_t *j;
        bool is_good;
        int r = post(c, "lease/grant", json_pack("{s:I}", "TTL", (json_int_t)seconds), &j, e);

        if (r <= 0)
                return r < 0 ? r : malformed("lease/grant", e);
        is_good = get_u64(j, "ID", &id) && get_u64(j, "TTL", &ttl) && id != 0 && ttl != 0 &&
                  ttl < 1000000000;
        json_decref(j);
        if (!is_good)
                return malformed("lease/grant", e);
        snprintf(ret, LEASE_SESSION_SIZE, "%" PRIu64, id);
        *ret_ttl_ms = (int64_t)ttl * 1000;
        return 0;
}

static int
keep_alive(struct remote_lease *lease, int64_t *ret_ttl_ms, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)lease;
        json_t *j;
        uint64_t ttl;
        bool is_good;
        int r = post(c, "lease/keepalive", json_pack("{s:s}", "ID", c->r.session), &j, e);

        if (r < 0)
                return r;
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the etcd lease has run out");
        is_good = json_is_object(json_object_get(j, "result")) &&
                  get_u64(json_object_get(j, "result"), "TTL", &ttl) && ttl < 1000000000;
        json_decref(j);
        if (!is_good)
                return malformed("lease/keepalive", e);
        if (ttl == 0)
                return err_text(e, E_NOT_PRIMARY, "the etcd lease has run out");
        *ret_ttl_ms = (int64_t)ttl * 1000;
        return 0;
}

/* With its key, if it has one. 0 also when it is not there. */
static int
revoke(struct remote_lease *lease, const char *id)
{
        struct etcd_lease *c = (struct etcd_lease *)lease;
        json_t *j = NULL;
        int r = post(c, "lease/revoke", json_pack("{s:s}", "ID", id), &j, NULL);

        json_decref(j);
        return r < 0 ? r : 0;
}

/* --- transactions --- */

/* "this of the key is that" */
static json_t *
compare(const char *key64, const char *target, const char *member, const char *value)
{
        return json_pack("{s:s, s:s, s:s, s:s}", "key", key64, "target", target, "result", "EQUAL",
                         member, value);
}

static json_t *
is_absent(const char *key64)
{
        return compare(key64, "CREATE", "create_revision", "0");
}

static json_t *
get_key(const char *key64)
{
        return json_pack("{s:{s:s}}", "request_range", "key", key64);
}

static json_t *
put_key(const char *key64, const char *value, size_t n, const char *session)
{
        char text[BASE64_SIZE(REMOTE_VALUE_SIZE)];

        base64_encode(value, n, text);
        return json_pack("{s:{s:s, s:s, s:s}}", "request_put", "key", key64, "value", text, "lease",
                         session);
}

/* The first key that a transaction read, or NULL: there is none. */
static const json_t *
first_key(const json_t *answer)
{
        const json_t *response = json_array_get(json_object_get(answer, "responses"), 0);

        return json_array_get(json_object_get(json_object_get(response, "response_range"), "kvs"), 0);
}

/* One request of a transaction's branch. It takes @request, and NULL (no memory) makes NULL: a transaction
 * without its request would succeed. */
static json_t *
branch(json_t *request)
{
        return json_pack("[o]", request);
}

/* Takes the JSON. 1: @then was done, 0: @otherwise was, < 0: either, or neither. *@ret is to decref, and
 * *@ret_revision that of the change. */
static int
transact(struct etcd_lease *c, json_t *is_equal, json_t *then, json_t *otherwise, json_t **ret,
         uint64_t *ret_revision, struct err *e)
{
        json_t *body = json_pack("{s:[o], s:o, s:o}", "compare", is_equal, "success", then, "failure",
                                 otherwise);
        json_t *j;
        int r = post(c, "kv/txn", body, &j, e);

        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the etcd lease has run out");
        if (r < 0)
                return r;
        if (!get_u64(json_object_get(j, "header"), "revision", ret_revision) || *ret_revision == 0) {
                json_decref(j);
                return malformed("kv/txn", e);
        }
        *ret = j;
        return json_is_true(json_object_get(j, "succeeded"));
}

/* The bytes of a key's value. */
static int
value_of(const json_t *kv, char *ret, size_t size, struct err *e)
{
        const char *text = json_string_value(json_object_get(kv, "value"));
        int n = text != NULL ? base64_decode(text, ret, size) : 0;

        return n >= 0 ? n : err_text(e, E_FORMAT, "etcd: the value is too long or not base64");
}

static int
parse_holder(const struct etcd_lease *c, const json_t *kv, struct lease_state *ret, struct err *e)
{
        char text[REMOTE_VALUE_SIZE];
        uint64_t index, session;
        int n;

        if (!get_u64(kv, "mod_revision", &index) || !get_u64(kv, "lease", &session) || index == 0)
                return malformed("kv/txn", e);
        n = value_of(kv, text, sizeof text, e);
        if (n >= 0)
                n = remote_parse(text, (size_t)n, index, ret, e);
        if (n < 0) {
                err_prefix(e, "etcd key %s", c->r.key);
                return n;
        }
        if (session != 0)
                snprintf(ret->session, sizeof ret->session, "%" PRIu64, session);
        return 0;
}

static int
etcd_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;
        struct lease_state state = { .has_holder = false };
        uint64_t revision;
        json_t *j;
        int r;

        remote_begin(&c->r);
        r = transact(c, is_absent(c->key64), json_array(), branch(get_key(c->key64)), &j, &revision, e);
        if (r < 0)
                return r;
        r = first_key(j) != NULL ? parse_holder(c, first_key(j), &state, e) : 0;
        json_decref(j);
        if (r == 0)
                *ret = state;
        return r;
}

/* --- acquire and renew --- */

/* Whether the key that kept a transaction from its change is there by @session: the transaction was sent
 * twice, or moved to another endpoint, and succeeded the first time. Its revision is then in *@ret. */
static bool
is_done_already(const json_t *answer, const char *session, uint64_t *ret)
{
        const json_t *kv = first_key(answer);
        uint64_t id;

        return kv != NULL && get_u64(kv, "lease", &id) && id == strtoull(session, NULL, 10) &&
               get_u64(kv, "mod_revision", ret) && *ret != 0;
}

/* Puts the key for @session if @is_equal, which it takes. *@ret is the term. */
static int
take_key(struct etcd_lease *c, json_t *is_equal, const char *session, uint64_t *ret, struct err *e)
{
        char value[REMOTE_VALUE_SIZE];
        json_t *j = NULL;
        int r = remote_format(&c->r, false, value, e);

        if (r < 0) {
                json_decref(is_equal);
                return r;
        }
        r = transact(c, is_equal, branch(put_key(c->key64, value, strlen(value), session)),
                     branch(get_key(c->key64)), &j, ret, e);
        if (r == 0 && !is_done_already(j, session, ret))
                r = err_text(e, E_NOT_PRIMARY, "another node has the lease, or nobody");
        json_decref(j);
        return r < 0 ? r : 0;
}

/* Acquires with an etcd lease of its own, if @is_equal. */
static int
take(struct etcd_lease *c, json_t *is_equal, struct lease_state *ret, struct err *e)
{
        char session[LEASE_SESSION_SIZE] = "";
        int64_t start_ms = remote_begin(&c->r), ttl_ms = 0;
        uint64_t term;
        int r;

        remote_drop_session(&c->r, c->r.leftover);
        r = grant(c, session, &ttl_ms, e);
        if (r < 0) {
                json_decref(is_equal);
                return r;
        }
        r = take_key(c, is_equal, session, &term, e);
        if (r < 0) {
                remote_drop_session(&c->r, session);
                return r;
        }
        remote_hold(&c->r, session, term, start_ms, ttl_ms);
        remote_self(&c->r, term, ret);
        return 0;
}

static int
etcd_acquire(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;

        return take(c, is_absent(c->key64), ret, e);
}

/* Only in a key that hangs on the own etcd lease. */
static int
write_value(struct remote_lease *lease, const char *value, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)lease;
        uint64_t revision;
        json_t *j = NULL;
        int r = transact(c, compare(c->key64, "LEASE", "lease", c->r.session),
                         branch(put_key(c->key64, value, strlen(value), c->r.session)), json_array(), &j,
                         &revision, e);

        json_decref(j);
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "another node has the lease, or nobody");
        return r < 0 ? r : 0;
}

/* --- from one holder to another --- */

/* Whether or not its etcd lease can be revoked then, the key is free. */
static int
etcd_break_stale(struct lease *l, const struct lease_state *seen, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;
        uint64_t revision;
        char renewal[32];
        json_t *j = NULL;
        int r = remote_check_stale(seen, e);

        if (r < 0)
                return r;
        remote_begin(&c->r);
        snprintf(renewal, sizeof renewal, "%" PRIu64, seen->renewal);
        r = transact(c, compare(c->key64, "MOD", "mod_revision", renewal),
                     branch(json_pack("{s:{s:s}}", "request_delete_range", "key", c->key64)),
                     json_array(), &j, &revision, e);
        json_decref(j);
        if (r < 0)
                return r;
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the lease is no longer as it was seen");
        if (seen->session[0] != '\0')
                revoke(&c->r, seen->session);
        return 0;
}

static int
etcd_take_over(struct lease *l, const char *token, struct lease_state *ret, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;
        size_t n = strlen(token);
        int r;

        /* An absent key hangs on lease 0. */
        if (n == 0 || strspn(token, "0123456789") != n || strtoull(token, NULL, 10) == 0)
                return err_text(e, E_NOT_PRIMARY, "the offer is not an etcd lease");
        r = take(c, compare(c->key64, "LEASE", "lease", token), ret, e);
        if (r == 0)
                revoke(&c->r, token); /* nothing hangs on it now; runs out if need be */
        return r;
}

/* --- the cluster's id --- */

/* Reads it; puts @id, when not NULL, if there is none. */
static int
cluster_id(struct etcd_lease *c, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        json_t *put = id != NULL ? put_key(c->cluster_key64, id, strlen(id), "0")
                                 : get_key(c->cluster_key64);
        char text[LEASE_CLUSTER_ID_SIZE];
        uint64_t revision;
        json_t *j = NULL;
        int r, n;

        remote_begin(&c->r);
        r = transact(c, is_absent(c->cluster_key64), branch(put), branch(get_key(c->cluster_key64)), &j,
                     &revision, e);
        if (r > 0) {
                r = remote_copy_cluster_id(id != NULL ? id : "", id != NULL ? strlen(id) : 0, ret, e);
        } else if (r == 0) {
                n = value_of(first_key(j), text, sizeof text, e);
                r = n < 0 ? n : remote_copy_cluster_id(text, (size_t)n, ret, e);
        }
        json_decref(j);
        return r;
}

static int
etcd_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        return cluster_id((struct etcd_lease *)l, NULL, ret, e);
}

static int
etcd_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        int r = remote_copy_cluster_id(id, strlen(id), ret, e);

        return r < 0 ? r : cluster_id((struct etcd_lease *)l, id, ret, e);
}

/* --- the last term --- */

static int
etcd_get_last_term(struct lease *l, uint64_t *ret, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;
        char text[24];
        const json_t *key;
        uint64_t revision;
        json_t *j = NULL;
        int n, r;

        *ret = 0;
        remote_begin(&c->r);
        r = transact(c, is_absent(c->term_key64), json_array(), branch(get_key(c->term_key64)), &j,
                     &revision, e);
        key = r == 0 ? first_key(j) : NULL;
        r = r < 0 ? r : 0;
        if (key != NULL) {
                n = value_of(key, text, sizeof text, e);
                r = n < 0 ? n : remote_parse_term(text, (size_t)n, ret, e);
        }
        json_decref(j);
        return r;
}

static int
etcd_put_last_term(struct lease *l, uint64_t term, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)l;
        char text[24];
        uint64_t revision;
        json_t *j = NULL;
        int n = snprintf(text, sizeof text, "%" PRIu64, term), r = remote_check_held(&c->r, e);

        if (r < 0)
                return r;
        remote_begin(&c->r);
        r = transact(c, compare(c->key64, "LEASE", "lease", c->r.session),
                     branch(put_key(c->term_key64, text, (size_t)n, "0")), json_array(), &j, &revision,
                     e);
        json_decref(j);
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "another node has the lease, or nobody");
        return r < 0 ? r : 0;
}

/* --- set-up --- */

static void
etcd_free(struct lease *l)
{
        struct etcd_lease *c = (struct etcd_lease *)l;

        if (c == NULL)
                return;
        remote_release(&c->r);
        free(c->endpoints);
        free(c);
}

static const struct remote_service etcd_service = {
        .keep_alive = keep_alive,
        .write_value = write_value,
        .end_session = revoke,
};

static const struct lease_ops etcd_ops = {
        .read = etcd_read,
        .acquire = etcd_acquire,
        .renew = remote_renew,
        .release = remote_end,
        .break_stale = etcd_break_stale,
        .offer = remote_offer,
        .take_over = etcd_take_over,
        .get_cluster_id = etcd_get_cluster_id,
        .put_cluster_id = etcd_put_cluster_id,
        .get_last_term = etcd_get_last_term,
        .put_last_term = etcd_put_last_term,
        .deadline_ms = remote_deadline_ms,
        .free = etcd_free,
};

static int
set_endpoint(struct etcd_lease *c, const char *text, struct err *e)
{
        struct http_url url;
        int r = http_url_parse(text, &url, e);

        if (r == 0 && strcmp(url.path, "/") != 0)
                r = err_text(e, E_CONFIG, "has a path: '%s'", url.path);
        if (r == 0 && (url.user[0] != '\0' || url.password[0] != '\0'))
                r = err_text(e, E_CONFIG, "has a user name, but only certificates are supported");
        if (r < 0) {
                err_prefix(e, "lease.etcd.endpoints");
                return r;
        }
        strcpy(c->endpoints[c->n_endpoints++], url.base);
        return 0;
}

static int
set_endpoints(struct etcd_lease *c, const struct lease_etcd_options *o, struct err *e)
{
        int r = 0;

        if (o->n_endpoints == 0)
                return err_text(e, E_CONFIG, "lease.etcd.endpoints required");
        if (o->n_endpoints > MAX_ENDPOINTS)
                return err_text(e, E_CONFIG, "lease.etcd.endpoints: more than %d", MAX_ENDPOINTS);
        c->endpoints = calloc(o->n_endpoints, sizeof *c->endpoints);
        if (c->endpoints == NULL)
                return err_set(e, -ENOMEM, "etcd lease");
        for (size_t i = 0; i < o->n_endpoints && r == 0; i++)
                r = set_endpoint(c, o->endpoints[i], e);
        return r;
}

static void
set_keys(struct etcd_lease *c)
{
        char key[REMOTE_KEY_SIZE + sizeof "/clusterid"];
        int n = snprintf(key, sizeof key, "%s/clusterid", c->r.key);

        base64_encode(c->r.key, strlen(c->r.key), c->key64);
        base64_encode(key, (size_t)n, c->cluster_key64);
        n = snprintf(key, sizeof key, "%s/term", c->r.key);
        base64_encode(key, (size_t)n, c->term_key64);
}

int
lease_etcd_new(const struct lease_etcd_options *o, struct lease **ret, struct err *e)
{
        struct remote_options remote = {
                .type = "etcd",
                .hostname = o->hostname,
                .advertise_url = o->advertise_url,
                .key = o->key,
                .ttl_ms = o->ttl_ms,
                .clock = o->clock,
                .http = { .ca = o->ca, .cert = o->cert, .cert_key = o->cert_key },
        };
        struct etcd_lease *c = calloc(1, sizeof *c);
        int r;

        if (c == NULL)
                return err_set(e, -ENOMEM, "etcd lease");
        r = set_endpoints(c, o, e);
        if (r == 0)
                r = remote_init(&c->r, &etcd_ops, &etcd_service, &remote, e);
        if (r < 0) {
                etcd_free(&c->r.base);
                return r;
        }
        set_keys(c);
        *ret = &c->r.base;
        return 0;
}
