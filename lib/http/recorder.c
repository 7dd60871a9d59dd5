/* What the node keeps of its last hour (recent.h), and /recent, which tells it.
 *
 * Every RECENT_PERIOD_MS a timer on the loop compares the counters of errors and what the node waits for with what they were,
 * and makes a point of each node. Where something has moved, that takes the databases' locks and the logs, so a job on a
 * worker looks; a node at rest is only told to be so, and nothing but the loop wakes up. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rfc3339.h"
#include "base/workers.h"
#include "http/api_internal.h"
#include "http/recent.h"

/* So many points come sooner, for somebody who has just started the node and looks. */
#define N_EARLY 5u
#define EARLY_MS 1000

/* The loop's, but for what the lock and the job have. */
struct recorder {
        struct api *api;
        struct workers *worker;
        struct loop_timer *timer; /* NULL after the stop */
        pthread_mutex_t lock;     /* guards recent; a leaf */
        struct recent recent;

        struct work work; /* the job */
        struct mail mail;
        struct api_nodes nodes; /* as they are for the job */
        uint64_t total;         /* the job's result: sum of the positions */
        char trouble[RECENT_TEXT], last_trouble[RECENT_TEXT]; /* the job's: of backups; "" */
        bool is_looking;

        unsigned n_early; /* points so far, up to N_EARLY */
        bool has_moved, has_total;
        uint64_t last_total;
        int64_t last_ms; /* of that; CLOCK_BOOTTIME */
        uint64_t n_database_errors[DB_N_ERRORS], n_stream_errors, n_lease_errors;
        enum node_wait_cause cause;
        bool is_silent, is_primary;
        char primary[LEASE_HOSTNAME_SIZE]; /* another node, "" */
};

/* --- events --- */

#define NOTE(rec, level, is_mergeable, n, ...) \
        do { \
                pthread_mutex_lock(&(rec)->lock); \
                recent_note(&(rec)->recent, clock_wall_ms((rec)->api->config.clock), level, \
                            is_mergeable, n, __VA_ARGS__); \
                pthread_mutex_unlock(&(rec)->lock); \
        } while (0)

/* @*last becomes @now. */
static void
note_errors(struct recorder *rec, uint64_t *last, uint64_t now, enum recent_level level,
            const char *text)
{
        if (now > *last)
                NOTE(rec, level, true, now - *last, "%s", text);
        *last = now;
}

static void
note_database_errors(struct recorder *rec)
{
        static const struct {
                enum recent_level level;
                const char *text;
        } kinds[] = {
                [DB_ERROR_REFUSED] = { RECENT_WARN,
                                       "A commit was refused: this node is not the primary, "
                                       "or its lease had run out." },
                [DB_ERROR_COMMIT] = { RECENT_ERROR, "A commit failed; its application was told." },
                [DB_ERROR_CHECKSUM] = { RECENT_ERROR,
                                        "A transaction did not make here what it made on the primary." },
                [DB_ERROR_APPLY] = { RECENT_ERROR,
                                     "A transaction of the primary could not be applied." },
                [DB_ERROR_SYNC] = { RECENT_ERROR, "The log could not be made durable." },
                [DB_ERROR_STOPPED] = { RECENT_ERROR,
                                       "A database was stopped: it takes no more writes." },
        };
        const struct db_meters *m = store_meters(rec->api->config.store);

        for (int i = 0; i < DB_N_ERRORS; i++)
                note_errors(rec, &rec->n_database_errors[i], atomic_load(&m->errors[i]), kinds[i].level,
                            kinds[i].text);
}

static void
note_wait(struct recorder *rec, const struct node_status *st)
{
        if (st->wait.cause == rec->cause)
                return;
        if (st->wait.cause != NODE_WAIT_NOTHING)
                NOTE(rec, RECENT_WARN, true, 1, "This node waits: %s", st->wait.reason);
        else
                NOTE(rec, RECENT_INFO, true, 1, "This node waits no more.");
        rec->cause = st->wait.cause;
}

static void
note_mount(struct recorder *rec)
{
        bool is_silent = !api_is_mount_well(rec->api);

        if (is_silent != rec->is_silent)
                NOTE(rec, is_silent ? RECENT_ERROR : RECENT_INFO, true, 1, "%s",
                     is_silent ? "The mount does not answer." : "The mount answers again.");
        rec->is_silent = is_silent;
}

static void
note_backups(struct recorder *rec)
{
        if (strcmp(rec->trouble, rec->last_trouble) == 0)
                return;
        if (rec->trouble[0] != '\0')
                NOTE(rec, RECENT_ERROR, true, 1, "%s", rec->trouble);
        else
                NOTE(rec, RECENT_INFO, true, 1, "What was wrong with backups is over on this node.");
        memcpy(rec->last_trouble, rec->trouble, sizeof rec->last_trouble);
}

void
recorder_role_changed(struct recorder *rec)
{
        struct lease_state primary = { 0 };
        struct node_status st;

        node_get_status(rec->api->config.node, &st);
        if (!st.is_primary)
                (void)store_primary(rec->api->config.store, &primary);
        if (st.is_primary == rec->is_primary && strcmp(primary.hostname, rec->primary) == 0)
                return;
        rec->is_primary = st.is_primary;
        memcpy(rec->primary, primary.hostname, sizeof rec->primary);
        if (st.is_primary)
                NOTE(rec, RECENT_INFO, false, 1, "This node is the primary.");
        else if (primary.hostname[0] != '\0')
                NOTE(rec, RECENT_INFO, false, 1, "The primary is %s.", primary.hostname);
        else
                NOTE(rec, RECENT_WARN, false, 1, "No primary is known.");
}

void
recorder_member(struct recorder *rec, const char *hostname, const char *url, bool is_gone)
{
        NOTE(rec, is_gone ? RECENT_WARN : RECENT_INFO, true, 1, "%s %s",
             hostname[0] != '\0' ? hostname : url, is_gone ? "has left." : "follows.");
}

/* --- points --- */

static int
add_transactions(void *arg, struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        *(uint64_t *)arg += info.pos.txid;
        return 0;
}

static int64_t
peer_lag_ms(const struct api_peer *p, int64_t now_ms)
{
        struct api_behind behind;
        int64_t lag_ms = 0;

        for (size_t i = 0; i < p->n_acks; i++) {
                api_get_behind(&p->acks[i], now_ms, &behind);
                lag_ms = behind.ms > lag_ms ? behind.ms : lag_ms;
        }
        return lag_ms;
}

static void
add_point(struct recorder *rec, double rate)
{
        const struct api_config *c = &rec->api->config;
        int64_t now_ms = clock_wall_ms(c->clock), lag_ms = store_lag_ms(c->store);
        struct api_nodes *n = &rec->nodes;

        for (size_t i = 0; i < n->n_peers; i++)
                n->peers[i].lag_ms = peer_lag_ms(&n->peers[i], now_ms);
        pthread_mutex_lock(&rec->lock);
        recent_begin_point(&rec->recent, clock_boot_ms(c->clock));
        recent_set_node(&rec->recent, n->self.boot_id, c->hostname, c->advertise_url, lag_ms, rate);
        for (size_t i = 0; i < n->n_peers; i++)
                recent_set_node(&rec->recent, n->peers[i].boot_id, n->peers[i].hostname,
                                n->peers[i].advertise_url, n->peers[i].lag_ms, 0);
        pthread_mutex_unlock(&rec->lock);
}

/* Transactions a second since the look before. */
static double
take_rate(struct recorder *rec)
{
        int64_t now_ms = clock_boot_ms(rec->api->config.clock), ms = now_ms - rec->last_ms;
        double rate = 0;

        if (rec->has_total && rec->total > rec->last_total && ms > 0)
                rate = (double)(rec->total - rec->last_total) * 1000 / (double)ms;
        rec->has_total = true;
        rec->last_total = rec->total;
        rec->last_ms = now_ms;
        return rate;
}

static void
keep_trouble(void *arg, const char *text)
{
        struct recorder *rec = arg;

        if (rec->trouble[0] == '\0')
                snprintf(rec->trouble, sizeof rec->trouble, "%.*s", RECENT_TEXT - 1, text);
}

static void
recorder_on_looked(struct mail *m)
{
        struct recorder *rec = (struct recorder *)((char *)m - offsetof(struct recorder, mail));

        rec->is_looking = false;
        note_backups(rec);
        api_release_nodes(&rec->nodes);
}

static void
run_look(struct work *w)
{
        struct recorder *rec = (struct recorder *)((char *)w - offsetof(struct recorder, work));
        const struct api_config *c = &rec->api->config;

        rec->total = 0;
        (void)store_each(c->store, add_transactions, &rec->total);
        rec->trouble[0] = '\0';
        if (c->each_backup_trouble != NULL)
                c->each_backup_trouble(c->arg, keep_trouble, rec);
        add_point(rec, take_rate(rec));
        rec->mail = (struct mail){ recorder_on_looked, NULL };
        (void)loop_post(node_loop(c->node), &rec->mail);
}

static bool
needs_look(const struct recorder *rec)
{
        bool is_quiet = !rec->has_moved && rec->has_total &&
                        rec->api->config.each_backup_trouble == NULL;

        for (size_t i = 0; i < rec->nodes.n_peers && is_quiet; i++)
                is_quiet = rec->nodes.peers[i].is_caught_up;
        return !is_quiet;
}

static void
look(struct recorder *rec)
{
        api_take_nodes(rec->api, &rec->nodes, false);
        if (needs_look(rec)) {
                api_release_nodes(&rec->nodes);
                api_take_nodes(rec->api, &rec->nodes, true);
                rec->has_moved = false;
                rec->is_looking = true;
                rec->work = (struct work){ run_look, NULL };
                workers_post(rec->worker, &rec->work);
        } else {
                add_point(rec, take_rate(rec));
                api_release_nodes(&rec->nodes);
        }
}

static void
recorder_on_timer(void *arg)
{
        struct recorder *rec = arg;
        struct node_status st;

        node_get_status(rec->api->config.node, &st);
        note_database_errors(rec);
        note_errors(rec, &rec->n_stream_errors, st.n_stream_errors, RECENT_WARN,
                    "A replication stream broke off.");
        note_errors(rec, &rec->n_lease_errors, st.n_lease_errors, RECENT_WARN,
                    "A request for the lease failed.");
        note_wait(rec, &st);
        note_mount(rec);
        if (!rec->is_looking) /* a disk that hangs: there is no point for this time */
                look(rec);
        rec->n_early += rec->n_early < N_EARLY;
        loop_timer_start(rec->timer, rec->n_early < N_EARLY ? EARLY_MS : RECENT_PERIOD_MS);
}

void
recorder_committed(struct recorder *rec)
{
        rec->has_moved = true;
}

/* --- /recent --- */

struct recent_call {
        struct api *api;
        bool is_alone;
};

static json_t *
event_json(const struct recent_event *e)
{
        static const char *const levels[] = { "info", "warning", "error" };
        char first[RFC3339_SIZE], last[RFC3339_SIZE];

        rfc3339_format(e->first_ms, first);
        rfc3339_format(e->last_ms, last);
        return json_pack("{s:s, s:s, s:I, s:s, s:s}", "timestamp", first, "lastTimestamp", last, "count",
                         (json_int_t)e->n, "level", levels[e->level], "text", e->text);
}

static json_t *
events_json(const struct recent *r)
{
        unsigned n = recent_kept(r->n_events, RECENT_EVENTS);
        json_t *list = json_array();

        for (unsigned i = 0; i < n; i++)
                json_array_append_new(
                        list, event_json(&r->events[recent_index(r->n_events, RECENT_EVENTS, i)]));
        return list;
}

/* NULL: it was there at none of the points. */
static json_t *
series_json(const struct recent *r, const struct recent_node *node, bool has_rate, int64_t now_ms)
{
        json_t *ages = json_array(), *lags = json_array(), *rates = json_array(), *o;
        unsigned n = recent_kept(r->n_points, RECENT_POINTS);
        char id[17];

        for (unsigned i = 0; i < n; i++) {
                unsigned at = recent_index(r->n_points, RECENT_POINTS, i);
                const struct recent_point *p = &node->points[at];

                if (p->lag_ms < 0)
                        continue;
                json_array_append_new(ages, json_integer((json_int_t)(now_ms - r->at_ms[at])));
                json_array_append_new(lags, json_integer(p->lag_ms));
                json_array_append_new(rates, json_integer((json_int_t)(p->rate + 0.5F)));
        }
        api_format_boot_id(node->boot_id, id);
        o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "nodeID", id, "hostname", node->hostname, "url",
                      node->url, "ageMS", ages, "lagMS", lags);
        if (has_rate)
                json_object_set_new(o, "transactionsPerSecond", rates);
        else
                json_decref(rates);
        return o;
}

static json_t *
own_recent(const struct api *a, const struct recent *r)
{
        uint64_t self = node_boot_id(a->config.node);
        json_t *nodes = json_array();

        for (unsigned i = 0; i < RECENT_NODES; i++)
                if (r->nodes[i].boot_id != 0)
                        json_array_append_new(nodes,
                                              series_json(r, &r->nodes[i], r->nodes[i].boot_id == self,
                                                          clock_boot_ms(a->config.clock)));
        return json_pack("{s:o, s:o}", "events", events_json(r), "nodes", nodes);
}

/* A replica has its own lag, and what its primary knows of all others. Without that the answer is smaller. */
static void
add_primary_recent(struct api *a, json_t *ours)
{
        json_t *theirs, *node, *nodes = json_object_get(ours, "nodes");
        struct lease_state primary;
        struct err e = ERR_INIT;
        char id[17];
        size_t i;

        api_format_boot_id(node_boot_id(a->config.node), id);
        if (!store_primary(a->config.store, &primary))
                return;
        theirs = primary_view_get(a, a->recent_of_primary, primary.advertise_url, &e);
        json_array_foreach(json_object_get(theirs, "nodes"), i, node)
        {
                const char *their_id = json_string_value(json_object_get(node, "nodeID"));

                if (json_is_object(node) && their_id != NULL && strcmp(their_id, id) != 0)
                        json_array_append(nodes, node);
        }
        json_decref(theirs);
}

static void
run_recent(struct http_call *call, void *data)
{
        const struct recent_call *rc = data;
        struct recorder *rec = rc->api->recorder;
        struct recent *copy = malloc(sizeof *copy);
        json_t *o;

        if (copy == NULL) {
                api_reply_error(call, 500, "out of memory");
                return;
        }
        pthread_mutex_lock(&rec->lock);
        *copy = rec->recent;
        pthread_mutex_unlock(&rec->lock);
        o = own_recent(rc->api, copy);
        free(copy);
        if (o != NULL && !rc->is_alone)
                add_primary_recent(rc->api, o);
        api_reply_json(call, 200, o);
}

void
api_recent(struct api *a, struct http_call *call)
{
        const char *forward = http_call_query(call, "forward");
        struct recent_call *rc = calloc(1, sizeof *rc);

        if (rc == NULL) {
                api_reply_error(call, 500, "out of memory");
                return;
        }
        rc->api = a;
        rc->is_alone = forward != NULL && strcmp(forward, "no") == 0;
        http_call_set_data(call, rc, free);
        http_call_run(call, run_recent);
}

/* --- life --- */

static int
recorder_start_on_loop(void *arg)
{
        struct recorder *rec = arg;
        int r = loop_timer_new(node_loop(rec->api->config.node), recorder_on_timer, rec, &rec->timer);

        if (r == 0)
                loop_timer_start(rec->timer, EARLY_MS);
        return r;
}

int
recorder_new(struct api *a, struct workers *worker, struct recorder **ret)
{
        struct recorder *rec = calloc(1, sizeof *rec);
        int r;

        if (rec == NULL)
                return -ENOMEM;
        rec->api = a;
        rec->worker = worker;
        rec->has_moved = true; /* for the first total */
        pthread_mutex_init(&rec->lock, NULL);
        NOTE(rec, RECENT_INFO, false, 1, "litefs %s has started.", a->config.version);
        r = loop_call(node_loop(a->config.node), recorder_start_on_loop, rec);
        if (r < 0)
                recorder_free(rec);
        else
                *ret = rec;
        return r;
}

static int
recorder_stop_on_loop(void *arg)
{
        struct recorder *rec = arg;

        loop_timer_free(rec->timer);
        rec->timer = NULL;
        return 0;
}

void
recorder_stop(struct recorder *rec)
{
        (void)loop_call(node_loop(rec->api->config.node), recorder_stop_on_loop, rec);
}

void
recorder_free(struct recorder *rec)
{
        if (rec == NULL)
                return;
        api_release_nodes(&rec->nodes);
        pthread_mutex_destroy(&rec->lock);
        free(rec);
}
