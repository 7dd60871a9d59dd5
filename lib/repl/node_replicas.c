/* The nodes that follow this one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/node_internal.h"

#define MAX_TLS_CONNS 2048
#define MAX_NEW_CONNS 512
#define ROOM_MS 1000 /* that a replica has to say who it is, before it makes room for another */

const struct upgrade_protocol node_protocol = { "/stream", FRAME_UPGRADE };

static struct replica *
replica_of(struct stream_transport *l)
{
        return (struct replica *)l;
}

static int
replica_writev(struct stream_transport *l, const struct iovec *iov, int n)
{
        struct conn *c = replica_of(l)->conn;

        for (int i = 0; i < n; i++)
                replica_of(l)->node->bytes_sent += iov[i].iov_len;
        return c == NULL ? -ENOTCONN : conn_writev(c, iov, n);
}

static void
replica_read_stop(struct stream_transport *l)
{
        if (replica_of(l)->conn != NULL)
                conn_read_stop(replica_of(l)->conn);
}

static void
replica_read_start(struct stream_transport *l)
{
        if (replica_of(l)->conn != NULL)
                conn_read_start(replica_of(l)->conn);
}

static void
replica_finish(struct stream_transport *l)
{
        if (replica_of(l)->conn != NULL)
                conn_finish(replica_of(l)->conn, FINISH_MS);
}

static const struct stream_transport_ops replica_link = { replica_writev, replica_read_stop,
                                                          replica_read_start, replica_finish };

static void
replica_on_joined(void *arg, struct stream_sender *f, const struct frame_hello *peer)
{
        (void)f;
        log_info("stream connected: replica=%s url=%s", peer->hostname, peer->advertise_url);
        node_member_joined(((struct replica *)arg)->node, peer);
}

static unsigned
tell_some_peers(struct node *n, struct stream_sender *to, bool is_candidate, unsigned flags)
{
        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next) {
                if (rp->sender == NULL || rp->sender == to || stream_sender_peer(rp->sender) == NULL ||
                    (stream_sender_candidacy(rp->sender) == CANDIDACY_YES) != is_candidate)
                        continue;
                stream_sender_tell_peer(to, flags, stream_sender_peer(rp->sender)->advertise_url);
                flags = 0;
        }
        return flags;
}

/* The nodes know each other, for when nobody leads (survey.h): those who may lead, and those who can only give what they have.
 * Who leaves stays known until another one comes: it may have left this node alone. */
static void
tell_peers(struct node *n, struct stream_sender *to)
{
        unsigned flags = tell_some_peers(n, to, true, FRAME_PEER_FIRST);

        if (stream_sender_knows_fetch(to)) /* another would leave the lease to one that cannot take it */
                flags = tell_some_peers(n, to, false, flags);
        stream_sender_tell_peer(to, flags | FRAME_PEER_LAST, n->config.advertise_url);
}

/* For itself, too: it may be started anew, and find the lease free, without having followed anybody who names them. */
static void
keep_replicas_as_peers(struct node *n)
{
        bool is_first = true;

        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->sender != NULL && stream_sender_peer(rp->sender) != NULL) {
                        (void)peers_add(&n->peers, stream_sender_peer(rp->sender)->advertise_url,
                                        is_first, false);
                        is_first = false;
                }
        if (peers_add(&n->peers, "", is_first, true))
                node_save_peers(n);
}

static void
replica_on_candidacy(void *arg)
{
        struct node *n = ((struct replica *)arg)->node;

        keep_replicas_as_peers(n);
        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->sender != NULL)
                        tell_peers(n, rp->sender);
}

static void
replica_on_broken(void *arg, struct stream_sender *f, const struct err *e)
{
        ((struct replica *)arg)->node->n_stream_errors++;
        log_error("stream to %s: %s",
                  stream_sender_peer(f) != NULL ? stream_sender_peer(f)->hostname : "a replica",
                  e->text);
        stream_sender_end(f, FRAME_ERROR_INTERNAL, "the log could not be read", NULL);
}

static bool
is_whole(void *arg)
{
        const struct replica *rp = arg;

        return applier_is_empty(rp->node->applier) && !store_has_broken(rp->node->config.store);
}

static void
replica_on_outranked(void *arg, uint64_t term)
{
        struct node *n = ((struct replica *)arg)->node;

        if (n->is_primary && !n->is_offering)
                role_outranked(&n->role, node_now_ms(n), term);
}

static void
refuse_replica(struct replica *rp, int status, const char *why)
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
                count += rp->sender != NULL;
        return count;
}

/* Who has said nothing for @ms takes a place that a replica may need. Whether there was one that had a place. */
static bool
drop_silent(struct node *n, int64_t ms)
{
        int64_t now_ms = node_now_ms(n);
        bool is_any = false;

        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (now_ms - rp->since_ms > ms &&
                    (rp->sender == NULL || !stream_sender_has_positions(rp->sender))) {
                        is_any |= rp->sender != NULL;
                        conn_close(rp->conn);
                }
        return is_any;
}

static int
start_sender(struct replica *rp)
{
        struct node *n = rp->node;
        struct stream_sender_config config = {
                .loop = n->loop,
                .workers = n->senders,
                .store = n->config.store,
                .arg = rp,
                .connected = replica_on_joined,
                .broken = replica_on_broken,
                .is_whole = is_whole,
                .outranked = replica_on_outranked,
                .candidacy = replica_on_candidacy,
        };
        char buf[256];
        int r;

        node_fill_hello(n, n->held.term, &config.self);
        r = stream_sender_new(&config, &rp->transport, &rp->sender);
        if (r == 0)
                conn_set_rank(rp->conn, CROWD_KEPT);
        if (r == 0)
                (void)conn_write(rp->conn, buf, upgrade_accept(&node_protocol, buf, sizeof buf));
        return r;
}

static void
replica_on_request(struct replica *rp)
{
        int status = upgrade_check_request(&rp->head, &node_protocol);

        if (status != 0)
                refuse_replica(rp, status, "this address serves the replication stream at /stream");
        else if (!upgrade_has_token(&rp->head, rp->node->config.token))
                refuse_replica(rp, 401,
                               "this needs the header Authorization: Bearer TOKEN (http.token)");
        else if (!rp->node->is_primary)
                refuse_replica(rp, 503, "this node is not the primary");
        else if (count_replicas(rp->node) >= MAX_REPLICAS && !drop_silent(rp->node, ROOM_MS))
                refuse_replica(rp, 503, "as many replicas follow this node as it takes");
        else if (start_sender(rp) < 0)
                refuse_replica(rp, 503, "out of memory");
}

static void
replica_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct replica *rp = arg;
        struct err e = ERR_INIT;
        char peer[ADDR_TEXT_SIZE];
        int r = 0;

        if (rp->sender == NULL) {
                r = upgrade_feed(&rp->head, &data, &n, &e);
                if (r > 0)
                        replica_on_request(rp);
        }
        if (r >= 0 && rp->sender != NULL && n > 0)
                r = stream_sender_input(rp->sender, data, n, &e);
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
        if (rp->sender != NULL)
                stream_sender_writable(rp->sender);
}

static void
replica_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        struct replica *rp = arg, **p = &rp->node->replicas;

        (void)c;
        if (rp->sender != NULL && stream_sender_peer(rp->sender) != NULL)
                log_info("stream disconnected: replica=%s%s%s", stream_sender_peer(rp->sender)->hostname,
                         code < 0 ? " reason=" : "", code < 0 ? e->text : "");
        while (*p != rp)
                p = &(*p)->next;
        *p = rp->next;
        rp->conn = NULL;
        if (rp->sender != NULL && stream_sender_peer(rp->sender) != NULL)
                node_member_left(rp->node, stream_sender_peer(rp->sender));
        if (rp->sender != NULL)
                stream_sender_free(rp->sender);
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
        rp->transport.ops = &replica_link;
        rp->node = n;
        rp->conn = c;
        rp->since_ms = node_now_ms(n);
        rp->next = n->replicas;
        n->replicas = rp;
        conn_set_handler(c, &replica_handler, rp);
}

static void
node_accepted_conn(void *arg, struct conn *c)
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
node_listen_on_loop(void *arg)
{
        struct listen_call *lc = arg;
        struct listener_config config = { .address = lc->n->config.listen_address,
                                          .fd = lc->n->config.listen_fd,
                                          .tls = lc->n->config.tls,
                                          /* With it the listener counts what HTTP keeps as well. */
                                          .crowd = { .name = "http.addr",
                                                     .max = lc->n->config.tls != NULL ? MAX_TLS_CONNS
                                                                                      : 0,
                                                     .max_of_a_kind = MAX_NEW_CONNS },
                                          .accepted = node_accepted_conn,
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
        return loop_call(n->loop, node_listen_on_loop, &lc);
}

static int
node_listener_fd_on_loop(void *arg)
{
        struct node *n = arg;

        return n->listener != NULL ? listener_fd(n->listener) : -EBADF;
}

int
node_listener_fd(struct node *n)
{
        return loop_call(n->loop, node_listener_fd_on_loop, n);
}

void
node_end_senders(struct node *n, int code, const char *text)
{
        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->sender != NULL)
                        stream_sender_end_after_all(rp->sender, code, text,
                                                    n->successor.boot_id != 0 ? &n->successor : NULL);
}

void
node_heartbeat(struct node *n)
{
        int64_t deadline = n->config.lease->ops->deadline_ms(n->config.lease), now = node_now_ms(n);
        int64_t fence = deadline == INT64_MAX ? -1 : deadline > now ? deadline - now : 0;

        (void)drop_silent(n, GREETING_MS);
        for (struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                if (rp->sender != NULL)
                        stream_sender_heartbeat(rp->sender, clock_wall_ms(n->config.clock), fence);
}

/* --- commits --- */

static void
send_commits(struct mail *m)
{
        struct node *n = (struct node *)((char *)m - offsetof(struct node, commits) -
                                         offsetof(struct commits, mail));
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
                        for (uint32_t i = 0; rp->sender != NULL && i < count; i++)
                                stream_sender_committed(rp->sender, dbs[i]);
                for (uint32_t i = 0; i < count; i++) {
                        if (n->primary != NULL && n->primary->receiver != NULL)
                                stream_receiver_durable(n->primary->receiver, dbs[i]);
                        node_tell_shown(n, dbs[i]);
                }
        } while (count == 64);
}

void
node_committed(struct node *n, struct db *db)
{
        struct commits *cs = &n->commits;
        bool is_new = true;

        pthread_mutex_lock(&cs->lock);
        for (uint32_t i = 0; i < cs->n && is_new; i++)
                is_new = cs->dbs[i] != db;
        if (is_new && cs->n == cs->capacity) {
                uint32_t want = cs->capacity == 0 ? 64 : cs->capacity * 2;
                struct db **p = realloc(cs->dbs, want * sizeof(struct db *));

                if (p != NULL) {
                        cs->dbs = p;
                        cs->capacity = want;
                }
        }
        if (is_new && cs->n < cs->capacity) /* else it goes with the next one */
                cs->dbs[cs->n++] = db;
        if (!cs->is_posted) {
                cs->is_posted = true;
                cs->mail = (struct mail){ send_commits, NULL };
                if (loop_post(n->loop, &cs->mail) < 0)
                        cs->is_posted = false;
        }
        pthread_mutex_unlock(&cs->lock);
}
