/* The state of this node and of its replicas, copied on the loop for a worker. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/api_internal.h"

/* Room for one more of @size bytes behind the @n at *@items. */
static bool
grow_list(void *items, size_t n, size_t *capacity, size_t size)
{
        void **p = items, *grown;
        size_t want = *capacity == 0 ? 8 : *capacity * 2;

        if (n < *capacity)
                return true;
        grown = realloc(*p, want * size);
        if (grown == NULL)
                return false;
        *p = grown;
        *capacity = want;
        return true;
}

static void
add_peer(void *arg, const struct node_peer *p)
{
        struct api_nodes *n = arg;
        struct api_peer *peer;

        if (n->is_cut || !grow_list(&n->peers, n->n_peers, &n->capacity, sizeof *n->peers)) {
                n->is_cut = true;
                return;
        }
        peer = &n->peers[n->n_peers++];
        *peer = (struct api_peer){ .boot_id = p->boot_id,
                                   .is_caught_up = p->is_caught_up,
                                   .hostname = strdup(p->hostname),
                                   .advertise_url = strdup(p->advertise_url) };
        n->is_cut = peer->hostname == NULL || peer->advertise_url == NULL;
}

static void
add_ack(void *arg, struct db *db, struct ltx_pos pos)
{
        struct api_nodes *n = arg;
        struct api_peer *peer;
        struct db_info info;

        db_get_info(db, &info);
        if (n->is_cut || n->n_peers == 0 || (info.page_count == 0 && pos.txid >= info.pos.txid))
                return; /* a deleted one is not told of; that a replica has yet to delete it is */
        peer = &n->peers[n->n_peers - 1];
        if (!grow_list(&peer->acks, peer->n_acks, &peer->capacity, sizeof *peer->acks))
                n->is_cut = true;
        else
                peer->acks[peer->n_acks++] = (struct api_ack){ db, pos };
}

static void
add_gone(void *arg, const struct member *m)
{
        struct api_nodes *n = arg;

        if (n->is_cut || !grow_list(&n->gone, n->n_gone, &n->gone_capacity, sizeof *n->gone))
                n->is_cut = true;
        else
                n->gone[n->n_gone++] = *m;
}

void
api_take_nodes(struct api *a, struct api_nodes *ret, bool has_acks)
{
        *ret = (struct api_nodes){ 0 };
        node_get_status(a->config.node, &ret->self);
        node_each_replica(a->config.node, add_peer, has_acks ? add_ack : NULL, ret);
        node_each_gone(a->config.node, add_gone, ret);
}

void
api_release_nodes(struct api_nodes *n)
{
        for (size_t i = 0; i < n->n_peers; i++) {
                free(n->peers[i].hostname);
                free(n->peers[i].advertise_url);
                free(n->peers[i].acks);
        }
        free(n->peers);
        free(n->gone);
        *n = (struct api_nodes){ 0 };
}

void
api_format_boot_id(uint64_t id, char ret[17])
{
        snprintf(ret, 17, "%016" PRIX64, id);
}

/* When the first transaction was made that the replica lacks. */
static int64_t
missing_since(const struct api_ack *ack, const struct db_info *info)
{
        struct txlog_reader *reader = NULL;
        struct txlog_record rec = { .timestamp_ms = info->timestamp_ms };
        struct byte_src *src;

        if (txlog_reader_open(db_log(ack->db), ack->pos.txid, &reader, NULL) == 0)
                (void)txlog_reader_next(reader, &rec, &src, NULL);
        else
                (void)txlog_first(db_log(ack->db), &rec); /* at least since then */
        txlog_reader_close(reader);
        return rec.timestamp_ms;
}

json_t *
api_wait_json(const struct node_wait *w)
{
        if (w->cause == NODE_WAIT_NOTHING)
                return NULL;
        return json_pack("{s:s, s:s, s:s}", "for", node_wait_name(w->cause), "reason", w->reason, "next",
                         w->next);
}

void
api_get_behind(const struct api_ack *ack, int64_t now_ms, struct api_behind *ret)
{
        struct db_info info;

        *ret = (struct api_behind){ 0 };
        db_get_info(ack->db, &info);
        if (info.pos.txid <= ack->pos.txid)
                return;
        ret->n = info.pos.txid - ack->pos.txid;
        ret->ms = now_ms - missing_since(ack, &info);
        ret->ms = ret->ms > 0 ? ret->ms : 0;
}

static void
free_view(void *data)
{
        struct api_view *v = data;

        api_release_nodes(&v->nodes);
        free(v->name);
        free(v);
}

void
api_run_view(struct api *a, struct http_call *call, void (*fn)(struct http_call *call, void *view))
{
        const char *name = http_call_query(call, "name"), *forward = http_call_query(call, "forward");
        struct api_view *v = calloc(1, sizeof *v);

        if (v != NULL) {
                v->api = a;
                v->is_alone = forward != NULL && strcmp(forward, "no") == 0;
                v->name = name != NULL ? strdup(name) : NULL;
                v->n_conns = http_server_n_conns(a->server);
                for (int i = 1; i < 6; i++)
                        v->n_answers[i] = http_server_n_answers(a->server, i);
                v->n_listeners = events_n_subscribers(a->events);
                api_take_nodes(a, &v->nodes, true);
                http_call_set_data(call, v, free_view);
        }
        if (v == NULL || v->nodes.is_cut || (name != NULL && v->name == NULL))
                api_reply_error(call, 500, "out of memory");
        else
                http_call_run(call, fn);
}
