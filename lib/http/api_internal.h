/* lib/http/api_internal.h - the inside of the API, for lib/http only: one file for each group of endpoints. */
#ifndef LITEFS_HTTP_API_INTERNAL_H
#define LITEFS_HTTP_API_INTERNAL_H

#include <jansson.h>
#include <stdatomic.h>

#include "http/api.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "repl/members.h"
#include "store/dbname.h"

#define API_TEXT "text/plain; charset=utf-8"
#define API_JSON "application/json"
#define API_WAIT_MS 5000 /* for what is in use by another */

struct events;
struct primary_view;
struct recorder;
struct workers;

struct api {
        struct api_config config;
        struct http_server *server;
        struct workers *event_worker; /* one thread, for the next two */
        struct events *events;
        struct recorder *recorder;
        struct primary_view *cluster;           /* what the primary knows of the cluster */
        struct primary_view *recent_of_primary; /* and of how it was lately */
        atomic_bool is_importing;               /* one at a time: it keeps an applier and a worker */
        bool is_stopped;
};

/* --- reply.c --- */
/* @fmt and a newline as text; said in the log, too, when the fault is ours. */
void api_reply_error(struct http_call *call, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* @code becomes the status. */
void api_reply_code(struct http_call *call, int code, const struct err *e);
void api_reply_empty(struct http_call *call);
/* Takes the reference. Indented by two. */
void api_reply_json(struct http_call *call, int status, json_t *json);
/* A database's name as it is shown (base/utf8.h). */
#define API_NAME_SIZE (4 * DBNAME_MAX + 1)
json_t *api_name_json(const char *name);
/* A name that may be a database's from the query; NULL: answered. */
const char *api_database_name(struct http_call *call);

/* --- status.c --- */
int api_status(int code);

/* --- nodes.c: what the loop knows, copied for a worker --- */
struct api_ack {
        struct db *db;
        struct ltx_pos pos;
};
struct api_peer {
        uint64_t boot_id;
        char *hostname, *advertise_url;
        bool is_caught_up;
        int64_t lag_ms; /* for who works it out */
        struct api_ack *acks;
        size_t n_acks, capacity;
};
struct api_nodes {
        struct node_status self;
        struct api_peer *peers;
        size_t n_peers, capacity;
        struct member *gone;
        size_t n_gone, gone_capacity;
        bool is_cut; /* memory ran out */
};
/* On the loop; @has_acks: with what each replica has of each database. */
void api_take_nodes(struct api *a, struct api_nodes *ret, bool has_acks);
/* Any thread; again is fine. */
void api_release_nodes(struct api_nodes *n);
void api_format_boot_id(uint64_t id, char ret[17]);
/* NULL: it waits for nothing. */
json_t *api_wait_json(const struct node_wait *w);
/* `advice`, if there is any. */
void api_add_advice(const struct api *a, struct db *db, json_t *o);
/* What a replica lacks of a database. A worker. */
struct api_behind {
        uint64_t n; /* transactions */
        int64_t ms; /* age of the first of them */
};
void api_get_behind(const struct api_ack *ack, int64_t now_ms, struct api_behind *ret);

/* A request that looks at everything: data of the call, freed with it. */
struct api_view {
        struct api *api;
        struct api_nodes nodes;
        unsigned n_conns, n_listeners;
        uint64_t n_answers[6]; /* of the API, by the hundreds of the status */
        char *name;            /* from the query, or NULL */
        bool is_alone;         /* no other node is to be asked: "forward=no" in the query */
};
/* Makes the view and runs @fn(call, view) on a worker. */
void api_run_view(struct api *a, struct http_call *call, void (*fn)(struct http_call *call, void *view));

/* --- info.c --- */
bool api_is_mount_well(const struct api *a);

/* --- metrics_*.c --- */
/* Directories in its orphans/. */
uint64_t api_count_orphans(const char *data_dir);
struct prom;
/* A database as it was when the scrape began: families go one after the other, each over all of them. */
struct db_sample {
        struct db *db;
        struct db_info info;
        struct txlog_stat log;
        uint64_t n_records;
};
struct db_samples {
        struct db_sample *items;
        size_t n, capacity;
};
void metrics_add_databases(struct prom *p, const struct db_samples *s, struct store *store);
void metrics_add_replicas(struct prom *p, const struct api_nodes *n, int64_t now_ms);
void metrics_add_process(struct prom *p);

/* --- endpoints: on the loop --- */
void api_info(struct api *a, struct http_call *call);
void api_healthz(struct api *a, struct http_call *call);
void api_readyz(struct api *a, struct http_call *call);
void api_debug_vars(struct api *a, struct http_call *call);
void api_positions(struct api *a, struct http_call *call);
void api_transactions(struct api *a, struct http_call *call);
void api_databases(struct api *a, struct http_call *call);
void api_page(struct api *a, struct http_call *call);
void api_cluster(struct api *a, struct http_call *call);
void api_findings(struct api *a, struct http_call *call);
void api_recent(struct api *a, struct http_call *call);
void api_metrics(struct api *a, struct http_call *call);
void api_export(struct api *a, struct http_call *call);
void api_import(struct api *a, struct http_call *call);
void api_restore(struct api *a, struct http_call *call);
void api_handoff(struct api *a, struct http_call *call);
void api_promote(struct api *a, struct http_call *call);
void api_demote(struct api *a, struct http_call *call);
void api_upgrade(struct api *a, struct http_call *call);
void api_halt(struct api *a, struct http_call *call);
void api_tx(struct api *a, struct http_call *call);
void api_events(struct api *a, struct http_call *call);
void api_backup(struct api *a, struct http_call *call);
void api_backup_sync(struct api *a, struct http_call *call);

/* --- peer.c --- */
struct http_request;
/* A request to another node, on a worker; @has_token shows it ours. Any status but 200 is an error in its words. */
int api_ask_peer(const struct api *a, const struct http_request *rq, bool has_token, struct text *ret,
                 struct err *e);

/* --- primary_view.c --- */
/* @path is borrowed: an endpoint whose answer has `nodes`. */
int primary_view_new(const char *path, struct primary_view **ret);
/* The answer of the node at @url, not older than a second or two unless it is being asked, the caller's; or NULL and why. A
 * worker. */
json_t *primary_view_get(struct api *a, struct primary_view *v, const char *url, struct err *e);
void primary_view_free(struct primary_view *v); /* NULL is fine */

/* --- events.c --- */
/* @worker, one thread, is borrowed; it is drained by events_stop. */
int events_new(struct api *a, struct workers *worker, struct events **ret);
/* The loop's thread. */
void events_committed(struct events *ev, struct db *db);
void events_role_changed(struct events *ev);
void events_member(struct events *ev, const char *hostname, const char *url, bool is_gone);
unsigned events_n_subscribers(const struct events *ev);
/* Waits for the jobs of the worker. */
void events_stop(struct events *ev);
void events_free(struct events *ev); /* NULL is fine */

/* --- recorder.c: the last hour of this node --- */
int recorder_new(struct api *a, struct workers *worker, struct recorder **ret);
/* The loop's thread. */
void recorder_committed(struct recorder *rec);
void recorder_role_changed(struct recorder *rec);
void recorder_member(struct recorder *rec, const char *hostname, const char *url, bool is_gone);
/* Begins no job from now on; the worker may still have one. */
void recorder_stop(struct recorder *rec);
void recorder_free(struct recorder *rec); /* NULL is fine */

#endif
