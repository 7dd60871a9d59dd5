/* /cluster: all nodes as far as they are known, for `litefs status` and the status page.
 *
 * The primary knows its replicas by their streams. A replica asks the primary for that (primary_view.c), and puts itself
 * as it knows itself in its place. */
#include <stdio.h>
#include <string.h>

#include "base/rfc3339.h"
#include "http/api_internal.h"

#define GONE "gone"

/* --- one node --- */

static json_t *
position_json(const char *name, struct ltx_pos pos)
{
        char txid[24], sum[24];

        snprintf(txid, sizeof txid, "%016llx", (unsigned long long)pos.txid);
        snprintf(sum, sizeof sum, "%016llx", (unsigned long long)pos.checksum);
        return json_pack("{s:o, s:s, s:s}", "name", api_name_json(name), "txid", txid,
                         "postApplyChecksum", sum);
}

struct own_databases {
        const struct api *api;
        json_t *list;
};

static int
add_own_database(void *arg, struct db *db)
{
        const struct own_databases *own = arg;
        struct db_info info;
        struct txlog_stat st;
        json_t *o;

        if (!db_exists(db))
                return 0;
        db_get_info(db, &info);
        txlog_get_stat(db_log(db), &st);
        o = position_json(db_name(db), info.pos);
        json_object_set_new(o, "lagTransactions", json_integer(0));
        json_object_set_new(o, "sizeBytes", json_integer((json_int_t)info.page_count * info.page_size));
        json_object_set_new(o, "logBytes", json_integer((json_int_t)st.allocated_bytes));
        json_object_set_new(o, "journal", json_string(info.is_wal ? "wal" : "rollback"));
        json_object_set_new(o, "isFailed", json_boolean(info.is_failed));
        api_add_advice(own->api, db, o);
        json_array_append_new(own->list, o);
        return 0;
}

static json_t *
self_json(const struct api_view *v)
{
        const struct api_config *c = &v->api->config;
        const struct node_status *st = &v->nodes.self;
        json_t *databases = json_array(), *o;
        char id[17];

        store_each(c->store, add_own_database, &(struct own_databases){ v->api, databases });
        api_format_boot_id(st->boot_id, id);
        o = json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:s, s:o}", "nodeID", id, "hostname",
                      c->hostname, "url", c->advertise_url, "role", st->role, "isReady", st->is_ready,
                      "term", (json_int_t)st->term, "lagMS", (json_int_t)store_lag_ms(c->store),
                      "version", c->version, "databases", databases);
        if (o != NULL && st->lease_ms >= 0)
                json_object_set_new(o, "leaseRemainingMS", json_integer(st->lease_ms));
        if (o != NULL && st->wait.cause != NODE_WAIT_NOTHING)
                json_object_set_new(o, "waits", api_wait_json(&st->wait));
        return o;
}

static json_t *
replica_json(const struct api_view *v, const struct api_peer *p)
{
        json_t *databases = json_array(), *o;
        int64_t lag_ms = 0, now_ms = clock_wall_ms(v->api->config.clock);
        char id[17];

        for (size_t i = 0; i < p->n_acks; i++) {
                struct api_behind behind;

                api_get_behind(&p->acks[i], now_ms, &behind);
                o = position_json(db_name(p->acks[i].db), p->acks[i].pos);
                json_object_set_new(o, "lagTransactions", json_integer((json_int_t)behind.n));
                json_array_append_new(databases, o);
                lag_ms = behind.ms > lag_ms ? behind.ms : lag_ms;
        }
        api_format_boot_id(p->boot_id, id);
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o}", "nodeID", id, "hostname",
                         p->hostname, "url", p->advertise_url, "role", "replica", "isReady",
                         p->is_caught_up, "term", (json_int_t)v->nodes.self.term, "lagMS",
                         (json_int_t)lag_ms, "databases", databases);
}

/* It followed this primary, and does so no more. */
static json_t *
gone_json(const struct api_view *v, const struct member *m)
{
        int64_t away_ms = clock_wall_ms(v->api->config.clock) - m->seen_ms;
        char id[17], when[RFC3339_SIZE];

        api_format_boot_id(m->boot_id, id);
        rfc3339_format(m->seen_ms, when);
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:s, s:[]}", "nodeID", id, "hostname",
                         m->hostname, "url", m->advertise_url, "role", GONE, "isReady", false, "term",
                         (json_int_t)v->nodes.self.term, "lagMS",
                         (json_int_t)(away_ms > 0 ? away_ms : 0), "lastSeen", when, "databases");
}

/* What this node knows by itself. */
static json_t *
own_view(const struct api_view *v)
{
        const struct node_status *st = &v->nodes.self;
        json_t *nodes = json_array(), *o;
        char id[17];

        api_format_boot_id(st->boot_id, id);
        json_array_append_new(nodes, self_json(v));
        for (size_t i = 0; i < v->nodes.n_peers; i++)
                json_array_append_new(nodes, replica_json(v, &v->nodes.peers[i]));
        for (size_t i = 0; i < v->nodes.n_gone; i++)
                json_array_append_new(nodes, gone_json(v, &v->nodes.gone[i]));
        o = json_pack("{s:s, s:s, s:I, s:o, s:o}", "clusterID", st->cluster_id, "nodeID", id, "term",
                      (json_int_t)st->term, "primary", st->is_primary ? json_string(id) : json_null(),
                      "nodes", nodes);
        if (o != NULL && st->is_primary)
                json_object_set_new(o, "primaryHostname", json_string(v->api->config.hostname));
        return o;
}

/* --- the primary's --- */

static bool
is_gone(const json_t *node)
{
        const char *role = json_string_value(json_object_get(node, "role"));

        return role != NULL && strcmp(role, GONE) == 0;
}

/* An earlier run of this node, whose id was another one. */
static bool
is_former_self(const json_t *node, const json_t *self)
{
        return is_gone(node) && json_equal(json_object_get(node, "url"), json_object_get(self, "url"));
}

/* Takes the reference of @theirs: its nodes, with ours as we know it. */
static void
merge_nodes(json_t *ours, json_t *theirs)
{
        json_t *nodes = json_object_get(ours, "nodes"), *node, *id = json_object_get(ours, "nodeID");
        const json_t *self = json_array_get(nodes, 0);
        size_t i;

        json_array_foreach(json_object_get(theirs, "nodes"), i,
                           node) if (json_is_object(node) &&
                                     !json_equal(json_object_get(node, "nodeID"), id) &&
                                     !is_former_self(node, self)) json_array_append(nodes, node);
        if (json_is_string(json_object_get(theirs, "primary")))
                json_object_set(ours, "primary", json_object_get(theirs, "primary"));
        json_decref(theirs);
}

static void
add_primary(struct api *a, json_t *o)
{
        struct lease_state primary;
        struct err e = ERR_INIT;
        json_t *theirs;

        if (!store_primary(a->config.store, &primary)) {
                json_object_set_new(o, "error", json_string("no primary is known: nobody can write"));
                return;
        }
        json_object_set_new(o, "primaryHostname", json_string(primary.hostname));
        theirs = primary_view_get(a, a->cluster, primary.advertise_url, &e);
        if (theirs != NULL) {
                merge_nodes(o, theirs);
        } else {
                char why[sizeof e.text + LEASE_HOSTNAME_SIZE + 64];

                snprintf(why, sizeof why, "the primary (%s) could not be asked: %s", primary.hostname,
                         e.text);
                json_object_set_new(o, "error", json_string(why));
        }
}

static const char *
text_member(const json_t *nodes, size_t i, const char *name)
{
        const char *text = json_string_value(json_object_get(json_array_get(nodes, i), name));

        return text != NULL ? text : "?";
}

/* The address of the @i-th node, if it is there; "" if not. */
static const char *
live_url(const json_t *nodes, size_t i)
{
        const json_t *node = json_array_get(nodes, i);
        const char *url = json_string_value(json_object_get(node, "url"));

        return url == NULL || is_gone(node) ? "" : url;
}

/* Two nodes with one address: others reach only one of them. */
static void
add_twins(json_t *o)
{
        const json_t *nodes = json_object_get(o, "nodes");
        size_t n = json_array_size(nodes);

        for (size_t i = 1; i < n; i++)
                for (size_t k = 0; k < i && json_object_get(o, "error") == NULL; k++)
                        if (live_url(nodes, i)[0] != '\0' &&
                            strcmp(live_url(nodes, i), live_url(nodes, k)) == 0)
                                json_object_set_new(
                                        o, "error",
                                        json_sprintf(
                                                "%s and %s have the same advertise-url, %s: each node needs an "
                                                "address of its own (lease.advertise-url)",
                                                text_member(nodes, k, "hostname"),
                                                text_member(nodes, i, "hostname"), live_url(nodes, i)));
}

static void
reply_cluster(struct http_call *call, void *view)
{
        struct api_view *v = view;
        json_t *o = own_view(v);

        if (o != NULL && !v->nodes.self.is_primary && !v->is_alone)
                add_primary(v->api, o);
        if (o != NULL)
                add_twins(o);
        api_reply_json(call, 200, o);
}

void
api_cluster(struct api *a, struct http_call *call)
{
        api_run_view(a, call, reply_cluster);
}
