/* Remote writes: /halt gives a node the right to make a database's transactions, /tx takes them (repl/halt_grants.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "http/api_internal.h"
#include "repl/halt_grants.h"

#define AGAIN_MS 5
#define TX_WAIT_MS 5000                  /* for readers of a database without a WAL */
#define TX_MAX_BYTES ((uint64_t)1 << 30) /* of one transaction */

struct remote {
        struct api *api;
        char *name;
        struct halt_key key;
        bool is_renewal;
        int64_t begin_ms; /* when it began to wait; 0: not yet */
        struct received rx;
        struct err e;
};

static int64_t
halt_now_ms(const struct remote *r)
{
        return clock_boot_ms(r->api->config.clock);
}

static void
free_remote(void *data)
{
        struct remote *r = data;

        received_release(&r->rx);
        free(r->name);
        free(r);
}

/* Litefs-Id is the node's, in hex; the lock's is decimal and any but 0. */
static bool
parse_key(struct http_call *call, const char *id_name, struct halt_key *ret)
{
        const char *node = http_call_header(call, "Litefs-Id"), *id = http_call_query(call, id_name);
        char *end = NULL;

        errno = 0;
        ret->boot_id = node != NULL ? strtoull(node, NULL, 16) : 0;
        ret->id = id != NULL ? strtoll(id, &end, 10) : 0;
        if (ret->id == 0 || *end != '\0' || errno != 0) {
                api_reply_error(call, 400, "invalid id: \"%s\"", id != NULL ? id : "");
                return false;
        }
        return true;
}

/* NULL: answered. */
static struct remote *
make_remote(struct api *a, struct http_call *call, const char *id_name)
{
        const char *name = api_database_name(call);
        struct node_status self;
        struct halt_key key;
        struct remote *r;

        if (name == NULL || !parse_key(call, id_name, &key))
                return NULL;
        node_get_status(a->config.node, &self);
        if (key.boot_id == self.boot_id) {
                api_reply_error(call, 400, "cannot remotely halt self");
                return NULL;
        }
        r = calloc(1, sizeof *r);
        if (r == NULL || (r->name = strdup(name)) == NULL) {
                free(r);
                api_reply_error(call, 500, "out of memory");
                return NULL;
        }
        r->api = a;
        r->key = key;
        received_init(&r->rx, store_env(a->config.store));
        http_call_set_data(call, r, free_remote);
        return r;
}

/* Whether to be called again instead of answering -EAGAIN. */
static bool
waits(struct http_call *call, struct remote *r, int result, int64_t max_ms)
{
        if (result != -EAGAIN)
                return false;
        if (r->begin_ms == 0)
                r->begin_ms = halt_now_ms(r);
        if (halt_now_ms(r) - r->begin_ms >= max_ms)
                return false;
        http_call_run_again(call, AGAIN_MS);
        return true;
}

/* --- /halt --- */

/* RFC 3339 with a fraction, as Go prints it. */
static json_t *
expires(const struct remote *r, int64_t ttl_ms)
{
        int64_t at_ms = clock_wall_ms(r->api->config.clock) + ttl_ms;
        time_t at = (time_t)(at_ms / 1000);
        char day[32];
        struct tm tm;

        gmtime_r(&at, &tm);
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
        return json_sprintf("%s.%03dZ", day, (int)(at_ms % 1000));
}

static void
reply_grant(struct http_call *call, const struct remote *r, const struct halt_grant *grant)
{
        json_t *pos = json_pack(
                "{s:o, s:o}", "TXID", json_sprintf("%016llx", (unsigned long long)grant->pos.txid),
                "PostApplyChecksum", json_sprintf("%016llx", (unsigned long long)grant->pos.checksum));

        api_reply_json(call, 200,
                       json_pack("{s:I, s:o, s:o, s:I}", "id", (json_int_t)r->key.id, "pos", pos,
                                 "expires", expires(r, grant->ttl_ms), "ttlMS",
                                 (json_int_t)grant->ttl_ms));
}

static void
run_halt(struct http_call *call, void *data)
{
        struct remote *r = data;
        struct halt_grant grant;
        int result;

        r->e = (struct err)ERR_INIT;
        result = r->is_renewal ? halt_grants_check(r->api->config.halt_grants, r->name, r->key, &r->e)
                               : 0;
        if (result == 0)
                result = halt_grants_grant(r->api->config.halt_grants, r->name, r->key, &grant, &r->e);
        if (waits(call, r, result, HALT_WAIT_MS))
                return;
        if (result == -EAGAIN)
                api_reply_error(call, 503, "acquire halt lock: timed out after %d s: %s",
                                HALT_WAIT_MS / 1000, r->e.text);
        else if (result < 0)
                api_reply_code(call, result, &r->e);
        else
                reply_grant(call, r, &grant);
}

static void
run_unhalt(struct http_call *call, void *data)
{
        struct remote *r = data;
        int result;

        r->e = (struct err)ERR_INIT;
        result = halt_grants_release(r->api->config.halt_grants, r->name, r->key, &r->e);
        if (waits(call, r, result, HALT_WAIT_MS))
                return;
        if (result < 0)
                api_reply_code(call, result, &r->e);
        else
                api_reply_empty(call);
}

void
api_halt(struct api *a, struct http_call *call)
{
        bool is_release = strcmp(http_call_method(call), "DELETE") == 0;
        const char *renew = http_call_query(call, "renew");
        struct remote *r = make_remote(a, call, "id");

        if (r == NULL)
                return;
        r->is_renewal = renew != NULL && strcmp(renew, "true") == 0;
        http_call_run(call, is_release ? run_unhalt : run_halt);
}

/* --- /tx --- */

static void
run_tx(struct http_call *call, void *data)
{
        struct remote *r = data;
        int result;

        r->e = (struct err)ERR_INIT;
        result = halt_grants_apply(r->api->config.halt_grants, r->name, r->key, &r->rx, &r->e);
        if (waits(call, r, result, TX_WAIT_MS))
                return;
        if (result == E_CHECKSUM)
                api_reply_error(call, 409, "%s", r->e.text);
        else if (result == E_UNCONFIRMED) /* 503 would say that it was not committed */
                api_reply_error(call, 500, "%s", r->e.text);
        else if (result < 0)
                api_reply_code(call, result, &r->e);
        else
                api_reply_empty(call);
}

/* Whoever has no halt lock fills no disk here. */
static int
write_tx(void *data, const void *buf, size_t n)
{
        struct remote *r = data;
        int result = 0;

        if (r->rx.ltx.size_bytes == 0)
                result = halt_grants_check(r->api->config.halt_grants, r->name, r->key, &r->e);
        return result < 0 ? result : spool_write(&r->rx.ltx, buf, n, r->rx.ltx.size_bytes);
}

static void
end_tx(struct http_call *call, void *data, int result)
{
        struct remote *r = data;

        if (result == 0)
                result = received_verify(&r->rx, &r->e);
        else if (r->e.code == 0)
                err_set(&r->e, result, "receive the transaction");
        if (result < 0)
                api_reply_code(call, result, &r->e);
        else
                http_call_run(call, run_tx);
}

void
api_tx(struct api *a, struct http_call *call)
{
        static const struct http_receiver receiver = { write_tx, end_tx };

        if (make_remote(a, call, "lockID") != NULL)
                http_call_receive(call, &receiver, TX_MAX_BYTES);
}
