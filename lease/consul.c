#include "lease/consul.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/consul_internal.h"

static int
consul_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        struct consul_entry entry;
        int r;

        remote_begin(&c->r);
        r = consul_read_entry(c, &entry, e);
        if (r == 0)
                *ret = entry.holder;
        return r;
}

/* --- sessions --- */

/* Sessions of a prefix are of a node of the prefix, as with LiteFS: Consul may know nodes of many tenants. */
static int
register_node(struct consul_lease *c, struct err *e)
{
        char url[REMOTE_URL_SIZE];
        struct http_response answer;
        int r = consul_url(c, url, "/catalog/register", "", "", "", e);

        if (r < 0 || c->node[0] == '\0' || c->is_registered)
                return r;
        r = consul_put_json(c, url, json_pack("{s:s, s:s}", "Node", c->node, "Address", "localhost"),
                            &answer, e);
        if (r == 0 && answer.status != STATUS_OK)
                r = remote_refused("PUT", url, &answer, e);
        c->is_registered = r == 0;
        return r;
}

static json_t *
session_body(const struct consul_lease *c)
{
        char ttl[32], delay[32];
        json_t *body;

        snprintf(ttl, sizeof ttl, "%" PRId64 "ms", c->r.base.ttl_ms);
        snprintf(delay, sizeof delay, "%" PRId64 "ms", c->r.base.lock_delay_ms);
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
        json_t *j = remote_json(answer, url, e);
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

/* Releases the lock first: a session that ends while it holds one leaves the lock-delay behind. */
static int
end_session(struct remote_lease *lease, const char *session)
{
        struct consul_lease *c = (struct consul_lease *)lease;
        char url[REMOTE_URL_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, "?release=", session, NULL);

        if (r == 0)
                r = consul_put_bool(c, url, NULL, NULL);
        if (r < 0)
                return r;
        r = consul_url(c, url, "/session/destroy/", session, "", "", NULL);
        if (r == 0)
                r = consul_put_bool(c, url, NULL, NULL);
        return r < 0 ? r : 0;
}

static int
create_session(struct consul_lease *c, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        int r;

        remote_drop_session(&c->r, c->r.leftover);
        r = register_node(c, e);
        if (r == 0)
                r = consul_url(c, url, "/session/create", "", "", "", e);
        if (r == 0)
                r = consul_put_json(c, url, session_body(c), &answer, e);
        if (r < 0)
                return r;
        if (answer.status != STATUS_OK)
                return remote_refused("PUT", url, &answer, e);
        return parse_session(&answer, url, ret, e);
}

static int
renew_session(struct remote_lease *lease, int64_t *ret_ttl_ms, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)lease;
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        int r = consul_url(c, url, "/session/renew/", c->r.session, "", "", e);

        if (r == 0)
                r = consul_ask(c, "PUT", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND)
                return err_text(e, E_NOT_PRIMARY, "the session has ended");
        *ret_ttl_ms = c->r.base.ttl_ms;
        return answer.status == STATUS_OK ? 0 : remote_refused("PUT", url, &answer, e);
}

/* --- acquire and renew --- */

/* Acquires by LiteFS's request, not by a transaction, so that the lock-delay counts. */
static int
lock_by(struct consul_lease *c, const char *session, struct err *e)
{
        struct http_response answer;
        char url[REMOTE_URL_SIZE], value[REMOTE_VALUE_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, "?acquire=", session, e);

        if (r == 0)
                r = remote_format(&c->r, false, value, e);
        if (r == 0)
                r = consul_ask(c, "PUT", url, value, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_OK && strncmp(answer.body, "false", 5) == 0)
                return err_text(e, E_NOT_PRIMARY, "another node has the lease, or had it a moment ago");
        if (answer.status == STATUS_OK && strncmp(answer.body, "true", 4) == 0)
                return 0;
        return remote_refused("PUT", url, &answer, e);
}

static int
consul_acquire(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char session[LEASE_SESSION_SIZE] = "";
        struct consul_entry entry;
        int64_t start_ms = remote_begin(&c->r);
        int r = create_session(c, session, e);

        if (r == 0)
                r = lock_by(c, session, e);
        if (r == 0)
                r = consul_read_entry(c, &entry, e);
        if (r == 0 && strcmp(entry.holder.session, session) != 0)
                r = err_text(e, E_NOT_PRIMARY, "the lease was lost at once");
        if (r < 0) {
                remote_drop_session(&c->r, session);
                return r;
        }
        remote_hold(&c->r, session, entry.holder.term, start_ms, c->r.base.ttl_ms);
        *ret = entry.holder;
        return 0;
}

/* Only over the own lock: to lock anew would be to acquire. */
static int
write_value(struct remote_lease *lease, const char *value, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)lease;
        uint64_t index;

        return consul_transact(c,
                               json_pack("[o, o]", consul_check_session(c, c->r.session),
                                         consul_lock_key(c, c->r.session, value)),
                               &index, e);
}

/* --- from one holder to another --- */

/* Unlocked before its session is destroyed, the key is free at once; and the destroyed session cannot be
 * renewed. When that fails the session runs out by itself, and its holder finds the key not its own. */
static int
consul_break_stale(struct lease *l, const struct lease_state *seen, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char url[REMOTE_URL_SIZE];
        uint64_t index;
        int r = remote_check_stale(seen, e);

        if (r < 0)
                return r;
        remote_begin(&c->r);
        r = consul_transact(c,
                            json_pack("[o, o]", consul_check_index(c, seen->renewal),
                                      consul_unlock_key(c, seen->session)),
                            &index, e);
        if (r == 0 && consul_url(c, url, "/session/destroy/", seen->session, "", "", NULL) == 0)
                consul_put_bool(c, url, NULL, NULL);
        return r;
}

/* From session to session in one transaction, so that nobody comes between. LiteFS goes on with the session
 * that it was given; a new one has this node's TTL and lock-delay, and moves the index even when both nodes
 * are called the same. */
static int
take_over(struct consul_lease *c, const char *token, const char *session, int64_t start_ms,
          struct err *e)
{
        char value[REMOTE_VALUE_SIZE];
        uint64_t index = 0;
        int r = remote_format(&c->r, false, value, e);

        if (r == 0)
                r = consul_transact(c,
                                    json_pack("[o, o, o]", consul_check_session(c, token),
                                              consul_unlock_key(c, token),
                                              consul_lock_key(c, session, value)),
                                    &index, e);
        if (r < 0)
                return r;
        remote_hold(&c->r, session, index, start_ms, c->r.base.ttl_ms);
        return 0;
}

static int
consul_take_over(struct lease *l, const char *token, struct lease_state *ret, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char session[LEASE_SESSION_SIZE] = "", url[REMOTE_URL_SIZE];
        int64_t start_ms = remote_begin(&c->r);
        int r;

        if (token[0] == '\0' || strspn(token, "0123456789abcdefABCDEF-") != strlen(token))
                return err_text(e, E_NOT_PRIMARY, "the offer is not a Consul session");
        r = create_session(c, session, e);
        if (r == 0)
                r = take_over(c, token, session, start_ms, e);
        if (r < 0) {
                remote_drop_session(&c->r, session);
                return r;
        }
        if (consul_url(c, url, "/session/destroy/", token, "", "", NULL) == 0)
                consul_put_bool(c, url, NULL, NULL); /* holds nothing now; runs out if need be */
        remote_self(&c->r, c->r.term, ret);
        return 0;
}

/* --- the cluster's id --- */

static int
read_cluster_id(struct consul_lease *c, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, "/clusterid?consistent&raw", "", e);

        if (r == 0)
                r = consul_ask(c, "GET", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND)
                answer.body_size = 0;
        else if (answer.status != STATUS_OK)
                return remote_refused("GET", url, &answer, e);
        return remote_copy_cluster_id(answer.body, answer.body_size, ret, e);
}

static int
consul_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;

        remote_begin(&c->r);
        return read_cluster_id(c, ret, e);
}

/* "cas=0" creates the key or does nothing; what is there then is read. */
static int
consul_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char url[REMOTE_URL_SIZE];
        int r;

        remote_begin(&c->r);
        r = remote_copy_cluster_id(id, strlen(id), ret, e);
        if (r == 0)
                r = consul_url(c, url, "/kv/", c->key_path, "/clusterid?cas=0", "", e);
        if (r == 0)
                r = consul_put_bool(c, url, id, e);
        if (r >= 0)
                r = read_cluster_id(c, ret, e);
        if (r == 0 && ret[0] == '\0')
                return err_text(e, E_FORMAT, "%s/clusterid is there but empty", c->r.key);
        return r;
}

/* --- the last term --- */

static int
consul_get_last_term(struct lease *l, uint64_t *ret, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, "/term?consistent&raw", "", e);

        remote_begin(&c->r);
        if (r == 0)
                r = consul_ask(c, "GET", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status != STATUS_OK && answer.status != STATUS_NOT_FOUND)
                return remote_refused("GET", url, &answer, e);
        return remote_parse_term(answer.body, answer.status == STATUS_OK ? answer.body_size : 0, ret, e);
}

static int
consul_put_last_term(struct lease *l, uint64_t term, struct err *e)
{
        struct consul_lease *c = (struct consul_lease *)l;
        char key[REMOTE_KEY_SIZE + 8], text[24], base64[BASE64_SIZE(sizeof text)];
        uint64_t index;
        json_t *put;
        int r = remote_check_held(&c->r, e);

        if (r < 0)
                return r;
        remote_begin(&c->r);
        snprintf(key, sizeof key, "%s/term", c->r.key);
        snprintf(text, sizeof text, "%" PRIu64, term);
        base64_encode(text, strlen(text), base64);
        put = json_pack("{s:{s:s, s:s, s:s}}", "KV", "Verb", "set", "Key", key, "Value", base64);
        return consul_transact(c, json_pack("[o, o]", consul_check_session(c, c->r.session), put),
                               &index, e);
}

/* --- set-up --- */

static void
consul_free(struct lease *l)
{
        if (l == NULL)
                return;
        remote_release(&((struct consul_lease *)l)->r);
        free(l);
}

static const struct remote_service consul_service = {
        .keep_alive = renew_session,
        .write_value = write_value,
        .end_session = end_session,
};

static const struct lease_ops consul_ops = {
        .read = consul_read,
        .acquire = consul_acquire,
        .renew = remote_renew,
        .release = remote_end,
        .break_stale = consul_break_stale,
        .offer = remote_offer,
        .take_over = consul_take_over,
        .get_cluster_id = consul_get_cluster_id,
        .put_cluster_id = consul_put_cluster_id,
        .get_last_term = consul_get_last_term,
        .put_last_term = consul_put_last_term,
        .deadline_ms = remote_deadline_ms,
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
        if (escape_path(c->r.key, c->key_path, sizeof c->key_path) < 0)
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
init_remote(struct consul_lease *c, const struct lease_consul_options *o, const struct http_url *url,
            struct err *e)
{
        const char *verify = first_of(NULL, NULL, "CONSUL_HTTP_SSL_VERIFY");
        const char *token = first_of(o->token, url->password, "CONSUL_HTTP_TOKEN");
        char token_header[1024], key[REMOTE_URL_SIZE];
        const char *headers[] = { token_header, NULL };
        struct remote_options remote = {
                .type = "consul",
                .hostname = o->hostname,
                .advertise_url = o->advertise_url,
                .key = key,
                .ttl_ms = o->ttl_ms,
                .lock_delay_ms = o->lock_delay_ms,
                .clock = o->clock,
                .http = { .ca = first_of(o->ca, NULL, "CONSUL_CACERT"),
                          .cert = first_of(o->cert, NULL, "CONSUL_CLIENT_CERT"),
                          .cert_key = first_of(o->cert_key, NULL, "CONSUL_CLIENT_KEY"),
                          .is_unverified = strcmp(verify, "false") == 0 || strcmp(verify, "0") == 0,
                          .headers = token[0] != '\0' ? headers : NULL },
        };

        if (o->key == NULL || o->key[0] == '\0')
                return err_text(e, E_CONFIG, "lease.consul.key required");
        if (snprintf(key, sizeof key, "%s/%s", url->path, o->key) >= (int)sizeof key)
                return err_text(e, E_CONFIG, "lease.consul.key: too long");
        if (token[strcspn(token, "\r\n")] != '\0' ||
            snprintf(token_header, sizeof token_header, "X-Consul-Token: %s", token) >=
                    (int)sizeof token_header)
                return err_text(e, E_CONFIG, "lease.consul.token: not a token of Consul's");
        return remote_init(&c->r, &consul_ops, &consul_service, &remote, e);
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
        r = init_remote(c, options, &url, e);
        if (r == 0)
                r = set_node(c, url.path, e);
        if (r == 0)
                r = set_base(c, &url, e);
        if (r < 0) {
                consul_free(&c->r.base);
                return r;
        }
        *ret = &c->r.base;
        return 0;
}
