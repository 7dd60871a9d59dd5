/* The node that this one follows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"

static struct primary *
primary_of(struct stream_transport *l)
{
        return (struct primary *)l;
}

static int
primary_writev(struct stream_transport *l, const struct iovec *iov, int n)
{
        struct conn *c = primary_of(l)->conn;

        return c == NULL ? -ENOTCONN : conn_writev(c, iov, n);
}

static void
primary_read_stop(struct stream_transport *l)
{
        primary_of(l)->is_deaf = true;
        if (primary_of(l)->conn != NULL)
                conn_read_stop(primary_of(l)->conn);
}

static void
primary_read_start(struct stream_transport *l)
{
        primary_of(l)->is_deaf = false;
        loop_timer_start(primary_of(l)->silence, SILENCE_MS);
        if (primary_of(l)->conn != NULL)
                conn_read_start(primary_of(l)->conn);
}

static void
primary_finish(struct stream_transport *l)
{
        if (primary_of(l)->conn != NULL)
                conn_finish(primary_of(l)->conn, FINISH_MS);
}

static const struct stream_transport_ops primary_link = { primary_writev, primary_read_stop,
                                                          primary_read_start, primary_finish };

struct save_job {
        struct work work;
        struct node *n;
        char id[LEASE_CLUSTER_ID_SIZE];
};

static void
save_cluster_id(struct work *w)
{
        struct save_job *job = (struct save_job *)w;
        struct err e = ERR_INIT;

        if (cluster_id_save(os_host(), job->n->config.data_dir, job->id, &e) < 0)
                log_error("%s", e.text);
        free(job);
}

/* One line when the stream goes, not one for each attempt to get it back. */
static void
log_stream_trouble(struct node *n, enum log_level level, int code, const char *text)
{
        char count[TROUBLE_COUNT_SIZE];

        if (trouble_note(&n->streamless, node_now_ms(n), code, count))
                log_event(level, NULL, "%s%s", text, count);
}

static void
log_stream_again(struct primary *p)
{
        struct node *n = p->node;
        bool is_short = n->streamless.n_failures <= 1; /* that it is connected again was said */
        char count[TROUBLE_COUNT_SIZE];

        if (trouble_end(&n->streamless, node_now_ms(n), count) && !is_short)
                log_info("in sync with the primary at %s, after %s", p->address, count);
}

static void
primary_on_connected(void *arg, const struct frame_hello *h)
{
        struct primary *p = arg;
        struct node *n = p->node;
        struct save_job *job;

        /* Not each time that it is connected and fails again. */
        if (n->streamless.n_failures <= 1 || n->told_term != h->term)
                log_info("connected to cluster, following primary=%s term=%llu", h->hostname,
                         (unsigned long long)h->term);
        n->told_term = h->term;
        if (n->cluster_id[0] == '\0' && h->cluster_id[0] != '\0' &&
            (job = calloc(1, sizeof *job)) != NULL) {
                memcpy(n->cluster_id, h->cluster_id, sizeof n->cluster_id);
                job->work.run = save_cluster_id;
                job->n = n;
                memcpy(job->id, h->cluster_id, sizeof job->id);
                workers_post(n->lease_worker, &job->work);
        }
        node_stream_is_well(n);
        node_followed(n, h);
        role_connected(&n->role, node_now_ms(n), h->term);
        role_set_behind(&n->role, true);
        node_tell_connected(n);
}

static void
primary_on_ready(void *arg)
{
        struct primary *p = arg;

        log_stream_again(p);
        store_confirm(p->node->config.store, p->node->role.term);
        store_set_contact(p->node->config.store, node_now_ms(p->node)); /* it lags behind nothing */
        role_set_behind(&p->node->role, false);
        node_save_term(p->node, p->node->role.term);
        role_set_complete(&p->node->role, p->node->role.term);
        node_set_ready(p->node);
        node_tell_connected(p->node);
}

static void
primary_on_heartbeat(void *arg, const struct frame_heartbeat *hb, bool is_caught_up)
{
        struct primary *p = arg;

        (void)hb;
        if (is_caught_up)
                store_set_contact(p->node->config.store, node_now_ms(p->node));
        /* One that has it should lead next, should this primary go. */
        role_set_behind(&p->node->role, stream_receiver_lacks_something(p->receiver));
}

static void
primary_on_handoff(void *arg, const struct frame_handoff *h)
{
        struct primary *p = arg;
        struct node *n = p->node;

        if (h->boot_id != n->boot_id)
                return;
        snprintf(n->offered, sizeof n->offered, "%s", h->token);
        role_offered(&n->role, node_now_ms(n));
}

static void
primary_on_pong(void *arg, const struct frame_pong *pong)
{
        struct primary *p = arg;

        node_tell_pong(p->node, pong);
}

/* Where writes go from now on. The lease says so itself before this node follows it. */
static void
primary_on_successor(void *arg, const struct frame_successor *s)
{
        struct primary *p = arg;
        struct node *n = p->node;
        struct lease_state holder = n->role.holder;

        if (s->boot_id == n->boot_id || s->advertise_url[0] == '\0')
                return;
        log_info("the primary passes the lease to %s", s->hostname);
        snprintf(holder.hostname, sizeof holder.hostname, "%s", s->hostname);
        snprintf(holder.advertise_url, sizeof holder.advertise_url, "%s", s->advertise_url);
        holder.has_holder = true;
        role_passed_on(&n->role, node_now_ms(n));
        store_set_role(n->config.store, false, &holder);
        node_tell_role_changed(n);
}

static void
primary_on_peer(void *arg, const struct frame_peer *peer)
{
        struct node *n = ((struct primary *)arg)->node;

        if (peers_add(&n->peers, peer->advertise_url, peer->flags & FRAME_PEER_FIRST,
                      peer->flags & FRAME_PEER_LAST))
                node_save_peers(n);
}

struct question {
        struct mail mail;
        struct node *n;
        uint64_t nonce;
        char name[DBNAME_MAX + 1];
};

static void
pass_question(struct mail *m)
{
        struct question *q = (struct question *)m;

        if (q->n->primary != NULL && q->n->primary->receiver != NULL)
                (void)stream_receiver_ping(q->n->primary->receiver, q->nonce, q->name);
        free(q);
}

void
node_ask(struct node *n, uint64_t nonce, const char *name)
{
        struct question *q = calloc(1, sizeof *q);

        if (q == NULL)
                return;
        q->mail.run = pass_question;
        q->n = n;
        q->nonce = nonce;
        snprintf(q->name, sizeof q->name, "%s", name);
        if (loop_post(n->loop, &q->mail) < 0)
                free(q);
}

static void
primary_on_sync(void *arg)
{
        node_sync(((struct primary *)arg)->node);
}

static void
primary_on_stopped(void *arg, uint64_t term)
{
        struct node *n = ((struct primary *)arg)->node;

        role_told_stopped(&n->role, node_now_ms(n), term);
}

static int
start_receiver(struct primary *p, struct err *e)
{
        struct node *n = p->node;
        struct stream_receiver_config config = {
                .store = n->config.store,
                .env = &n->env,
                .applier = n->applier,
                .arg = p,
                .connected = primary_on_connected,
                .ready = primary_on_ready,
                .heartbeat = primary_on_heartbeat,
                .handoff = primary_on_handoff,
                .pong = primary_on_pong,
                .successor = primary_on_successor,
                .peer = primary_on_peer,
                .sync = primary_on_sync,
                .stopped = primary_on_stopped,
        };
        int r;

        node_fill_hello(n, n->role.term, &config.self);
        config.is_candidate = role_is_candidate(&n->role);
        r = stream_receiver_new(&config, &p->transport, &p->receiver);
        return r < 0 ? err_set(e, r, "follow") : stream_receiver_start(p->receiver, e);
}

void
node_tell_candidacy(struct node *n)
{
        if (n->primary != NULL && n->primary->receiver != NULL)
                stream_receiver_set_candidate(n->primary->receiver, role_is_candidate(&n->role));
}

/* Not while transactions of an earlier stream are being applied: the positions that we tell must count them. */
static int
begin_follow(struct primary *p, struct err *e)
{
        return p->receiver != NULL || !applier_is_empty(p->node->applier) ? 0 : start_receiver(p, e);
}

void
node_drained(struct node *n)
{
        struct primary *p = n->primary;
        struct err e = ERR_INIT;

        if (p == NULL || !p->is_upgraded)
                return;
        if (begin_follow(p, &e) < 0) {
                log_warn("stream from the primary at %s: %s", p->address, e.text);
                conn_close(p->conn);
        } else if (p->receiver != NULL) {
                stream_receiver_drained(p->receiver);
        }
}

/* Heartbeats come once a second. A host that has lost its power, or a process that stands still, says nothing. */
static void
on_silence(void *arg)
{
        struct primary *p = arg;
        struct err e = ERR_INIT;

        if (p->is_deaf)
                return; /* starts again when we listen */
        err_text(&e, -ETIMEDOUT, "the primary at %s has said nothing for %d ms", p->address, SILENCE_MS);
        node_stream_trouble(p->node, &e);
        log_stream_trouble(p->node, LOG_WARN, e.code, e.text);
        conn_close(p->conn);
}

static void
primary_opened(void *arg, struct conn *c)
{
        struct primary *p = arg;
        char buf[LEASE_URL_SIZE + 1024], token[TOKEN_SIZE];

        token_get(p->node->config.token, token);
        loop_timer_start(p->silence, SILENCE_MS);
        (void)conn_write(c, buf, upgrade_request(&node_protocol, p->address, token, buf, sizeof buf));
}

static void
primary_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct primary *p = arg;
        struct err e = ERR_INIT;
        int r = 0;

        loop_timer_start(p->silence, SILENCE_MS);
        p->node->bytes_received += n;
        if (!p->is_upgraded) {
                r = upgrade_feed(&p->head, &data, &n, &e);
                if (r > 0)
                        r = upgrade_check_response(&p->head, &node_protocol, &e);
                else if (r == 0)
                        return;
                if (r == 0) {
                        p->is_upgraded = true;
                        /* What still waits for a reader will be sent again; the other databases cannot wait. */
                        applier_clear(p->node->applier);
                        r = begin_follow(p, &e);
                }
        }
        if (r == 0 && n > 0)
                r = p->receiver != NULL ? stream_receiver_input(p->receiver, data, n, &e)
                                        : err_text(&e, -ECONNRESET, "the primary ends the stream");
        if (r < 0) {
                err_prefix(&e, "stream from the primary at %s", p->address);
                node_stream_trouble(p->node, &e);
                log_stream_trouble(p->node, LOG_WARN, e.code, e.text);
                conn_close(c);
        }
}

static void
note_end(struct primary *p, int code, const struct err *e)
{
        struct node *n = p->node;
        struct err why = ERR_INIT;

        n->n_stream_errors++;
        if (code < 0)
                node_stream_trouble(n, e);
        err_text(&why, code, "stream from the primary at %s ended%s%s", p->address, code < 0 ? ": " : "",
                 code < 0 ? e->text : "");
        log_stream_trouble(n, LOG_INFO, code, why.text);
}

static void
primary_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct primary *p = arg;
        struct node *n = p->node;

        (void)c;
        if (n->primary == p && code != -ECANCELED)
                note_end(p, code, e);
        loop_timer_free(p->silence);
        stream_receiver_free(p->receiver);
        if (n->primary == p) {
                n->primary = NULL;
                n->left_ms = node_now_ms(n);
                node_followed_until_now(n);
                role_disconnected(&n->role, node_now_ms(n));
        }
        free(p);
}

static const struct conn_handler primary_handler = { .opened = primary_opened,
                                                     .read = primary_read,
                                                     .closed = primary_closed };

/* -EPROTONOSUPPORT: it says https://, and this node cannot. */
static int
connect_primary(struct primary *p, const char *url, struct err *e)
{
        struct node *n = p->node;
        bool is_tls = strncasecmp(url, "https://", 8) == 0;
        struct addr a;
        int r = addr_of_url(url, &a, e);

        if (r < 0)
                return r;
        addr_format(&a, p->address);
        if (is_tls && n->config.tls_peer == NULL)
                return err_set(e, -EPROTONOSUPPORT, "%s", url);
        if (!is_tls && n->config.needs_tls)
                return err_text(
                        e, -EPROTONOSUPPORT,
                        "%s is not https://, and this node has http.tls: it follows nobody in clear, and "
                        "tells him no token; set http.tls and lease.advertise-url there",
                        url);
        return conn_connect(n->loop, is_tls ? n->config.tls_peer : NULL, p->address, CONNECT_TIMEOUT_MS,
                            NULL, &primary_handler, p, &p->conn, e);
}

/* No connection could be begun: the address is none, or there is no memory. How long to wait. */
static int64_t
put_off(struct node *n, struct err *e)
{
        err_prefix(e, "connect to the primary");
        node_stream_trouble(n, e);
        log_stream_trouble(n, LOG_WARN, e->code, e->text);
        return backoff_next_ms(&n->role.dials);
}

void
node_follow(struct node *n, const struct lease_state *holder)
{
        struct err e = ERR_INIT;
        struct primary *p = n->primary;

        n->primary = NULL;
        if (p != NULL) {
                n->left_ms = node_now_ms(n);
                conn_close(p->conn); /* its closed() frees it */
        }
        if (holder == NULL)
                return;
        if (holder->term != n->dialed_term) /* what was wrong with another is not wrong with this one */
                n->streamless = (struct trouble){ 0 };
        n->dialed_term = holder->term;
        p = calloc(1, sizeof *p);
        if (p == NULL || loop_timer_new(n->loop, on_silence, p, &p->silence) < 0) {
                free(p);
                n->role.next_connect_ms = node_now_ms(n) + n->config.reconnect_ms;
                return;
        }
        p->transport.ops = &primary_link;
        p->node = n;
        /* What an earlier stream has brought comes first, if it can: positions are told when it is applied. */
        if ((!applier_is_empty(n->applier) && node_now_ms(n) - n->left_ms < DRAIN_MS) ||
            connect_primary(p, holder->advertise_url, &e) < 0) {
                n->role.next_connect_ms = node_now_ms(n) + (e.code != 0 ? put_off(n, &e) : 10);
                loop_timer_free(p->silence);
                free(p);
                return;
        }
        n->primary = p;
}

void
node_applied(void *arg, struct db *db, struct ltx_pos pos)
{
        struct node *n = arg;

        if (n->primary != NULL && n->primary->receiver != NULL)
                stream_receiver_applied(n->primary->receiver, db, pos);
        node_tell_shown(n, db);
}

void
node_failed(void *arg, const char *name, struct db *db, int code, const struct err *e)
{
        struct node *n = arg;

        (void)e; /* the applier has logged it */
        if (n->primary != NULL && n->primary->receiver != NULL)
                stream_receiver_failed(n->primary->receiver, name, db, code);
}

void
node_invalid(void *arg, const char *name, const struct err *e)
{
        struct node *n = arg;
        struct err why = ERR_INIT;

        if (n->primary == NULL)
                return;
        err_text(&why, e->code, "stream from the primary at %s: transaction of %s: %s",
                 n->primary->address, name, e->text);
        log_stream_trouble(n, LOG_WARN, why.code, why.text);
        conn_close(n->primary->conn);
}

void
node_cut(void *arg, const char *name, struct db *db)
{
        struct node *n = arg;

        log_event(LOG_INFO, name,
                  "its readers let a transaction in, asking for those that were dropped");
        if (n->primary != NULL && n->primary->receiver != NULL)
                stream_receiver_failed(n->primary->receiver, name, db, E_POS_MISMATCH);
}
