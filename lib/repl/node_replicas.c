/* The nodes that follow this one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/node_internal.h"

#define MAX_TLS_CONNS 4096

const struct upgrade_protocol node_protocol = { "/stream", FRAME_UPGRADE };

void
node_fill_hello(const struct node *n, uint64_t term, struct frame_hello *ret)
{
        *ret = (struct frame_hello){ .version = FRAME_VERSION, .node_id = n->node_id, .term = term };
        memcpy(ret->cluster_id, n->cluster_id, sizeof ret->cluster_id);
        snprintf(ret->hostname, sizeof ret->hostname, "%s", n->config.hostname);
        snprintf(ret->advertise_url, sizeof ret->advertise_url, "%s", n->config.advertise_url);
}

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
        size_t n = upgrade_refuse(&node_protocol, status, why, buf, sizeof buf);

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
                (void)conn_write(rp->conn, buf, upgrade_accept(&node_protocol, buf, sizeof buf));
        return r;
}

static void
on_request(struct replica *rp)
{
        int status = upgrade_check_request(&rp->head, &node_protocol);

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
