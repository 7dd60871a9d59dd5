#include "lease/consul.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/consul_internal.h"

#define WATCH_S 10
#define WATCH_ANSWER_SIZE (16 * 1024)

/* --- sessions --- */

/* Sessions of a prefix are of a node of the prefix, as with LiteFS: Consul may know nodes of many tenants. */
static int
register_node(struct consul_lease *c, struct err *e)
{
        char url[KV_URL_SIZE];
        struct http_response answer;
        int r = consul_url(c, url, "/catalog/register", "", "", "", e);

        if (r < 0 || c->node[0] == '\0' || c->is_registered)
                return r;
        r = consul_put_json(c, url, json_pack("{s:s, s:s}", "Node", c->node, "Address", "localhost"),
                            &answer, e);
        if (r == 0 && answer.status != STATUS_OK)
                r = kv_refused("PUT", url, &answer, e);
        c->is_registered = r == 0;
        return r;
}

static json_t *
session_body(const struct consul_lease *c)
{
        char ttl[32], delay[32];
        json_t *body;

        snprintf(ttl, sizeof ttl, "%" PRId64 "ms", c->kv.base.ttl_ms);
        snprintf(delay, sizeof delay, "%" PRId64 "ms", c->kv.base.lock_delay_ms);
        body = json_pack("{s:[], s:s, s:s, s:s, s:s}", "NodeChecks", "Name", "litefs", "Behavior",
                         "delete", "LockDelay", delay, "TTL", ttl);
        if (body != NULL && c->node[0] != '\0')
                json_object_set_new(body, "Node", json_string(c->node));
        return body;
}

static int
parse_session(const struct http_response *answer, const char *url, char ret[LEASE_SESSION_SIZE],
              struct err *e)
{
        json_t *j = kv_json(answer, url, e);
        const char *id = NULL;
        bool is_good;

        if (j == NULL)
                return -EPROTO;
        is_good = json_unpack(j, "{s:s}", "ID", &id) == 0 && id[0] != '\0' &&
                  strlen(id) < LEASE_SESSION_SIZE && strspn(id, "0123456789abcdefABCDEF-") == strlen(id);
        if (is_good)
                strcpy(ret, id);
        json_decref(j);
        return is_good ? 0 : err_text(e, -EPROTO, "PUT %s: no session id in the answer", url);
}

/* Unlocks first: a session that ends while it has the lock leaves the lock-delay behind. */
static int
consul_end_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        struct consul_lease *c = (struct consul_lease *)kv;
        char url[KV_URL_SIZE];
        int r = consul_transact(c,
                                json_pack("[o, o, o]", consul_check_session(c, session),
                                          consul_unlock(c, session),
                                          consul_set_term(c, "/released", term)),
                                NULL);

        if (r < 0 && r != E_NOT_PRIMARY)
                return r;
        r = consul_url(c, url, "/session/destroy/", session, "", "", NULL);
        if (r == 0)
                r = consul_put_bool(c, url, NULL, NULL);
        return r < 0 ? r : 0;
}

static int
create_session(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;
        struct http_response answer;
        char url[KV_URL_SIZE];
        int r = register_node(c, e);

        *ret_ttl_ms = kv->base.ttl_ms;
        if (r == 0)
                r = consul_url(c, url, "/session/create", "", "", "", e);
        if (r == 0)
                r = consul_put_json(c, url, session_body(c), &answer, e);
        if (r < 0)
                return r;
        if (answer.status != STATUS_OK)
                return kv_refused("PUT", url, &answer, e);
        return parse_session(&answer, url, ret, e);
}

static int
renew_session(struct kv_lease *lease, int64_t *ret_ttl_ms, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)lease;
        struct http_response answer;
        char url[KV_URL_SIZE];
        int r = consul_url(c, url, "/session/renew/", c->kv.session, "", "", e);

        if (r == 0)
                r = consul_ask(c, "PUT", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND)
                return err_text(e, E_NOT_PRIMARY, "the session has ended");
        *ret_ttl_ms = c->kv.base.ttl_ms;
        return answer.status == STATUS_OK ? 0 : kv_refused("PUT", url, &answer, e);
}

/* --- reading --- */

static int
consul_parse_term(const struct consul_entry *key, uint64_t *ret, struct err *e)
{
        return kv_parse_term(key->value, key->value_size, ret, e);
}

static int
read_term(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct consul_entry term;
        int r = consul_read_key((struct consul_lease *)kv, "/term", &term, e);

        if (r < 0)
                return r;
        ret->last_term_index = term.index;
        ret->index = term.consul_index;
        return consul_parse_term(&term, &ret->last_term, e);
}

static int
consul_read_heir(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct consul_entry heir;
        int r = consul_read_key((struct consul_lease *)kv, "/heir", &heir, e);

        ret[0] = '\0';
        if (r == 0 && heir.value_size < LEASE_SESSION_SIZE)
                strcpy(ret, heir.value);
        return r;
}

static int
consul_parse_holder(const struct consul_entry *key, struct lease_state *ret, struct err *e)
{
        strcpy(ret->session, key->session);
        return key->value_size > 0 ? kv_parse(key->value, key->value_size, key->index, ret, e) : 0;
}

/* KEY once more, after KEY/term: read before it, a term that began and ended in between would go unseen. */
static int
read_free(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;
        struct consul_entry key, released;
        uint64_t released_term = 0;
        int r = read_term(kv, ret, e);

        if (r == 0)
                r = consul_read_key(c, "/released", &released, e);
        if (r == 0)
                r = consul_parse_term(&released, &released_term, e);
        if (r == 0)
                r = consul_read_key(c, "", &key, e);
        if (r < 0)
                return r;
        if (key.session[0] != '\0')
                return consul_parse_holder(&key, ret, e);
        ret->key_index = key.index;
        ret->released_index = released.index;
        ret->index = kv_max(ret->index, kv_max(key.consul_index, key.index));
        ret->is_raised = released.is_there && released_term == 0;
        /* LiteFS leaves an empty key behind that nobody locks, and only then; so did earlier versions. */
        ret->is_released = !ret->is_raised && ((key.is_there && key.value_size == 0) ||
                                               (released_term != 0 && released_term == ret->last_term));
        return 0;
}

static int
consul_read_lease(struct kv_lease *kv, struct lease_state *ret, struct err *e)
{
        struct consul_entry key;
        int r = consul_read_key((struct consul_lease *)kv, "", &key, e);

        if (r < 0)
                return r;
        return key.session[0] != '\0' ? consul_parse_holder(&key, ret, e) : read_free(kv, ret, e);
}

/* --- acquire and renew --- */

/* In a transaction, too, the lock-delay counts, and with it LiteFS's nodes. */
static int
lock_free(struct consul_lease *c, const struct kv_lock *what, struct err *e)
{
        return consul_transact(
                c,
                json_pack("[o, o, o, o, o, o, o]", consul_check(c, "", what->seen->key_index),
                          consul_check(c, "/term", what->seen->last_term_index),
                          consul_check(c, "/released", what->seen->released_index),
                          consul_lock(c, what->session, what->value),
                          consul_set_term(c, "/term", what->term), consul_set(c, "/heir", what->session),
                          consul_operation(c, "delete", "/released", json_object())),
                e);
}

/* From session to session in one transaction, so that nobody comes between. LiteFS goes on with the session
 * that it was given; a new one has this node's TTL and lock-delay, and moves the index even when both nodes
 * are called the same. */
static int
lock_offered(struct consul_lease *c, const struct kv_lock *what, struct err *e)
{
        char url[KV_URL_SIZE];
        int r;

        if (what->token[0] == '\0' ||
            strspn(what->token, "0123456789abcdefABCDEF-") != strlen(what->token))
                return err_text(e, E_NOT_PRIMARY, "the offer is not a Consul session");
        r = consul_transact(
                c,
                json_pack("[o, o, o, o, o, o, o]", consul_check_session(c, what->token),
                          consul_check(c, "/term", what->seen->last_term_index),
                          consul_unlock(c, what->token), consul_lock(c, what->session, what->value),
                          consul_set_term(c, "/term", what->term), consul_set(c, "/heir", what->session),
                          consul_operation(c, "delete", "/released", json_object())),
                e);
        if (r == 0 && consul_url(c, url, "/session/destroy/", what->token, "", "", NULL) == 0)
                consul_put_bool(c, url, NULL, NULL); /* holds nothing now; runs out if need be */
        return r;
}

static int
consul_lock_key(struct kv_lease *kv, const struct kv_lock *what, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;

        return what->token != NULL ? lock_offered(c, what, e) : lock_free(c, what, e);
}

/* Only over the own lock: to lock anew would be to acquire. */
static int
consul_write_value(struct kv_lease *kv, const char *value, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;

        return consul_transact(c,
                               json_pack("[o, o]", consul_check_session(c, kv->session),
                                         consul_lock(c, kv->session, value)),
                               e);
}

/* Unlocked before its session is destroyed, the key is free at once; and the destroyed session cannot be
 * renewed. When that fails the session runs out by itself, and its holder finds the key not its own. */
static int
consul_break_key(struct kv_lease *kv, const struct lease_state *seen, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;
        char url[KV_URL_SIZE];
        int r = consul_transact(c,
                                json_pack("[o, o, o]", consul_check(c, "", seen->renewal),
                                          consul_unlock(c, seen->session),
                                          consul_set_term(c, "/released", seen->term)),
                                e);

        if (r == 0 && consul_url(c, url, "/session/destroy/", seen->session, "", "", NULL) == 0)
                consul_put_bool(c, url, NULL, NULL);
        return r;
}

static int
consul_raise_term(struct kv_lease *kv, const struct lease_state *seen, uint64_t term, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;

        return consul_transact(c,
                               json_pack("[o, o, o, o]", consul_check(c, "", seen->key_index),
                                         consul_check(c, "/term", seen->last_term_index),
                                         consul_set_term(c, "/term", term),
                                         consul_set_term(c, "/released", 0)),
                               e);
}

/* --- the watch --- */

/* An answer comes when the key has changed, as with each renewal, or after WATCH_S. */
static int
watch_key(struct kv_lease *kv, const struct lease_state *held, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)kv;
        char url[KV_URL_SIZE], query[80] = "";
        struct consul_entry key;
        struct http_response answer;
        struct http_request q = { .method = "GET",
                                  .url = url,
                                  .max_response_size = WATCH_ANSWER_SIZE,
                                  .timeout_ms = WATCH_S * 1500 };

        for (int i = 0; i < 2; i++) {
                int r = consul_url(c, url, "/kv/", c->key_path, "?consistent", query, e);

                if (r == 0)
                        r = kv_watch_request(kv, &q, &answer, e);
                if (r == 0)
                        r = consul_parse_key(&answer, url, &key, e);
                if (r < 0)
                        return r;
                if (strcmp(key.session, held->session) != 0)
                        return err_text(e, E_NOT_PRIMARY,
                                        "%s is no longer locked by this node's session", kv->key);
                snprintf(query, sizeof query, "&index=%" PRIu64 "&wait=%ds", key.index, WATCH_S);
        }
        return 0;
}

/* --- the cluster's id --- */

static int
read_cluster_id(struct consul_lease *c, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct http_response answer;
        char url[KV_URL_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, "/clusterid?consistent&raw", "", e);

        if (r == 0)
                r = consul_ask(c, "GET", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND)
                answer.body_size = 0;
        else if (answer.status != STATUS_OK)
                return kv_refused("GET", url, &answer, e);
        return kv_copy_cluster_id(answer.body, answer.body_size, ret, e);
}

static int
consul_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;

        kv_begin(&c->kv);
        return read_cluster_id(c, ret, e);
}

/* "cas=0" creates the key or does nothing; what is there then is read. */
static int
consul_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char url[KV_URL_SIZE];
        int r;

        kv_begin(&c->kv);
        r = kv_copy_cluster_id(id, strlen(id), ret, e);
        if (r == 0)
                r = consul_url(c, url, "/kv/", c->key_path, "/clusterid?cas=0", "", e);
        if (r == 0)
                r = consul_put_bool(c, url, id, e);
        if (r >= 0)
                r = read_cluster_id(c, ret, e);
        if (r == 0 && ret[0] == '\0')
                return err_text(e, E_FORMAT, "%s/clusterid is there but empty", c->kv.key);
        return r;
}

/* --- set-up --- */

static void
consul_free(struct lease *l)
{
        if (l == NULL)
                return;
        kv_release(&((struct consul_lease *)l)->kv);
        free(l);
}

static const struct kv_service consul_service = {
        .create_session = create_session,
        .keep_alive = renew_session,
        .end_session = consul_end_session,
        .read = consul_read_lease,
        .read_term = read_term,
        .read_heir = consul_read_heir,
        .lock = consul_lock_key,
        .write_value = consul_write_value,
        .break_key = consul_break_key,
        .raise_term = consul_raise_term,
        .watch = watch_key,
};

static const struct lease_ops consul_ops = {
        KV_LEASE_OPS,
        .get_cluster_id = consul_get_cluster_id,
        .put_cluster_id = consul_put_cluster_id,
        .hand_on = kv_hand_on,
        .take_on = kv_take_on,
        .free = consul_free,
};

/* The first that is set, or "". */
static const char *
first_of(const char *a, const char *b, const char *variable)
{
        const char *value = variable != NULL ? getenv(variable) : NULL;

        if (a != NULL && a[0] != '\0')
                return a;
        if (b != NULL && b[0] != '\0')
                return b;
        return value != NULL ? value : "";
}

/* All but unreserved characters and slashes. */
static int
escape_path(const char *path, char *ret, size_t size)
{
        static const char plain[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
        size_t n = 0;

        for (; *path != '\0'; path++) {
                if (n + 4 > size)
                        return -EMSGSIZE;
                if (strchr(plain, *path) != NULL)
                        ret[n++] = *path;
                else
                        n += (size_t)snprintf(ret + n, size - n, "%%%02X", (unsigned char)*path);
        }
        ret[n] = '\0';
        return 0;
}

static int
set_base(struct consul_lease *c, const struct http_url *url, struct err *e)
{
        snprintf(c->base, sizeof c->base, "%s/v1", url->base);
        if (escape_path(c->kv.key, c->key_path, sizeof c->key_path) < 0)
                return err_text(e, E_CONFIG, "lease.consul.key: too long");
        return 0;
}

/* "PREFIX/litefs" when there is one. */
static int
set_node(struct consul_lease *c, const char *path, struct err *e)
{
        int n;

        if (path[strspn(path, "/")] == '\0')
                return 0;
        path += strspn(path, "/");
        n = snprintf(c->node, sizeof c->node, "%s", path);
        while (n > 0 && n < (int)sizeof c->node && c->node[n - 1] == '/')
                c->node[--n] = '\0';
        if (n + sizeof "/litefs" > sizeof c->node)
                return err_text(e, E_CONFIG, "lease.consul.url: its path is too long");
        strcpy(c->node + n, "/litefs");
        return 0;
}

static int
init_kv(struct consul_lease *c, const struct lease_consul_options *o, const struct http_url *url,
        struct err *e)
{
        const char *verify = first_of(NULL, NULL, "CONSUL_HTTP_SSL_VERIFY");
        const char *token = first_of(o->token, url->password, "CONSUL_HTTP_TOKEN");
        char token_header[1024], key[KV_URL_SIZE];
        const char *headers[] = { token_header, NULL };
        const struct http_client_options http = {
                .ca = first_of(o->ca, NULL, "CONSUL_CACERT"),
                .cert = first_of(o->cert, NULL, "CONSUL_CLIENT_CERT"),
                .cert_key = first_of(o->cert_key, NULL, "CONSUL_CLIENT_KEY"),
                .is_unverified = strcmp(verify, "false") == 0 || strcmp(verify, "0") == 0,
                .headers = token[0] != '\0' ? headers : NULL,
        };
        const struct kv_options remote = {
                .type = "consul",
                .hostname = o->hostname,
                .advertise_url = o->advertise_url,
                .key = key,
                .ttl_ms = o->ttl_ms,
                .lock_delay_ms = o->lock_delay_ms,
                .clock = o->clock,
                .http = &http,
        };

        if (o->key == NULL || o->key[0] == '\0')
                return err_text(e, E_CONFIG, "lease.consul.key required");
        if (snprintf(key, sizeof key, "%s/%s", url->path, o->key) >= (int)sizeof key)
                return err_text(e, E_CONFIG, "lease.consul.key: too long");
        if (token[strcspn(token, "\r\n")] != '\0' ||
            snprintf(token_header, sizeof token_header, "X-Consul-Token: %s", token) >=
                    (int)sizeof token_header)
                return err_text(
                        e, E_CONFIG,
                        "lease.consul.token: invalid Consul token: it is too long, or has a line break in it");
        c->kv.index_header = "X-Consul-Index";
        return kv_init(&c->kv, &consul_ops, &consul_service, &remote, e);
}

int
lease_consul_new(const struct lease_consul_options *options, struct lease **ret, struct err *e)
{
        struct consul_lease *c;
        struct http_url url;
        int r;

        if (options->url == NULL || options->url[0] == '\0')
                return err_text(e, E_CONFIG, "lease.consul.url required");
        r = http_url_parse(options->url, &url, e);
        if (r < 0) {
                err_prefix(e, "lease.consul.url");
                return r;
        }
        c = calloc(1, sizeof *c);
        if (c == NULL)
                return err_set(e, -ENOMEM, "Consul lease");
        r = init_kv(c, options, &url, e);
        if (r == 0)
                r = set_node(c, url.path, e);
        if (r == 0)
                r = set_base(c, &url, e);
        if (r < 0) {
                consul_free(&c->kv.base);
                return r;
        }
        *ret = &c->kv.base;
        return 0;
}
