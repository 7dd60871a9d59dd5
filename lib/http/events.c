/* /events: transactions and changes of the primary, as lines of JSON.
 *
 * While somebody listens, the log is read from where the last round ended: a job on a worker makes the lines of all
 * databases that have moved, and the loop sends them. The first round after a silence only looks where everything
 * is. A listener's first line is "init"; one that came during a round hears from the next one on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rfc3339.h"
#include "base/workers.h"
#include "http/api_internal.h"

#define QUEUED_MAX ((size_t)256 * 1024) /* of a listener that does not read */
#define LINES_MAX 256u                  /* of a database in one round */
/* Listeners stay for as long as they like: those who have shown no token must not take the places of those who have, nor
 * one address those of all others. */
#define MAX_UNPROVED 256u
#define MAX_OF_ADDRESS 128u
#define MAX_PROVED 256u

/* Up to where a database was told of. */
struct told {
        struct db *db;
        uint64_t txid;
        bool is_dirty; /* it may have moved since */
};

struct listener {
        struct listener *next;
        struct events *events;
        struct http_call *call;
        bool has_init, is_proved, wants_nodes;
};

struct events {
        struct api *api;
        struct workers *worker;
        struct listener *listeners;
        unsigned n_listeners, n_proved;
        struct told *told;
        size_t n_told, capacity;
        bool has_base; /* what is not in `told` has no transaction yet */
        bool is_primary;
        char hostname[LEASE_HOSTNAME_SIZE]; /* of another primary, "" */
        bool is_running;                    /* a round */
};

/* The job's own: the table grows meanwhile. */
struct round {
        struct work work;
        struct mail mail;
        struct events *events;
        bool is_first;
        struct told *items; /* is_dirty: there is more to tell */
        size_t n_items, capacity;
        struct text lines;
};

/* --- lines --- */

static void
add_line(struct text *t, json_t *o)
{
        char *s = json_dumps(o, JSON_COMPACT);

        json_decref(o);
        if (s != NULL)
                text_printf(t, "%s\n", s);
        free(s);
}

static void
add_tx(struct text *t, const char *db, const struct txlog_record *rec)
{
        char txid[24], sum[24], when[RFC3339_SIZE];

        snprintf(txid, sizeof txid, "%016llx", (unsigned long long)rec->max_txid);
        snprintf(sum, sizeof sum, "%016llx", (unsigned long long)rec->post_apply_checksum);
        rfc3339_format(rec->timestamp_ms, when);
        add_line(t, json_pack("{s:s, s:o, s:{s:s, s:s, s:I, s:I, s:s}}", "type", "tx", "db",
                              api_name_json(db), "data", "txID", txid, "postApplyChecksum", sum,
                              "pageSize", (json_int_t)rec->page_size, "commit", (json_int_t)rec->commit,
                              "timestamp", when));
}

static void
add_role(const struct events *ev, const char *type, struct text *t)
{
        json_t *data = json_pack("{s:b}", "isPrimary", ev->is_primary);

        if (ev->hostname[0] != '\0')
                json_object_set_new(data, "hostname", json_string(ev->hostname));
        add_line(t, json_pack("{s:s, s:o}", "type", type, "data", data));
}

/* --- the job --- */

/* Only the newest: what leads to it is not in the log, or is another history's. */
static void
tell_position(struct round *rd, struct told *td, const struct db_info *info)
{
        struct txlog_record rec = { .max_txid = info->pos.txid,
                                    .post_apply_checksum = info->pos.checksum,
                                    .timestamp_ms = info->timestamp_ms,
                                    .page_size = info->page_size,
                                    .commit = info->page_count };

        add_tx(&rd->lines, db_name(td->db), &rec);
        td->txid = info->pos.txid;
}

static void
tell_records(struct round *rd, struct told *td, const struct db_info *info)
{
        struct txlog_reader *reader = NULL;
        struct txlog_record rec;
        struct byte_src *src;
        unsigned n = 0;
        int r = txlog_reader_open(db_log(td->db), td->txid, &reader, NULL);

        while (r >= 0 && td->txid < info->pos.txid && n < LINES_MAX) {
                r = txlog_reader_next(reader, &rec, &src, NULL);
                if (r <= 0 || rec.max_txid > info->pos.txid)
                        break;
                add_tx(&rd->lines, db_name(td->db), &rec);
                td->txid = rec.max_txid;
                n++;
        }
        txlog_reader_close(reader);
        if (n == LINES_MAX)
                td->is_dirty = td->txid < info->pos.txid;
        else if (td->txid != info->pos.txid)
                tell_position(rd, td, info);
}

static void
tell_changes(struct round *rd, struct told *td)
{
        struct db_info info;

        db_get_info(td->db, &info);
        td->is_dirty = false;
        if (td->txid > info.pos.txid)
                tell_position(rd, td, &info);
        else if (td->txid < info.pos.txid)
                tell_records(rd, td, &info);
}

static int
add_told(struct told **list, size_t *n, size_t *capacity, const struct told *td)
{
        size_t want = *capacity == 0 ? 16 : *capacity * 2;
        struct told *grown;

        if (*n == *capacity) {
                grown = realloc(*list, want * sizeof *grown);
                if (grown == NULL)
                        return -ENOMEM;
                *list = grown;
                *capacity = want;
        }
        (*list)[(*n)++] = *td;
        return 0;
}

static int
look_at_first(void *arg, struct db *db)
{
        struct round *rd = arg;
        struct db_info info;

        db_get_info(db, &info);
        return add_told(&rd->items, &rd->n_items, &rd->capacity,
                        &(struct told){ db, info.pos.txid, false });
}

static void end_events_round(struct mail *m);

static void
run_events_round(struct work *w)
{
        struct round *rd = (struct round *)w;

        if (rd->is_first)
                (void)store_each(rd->events->api->config.store, look_at_first, rd);
        for (size_t i = 0; i < rd->n_items && !rd->is_first; i++)
                tell_changes(rd, &rd->items[i]);
        rd->mail = (struct mail){ end_events_round, NULL };
        (void)loop_post(node_loop(rd->events->api->config.node), &rd->mail);
}

/* --- rounds, on the loop --- */

static struct told *
find_told(struct events *ev, const struct db *db)
{
        for (size_t i = 0; i < ev->n_told; i++)
                if (ev->told[i].db == db)
                        return &ev->told[i];
        return NULL;
}

static void
free_round(struct round *rd)
{
        text_release(&rd->lines);
        free(rd->items);
        free(rd);
}

static bool
has_dirty(const struct events *ev)
{
        for (size_t i = 0; i < ev->n_told; i++)
                if (ev->told[i].is_dirty)
                        return true;
        return false;
}

static void
take_dirty(struct events *ev, struct round *rd)
{
        for (size_t i = 0; i < ev->n_told; i++) {
                struct told *td = &ev->told[i];

                if (td->is_dirty && add_told(&rd->items, &rd->n_items, &rd->capacity, td) == 0)
                        td->is_dirty = false;
        }
}

/* A round is due when databases have moved, and for the first listener. */
static void
start_round(struct events *ev)
{
        struct round *rd;

        if (ev->is_running || ev->n_listeners == 0 || (ev->has_base && !has_dirty(ev)))
                return;
        rd = calloc(1, sizeof *rd);
        if (rd == NULL)
                return; /* the next commit tries again */
        rd->events = ev;
        rd->work.run = run_events_round;
        rd->is_first = !ev->has_base;
        if (!rd->is_first)
                take_dirty(ev, rd);
        ev->is_running = true;
        workers_post(ev->worker, &rd->work);
}

static void
merge_round(struct events *ev, const struct round *rd)
{
        for (size_t i = 0; i < rd->n_items; i++) {
                const struct told *item = &rd->items[i];
                struct told *td = find_told(ev, item->db);

                if (td == NULL) {
                        (void)add_told(&ev->told, &ev->n_told, &ev->capacity, item);
                        continue;
                }
                td->txid = item->txid;
                td->is_dirty |= item->is_dirty;
        }
        ev->has_base = true;
}

static void
greet(struct listener *l)
{
        struct text t = { 0 };

        add_role(l->events, "init", &t);
        l->has_init = http_call_push(l->call, t.s, t.n, QUEUED_MAX) == 0;
        text_release(&t);
}

/* A listener that is too slow is cut off by http_call_push, and leaves the list when its request has ended. */
static void
send_all(struct events *ev, const struct text *t)
{
        if (t->n == 0)
                return;
        for (struct listener *l = ev->listeners; l != NULL; l = l->next)
                if (l->has_init)
                        (void)http_call_push(l->call, t->s, t->n, QUEUED_MAX);
}

static void
end_events_round(struct mail *m)
{
        struct round *rd = (struct round *)((char *)m - offsetof(struct round, mail));
        struct events *ev = rd->events;

        ev->is_running = false;
        merge_round(ev, rd);
        send_all(ev, &rd->lines);
        for (struct listener *l = ev->listeners; l != NULL; l = l->next)
                if (!l->has_init)
                        greet(l);
        free_round(rd);
        if (ev->n_listeners == 0) {
                ev->has_base = false;
                ev->n_told = 0;
        }
        start_round(ev);
}

void
events_committed(struct events *ev, struct db *db)
{
        struct told *td;

        if (ev->n_listeners == 0)
                return;
        td = find_told(ev, db);
        if (td != NULL)
                td->is_dirty = true;
        else /* new; or the first round is under way, which knows where it was */
                (void)add_told(&ev->told, &ev->n_told, &ev->capacity, &(struct told){ db, 0, true });
        start_round(ev);
}

static void
read_role(struct events *ev, struct lease_state *ret)
{
        struct node_status st;

        node_get_status(ev->api->config.node, &st);
        *ret = (struct lease_state){ 0 };
        if (!st.is_primary)
                (void)store_primary(ev->api->config.store, ret);
        ret->has_holder = st.is_primary;
}

void
events_role_changed(struct events *ev)
{
        struct text t = { 0 };
        struct lease_state now;

        read_role(ev, &now);
        if (now.has_holder == ev->is_primary && strcmp(now.hostname, ev->hostname) == 0)
                return;
        ev->is_primary = now.has_holder;
        memcpy(ev->hostname, now.hostname, sizeof ev->hostname);
        add_role(ev, "primaryChange", &t);
        send_all(ev, &t);
        text_release(&t);
}

/* To those who ask for it: clients of LiteFS know three types of events. */
void
events_member(struct events *ev, const char *hostname, const char *url, bool is_gone)
{
        struct text t = { 0 };

        if (ev->n_listeners == 0)
                return;
        add_line(&t, json_pack("{s:s, s:{s:s, s:s}}", "type", is_gone ? "nodeLeft" : "nodeJoined",
                               "data", "hostname", hostname, "url", url));
        for (struct listener *l = ev->listeners; l != NULL; l = l->next)
                if (l->has_init && l->wants_nodes)
                        (void)http_call_push(l->call, t.s, t.n, QUEUED_MAX);
        text_release(&t);
}

/* --- listeners --- */

static void
free_listener(void *data)
{
        struct listener *l = data, **p = &l->events->listeners;

        while (*p != l)
                p = &(*p)->next;
        *p = l->next;
        l->events->n_listeners--;
        l->events->n_proved -= l->is_proved;
        if (l->events->n_listeners == 0 && !l->events->is_running) {
                l->events->has_base = false;
                l->events->n_told = 0;
        }
        free(l);
}

static void
greet_later(struct mail *m)
{
        struct events *ev = ((struct round *)((char *)m - offsetof(struct round, mail)))->events;

        free_round((struct round *)((char *)m - offsetof(struct round, mail)));
        if (ev->is_running)
                return; /* its end greets */
        for (struct listener *l = ev->listeners; l != NULL; l = l->next)
                if (!l->has_init)
                        greet(l);
}

/* Nothing can be pushed within the request, so a mail does it, unless a round's end will. */
static int
plan_greeting(struct events *ev)
{
        struct round *rd;

        if (!ev->has_base || ev->is_running)
                return 0;
        rd = calloc(1, sizeof *rd);
        if (rd == NULL)
                return -ENOMEM;
        rd->events = ev;
        rd->mail = (struct mail){ greet_later, NULL };
        if (loop_post(node_loop(ev->api->config.node), &rd->mail) < 0)
                free_round(rd);
        return 0;
}

static bool
is_full(const struct events *ev, const struct http_call *call)
{
        if (http_call_is_proved(call))
                return ev->n_proved >= MAX_PROVED;
        return ev->n_listeners - ev->n_proved >= MAX_UNPROVED ||
               http_call_n_of_address(call) > MAX_OF_ADDRESS;
}

void
api_events(struct api *a, struct http_call *call)
{
        /* Not an error of ours, nor a line in the log for each who comes. */
        static const char full[] =
                "too many clients listen to events: try again, with the token if there is one\n";
        struct events *ev = a->events;
        struct listener *l;

        if (is_full(ev, call)) {
                http_call_add_header(call, "Retry-After", "10");
                http_call_reply(call, 503, API_TEXT, full, sizeof full - 1);
                return;
        }
        l = calloc(1, sizeof *l);
        if (l == NULL || plan_greeting(ev) < 0) {
                free(l);
                api_reply_error(call, 500, "out of memory");
                return;
        }
        l->events = ev;
        l->call = call;
        l->is_proved = http_call_is_proved(call);
        l->wants_nodes = http_call_query(call, "nodes") != NULL;
        ev->n_proved += l->is_proved;
        l->next = ev->listeners;
        ev->listeners = l;
        ev->n_listeners++;
        http_call_set_data(call, l, free_listener);
        http_call_push_open(call, 200, API_JSON);
        start_round(ev);
}

unsigned
events_n_subscribers(const struct events *ev)
{
        return ev->n_listeners;
}

/* --- life --- */

int
events_new(struct api *a, struct workers *worker, struct events **ret)
{
        struct events *ev = calloc(1, sizeof *ev);

        if (ev == NULL)
                return -ENOMEM;
        ev->api = a;
        ev->worker = worker;
        *ret = ev;
        return 0;
}

static int
nothing(void *arg)
{
        (void)arg;
        return 0;
}

void
events_stop(struct events *ev)
{
        /* Its mail comes before what is called now. */
        workers_drain(ev->worker);
        (void)loop_call(node_loop(ev->api->config.node), nothing, NULL);
}

void
events_free(struct events *ev)
{
        if (ev == NULL)
                return;
        free(ev->told);
        free(ev);
}
