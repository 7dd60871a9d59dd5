#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/consul_internal.h"

/* --- requests --- */

int
consul_url(const struct consul_lease *c, char ret[REMOTE_URL_SIZE], const char *path, const char *a,
           const char *b, const char *d, struct err *e)
{
        int n = snprintf(ret, REMOTE_URL_SIZE, "%s%s%s%s%s", c->base, path, a, b, d);

        return n < REMOTE_URL_SIZE ? 0 : err_text(e, E_CONFIG, "the URL of the request is too long");
}

int
consul_ask(struct consul_lease *c, const char *method, const char *url, const char *body,
           struct http_response *ret, struct err *e)
{
        return remote_request(&c->r, method, url, body, c->r.timeout_ms, ret, e);
}

int
consul_put_json(struct consul_lease *c, const char *url, json_t *body, struct http_response *ret,
                struct err *e)
{
        char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
        int r = text != NULL ? consul_ask(c, "PUT", url, text, ret, e)
                             : err_set(e, -ENOMEM, "PUT %s", url);

        free(text);
        json_decref(body);
        return r;
}

int
consul_put_bool(struct consul_lease *c, const char *url, const char *body, struct err *e)
{
        struct http_response answer;
        int r = consul_ask(c, "PUT", url, body, &answer, e);

        if (r < 0)
                return r;
        if (answer.status == STATUS_OK && strncmp(answer.body, "true", 4) == 0)
                return 1;
        if (answer.status == STATUS_OK && strncmp(answer.body, "false", 5) == 0)
                return 0;
        return remote_refused("PUT", url, &answer, e);
}

/* --- the key --- */

static int
parse_entry(const json_t *j, struct consul_entry *ret, struct err *e)
{
        const char *value = NULL, *session = NULL;
        json_int_t index = 0;
        char text[REMOTE_VALUE_SIZE];
        int n;

        if (json_unpack((json_t *)j, "[{s:I, s?s, s?s}]", "ModifyIndex", &index, "Session", &session,
                        "Value", &value) != 0) {
                /* A value that was released is null, which is no string. */
                value = NULL;
                if (json_unpack((json_t *)j, "[{s:I, s?s, s:n}]", "ModifyIndex", &index, "Session",
                                &session, "Value") != 0)
                        return err_text(e, -EPROTO, "not an entry of Consul's");
        }
        ret->index = (uint64_t)index;
        ret->is_locked = session != NULL && session[0] != '\0';
        if (!ret->is_locked || value == NULL)
                return 0;
        n = base64_decode(value, text, sizeof text);
        if (n < 0 || strlen(session) >= sizeof ret->holder.session)
                return err_text(e, E_FORMAT, "the holder's value is not what LiteFS writes");
        strcpy(ret->holder.session, session);
        return n > 0 ? remote_parse(text, (size_t)n, ret->index, &ret->holder, e) : 0;
}

int
consul_read_entry(struct consul_lease *c, struct consul_entry *ret, struct err *e)
{
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        json_t *j;
        int r = consul_url(c, url, "/kv/", c->key_path, "?consistent", "", e);

        memset(ret, 0, sizeof *ret);
        if (r == 0)
                r = consul_ask(c, "GET", url, NULL, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_NOT_FOUND)
                return 0;
        if (answer.status != STATUS_OK)
                return remote_refused("GET", url, &answer, e);
        j = remote_json(&answer, url, e);
        if (j == NULL)
                return -EPROTO;
        r = parse_entry(j, ret, e);
        json_decref(j);
        if (r < 0)
                err_prefix(e, "GET %s", url);
        return r;
}

/* --- transactions --- */

/* One operation on the key, over the members in @op, which it takes. */
static json_t *
operation(const struct consul_lease *c, const char *verb, json_t *op)
{
        json_object_set_new(op, "Verb", json_string(verb));
        json_object_set_new(op, "Key", json_string(c->r.key));
        return json_pack("{s:o}", "KV", op);
}

json_t *
consul_check_session(const struct consul_lease *c, const char *session)
{
        return operation(c, "check-session", json_pack("{s:s}", "Session", session));
}

json_t *
consul_check_index(const struct consul_lease *c, uint64_t index)
{
        return operation(c, "check-index", json_pack("{s:I}", "Index", (json_int_t)index));
}

json_t *
consul_unlock_key(const struct consul_lease *c, const char *session)
{
        return operation(c, "unlock", json_pack("{s:s, s:s}", "Session", session, "Value", ""));
}

json_t *
consul_lock_key(const struct consul_lease *c, const char *session, const char *value)
{
        char text[BASE64_SIZE(REMOTE_VALUE_SIZE)];

        base64_encode(value, strlen(value), text);
        return operation(c, "lock", json_pack("{s:s, s:s}", "Session", session, "Value", text));
}

/* The key's index after the last operation of a transaction that succeeded. */
static int
last_index(const json_t *j, uint64_t *ret)
{
        const json_t *results = json_object_get(j, "Results");
        json_int_t index;

        if (json_unpack(json_array_get(results, json_array_size(results) - 1), "{s:{s:I}}", "KV",
                        "ModifyIndex", &index) != 0 ||
            index <= 0)
                return -EPROTO;
        *ret = (uint64_t)index;
        return 0;
}

int
consul_transact(struct consul_lease *c, json_t *ops, uint64_t *ret_index, struct err *e)
{
        struct http_response answer;
        char url[REMOTE_URL_SIZE];
        json_t *j;
        int r = consul_url(c, url, "/txn", "", "", "", e);

        if (r < 0)
                json_decref(ops);
        else
                r = consul_put_json(c, url, ops, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_CONFLICT)
                return err_text(e, E_NOT_PRIMARY, "another node has the lease, or nobody");
        if (answer.status != STATUS_OK)
                return remote_refused("PUT", url, &answer, e);
        j = remote_json(&answer, url, e);
        if (j == NULL)
                return -EPROTO;
        r = last_index(j, ret_index);
        json_decref(j);
        return r < 0 ? err_text(e, r, "PUT %s: not the results of a transaction", url) : 0;
}
