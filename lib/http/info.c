/* What this node is: /info, /healthz, /readyz, /debug/vars. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "http/api_internal.h"

#define TRANSACTIONS_IDLE_S 5 /* an asker that reads no more */

/* Who the primary is, "" when nobody is known. */
static void
find_primary(const struct api *a, bool is_primary, struct lease_state *ret)
{
        *ret = (struct lease_state){ 0 };
        if (is_primary) {
                snprintf(ret->hostname, sizeof ret->hostname, "%s", a->config.hostname);
                snprintf(ret->advertise_url, sizeof ret->advertise_url, "%s", a->config.advertise_url);
        } else {
                (void)store_primary(a->config.store, ret);
        }
}

static json_t *
node_replicas_json(const struct api_nodes *n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n->n_peers; i++) {
                const struct api_peer *p = &n->peers[i];
                char id[17];

                api_format_boot_id(p->boot_id, id);
                json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "nodeID", id, "hostname",
                                                      p->hostname, "url", p->advertise_url, "isCaughtUp",
                                                      p->is_caught_up));
        }
        return list;
}

/* LiteFS's members first, in its order; ours behind. */
static void
reply_info(struct http_call *call, void *view)
{
        struct api_view *v = view;
        const struct api_config *c = &v->api->config;
        const struct node_status *self = &v->nodes.self;
        struct lease_state primary;
        json_t *o = json_object();
        char id[17], text[ERR_TEXT_SIZE];

        find_primary(v->api, self->is_primary, &primary);
        api_format_boot_id(self->boot_id, id);
        if (self->cluster_id[0] != '\0')
                json_object_set_new(o, "clusterID", json_string(self->cluster_id));
        json_object_set_new(o, "isPrimary", json_boolean(self->is_primary));
        json_object_set_new(o, "candidate", json_boolean(c->is_candidate));
        json_object_set_new(o, "path", json_string(c->data_dir));
        json_object_set_new(
                o, "primary",
                json_pack("{s:s, s:s}", "hostname", primary.hostname, "url", primary.advertise_url));
        json_object_set_new(o, "nodeID", json_string(id));
        json_object_set_new(o, "hostname", json_string(c->hostname));
        json_object_set_new(o, "url", json_string(c->advertise_url));
        json_object_set_new(o, "role", json_string(self->role));
        json_object_set_new(o, "term", json_integer((json_int_t)self->term));
        json_object_set_new(o, "lagMS", json_integer(store_lag_ms(c->store)));
        if (self->lease_ms >= 0)
                json_object_set_new(o, "leaseRemainingMS", json_integer(self->lease_ms));
        if (self->wait.cause != NODE_WAIT_NOTHING)
                json_object_set_new(o, "waits", api_wait_json(&self->wait));
        json_object_set_new(o, "version", json_string(c->version));
        if (c->upgrade_error != NULL && c->upgrade_error(c->arg, text, sizeof text))
                json_object_set_new(o, "upgradeError", json_string(text));
        json_object_set_new(o, "replicas", node_replicas_json(&v->nodes));
        api_reply_json(call, 200, o);
}

void
api_info(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_info);
}

/* What only looks at itself here would go on to say so while each application hangs. */
bool
api_is_mount_well(const struct api *a)
{
        return a->config.is_well == NULL || a->config.is_well(a->config.arg);
}

void
api_healthz(struct api *a, struct http_call *call)
{
        if (!api_is_mount_well(a))
                api_reply_error(call, 503, "the mount does not answer");
        else
                http_call_reply(call, 200, API_TEXT, "OK\n", 3);
}

void
api_readyz(struct api *a, struct http_call *call)
{
        struct node_status st;
        int64_t lag_ms = store_lag_ms(a->config.store);

        node_get_status(a->config.node, &st);
        if (!api_is_mount_well(a))
                api_reply_error(call, 503, "not ready: the mount does not answer");
        else if (st.is_primary && st.lease_ms == 0)
                api_reply_error(call, 503, "not ready: the lease has run out");
        else if (!st.is_primary && !st.is_ready && st.wait.cause != NODE_WAIT_NOTHING)
                api_reply_error(call, 503, "not ready: %s", st.wait.reason);
        else if (!st.is_primary && !st.is_ready)
                api_reply_error(call, 503, "not ready: this node has not caught up with a primary yet");
        else if (!st.is_primary && a->config.max_lag_ms > 0 && lag_ms > a->config.max_lag_ms)
                api_reply_error(call, 503, "not ready: Replication lag exceeded");
        else
                http_call_reply(call, 200, API_TEXT, "OK\n", 3);
}

static int
add_vars(void *arg, struct db *db)
{
        struct db_info info;
        char txid[24], sum[24], name[API_NAME_SIZE];

        if (!db_exists(db))
                return 0;
        db_get_info(db, &info);
        snprintf(txid, sizeof txid, "%016llx", (unsigned long long)info.pos.txid);
        snprintf(sum, sizeof sum, "%016llx", (unsigned long long)info.pos.checksum);
        utf8_show(db_name(db), name, sizeof name);
        json_object_set_new(arg, name,
                            json_pack("{s:s, s:s, s:s}", "name", name, "txid", txid, "checksum", sum));
        return 0;
}

static void
reply_vars(struct http_call *call, void *view)
{
        struct api_view *v = view;
        json_t *dbs = json_object();

        store_each(v->api->config.store, add_vars, dbs);
        api_reply_json(call, 200,
                       json_pack("{s:{s:b, s:b, s:o}}", "store", "isPrimary", v->nodes.self.is_primary,
                                 "candidate", v->api->config.is_candidate, "dbs", dbs));
}

void
api_debug_vars(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_vars);
}

/* For a candidate that is about to take the lease (repl/survey.h). */
static void
reply_positions(struct http_call *call, void *data)
{
        struct api *a = data;
        char *bytes;
        size_t n;

        if (node_get_positions(a->config.node, &bytes, &n) < 0) {
                api_reply_error(call, 500, "out of memory");
                return;
        }
        http_call_reply(call, 200, "application/octet-stream", bytes, n);
        free(bytes);
}

void
api_positions(struct api *a, struct http_call *call)
{
        http_call_set_data(call, a, NULL);
        http_call_run(call, reply_positions);
}

struct transactions_call {
        struct api *api;
        char name[DBNAME_MAX + 1];
        struct ltx_pos from;
        struct fetch_source *source; /* of the answer */
};

static ssize_t
read_transactions(void *data, void *buf, size_t n)
{
        struct transactions_call *t = data;

        return fetch_source_read(t->source, buf, n);
}

/* Likewise: what follows its position in a database (repl/fetch.h). */
static void
reply_transactions(struct http_call *call, void *data)
{
        struct transactions_call *t = data;

        if (node_get_transactions(t->api->config.node, t->name, t->from, &t->source) < 0)
                api_reply_error(call, 500, "out of memory");
        else
                http_call_stream(call, 200, "application/octet-stream", -1, read_transactions);
}

static void
free_transactions_call(void *data)
{
        struct transactions_call *t = data;

        fetch_source_close(t->source);
        free(t);
}

void
api_transactions(struct api *a, struct http_call *call)
{
        const char *name = http_call_query(call, "db"), *pos = http_call_query(call, "pos");
        struct transactions_call *t;

        if (name == NULL || strlen(name) > DBNAME_MAX || pos == NULL) {
                api_reply_error(call, 400, "this needs db=NAME and pos=TXID/CHECKSUM");
                return;
        }
        t = calloc(1, sizeof *t);
        if (t == NULL) {
                api_reply_error(call, 500, "out of memory");
                return;
        }
        t->api = a;
        strcpy(t->name, name);
        http_call_set_data(call, t, free_transactions_call);
        http_call_set_idle(call, TRANSACTIONS_IDLE_S);
        if (ltx_pos_parse(pos, &t->from) < 0)
                api_reply_error(call, 400, "invalid position");
        else
                http_call_run(call, reply_transactions);
}
