#include "lease/etcd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/etcd_internal.h"

/* --- etcd leases --- */

/* *@ret_ttl_ms is what was granted. */
static int
grant(struct etcd_lease *c, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms, struct err *e)
{
        int64_t seconds = (c->r.base.ttl_ms + 999) / 1000;
        uint64_t id, ttl;
        json_t *j;
        bool is_good;
        int r = etcd_post(c, "lease/grant", json_pack("{s:I}", "TTL", (json_int_t)seconds), &j, e);

        if (r <= 0)
                return r < 0 ? r : etcd_malformed("lease/grant", e);
        is_good = etcd_get_u64(j, "ID", &id) && etcd_get_u64(j, "TTL", &ttl) && id != 0 && ttl != 0 &&
                  ttl < 1000000000;
        json_decref(j);
        if (!is_good)
                return etcd_malformed("lease/grant", e);
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
        int r = etcd_post(c, "lease/keepalive", json_pack("{s:s}", "ID", c->r.session), &j, e);

        if (r < 0)
                return r;
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the etcd lease has run out");
        is_good = json_is_object(json_object_get(j, "result")) &&
                  etcd_get_u64(json_object_get(j, "result"), "TTL", &ttl) && ttl < 1000000000;
        json_decref(j);
        if (!is_good)
                return etcd_malformed("lease/keepalive", e);
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
        int r = etcd_post(c, "lease/revoke", json_pack("{s:s}", "ID", id), &j, NULL);

        json_decref(j);
        return r < 0 ? r : 0;
}

static int
parse_holder(const struct etcd_lease *c, const json_t *kv, struct lease_state *ret, struct err *e)
{
        char text[REMOTE_VALUE_SIZE];
        uint64_t index, session;
        int n;

        if (!etcd_get_u64(kv, "mod_revision", &index) || !etcd_get_u64(kv, "lease", &session) ||
            index == 0)
                return etcd_malformed("kv/txn", e);
        n = etcd_value_of(kv, text, sizeof text, e);
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
        r = etcd_transact(c, etcd_is_absent(c->key64), json_array(), etcd_branch(etcd_get_key(c->key64)),
                          &j, &revision, e);
        if (r < 0)
                return r;
        r = etcd_first_key(j) != NULL ? parse_holder(c, etcd_first_key(j), &state, e) : 0;
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
        const json_t *kv = etcd_first_key(answer);
        uint64_t id;

        return kv != NULL && etcd_get_u64(kv, "lease", &id) && id == strtoull(session, NULL, 10) &&
               etcd_get_u64(kv, "mod_revision", ret) && *ret != 0;
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
        r = etcd_transact(c, is_equal,
                          etcd_branch(etcd_put_key(c->key64, value, strlen(value), session)),
                          etcd_branch(etcd_get_key(c->key64)), &j, ret, e);
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

        return take(c, etcd_is_absent(c->key64), ret, e);
}

/* Only in a key that hangs on the own etcd lease. */
static int
write_value(struct remote_lease *lease, const char *value, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)lease;
        uint64_t revision;
        json_t *j = NULL;
        int r = etcd_transact(c, etcd_compare(c->key64, "LEASE", "lease", c->r.session),
                              etcd_branch(etcd_put_key(c->key64, value, strlen(value), c->r.session)),
                              json_array(), &j, &revision, e);

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
        r = etcd_transact(c, etcd_compare(c->key64, "MOD", "mod_revision", renewal),
                          etcd_branch(json_pack("{s:{s:s}}", "request_delete_range", "key", c->key64)),
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
        r = take(c, etcd_compare(c->key64, "LEASE", "lease", token), ret, e);
        if (r == 0)
                revoke(&c->r, token); /* nothing hangs on it now; runs out if need be */
        return r;
}

/* --- the cluster's id --- */

/* Reads it; puts @id, when not NULL, if there is none. */
static int
cluster_id(struct etcd_lease *c, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        json_t *put = id != NULL ? etcd_put_key(c->cluster_key64, id, strlen(id), "0")
                                 : etcd_get_key(c->cluster_key64);
        char text[LEASE_CLUSTER_ID_SIZE];
        uint64_t revision;
        json_t *j = NULL;
        int r, n;

        remote_begin(&c->r);
        r = etcd_transact(c, etcd_is_absent(c->cluster_key64), etcd_branch(put),
                          etcd_branch(etcd_get_key(c->cluster_key64)), &j, &revision, e);
        if (r > 0) {
                r = remote_copy_cluster_id(id != NULL ? id : "", id != NULL ? strlen(id) : 0, ret, e);
        } else if (r == 0) {
                n = etcd_value_of(etcd_first_key(j), text, sizeof text, e);
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
        r = etcd_transact(c, etcd_is_absent(c->term_key64), json_array(),
                          etcd_branch(etcd_get_key(c->term_key64)), &j, &revision, e);
        key = r == 0 ? etcd_first_key(j) : NULL;
        r = r < 0 ? r : 0;
        if (key != NULL) {
                n = etcd_value_of(key, text, sizeof text, e);
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
        r = etcd_transact(c, etcd_compare(c->key64, "LEASE", "lease", c->r.session),
                          etcd_branch(etcd_put_key(c->term_key64, text, (size_t)n, "0")), json_array(),
                          &j, &revision, e);
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
