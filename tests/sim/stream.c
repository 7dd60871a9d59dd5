#include "tests/sim/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 5000
#define SILENCE_MS 3000
#define DRAIN_MS 500
#define CUT_RETRY_MS 100
#define KEEPALIVE_MS 690000 /* 15 s, and nine probes of the kernel's */
#define REBOOT_PROBE_MS 75000

/* What is on its way to one end, in order. Each has an event, which delivers whatever is first. */
struct pipe {
        struct stream *st;
        struct message *head, **tail;
        int64_t last_us;
};

/* A connection. Each end knows only what has arrived. */
struct stream {
        struct stream *next;
        struct cluster *c;
        struct node *replica, *primary;
        unsigned n_messages;
        bool is_replica_open, is_primary_open;
        bool is_dead;         /* one end's host is gone without a word: nothing arrives */
        struct pipe pipes[2]; /* to the replica, to the primary */

        /* The primary's end, as feed.c. */
        uint64_t primary_term;
        bool has_peer, has_positions, is_ready_sent;
        bool needs_snapshot;
        uint32_t sent, target;
        struct txn_pos acked;

        /* The replica's end, as follow.c. */
        bool is_accepted, has_said_hello, has_hello, is_ready, was_announced;
        uint64_t term;
        int64_t heard_ms; /* the last that was heard of the primary */
};

enum message_kind {
        CONNECT,
        REFUSED,
        ACCEPTED,
        HELLO,
        POSITION,
        TXNS,
        READY,
        HEARTBEAT,
        ACK,
        OFFER,
        END
};

static const char *const message_names[] = { "connect",  "refused", "accepted", "hello",
                                             "position", "txns",    "ready",    "heartbeat",
                                             "ack",      "offer",   "end" };

struct message {
        struct message *next;
        struct stream *st;
        bool to_primary;
        enum message_kind kind;
        uint64_t term;
        struct txn_pos pos;
        char token[LEASE_SESSION_SIZE];
        struct item *item;
};

static struct node *
receiver(const struct message *m)
{
        return m->to_primary ? m->st->primary : m->st->replica;
}

static bool
is_open(const struct message *m)
{
        return m->to_primary ? m->st->is_primary_open : m->st->is_replica_open;
}

static void
free_if_unused(struct stream *st)
{
        struct stream **p = &st->c->streams;

        if (st->n_messages > 0 || st->is_replica_open || st->is_primary_open)
                return;
        while (*p != st)
                p = &(*p)->next;
        *p = st->next;
        free(st);
}

/* --- the wire --- */

static void on_message(struct message *m);

static void
free_message(struct message *m)
{
        struct stream *st = m->st;

        free(m->item);
        free(m);
        st->n_messages--;
        free_if_unused(st);
}

static struct node *
receiver_of(const struct pipe *p)
{
        return p == &p->st->pipes[1] ? p->st->primary : p->st->replica;
}

static void
deliver(void *arg, bool is_lost)
{
        struct pipe *p = arg;
        struct stream *st = p->st;
        struct message *m = p->head;

        if (!is_lost && !st->is_dead && cluster_is_cut(st->c, st->replica, st->primary)) {
                /* TCP tries again */
                sim_post(st->c->sim, &receiver_of(p)->host, CUT_RETRY_MS * SIM_MS, deliver, p);
                return;
        }
        p->head = m->next;
        if (p->head == NULL)
                p->tail = &p->head;
        if (!is_lost && !st->is_dead && is_open(m))
                on_message(m);
        free_message(m);
}

static void
transmit(struct message *m, int64_t delay_us)
{
        struct pipe *p = &m->st->pipes[m->to_primary];
        struct sim *s = m->st->c->sim;
        int64_t at_us = s->now_us + delay_us;

        if (at_us < p->last_us)
                at_us = p->last_us;
        p->last_us = at_us;
        m->next = NULL;
        *p->tail = m;
        p->tail = &m->next;
        sim_post(s, &receiver_of(p)->host, at_us - s->now_us, deliver, p);
}

static struct message *
make_message(struct stream *st, bool to_primary, enum message_kind kind)
{
        struct message *m = calloc(1, sizeof *m);

        if (m == NULL)
                abort();
        st->n_messages++;
        m->st = st;
        m->to_primary = to_primary;
        m->kind = kind;
        return m;
}

static void
send_message(struct message *m)
{
        if (!receiver(m)->host.is_up) {
                free_message(m);
                return;
        }
        transmit(m, cluster_delay_us(m->st->c));
}

static void
send_plain(struct stream *st, bool to_primary, enum message_kind kind)
{
        send_message(make_message(st, to_primary, kind));
}

/* --- ends --- */

static void
close_primary_end(struct stream *st, bool tells)
{
        if (!st->is_primary_open)
                return;
        st->n_messages++; /* not to be freed yet */
        st->is_primary_open = false;
        if (tells)
                send_plain(st, false, END);
        st->n_messages--;
        free_if_unused(st);
}

/* As primary_closed: the role hears of it only when it was not its own wish. */
static void
close_replica_end(struct stream *st, bool tells)
{
        struct node *n = st->replica;

        if (!st->is_replica_open)
                return;
        st->n_messages++; /* not to be freed yet */
        st->is_replica_open = false;
        if (tells)
                send_plain(st, true, END);
        if (n->primary == st) {
                n->primary = NULL;
                n->left_ms = host_now_ms(&n->host);
                role_disconnected(&n->role, host_now_ms(&n->host));
        }
        st->n_messages--;
        free_if_unused(st);
}

static void
break_later(void *arg, bool is_lost)
{
        struct message *m = arg;

        if (!is_lost && m->to_primary)
                close_primary_end(m->st, false);
        else if (!is_lost)
                close_replica_end(m->st, false);
        free_message(m);
}

/* The end that is left finds out after so long. */
static void
post_break(struct stream *st, bool at_primary, int64_t delay_us)
{
        struct message *m = make_message(st, at_primary, END);

        sim_post(st->c->sim, &receiver(m)->host, delay_us, break_later, m);
}

void
stream_host_died(struct node *n, bool is_silent)
{
        struct sim *s = n->c->sim;

        for (struct stream *st = n->c->streams, *next; st != NULL; st = next) {
                bool was_primary = st->primary == n;
                int64_t delay_us = cluster_delay_us(n->c);

                next = st->next;
                if ((was_primary ? !st->is_primary_open : !st->is_replica_open) ||
                    (st->replica != n && st->primary != n))
                        continue;
                if (is_silent)
                        delay_us = sim_chance(s, 500) ? KEEPALIVE_MS * SIM_MS
                                                      : sim_between(s, 0, REBOOT_PROBE_MS) * SIM_MS;
                st->is_dead = is_silent;
                st->n_messages++;
                if (was_primary ? st->is_replica_open : st->is_primary_open)
                        post_break(st, !was_primary, delay_us);
                if (was_primary)
                        st->is_primary_open = false;
                else
                        st->is_replica_open = false;
                st->n_messages--;
                free_if_unused(st);
        }
        n->primary = NULL;
}

void
stream_break_one(struct cluster *c)
{
        for (struct stream *st = c->streams; st != NULL; st = st->next)
                if (st->is_replica_open && st->is_primary_open && sim_chance(c->sim, 500)) {
                        st->is_dead = true;
                        post_break(st, true, 0);
                        post_break(st, false, 0);
                        return;
                }
}

/* --- the primary's end --- */

static struct item *
make_item(uint64_t term, const struct txn_log *log, uint32_t first_txid, uint32_t n)
{
        struct item *it = calloc(1, sizeof *it + n * sizeof it->txns[0]);

        if (it == NULL)
                abort();
        it->term = term;
        it->first_txid = first_txid;
        it->n = n;
        it->before = first_txid > 1 ? log->txns[first_txid - 2].sum : 0;
        memcpy(it->txns, &log->txns[first_txid - 1], n * sizeof it->txns[0]);
        return it;
}

static void
send_item(struct stream *st, uint32_t first_txid, uint32_t n, bool is_snapshot)
{
        struct message *m = make_message(st, false, TXNS);

        m->term = st->primary_term;
        m->item = make_item(st->primary_term, &st->primary->log, first_txid, n);
        m->item->is_snapshot = is_snapshot;
        send_message(m);
}

static void
pump(struct stream *st)
{
        const struct txn_log *log = &st->primary->log;

        if (!st->is_primary_open || !st->has_positions)
                return;
        if (st->needs_snapshot) {
                send_item(st, 1, log->n, true);
                st->sent = log->n;
                st->needs_snapshot = false;
        }
        while (st->sent < log->n) {
                uint32_t n = log->n - st->sent < BATCH_MAX ? log->n - st->sent : BATCH_MAX;

                send_item(st, st->sent + 1, n, false);
                st->sent += n;
        }
        if (!st->is_ready_sent && st->sent >= st->target) {
                st->is_ready_sent = true;
                send_plain(st, false, READY);
        }
}

void
stream_committed(struct node *n)
{
        for (struct stream *st = n->c->streams; st != NULL; st = st->next)
                if (st->primary == n)
                        pump(st);
}

void
stream_heartbeat(struct node *n)
{
        for (struct stream *st = n->c->streams; st != NULL && n->is_primary; st = st->next)
                if (st->primary == n && st->is_primary_open && st->has_peer)
                        send_plain(st, false, HEARTBEAT);
}

void
stream_end_all(struct node *n)
{
        for (struct stream *st = n->c->streams, *next; st != NULL; st = next) {
                next = st->next;
                if (st->primary == n)
                        close_primary_end(st, true);
        }
}

static bool
is_caught_up(const struct stream *st)
{
        return st->is_primary_open && st->has_positions && st->acked.txid >= st->primary->log.n;
}

int
stream_find_target(struct node *n, int index)
{
        for (struct stream *st = n->c->streams; st != NULL; st = st->next)
                if (st->primary == n && st->is_primary_open &&
                    (index < 0 ? is_caught_up(st) : st->has_peer && st->replica->index == index))
                        return st->replica->index;
        return -1;
}

int
stream_offer(struct node *n, int index, const char *token)
{
        for (struct stream *st = n->c->streams; st != NULL; st = st->next)
                if (st->primary == n && st->is_primary_open && st->has_peer &&
                    st->replica->index == index) {
                        struct message *m = make_message(st, false, OFFER);

                        memcpy(m->token, token, sizeof m->token);
                        send_message(m);
                        return 0;
                }
        return -ENOTCONN;
}

static void
on_connect(struct stream *st)
{
        if (!st->primary->is_primary) {
                send_plain(st, false, REFUSED);
                close_primary_end(st, false);
                return;
        }
        st->primary_term = st->primary->held.term;
        send_plain(st, false, ACCEPTED);
}

static void
on_peer(struct stream *st, uint64_t term)
{
        struct message *m;

        if (term > st->primary_term) {
                close_primary_end(st, true);
                return;
        }
        st->has_peer = true;
        m = make_message(st, false, HELLO);
        m->term = st->primary_term;
        send_message(m);
}

static void
on_position(struct stream *st, const struct txn_pos *pos)
{
        if (!st->has_peer)
                return;
        st->acked = *pos;
        st->needs_snapshot = !txn_log_has(&st->primary->log, pos->txid, pos->sum);
        st->sent = pos->txid;
        if (!st->has_positions)
                st->target = st->primary->log.n;
        st->has_positions = true;
        pump(st);
}

/* --- the replica's end --- */

static void
send_position(struct stream *st, enum message_kind kind)
{
        struct message *m = make_message(st, true, kind);

        m->pos = txn_log_pos(&st->replica->log);
        if (kind == ACK)
                check_ack(st->replica, st->term);
        send_message(m);
}

static void
announce_ready(struct node *n)
{
        struct stream *st = n->primary;

        if (st == NULL || !st->is_ready || st->was_announced || !stream_is_drained(n) || n->is_resyncing)
                return;
        st->was_announced = true;
        n->synced_term = st->term;
        role_set_behind(&n->role, false);
        node_whole(n);
}

static void
say_hello(struct stream *st)
{
        struct message *m;

        if (st->has_said_hello || !stream_is_drained(st->replica))
                return;
        st->has_said_hello = true;
        m = make_message(st, true, HELLO);
        st->term = m->term = st->replica->role.term;
        send_message(m);
        send_position(st, POSITION);
}

static void
on_accepted(struct stream *st)
{
        /* What waits for a reader will be sent again; what is being applied counts in the position. */
        st->is_accepted = true;
        stream_drop_items(st->replica);
        say_hello(st);
}

static void
on_hello(struct stream *st, uint64_t term)
{
        struct node *n = st->replica;

        if (term < st->term) {
                close_replica_end(st, true);
                return;
        }
        st->term = term;
        st->has_hello = true;
        role_connected(&n->role, host_now_ms(&n->host), term);
        role_set_behind(&n->role, true);
        sim_trace(st->c->sim, &n->host, "follows %s, term %llu", st->primary->host.name,
                  (unsigned long long)term);
        check_follow(n, term);
}

static void apply_later(struct node *n);

static void
drained(struct node *n)
{
        if (n->primary != NULL && n->primary->is_accepted)
                say_hello(n->primary);
        announce_ready(n);
        node_applies_drained(n);
}

static bool
follows(const struct node *n, const struct item *it)
{
        return it->is_snapshot ||
               (it->first_txid == n->log.n + 1 && it->before == txn_log_pos(&n->log).sum);
}

static void
apply(struct node *n, struct item *it)
{
        struct stream *st = n->primary;

        sim_trace(n->c->sim, &n->host, "applies %u..%u%s: %s", it->first_txid,
                  it->first_txid + it->n - 1, it->is_snapshot ? " (snapshot)" : "",
                  follows(n, it) ? "follows" : "does not follow");
        if (follows(n, it)) {
                check_apply(n, it);
                memcpy(&n->log.txns[it->first_txid - 1], it->txns, it->n * sizeof it->txns[0]);
                n->log.n = it->first_txid - 1 + it->n;
                stream_committed(n); /* a primary may still have had something to apply */
                if (st != NULL && st->has_hello)
                        send_position(st, ACK);
                return;
        }
        stream_drop_items(n);
        n->is_resyncing = st != NULL && st->has_said_hello;
        if (n->is_resyncing)
                send_position(st, POSITION);
}

static void
end_job(void *arg, bool is_lost)
{
        struct node *n = arg;
        struct item *it = n->running;

        if (is_lost)
                return;
        n->running = NULL;
        n->has_applier = false;
        apply(n, it);
        free(it);
        if (n->items != NULL)
                apply_later(n);
        else
                drained(n);
}

static void
begin_job(void *arg, bool is_lost)
{
        struct node *n = arg;
        struct cluster *c = n->c;
        int64_t delay_us;

        if (is_lost)
                return;
        n->running = n->items;
        if (n->running == NULL) { /* cleared away meanwhile */
                n->has_applier = false;
                drained(n);
                return;
        }
        n->items = n->running->next;
        if (n->items == NULL)
                n->items_end = &n->items;
        delay_us = sim_between(c->sim, 50, 2000);
        if (!c->is_calm && sim_chance(c->sim, c->spike_permille)) /* a slow disk */
                delay_us = sim_between(c->sim, 0, c->ttl_ms / 2) * SIM_MS;
        sim_post(c->sim, &n->host, delay_us, end_job, n);
}

/* A reader may hold it up. */
static void
apply_later(struct node *n)
{
        struct cluster *c = n->c;
        int64_t delay_us = 0;

        if (n->has_applier)
                return;
        n->has_applier = true;
        if (!c->is_calm && sim_chance(c->sim, c->spike_permille))
                delay_us = sim_between(c->sim, 0, 2 * c->ttl_ms) * SIM_MS;
        sim_post(c->sim, &n->host, delay_us, begin_job, n);
}

static void
on_txns(struct message *m)
{
        struct node *n = m->st->replica;

        if (!m->st->has_hello || m->term != m->st->term) {
                sim_fail(n->c->sim, "%s: transactions of term %llu in a stream of term %llu",
                         n->host.name, (unsigned long long)m->term, (unsigned long long)m->st->term);
                return;
        }
        if (n->is_resyncing && !follows(n, m->item))
                return;
        n->is_resyncing = false;
        m->item->next = NULL;
        *n->items_end = m->item;
        n->items_end = &m->item->next;
        m->item = NULL;
        apply_later(n);
}

void
stream_drop_items(struct node *n)
{
        while (n->items != NULL) {
                struct item *it = n->items;

                n->items = it->next;
                free(it);
        }
        n->items_end = &n->items;
}

bool
stream_is_drained(const struct node *n)
{
        return n->items == NULL && n->running == NULL;
}

static void
connect_failed(void *arg, bool is_lost)
{
        struct message *m = arg;

        if (!is_lost && m->st->is_replica_open && !m->st->has_hello && !m->st->is_primary_open)
                close_replica_end(m->st, false);
        free_message(m);
}

static void
watch_silence(void *arg, bool is_lost)
{
        struct message *m = arg;
        struct stream *st = m->st;
        int64_t left_ms = st->heard_ms + SILENCE_MS - host_now_ms(&st->replica->host);

        if (!is_lost && st->is_replica_open && left_ms > 0) {
                sim_post(st->c->sim, &st->replica->host, left_ms * SIM_MS, watch_silence, m);
                return;
        }
        if (!is_lost)
                close_replica_end(st, true);
        free_message(m);
}

static void
on_syn(void *arg, bool is_lost)
{
        struct message *m = arg;
        struct stream *st = m->st;
        struct node *n = st->primary;

        if (!is_lost && n->host.is_up && st->is_replica_open && !cluster_is_cut(st->c, st->replica, n)) {
                st->is_primary_open = true;
                /* The kernel accepts; a process that is stopped reads later. */
                send_plain(st, true, CONNECT);
                st->heard_ms = host_now_ms(&st->replica->host);
                sim_post(st->c->sim, &st->replica->host, SILENCE_MS * SIM_MS, watch_silence,
                         make_message(st, false, END));
        }
        free_message(m);
}

static struct node *
find_node(struct cluster *c, const char *url)
{
        for (int i = 0; i < c->n_nodes; i++)
                if (strcmp(c->nodes[i].url, url) == 0)
                        return &c->nodes[i];
        abort();
}

static struct stream *
begin_stream(struct node *n, struct node *primary)
{
        struct cluster *c = n->c;
        struct stream *st = calloc(1, sizeof *st);
        struct message *syn, *timeout;

        if (st == NULL)
                abort();
        st->c = c;
        st->replica = n;
        st->primary = primary;
        st->is_replica_open = true;
        for (int i = 0; i < 2; i++) {
                st->pipes[i].st = st;
                st->pipes[i].tail = &st->pipes[i].head;
        }
        st->next = c->streams;
        c->streams = st;
        if (primary->host.is_up && !cluster_is_cut(c, n, primary)) {
                syn = make_message(st, true, CONNECT);
                sim_post(c->sim, NULL, cluster_delay_us(c), on_syn, syn);
        }
        timeout = make_message(st, false, END);
        sim_post(c->sim, &n->host,
                 (primary->host.is_up || cluster_is_cut(c, n, primary) ? CONNECT_TIMEOUT_MS : 1) *
                         SIM_MS,
                 connect_failed, timeout);
        return st;
}

void
stream_follow(struct node *n, const struct lease_state *holder)
{
        struct stream *st = n->primary;

        n->primary = NULL;
        if (st != NULL) {
                n->left_ms = host_now_ms(&n->host);
                close_replica_end(st, true);
        }
        n->is_resyncing = false;
        if (holder == NULL)
                return;
        if (!stream_is_drained(n) && host_now_ms(&n->host) - n->left_ms < DRAIN_MS) {
                n->role.next_connect_ms = host_now_ms(&n->host) + 10;
                return;
        }
        n->primary = begin_stream(n, find_node(n->c, holder->advertise_url));
}

bool
stream_is_connected(const struct node *n, const struct node *primary)
{
        return n->primary != NULL && n->primary->primary == primary && n->primary->has_hello &&
               n->primary->was_announced;
}

/* --- both --- */

static void
on_message(struct message *m)
{
        struct stream *st = m->st;

        if (!m->to_primary)
                st->heard_ms = host_now_ms(&st->replica->host);
        if (m->kind != HEARTBEAT)
                sim_trace(st->c->sim, &receiver(m)->host, "gets %s from %s", message_names[m->kind],
                          (m->to_primary ? st->replica : st->primary)->host.name);
        switch (m->kind) {
        case CONNECT:
                on_connect(st);
                break;
        case ACCEPTED:
                on_accepted(st);
                break;
        case HELLO:
                if (m->to_primary)
                        on_peer(st, m->term);
                else
                        on_hello(st, m->term);
                break;
        case POSITION:
                on_position(st, &m->pos);
                break;
        case TXNS:
                on_txns(m);
                break;
        case READY:
                st->is_ready = true;
                announce_ready(st->replica);
                break;
        case HEARTBEAT:
                break;
        case ACK:
                st->acked = m->pos;
                break;
        case OFFER:
                node_offered(st->replica, m->token);
                break;
        case REFUSED:
        case END:
                if (m->to_primary)
                        close_primary_end(st, false);
                else
                        close_replica_end(st, false);
                break;
        }
}
