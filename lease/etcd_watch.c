/* The watch of etcd: one request whose answer goes on, a line of JSON for each change of the key. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stream.h"
#include "lease/etcd_internal.h"

#define WATCH_MS \
        10000 /* in which nothing comes, though each renewal should: the connection may be dead */
#define LINE_MAX_SIZE (64 * 1024)
#define ANSWER_MAX_SIZE (64 * 1024)

struct watch {
        struct byte_sink sink; /* first */
        const char *session;
        struct err *e;
        size_t n;
        char line[LINE_MAX_SIZE];
};

static int
lost_key(const char *what, struct err *e)
{
        return err_text(e, E_NOT_PRIMARY, "the lease's key was %s in etcd", what);
}

static int
check_key(const json_t *kv, const char *session, struct err *e)
{
        uint64_t id;

        if (!etcd_get_u64(kv, "lease", &id))
                return etcd_malformed("watch", e);
        return id == strtoull(session, NULL, 10) ? 0 : lost_key("written by another node", e);
}

static int
check_event(const json_t *event, const char *session, struct err *e)
{
        const char *type = json_string_value(json_object_get(event, "type"));

        if (type != NULL && strcmp(type, "DELETE") == 0)
                return lost_key("deleted", e);
        return check_key(json_object_get(event, "kv"), session, e);
}

/* One message of the watch's. -ESTALE: it has ended, and another has to begin with what is there. */
static int
watch_on_line(struct watch *w)
{
        json_t *j = json_loadb(w->line, w->n, 0, NULL);
        const json_t *result = json_object_get(j, "result"), *event;
        size_t i;
        int r = 0;

        if (!json_is_object(result) || json_is_true(json_object_get(result, "canceled")))
                r = err_text(w->e, -ESTALE, "etcd has ended the watch");
        else
                json_array_foreach(json_object_get(result, "events"), i, event) if (r == 0)
                        r = check_event(event, w->session, w->e);
        json_decref(j);
        return r;
}

static int
on_bytes(struct byte_sink *sink, const void *buf, size_t n)
{
        struct watch *w = (struct watch *)sink;
        const char *p = buf;

        for (; n > 0; n--, p++) {
                int r = 0;

                if (*p == '\n') {
                        r = w->n > 0 ? watch_on_line(w) : 0;
                        w->n = 0;
                } else if (w->n == sizeof w->line) {
                        r = err_text(w->e, -EMSGSIZE, "etcd: a message of the watch is too long");
                } else {
                        w->line[w->n++] = *p;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The key as it is now, and etcd's revision then. */
static int
look_at_key(struct etcd_lease *c, const char *endpoint, const char *session, uint64_t *ret,
            struct err *e)
{
        char url[KV_URL_SIZE], body[ETCD_KEY_SIZE + 40];
        struct http_request q = { .method = "POST",
                                  .url = url,
                                  .body = body,
                                  .max_response_size = ANSWER_MAX_SIZE,
                                  .timeout_ms = c->kv.timeout_ms };
        struct http_response answer;
        const json_t *key;
        json_t *j;
        int r;

        snprintf(url, sizeof url, "%s/v3/kv/range", endpoint);
        q.body_size = (size_t)snprintf(body, sizeof body, "{\"key\":\"%s\"}", c->key64);
        r = kv_watch_request(&c->kv, &q, &answer, e);
        if (r < 0)
                return r;
        if (answer.status != STATUS_OK)
                return kv_refused("POST", url, &answer, e);
        j = kv_json(&answer, url, e);
        if (j == NULL)
                return -EPROTO;
        key = json_array_get(json_object_get(j, "kvs"), 0);
        if (!etcd_get_u64(json_object_get(j, "header"), "revision", ret) || *ret == 0)
                r = etcd_malformed("kv/range", e);
        else
                r = key != NULL ? check_key(key, session, e) : lost_key("deleted", e);
        json_decref(j);
        return r;
}

static int
watch_from(struct etcd_lease *c, const char *endpoint, struct watch *w, uint64_t revision, struct err *e)
{
        char url[KV_URL_SIZE], body[ETCD_KEY_SIZE + 100];
        struct http_request q = { .method = "POST",
                                  .url = url,
                                  .body = body,
                                  .max_response_size = ANSWER_MAX_SIZE,
                                  .timeout_ms = WATCH_MS,
                                  .connect_timeout_ms = c->kv.timeout_ms,
                                  .sink = &w->sink };
        struct err why = ERR_INIT;
        struct http_response answer;
        int r;

        snprintf(url, sizeof url, "%s/v3/watch", endpoint);
        q.body_size = (size_t)snprintf(
                body, sizeof body,
                "{\"create_request\":{\"key\":\"%s\",\"start_revision\":\"%" PRIu64 "\"}}", c->key64,
                revision);
        w->e = &why;
        r = kv_watch_request(&c->kv, &q, &answer, e);
        if (r == 0)
                return answer.status == STATUS_OK ? 0 : kv_refused("POST", url, &answer, e);
        if (why.code != 0)
                r = err_text(e, why.code, "%s", why.text);
        return r == -ETIMEDOUT || r == -ESTALE ? 0 : r;
}

int
etcd_watch_key(struct kv_lease *kv, const struct lease_state *held, struct err *e)
{
        struct etcd_lease *c = (struct etcd_lease *)kv;
        /* The one that answered last, as far as another thread can tell. */
        const char *endpoint = c->endpoints[atomic_load(&c->endpoint)];
        struct watch *w = malloc(sizeof *w);
        uint64_t revision;
        int r;

        if (w == NULL)
                return err_set(e, -ENOMEM, "watch");
        *w = (struct watch){ .sink = { on_bytes }, .session = held->session };
        r = look_at_key(c, endpoint, held->session, &revision, e);
        if (r == 0)
                r = watch_from(c, endpoint, w, revision + 1, e);
        free(w);
        return r;
}
