#include "lease/etcd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/etcd_internal.h"

/* --- etcd leases --- */

/* For twice the TTL: the key must outlive its holder's deadline, so that what is left of a holder that has died can be
 * told from a lease that was ended before its time. *@ret_ttl_ms is what was granted. */
static int
grant(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        int64_t seconds = (2 * kv->base.ttl_ms + 999) / 1000;
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
keep_alive(struct kv_lease *lease, int64_t *ret_ttl_ms, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)lease;
        json_t *j;
        uint64_t ttl;
        bool is_good;
        int r = etcd_post(c, "lease/keepalive", json_pack("{s:s}", "ID", c->kv.session), &j, e);

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

static int
revoke(struct etcd_lease *c, const char *id)
{
        json_t *j = NULL;
        int r = etcd_post(c, "lease/revoke", json_pack("{s:s}", "ID", id), &j, NULL);

        json_decref(j);
        return r < 0 ? r : 0;
}

static json_t *
delete_key(const char *key64)
{
        return json_pack("{s:{s:s}}", "request_delete_range", "key", key64);
}

static json_t *
is_key_of(const struct etcd_lease *c, const char *session)
{
        return etcd_compare(c->key64, "LEASE", "lease", session);
}

static int
etcd_end_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        int r = etcd_change(
                c, json_pack("[o]", is_key_of(c, session)),
                json_pack("[o, o]", delete_key(c->key64), etcd_put_term(c->released_key64, term)), NULL);

        return r < 0 && r != E_NOT_PRIMARY ? r : revoke(c, session);
}

/* --- reading --- */

static int
etcd_parse_holder(const struct etcd_lease *c, const json_t *kv, struct lease_state *ret, struct err *e)
{
        char text[KV_VALUE_SIZE];
        uint64_t index, session;
        int n;

        if (!etcd_get_u64(kv, "mod_revision", &index) || !etcd_get_u64(kv, "lease", &session) ||
            index == 0)
                return etcd_malformed("kv/txn", e);
        n = etcd_value_of(kv, text, sizeof text, e);
        if (n >= 0)
                n = kv_parse(text, (size_t)n, index, ret, e);
        if (n < 0) {
                err_prefix(e, "etcd key %s", c->kv.key);
                return n;
        }
        if (session != 0)
                snprintf(ret->session, sizeof ret->session, "%" PRIu64, session);
        return 0;
}

/* @kv may be NULL: 0 and 0. */
static int
etcd_parse_term(const json_t *kv, uint64_t *ret, uint64_t *ret_index, struct err *e)
{
        char text[24];
        int n;

        *ret = *ret_index = 0;
        if (kv == NULL)
                return 0;
        if (!etcd_get_u64(kv, "mod_revision", ret_index) || *ret_index == 0)
                return etcd_malformed("kv/txn", e);
        n = etcd_value_of(kv, text, sizeof text, e);
        return n < 0 ? n : kv_parse_term(text, (size_t)n, ret, e);
}

static int
parse_lease(const struct etcd_lease *c, const json_t *j, struct lease_state *ret, struct err *e)
{
        const json_t *key = etcd_key_of(j, 0);
        uint64_t released;
        int r = etcd_parse_term(etcd_key_of(j, 1), &ret->last_term, &ret->last_term_index, e);

        if (r == 0)
                r = etcd_parse_term(etcd_key_of(j, 2), &released, &ret->released_index, e);
        if (r < 0)
                return r;
        ret->is_released = released != 0 && released == ret->last_term;
        ret->is_raised = ret->released_index != 0 && released == 0;
        return key != NULL ? etcd_parse_holder(c, key, ret, e) : 0;
}

/* All keys as they were at one moment. */
static int
etcd_read_lease(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        json_t *j;
        int r = etcd_transact(c, json_array(),
                              json_pack("[o, o, o]", etcd_get_key(c->key64), etcd_get_key(c->term_key64),
                                        etcd_get_key(c->released_key64)),
                              json_array(), &j, &ret->index, e);

        if (r < 0)
                return r;
        r = r == 1 ? parse_lease(c, j, ret, e) : etcd_malformed("kv/txn", e);
        json_decref(j);
        return r;
}

static int
etcd_read_heir(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        uint64_t revision;
        json_t *j;
        int n, r = etcd_transact(c, json_array(), json_pack("[o]", etcd_get_key(c->heir_key64)),
                                 json_array(), &j, &revision, e);

        ret[0] = '\0';
        if (r < 0)
                return r;
        if (etcd_key_of(j, 0) != NULL) {
                n = etcd_value_of(etcd_key_of(j, 0), ret, LEASE_SESSION_SIZE - 1, e);
                ret[n < 0 ? 0 : n] = '\0';
        }
        json_decref(j);
        return 0;
}

/* --- acquire and renew --- */

/* Whether the key that kept a transaction from its change is there by @session: the transaction was sent
 * twice, or moved to another endpoint, and succeeded the first time. */
static bool
is_done_already(const json_t *answer, const char *session)
{
        const json_t *key = etcd_key_of(answer, 0);
        uint64_t id;

        return key != NULL && etcd_get_u64(key, "lease", &id) && id == strtoull(session, NULL, 10);
}

static json_t *
is_term_unmoved(const struct etcd_lease *c, const struct lease_state *seen)
{
        return etcd_is_unmoved(c->term_key64, seen->last_term_index);
}

/* Its revision is not enough: an etcd that was emptied or restored gives them again, but not for the same term. */
static json_t *
is_term_same(const struct etcd_lease *c, const struct lease_state *seen)
{
        char text[24], base64[BASE64_SIZE(sizeof text)];
        int n = snprintf(text, sizeof text, "%" PRIu64, seen->last_term);

        if (seen->last_term == 0)
                return is_term_unmoved(c, seen);
        base64_encode(text, (size_t)n, base64);
        return etcd_compare(c->term_key64, "VALUE", "value", base64);
}

static json_t *
conditions(const struct etcd_lease *c, const struct kv_lock *what)
{
        if (what->token != NULL)
                return json_pack("[o, o, o]", is_key_of(c, what->token), is_term_unmoved(c, what->seen),
                                 is_term_same(c, what->seen));
        return json_pack("[o, o, o, o]", etcd_is_unmoved(c->key64, what->seen->key_index),
                         etcd_is_unmoved(c->released_key64, what->seen->released_index),
                         is_term_unmoved(c, what->seen), is_term_same(c, what->seen));
}

static int
etcd_lock_key(struct kv_lease *kv, const struct kv_lock *what, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        uint64_t revision;
        json_t *j = NULL;
        int r;

        /* An absent key hangs on lease 0. */
        if (what->token != NULL && (strspn(what->token, "0123456789") != strlen(what->token) ||
                                    strtoull(what->token, NULL, 10) == 0))
                return err_text(e, E_NOT_PRIMARY, "the offer is not an etcd lease");
        r = etcd_transact(
                c, conditions(c, what),
                json_pack("[o, o, o, o]",
                          etcd_put_key(c->key64, what->value, strlen(what->value), what->session),
                          etcd_put_term(c->term_key64, what->term),
                          etcd_put_key(c->heir_key64, what->session, strlen(what->session), "0"),
                          delete_key(c->released_key64)),
                json_pack("[o]", etcd_get_key(c->key64)), &j, &revision, e);
        if (r == 0 && !is_done_already(j, what->session))
                r = err_text(e, E_NOT_PRIMARY, "the lease is not as it was seen");
        json_decref(j);
        if (r >= 0 && what->token != NULL)
                revoke(c, what->token); /* nothing hangs on it now; runs out if need be */
        return r < 0 ? r : 0;
}

/* Only in a key that hangs on the own etcd lease. */
static int
etcd_write_value(struct kv_lease *kv, const char *value, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;

        return etcd_change(c, json_pack("[o]", is_key_of(c, kv->session)),
                           json_pack("[o]", etcd_put_key(c->key64, value, strlen(value), kv->session)),
                           e);
}

/* Whether or not its etcd lease can be revoked then, the key is free. */
static int
etcd_break_key(struct kv_lease *kv, const struct lease_state *seen, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        int r = etcd_change(
                c, json_pack("[o]", etcd_is_unmoved(c->key64, seen->renewal)),
                json_pack("[o, o]", delete_key(c->key64), etcd_put_term(c->released_key64, seen->term)),
                e);

        if (r == 0 && seen->session[0] != '\0')
                revoke(c, seen->session);
        return r;
}

static int
etcd_raise_term(struct kv_lease *kv, const struct lease_state *seen, uint64_t term, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;

        return etcd_change(c,
                           json_pack("[o, o, o]", etcd_is_unmoved(c->key64, seen->key_index),
                                     is_term_unmoved(c, seen), is_term_same(c, seen)),
                           json_pack("[o, o]", etcd_put_term(c->term_key64, term),
                                     etcd_put_term(c->released_key64, 0)),
                           e);
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

        kv_begin(&c->kv);
        r = etcd_transact(c, json_pack("[o]", etcd_is_unmoved(c->cluster_key64, 0)),
                          json_pack("[o]", put), json_pack("[o]", etcd_get_key(c->cluster_key64)), &j,
                          &revision, e);
        if (r > 0) {
                r = kv_copy_cluster_id(id != NULL ? id : "", id != NULL ? strlen(id) : 0, ret, e);
        } else if (r == 0) {
                n = etcd_value_of(etcd_key_of(j, 0), text, sizeof text, e);
                r = n < 0 ? n : kv_copy_cluster_id(text, (size_t)n, ret, e);
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
        int r = kv_copy_cluster_id(id, strlen(id), ret, e);

        return r < 0 ? r : cluster_id((struct etcd_lease *)l, id, ret, e);
}

/* --- set-up --- */

static void
etcd_free(struct lease *l)
{
        struct etcd_lease *c = (struct etcd_lease *)l;

        if (c == NULL)
                return;
        kv_release(&c->kv);
        free(c->endpoints);
        free(c);
}

static const struct kv_service etcd_service = {
        .create_session = grant,
        .keep_alive = keep_alive,
        .end_session = etcd_end_session,
        .read = etcd_read_lease,
        .read_term = etcd_read_lease,
        .read_heir = etcd_read_heir,
        .lock = etcd_lock_key,
        .write_value = etcd_write_value,
        .break_key = etcd_break_key,
        .raise_term = etcd_raise_term,
        .watch = etcd_watch_key,
};

static const struct lease_ops etcd_ops = {
        KV_LEASE_OPS,
        .get_cluster_id = etcd_get_cluster_id,
        .put_cluster_id = etcd_put_cluster_id,
        .hand_on = kv_hand_on,
        .take_on = kv_take_on,
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
set_key(const struct etcd_lease *c, const char *suffix, char ret[ETCD_KEY_SIZE])
{
        char key[KV_KEY_SIZE + 16];
        int n = snprintf(key, sizeof key, "%s%s", c->kv.key, suffix);

        base64_encode(key, (size_t)n, ret);
}

int
lease_etcd_new(const struct lease_etcd_options *o, struct lease **ret, struct err *e)
{
        const struct http_client_options http = { .ca = o->ca,
                                                  .cert = o->cert,
                                                  .cert_key = o->cert_key };
        struct kv_options remote = {
                .type = "etcd",
                .hostname = o->hostname,
                .advertise_url = o->advertise_url,
                .key = o->key,
                .ttl_ms = o->ttl_ms,
                .clock = o->clock,
                .http = &http,
        };
        struct etcd_lease *c = calloc(1, sizeof *c);
        int r;

        if (c == NULL)
                return err_set(e, -ENOMEM, "etcd lease");
        r = set_endpoints(c, o, e);
        if (r == 0)
                r = kv_init(&c->kv, &etcd_ops, &etcd_service, &remote, e);
        if (r < 0) {
                etcd_free(&c->kv.base);
                return r;
        }
        set_key(c, "", c->key64);
        set_key(c, "/clusterid", c->cluster_key64);
        set_key(c, "/term", c->term_key64);
        set_key(c, "/released", c->released_key64);
        set_key(c, "/heir", c->heir_key64);
        *ret = &c->kv.base;
        return 0;
}
