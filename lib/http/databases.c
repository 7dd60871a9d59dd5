/* /db: each database, its log, and what its replicas have. */
#include <stdio.h>
#include <string.h>

#include "http/api_internal.h"
#include "base/rfc3339.h"

struct listing {
        const struct api_view *view;
        json_t *list;
        int64_t lag_ms;
};

static json_t *
hex(uint64_t v)
{
        char buf[24];

        snprintf(buf, sizeof buf, "%016llx", (unsigned long long)v);
        return json_string(buf);
}

static json_t *
database_replicas_json(const struct api_nodes *n, const struct db *db, uint64_t txid)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n->n_peers; i++) {
                const struct api_peer *p = &n->peers[i];
                struct ltx_pos pos = { 0 };
                char id[17];

                for (size_t k = 0; k < p->n_acks; k++)
                        if (p->acks[k].db == db)
                                pos = p->acks[k].pos;
                api_format_boot_id(p->boot_id, id);
                json_array_append_new(list,
                                      json_pack("{s:s, s:s, s:o, s:o, s:I}", "nodeID", id, "hostname",
                                                p->hostname, "txid", hex(pos.txid), "postApplyChecksum",
                                                hex(pos.checksum), "lagTransactions",
                                                (json_int_t)(txid > pos.txid ? txid - pos.txid : 0)));
        }
        return list;
}

static json_t *
log_json(struct db *db)
{
        struct txlog_record first, last;
        struct txlog_stat st;
        json_t *o;

        txlog_get_stat(db_log(db), &st);
        o = json_pack("{s:I, s:I, s:I}", "segments", (json_int_t)st.segments, "bytes",
                      (json_int_t)st.bytes, "allocatedBytes", (json_int_t)st.allocated_bytes);
        if (txlog_first(db_log(db), &first) && txlog_last(db_log(db), &last)) {
                json_object_set_new(o, "firstTXID", hex(first.min_txid));
                json_object_set_new(o, "lastTXID", hex(last.max_txid));
        }
        return o;
}

void
api_add_advice(const struct api *a, struct db *db, json_t *o)
{
        char text[API_ADVICE_SIZE];

        a->config.advise(a->config.arg, db, text);
        if (text[0] != '\0')
                json_object_set_new(o, "advice", json_string(text));
}

static int
add_database_row(void *arg, struct db *db)
{
        struct listing *l = arg;
        struct db_info info;
        json_t *o;

        if (!db_exists(db) || (l->view->name != NULL && strcmp(l->view->name, db_name(db)) != 0))
                return 0;
        db_get_info(db, &info);
        o = json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:s, s:b, s:I, s:o}", "name",
                      api_name_json(db_name(db)), "txid", hex(info.pos.txid), "postApplyChecksum",
                      hex(info.pos.checksum), "pageSize", (json_int_t)info.page_size, "pageCount",
                      (json_int_t)info.page_count, "sizeBytes",
                      (json_int_t)info.page_count * info.page_size, "journal",
                      info.is_wal ? "wal" : "rollback", "isFailed", info.is_failed, "lagMS",
                      (json_int_t)l->lag_ms, "baseTXID", hex(info.base_txid));
        if (info.timestamp_ms > 0) {
                char when[RFC3339_SIZE];

                rfc3339_format(info.timestamp_ms, when);
                json_object_set_new(o, "timestamp", json_string(when));
        }
        json_object_set_new(o, "syncedCommits",
                            json_integer((json_int_t)db_counter(db, DB_COUNT_SYNCED)));
        json_object_set_new(o, "unsyncedCommits",
                            json_integer((json_int_t)db_counter(db, DB_COUNT_UNSYNCED)));
        api_add_advice(l->view->api, db, o);
        json_object_set_new(o, "log", log_json(db));
        json_object_set_new(o, "replicas", database_replicas_json(&l->view->nodes, db, info.pos.txid));
        json_array_append_new(l->list, o);
        return 0;
}

static void
reply_databases(struct http_call *call, void *view)
{
        struct api_view *v = view;
        struct listing l = { v, json_array(), store_lag_ms(v->api->config.store) };

        store_each(v->api->config.store, add_database_row, &l);
        if (v->name != NULL && json_array_size(l.list) == 0) {
                json_decref(l.list);
                api_reply_error(call, 404, "database not found");
                return;
        }
        api_reply_json(call, 200, json_pack("{s:o}", "databases", l.list));
}

void
api_databases(struct api *a, struct http_call *call)
{
        if (http_call_query(call, "name") == NULL || api_database_name(call) != NULL)
                api_run_view(a, call, reply_databases);
}
