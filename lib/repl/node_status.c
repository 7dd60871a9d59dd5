/* What operators look at. */
#include <string.h>

#include "repl/fetch.h"
#include "repl/node_internal.h"
#include "repl/survey.h"

static const char *
role_text(const struct node *n)
{
        if (n->is_primary)
                return "primary";
        switch (n->role.state) {
        case ROLE_FOLLOWING:
                return "replica";
        case ROLE_STOPPED:
                return "stopped";
        default:
                return n->config.is_candidate ? "candidate" : "waiting";
        }
}

static int64_t
lease_left_ms(const struct node *n)
{
        int64_t deadline_ms = n->config.lease->ops->deadline_ms(n->config.lease),
                now_ms = node_now_ms(n);

        if (!n->is_primary || deadline_ms == INT64_MAX)
                return -1;
        return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

void
node_get_status(struct node *n, struct node_status *ret)
{
        *ret = (struct node_status){ .boot_id = n->boot_id,
                                     .role = role_text(n),
                                     .is_primary = n->is_primary,
                                     .is_connected = n->role.is_connected,
                                     .term = n->role.term,
                                     .lease_ms = lease_left_ms(n),
                                     .n_streams = n->n_streams,
                                     .n_stream_errors = n->n_stream_errors,
                                     .n_lease_errors = n->n_lease_errors,
                                     .bytes_sent = n->bytes_sent,
                                     .bytes_received = n->bytes_received };
        node_get_wait(n, &ret->wait);
        memcpy(ret->cluster_id, n->cluster_id, sizeof ret->cluster_id);
        pthread_mutex_lock(&n->ready_lock);
        ret->is_ready = n->is_ready;
        pthread_mutex_unlock(&n->ready_lock);
        if (n->is_primary && n->held.term > ret->term)
                ret->term = n->held.term;
        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next)
                ret->n_replicas += rp->sender != NULL && stream_sender_peer(rp->sender) != NULL;
}

void
node_each_replica(struct node *n, void (*peer)(void *arg, const struct node_peer *p),
                  void (*acked)(void *arg, struct db *db, struct ltx_pos pos), void *arg)
{
        for (const struct replica *rp = n->replicas; rp != NULL; rp = rp->next) {
                const struct frame_hello *h = rp->sender != NULL ? stream_sender_peer(rp->sender) : NULL;
                struct node_peer p;

                if (h == NULL)
                        continue;
                p = (struct node_peer){ h->boot_id, h->hostname, h->advertise_url,
                                        stream_sender_is_caught_up(rp->sender) };
                peer(arg, &p);
                if (acked != NULL)
                        stream_sender_each_acked(rp->sender, acked, arg);
        }
}

struct positions_call {
        struct node *n;
        char **ret;
        size_t *ret_n;
        struct frame_hello *self;
};

static int
get_positions(void *arg)
{
        struct positions_call *call = arg;
        struct frame_hello self;

        node_fill_hello(call->n, call->n->role.last_complete_term, &self);
        return survey_answer(call->n->config.store, &self, call->ret, call->ret_n);
}

int
node_get_positions(struct node *n, char **ret, size_t *ret_n)
{
        struct positions_call call = { .n = n, .ret = ret, .ret_n = ret_n };

        return loop_call(n->loop, get_positions, &call);
}

static int
fill_self(void *arg)
{
        struct positions_call *call = arg;

        node_fill_hello(call->n, call->n->role.last_complete_term, call->self);
        return 0;
}

int
node_get_transactions(struct node *n, const char *name, struct ltx_pos from, struct fetch_source **ret)
{
        struct frame_hello self;
        struct positions_call call = { .n = n, .self = &self };
        int r = loop_call(n->loop, fill_self, &call);

        return r < 0 ? r : fetch_source_open(n->config.store, &self, name, from, ret);
}
