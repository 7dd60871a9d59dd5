/* Connections: who follows this node, and whom it follows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "repl/cluster_id.h"
#include "repl/node_internal.h"

#define FINISH_MS 2000
#define MAX_TLS_CONNS 4096

static const struct upgrade_protocol protocol = { "/stream", FRAME_UPGRADE };

void
node_fill_hello(const struct node *n, uint64_t term, struct frame_hello *ret)
{
        *ret = (struct frame_hello){ .version = FRAME_VERSION, .node_id = n->node_id, .term = term };
        memcpy(ret->cluster_id, n->cluster_id, sizeof ret->cluster_id);
        snprintf(ret->hostname, sizeof ret->hostname, "%s", n->config.hostname);
        snprintf(ret->advertise_url, sizeof ret->advertise_url, "%s", n->config.advertise_url);
}

/* --- replicas of this node --- */

static struct replica *
replica_of(struct link *l)
{
        return (struct replica *)l;
}

static int
replica_writev(struct link *l, const struct iovec *iov, int n)
{
        struct conn *c = replica_of(l)->conn;

        for (int i = 0; i < n; i++)
                replica_of(l)->node->bytes_sent += iov[i].iov_len;
        return c == NULL ? -ENOTCONN : conn_writev(c, iov, n);
}

static void
replica_read_stop(struct link *l)
{
        if (replica_of(l)->conn != NULL)
                conn_read_stop(replica_of(l)->conn);
}

static void
replica_read_start(struct link *l)
{
        if (replica_of(l)->conn != NULL)
                conn_read_start(replica_of(l)->conn);
}

static void
replica_finish(struct link *l)
{
        if (replica_of(l)->conn != NULL)
                conn_finish(replica_of(l)->conn, FINISH_MS);
}

static const struct link_ops replica_link = { replica_writev, replica_read_stop, replica_read_start,
                                              replica_finish };

static void
feed_joined(void *arg, struct feed *f, const struct frame_hello *peer)
{
        (void)arg;
        (void)f;
        log_info("stream connected: replica=%s url=%s", peer->hostname, peer->advertise_url);
}

static void
feed_broken(void *arg, struct feed *f, const struct err *e)
{
        ((struct replica *)arg)->node->n_stream_errors++;
        log_error("stream to %s: %s", feed_peer(f) != NULL ? feed_peer(f)->hostname : "a replica",
                  e->text);
        feed_end(f, FRAME_ERROR_INTERNAL, "the log could not be read");
}

static bool
is_whole(void *arg)
{
        const struct replica *rp = arg;

        return applier_is_empty(rp->node->applier) && !store_has_broken(rp->node->config.store);
}

static void
refuse(struct replica *rp, int status, const char *why)
{
        char buf[512];
        size_t n = upgrade_refuse(&protocol, status, why, buf, sizeof buf);

        (void)conn_write(rp->conn, buf, n);
        conn_finish(rp->conn, FINISH_MS);
}

/* Those that have opened a stream. */
static unsigned
count_replicas(const struct node *n)
{
        unsigned count = 0;

        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                count += rp->feed != NULL;
        return count;
}

static int
start_feed(struct replica *rp)
{
        struct node *n = rp->node;
        struct feed_config config = {
                .loop = n->loop,
                .workers = n->senders,
                .store = n->config.store,
                .arg = rp,
                .connected = feed_joined,
                .broken = feed_broken,
                .is_whole = is_whole,
        };
        char buf[256];
        int r;

        node_fill_hello(n, n->held.term, &config.self);
        r = feed_new(&config, &rp->link, &rp->feed);
        if (r == 0)
                (void)conn_write(rp->conn, buf, upgrade_accept(&protocol, buf, sizeof buf));
        return r;
}

static void
on_request(struct replica *rp)
{
        int status = upgrade_check_request(&rp->head, &protocol);

        if (status != 0)
                refuse(rp, status, "this address serves the replication stream at /stream");
        else if (!upgrade_has_token(&rp->head, rp->node->config.token))
                refuse(rp, 401, "this needs the header Authorization: Bearer TOKEN (http.token)");
        else if (!rp->node->is_primary)
                refuse(rp, 503, "this node is not the primary");
        else if (count_replicas(rp->node) >= MAX_REPLICAS)
                refuse(rp, 503, "as many replicas follow this node as it takes");
        else if (start_feed(rp) < 0)
                refuse(rp, 503, "out of memory");
}

static void
replica_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct replica *rp = arg;
        struct err e = ERR_INIT;
        char peer[ADDR_TEXT_SIZE];
        int r = 0;

        if (rp->feed == NULL) {
                r = upgrade_feed(&rp->head, &data, &n, &e);
                if (r > 0)
                        on_request(rp);
        }
        if (r >= 0 && rp->feed != NULL && n > 0)
                r = feed_input(rp->feed, data, n, &e);
        if (r < 0) {
                conn_peer(c, peer);
                rp->node->n_stream_errors++;
                log_warn("stream from %s closed: %s", peer, e.text);
                conn_finish(c, FINISH_MS);
        }
}

static void
replica_writable(void *arg, struct conn *c)
{
        struct replica *rp = arg;

        (void)c;
        if (rp->feed != NULL)
                feed_writable(rp->feed);
}

static void
replica_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct replica *rp = arg, **p = &rp->node->replicas;

        (void)c;
        if (rp->feed != NULL && feed_peer(rp->feed) != NULL)
                log_info("stream disconnected: replica=%s%s%s", feed_peer(rp->feed)->hostname,
                         code < 0 ? " reason=" : "", code < 0 ? e->text : "");
        while (*p != rp)
                p = &(*p)->next;
        *p = rp->next;
        rp->conn = NULL;
        if (rp->feed != NULL)
                feed_free(rp->feed);
        free(rp);
}

static const struct conn_handler replica_handler = { .read = replica_read,
                                                     .writable = replica_writable,
                                                     .closed = replica_closed };

void
node_accept(struct node *n, struct conn *c)
{
        struct replica *rp = calloc(1, sizeof *rp);

        if (rp == NULL) {
                conn_close(c);
                return;
        }
        n->n_streams++;
        rp->link.ops = &replica_link;
        rp->node = n;
        rp->conn = c;
        rp->since_ms = node_now_ms(n);
        rp->next = n->replicas;
        n->replicas = rp;
        conn_set_handler(c, &replica_handler, rp);
}

static void
accepted(void *arg, struct conn *c)
{
        struct node *n = arg;

        if (n->accepted != NULL)
                n->accepted(n->accepted_arg, c);
        else
                node_accept(n, c);
}

struct listen_call {
        struct node *n;
        struct err *e;
};

static int
listen_on_loop(void *arg)
{
        struct listen_call *lc = arg;
        struct listener_config config = { .address = lc->n->config.listen_address,
                                          .tls = lc->n->config.tls,
                                          /* With it the listener counts what HTTP keeps as well. */
                                          .max_conns = lc->n->config.tls != NULL ? MAX_TLS_CONNS : 0,
                                          .accepted = accepted,
                                          .arg = lc->n };
        int r = listener_open(lc->n->loop, &config, &lc->n->listener, lc->e);

        if (r == 0)
                lc->n->port = listener_port(lc->n->listener);
        return r;
}

int
node_listen(struct node *n, void (*on_accepted)(void *arg, struct conn *c), void *arg, struct err *e)
{
        struct listen_call lc = { n, e };

        n->accepted = on_accepted;
        n->accepted_arg = arg;
        if (n->config.listen_address == NULL || n->config.listen_address[0] == '\0')
                return 0;
        return loop_call(n->loop, listen_on_loop, &lc);
}

void
node_end_feeds(struct node *n, int code, const char *text)
{
        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->feed != NULL)
                        feed_end(rp->feed, code, text);
}

/* Who says nothing takes a place that a replica may need. */
static void
drop_silent(struct node *n)
{
        int64_t now_ms = node_now_ms(n);

        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (now_ms - rp->since_ms > GREETING_MS &&
                    (rp->feed == NULL || !feed_has_positions(rp->feed)))
                        conn_close(rp->conn);
}

void
node_heartbeat(struct node *n)
{
        int64_t deadline = n->config.lease->ops->deadline_ms(n->config.lease), now = node_now_ms(n);
        int64_t fence = deadline == INT64_MAX ? -1 : deadline > now ? deadline - now : 0;

        drop_silent(n);
        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->feed != NULL)
                        feed_heartbeat(rp->feed, clock_wall_ms(n->config.clock), fence);
}

void
node_send_commits(struct node *n)
{
        struct commits *cs = &n->commits;
        struct db *dbs[64];
        uint32_t count;

        do {
                pthread_mutex_lock(&cs->lock);
                count = cs->n < 64 ? cs->n : 64;
                cs->n -= count;
                memcpy(dbs, cs->dbs + cs->n, count * sizeof *dbs);
                if (cs->n == 0)
                        cs->is_posted = false;
                pthread_mutex_unlock(&cs->lock);
                for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                        for (uint32_t i = 0; rp->feed != NULL && i < count; i++)
                                feed_committed(rp->feed, dbs[i]);
                for (uint32_t i = 0; i < count; i++)
                        node_tell_shown(n, dbs[i]);
        } while (count == 64);
}

/* --- the primary --- */

static struct primary *
primary_of(struct link *l)
{
        return (struct primary *)l;
}

static int
primary_writev(struct link *l, const struct iovec *iov, int n)
{
        struct conn *c = primary_of(l)->conn;

        return c == NULL ? -ENOTCONN : conn_writev(c, iov, n);
}

static void
primary_read_stop(struct link *l)
{
        primary_of(l)->is_deaf = true;
        if (primary_of(l)->conn != NULL)
                conn_read_stop(primary_of(l)->conn);
}

static void
primary_read_start(struct link *l)
{
        primary_of(l)->is_deaf = false;
        loop_timer_start(primary_of(l)->silence, SILENCE_MS);
        if (primary_of(l)->conn != NULL)
                conn_read_start(primary_of(l)->conn);
}

static void
primary_finish(struct link *l)
{
        if (primary_of(l)->conn != NULL)
                conn_finish(primary_of(l)->conn, FINISH_MS);
}

static const struct link_ops primary_link = { primary_writev, primary_read_stop, primary_read_start,
                                              primary_finish };

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

static void
follow_connected(void *arg, const struct frame_hello *h)
{
        struct primary *p = arg;
        struct node *n = p->node;
        struct save_job *job;

        log_info("connected to cluster, following primary=%s term=%llu", h->hostname,
                 (unsigned long long)h->term);
        if (n->cluster_id[0] == '\0' && h->cluster_id[0] != '\0' &&
            (job = calloc(1, sizeof *job)) != NULL) {
                memcpy(n->cluster_id, h->cluster_id, sizeof n->cluster_id);
                job->work.run = save_cluster_id;
                job->n = n;
                memcpy(job->id, h->cluster_id, sizeof job->id);
                workers_post(n->lease_worker, &job->work);
        }
        node_stream_is_well(n);
        role_connected(&n->role, node_now_ms(n), h->term);
        role_set_behind(&n->role, true);
}

static void
follow_ready(void *arg)
{
        struct primary *p = arg;

        store_confirm(p->node->config.store);
        role_set_behind(&p->node->role, false);
        node_save_term(p->node, p->node->role.term);
        node_set_ready(p->node);
}

static void
follow_heartbeat(void *arg, const struct frame_heartbeat *hb, bool is_caught_up)
{
        struct primary *p = arg;

        (void)hb;
        if (is_caught_up)
                store_set_contact(p->node->config.store, node_now_ms(p->node));
        /* One that has it should lead next, should this primary go. */
        role_set_behind(&p->node->role, follow_lacks_something(p->follow));
}

static void
follow_handoff(void *arg, const struct frame_handoff *h)
{
        struct primary *p = arg;
        struct node *n = p->node;

        if (h->node_id != n->node_id)
                return;
        snprintf(n->offered, sizeof n->offered, "%s", h->token);
        role_offered(&n->role, node_now_ms(n));
}

static int
start_follow(struct primary *p, struct err *e)
{
        struct node *n = p->node;
        struct follow_config config = {
                .store = n->config.store,
                .env = &n->env,
                .applier = n->applier,
                .arg = p,
                .connected = follow_connected,
                .ready = follow_ready,
                .heartbeat = follow_heartbeat,
                .handoff = follow_handoff,
        };
        int r;

        node_fill_hello(n, n->role.term, &config.self);
        r = follow_new(&config, &p->link, &p->follow);
        return r < 0 ? err_set(e, r, "follow") : follow_start(p->follow, e);
}

/* Not while transactions of an earlier stream are being applied: the positions that we tell must count them. */
static int
begin_follow(struct primary *p, struct err *e)
{
        return p->follow != NULL || !applier_is_empty(p->node->applier) ? 0 : start_follow(p, e);
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
        } else if (p->follow != NULL) {
                follow_drained(p->follow);
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
        if (p->node->role.n_failures == 0)
                log_warn("%s", e.text);
        conn_close(p->conn);
}

static void
primary_opened(void *arg, struct conn *c)
{
        struct primary *p = arg;
        char buf[LEASE_URL_SIZE + 1024], token[TOKEN_SIZE];

        token_get(p->node->config.token, token);
        loop_timer_start(p->silence, SILENCE_MS);
        (void)conn_write(c, buf, upgrade_request(&protocol, p->address, token, buf, sizeof buf));
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
                        r = upgrade_check_response(&p->head, &protocol, &e);
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
                r = p->follow != NULL ? follow_input(p->follow, data, n, &e)
                                      : err_text(&e, -ECONNRESET, "the primary ends the stream");
        if (r < 0) {
                err_prefix(&e, "stream from the primary at %s", p->address);
                node_stream_trouble(p->node, &e);
                if (p->node->role.n_failures == 0)
                        log_warn("%s", e.text);
                conn_close(c);
        }
}

static void
primary_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct primary *p = arg;
        struct node *n = p->node;

        (void)c;
        if (n->primary == p && code < 0 && code != -ECANCELED)
                node_stream_trouble(n, e);
        /* One line when it goes, not one for each attempt to get it back. */
        n->n_stream_errors += n->primary == p && code != -ECANCELED;
        if (n->primary == p && code != -ECANCELED && n->role.n_failures == 0)
                log_info("stream from the primary at %s ended%s%s", p->address, code < 0 ? ": " : "",
                         code < 0 ? e->text : "");
        loop_timer_free(p->silence);
        follow_free(p->follow);
        if (n->primary == p) {
                n->primary = NULL;
                n->left_ms = node_now_ms(n);
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

        if (is_tls && n->config.tls_peer == NULL)
                return err_set(e, -EPROTONOSUPPORT, "%s", url);
        return conn_connect_tls(n->loop, is_tls ? n->config.tls_peer : NULL, p->address,
                                CONNECT_TIMEOUT_MS, NULL, &primary_handler, p, &p->conn, e);
}

/* "http://host:port" as host:port. */
static void
set_address(struct primary *p, const char *url)
{
        const char *host = strstr(url, "://");
        size_t n;

        host = host != NULL ? host + 3 : url;
        n = strcspn(host, "/?#");
        snprintf(p->address, sizeof p->address, "%.*s", (int)n, host);
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
        p = calloc(1, sizeof *p);
        if (p == NULL || loop_timer_new(n->loop, on_silence, p, &p->silence) < 0) {
                free(p);
                n->role.next_connect_ms = node_now_ms(n) + n->config.reconnect_ms;
                return;
        }
        p->link.ops = &primary_link;
        p->node = n;
        set_address(p, holder->advertise_url);
        /* What an earlier stream has brought comes first, if it can: positions are told when it is applied. */
        if ((!applier_is_empty(n->applier) && node_now_ms(n) - n->left_ms < DRAIN_MS) ||
            connect_primary(p, holder->advertise_url, &e) < 0) {
                if (e.code != 0) {
                        err_prefix(&e, "connect to the primary");
                        node_stream_trouble(n, &e);
                        log_warn("%s", e.text);
                }
                loop_timer_free(p->silence);
                free(p);
                n->role.next_connect_ms = node_now_ms(n) + 10;
                return;
        }
        n->primary = p;
}

void
node_applied(void *arg, struct db *db, struct ltx_pos pos)
{
        struct node *n = arg;

        if (n->primary != NULL && n->primary->follow != NULL)
                follow_applied(n->primary->follow, db, pos);
        node_tell_shown(n, db);
}

void
node_failed(void *arg, const char *name, struct db *db, int code, const struct err *e)
{
        struct node *n = arg;

        log_event(LOG_WARN, name, "transaction not applied, asking the primary again: %s", e->text);
        if (n->primary != NULL && n->primary->follow != NULL)
                follow_failed(n->primary->follow, name, db, code);
}

void
node_invalid(void *arg, const char *name, const struct err *e)
{
        struct node *n = arg;

        if (n->primary == NULL)
                return;
        if (n->role.n_failures == 0)
                log_warn("stream from the primary at %s: transaction of %s: %s", n->primary->address,
                         name, e->text);
        conn_close(n->primary->conn);
}

void
node_cut(void *arg, const char *name, struct db *db)
{
        struct node *n = arg;

        log_event(LOG_INFO, name,
                  "its readers let a transaction in, asking for those that were dropped");
        if (n->primary != NULL && n->primary->follow != NULL)
                follow_failed(n->primary->follow, name, db, E_POS_MISMATCH);
}
