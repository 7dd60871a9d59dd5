#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease/etcd_internal.h"

/* --- requests --- */

/* Whether another endpoint may do better: none came through, or this one has lost its cluster. */
static bool
is_endpoint_failure(int r, const struct http_response *answer)
{
        return r < 0 ? r != -ENOMEM && r != -EMSGSIZE : answer->status >= 500;
}

/* POSTs @text to one endpoint after another until one answers; to each of them once. What was sent to two may have been done
 * twice: transactions are bound to what was seen, so that the second does nothing (and lock_key() looks whether the first did
 * it), and a lease that was granted twice runs out with nothing on it. */
static int
post_text(struct etcd_lease *c, const char *path, const char *text, char url[KV_URL_SIZE],
          struct http_response *ret, struct err *e)
{
        int r = -ETIMEDOUT;

        for (size_t left = c->n_endpoints; left > 0; left--) {
                /* The share of those left; the last has all. */
                int64_t timeout_ms = kv_left_ms(&c->kv) / (int64_t)left;

                snprintf(url, KV_URL_SIZE, "%s/v3/%s", c->endpoints[c->endpoint], path);
                r = kv_request(&c->kv, "POST", url, text, timeout_ms, ret, e);
                if (!is_endpoint_failure(r, ret))
                        break;
                c->endpoint = (c->endpoint + 1) % c->n_endpoints;
        }
        return r;
}

int
etcd_post(struct etcd_lease *c, const char *path, json_t *body, json_t **ret, struct err *e)
{
        char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
        char url[KV_URL_SIZE];
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
                return kv_refused("POST", url, &answer, e);
        *ret = kv_json(&answer, url, e);
        return *ret != NULL ? 1 : -EPROTO;
}

int
etcd_malformed(const char *path, struct err *e)
{
        return err_text(e, -EPROTO, "etcd: the answer to %s is not what it should be", path);
}

bool
etcd_get_u64(const json_t *object, const char *name, uint64_t *ret)
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

/* --- transactions --- */

json_t *
etcd_compare(const char *key64, const char *target, const char *member, const char *value)
{
        return json_pack("{s:s, s:s, s:s, s:s}", "key", key64, "target", target, "result", "EQUAL",
                         member, value);
}

json_t *
etcd_is_unmoved(const char *key64, uint64_t revision)
{
        char text[24];

        snprintf(text, sizeof text, "%" PRIu64, revision); /* 0 is that of a key that is not there */
        return etcd_compare(key64, "MOD", "mod_revision", text);
}

json_t *
etcd_get_key(const char *key64)
{
        return json_pack("{s:{s:s}}", "request_range", "key", key64);
}

json_t *
etcd_put_key(const char *key64, const char *value, size_t n, const char *session)
{
        char text[BASE64_SIZE(KV_VALUE_SIZE)];

        base64_encode(value, n, text);
        return json_pack("{s:{s:s, s:s, s:s}}", "request_put", "key", key64, "value", text, "lease",
                         session);
}

json_t *
etcd_put_term(const char *key64, uint64_t term)
{
        char text[24];
        int n = snprintf(text, sizeof text, "%" PRIu64, term);

        return etcd_put_key(key64, text, (size_t)n, "0");
}

const json_t *
etcd_key_of(const json_t *answer, size_t i)
{
        const json_t *response = json_array_get(json_object_get(answer, "responses"), i);

        return json_array_get(json_object_get(json_object_get(response, "response_range"), "kvs"), 0);
}

int
etcd_transact(struct etcd_lease *c, json_t *compares, json_t *then, json_t *otherwise, json_t **ret,
              uint64_t *ret_revision, struct err *e)
{
        json_t *body = json_pack("{s:o, s:o, s:o}", "compare", compares, "success", then, "failure",
                                 otherwise);
        json_t *j;
        int r = etcd_post(c, "kv/txn", body, &j, e);

        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the etcd lease has run out");
        if (r < 0)
                return r;
        if (!etcd_get_u64(json_object_get(j, "header"), "revision", ret_revision) ||
            *ret_revision == 0) {
                json_decref(j);
                return etcd_malformed("kv/txn", e);
        }
        *ret = j;
        return json_is_true(json_object_get(j, "succeeded"));
}

int
etcd_change(struct etcd_lease *c, json_t *compares, json_t *then, struct err *e)
{
        uint64_t revision;
        json_t *j = NULL;
        int r = etcd_transact(c, compares, then, json_array(), &j, &revision, e);

        json_decref(j);
        if (r == 0)
                return err_text(e, E_NOT_PRIMARY, "the lease is not as it was seen");
        return r < 0 ? r : 0;
}

int
etcd_value_of(const json_t *kv, char *ret, size_t size, struct err *e)
{
        const char *text = json_string_value(json_object_get(kv, "value"));
        int n = text != NULL ? base64_decode(text, ret, size) : 0;

        return n >= 0 ? n : err_text(e, E_FORMAT, "etcd: the value is too long or not base64");
}
