#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "lease/consul_internal.h"

/* --- requests --- */

int
consul_url(const struct consul_lease *c, char ret[KV_URL_SIZE], const char *path, const char *a,
           const char *b, const char *d, struct err *e)
{
        int n = snprintf(ret, KV_URL_SIZE, "%s%s%s%s%s", c->base, path, a, b, d);

        return n < KV_URL_SIZE ? 0 : err_text(e, E_CONFIG, "the URL of the request is too long");
}

int
consul_ask(struct consul_lease *c, const char *method, const char *url, const char *body,
           struct http_response *ret, struct err *e)
{
        return kv_request(&c->kv, method, url, body, c->kv.timeout_ms, ret, e);
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
        return kv_refused("PUT", url, &answer, e);
}

/* --- keys --- */

static int
parse_entry(const json_t *j, struct consul_entry *ret, struct err *e)
{
        const char *session = "", *value = "";
        const json_t *text;
        json_int_t index = 0;
        int n;

        if (json_unpack((json_t *)j, "[{s:I, s?s, s?o}]", "ModifyIndex", &index, "Session", &session,
                        "Value", &text) != 0 ||
            index <= 0)
                return err_text(e, -EPROTO, "not an entry of Consul's");
        /* A value that was released is null, which is no string. */
        text = json_object_get(json_array_get(j, 0), "Value");
        if (text != NULL && !json_is_null(text) && (value = json_string_value(text)) == NULL)
                return err_text(e, -EPROTO, "not an entry of Consul's");
        n = base64_decode(value, ret->value, sizeof ret->value - 1);
        if (n < 0 || strlen(session) >= sizeof ret->session)
                return err_text(e, E_FORMAT, "the key's value is not what LiteFS writes");
        ret->is_there = true;
        ret->index = (uint64_t)index;
        strcpy(ret->session, session);
        ret->value[n] = '\0';
        ret->value_size = (size_t)n;
        return 0;
}

int
consul_parse_key(const struct http_response *answer, const char *url, struct consul_entry *ret,
                 struct err *e)
{
        json_t *j;
        int r;

        memset(ret, 0, sizeof *ret);
        ret->consul_index = answer->number;
        if (answer->status == STATUS_NOT_FOUND)
                return 0;
        if (answer->status != STATUS_OK)
                return kv_refused("GET", url, answer, e);
        j = kv_json(answer, url, e);
        if (j == NULL)
                return -EPROTO;
        r = parse_entry(j, ret, e);
        json_decref(j);
        if (r < 0)
                err_prefix(e, "GET %s", url);
        return r;
}

int
consul_read_key(struct consul_lease *c, const char *suffix, struct consul_entry *ret, struct err *e)
{
        struct http_response answer;
        char url[KV_URL_SIZE];
        int r = consul_url(c, url, "/kv/", c->key_path, suffix, "?consistent", e);

        if (r == 0)
                r = consul_ask(c, "GET", url, NULL, &answer, e);
        return r < 0 ? r : consul_parse_key(&answer, url, ret, e);
}

/* --- transactions --- */

json_t *
consul_operation(const struct consul_lease *c, const char *verb, const char *suffix, json_t *op)
{
        char key[KV_KEY_SIZE + 16];

        snprintf(key, sizeof key, "%s%s", c->kv.key, suffix);
        json_object_set_new(op, "Verb", json_string(verb));
        json_object_set_new(op, "Key", json_string(key));
        return json_pack("{s:o}", "KV", op);
}

json_t *
consul_check(const struct consul_lease *c, const char *suffix, uint64_t index)
{
        if (index == 0)
                return consul_operation(c, "check-not-exists", suffix, json_object());
        return consul_operation(c, "check-index", suffix,
                                json_pack("{s:I}", "Index", (json_int_t)index));
}

json_t *
consul_check_session(const struct consul_lease *c, const char *session)
{
        return consul_operation(c, "check-session", "", json_pack("{s:s}", "Session", session));
}

json_t *
consul_unlock(const struct consul_lease *c, const char *session)
{
        return consul_operation(c, "unlock", "",
                                json_pack("{s:s, s:s}", "Session", session, "Value", ""));
}

json_t *
consul_lock(const struct consul_lease *c, const char *session, const char *value)
{
        char text[BASE64_SIZE(KV_VALUE_SIZE)];

        base64_encode(value, strlen(value), text);
        return consul_operation(c, "lock", "",
                                json_pack("{s:s, s:s}", "Session", session, "Value", text));
}

json_t *
consul_set(const struct consul_lease *c, const char *suffix, const char *value)
{
        char base64[BASE64_SIZE(LEASE_SESSION_SIZE)];

        base64_encode(value, strlen(value), base64);
        return consul_operation(c, "set", suffix, json_pack("{s:s}", "Value", base64));
}

json_t *
consul_set_term(const struct consul_lease *c, const char *suffix, uint64_t term)
{
        char text[24];

        snprintf(text, sizeof text, "%" PRIu64, term);
        return consul_set(c, suffix, text);
}

/* Whether it is the results of a transaction that succeeded. Deletions have none. */
static bool
has_results(const json_t *j)
{
        const json_t *results = json_object_get(j, "Results");
        json_int_t index;

        for (size_t i = 0; i < json_array_size(results); i++)
                if (json_unpack(json_array_get(results, i), "{s:{s:I}}", "KV", "ModifyIndex", &index) !=
                            0 ||
                    index <= 0)
                        return false;
        return json_array_size(results) > 0;
}

int
consul_transact(struct consul_lease *c, json_t *ops, struct err *e)
{
        struct http_response answer;
        char url[KV_URL_SIZE];
        json_t *j;
        bool is_good;
        int r = consul_url(c, url, "/txn", "", "", "", e);

        if (r < 0)
                json_decref(ops);
        else
                r = consul_put_json(c, url, ops, &answer, e);
        if (r < 0)
                return r;
        if (answer.status == STATUS_CONFLICT)
                return err_text(e, E_NOT_PRIMARY,
                                "the lease is not as it was seen, or was another node's a moment ago");
        if (answer.status != STATUS_OK)
                return kv_refused("PUT", url, &answer, e);
        j = kv_json(&answer, url, e);
        if (j == NULL)
                return -EPROTO;
        is_good = has_results(j);
        json_decref(j);
        return is_good ? 0 : err_text(e, -EPROTO, "PUT %s: not the results of a transaction", url);
}
