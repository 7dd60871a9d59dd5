#include "repl/stream_sender.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/positions.h"
#include "repl/stream_sender_internal.h"

#define LAST_TRANSACTIONS_MS 500 /* that a stream which ends has for what is in the log */

static void
sender_retry(void *arg)
{
        sender_schedule(arg);
}

static void
on_end_timer(void *arg)
{
        sender_end_now(arg);
}

int
stream_sender_new(const struct stream_sender_config *config, struct stream_transport *transport,
                  struct stream_sender **ret)
{
        struct stream_sender *f = calloc(1, sizeof *f);
        int r = f == NULL ? -ENOMEM : 0;

        if (r == 0)
                r = frame_decoder_new(&f->decoder);
        if (r == 0)
                r = loop_timer_new(config->loop, sender_retry, f, &f->retry);
        if (r == 0)
                r = loop_timer_new(config->loop, on_end_timer, f, &f->end);
        if (r < 0) {
                if (f != NULL) {
                        loop_timer_free(f->retry);
                        frame_decoder_free(f->decoder);
                }
                free(f);
                return r;
        }
        f->config = *config;
        f->transport = transport;
        f->next_stream = 1;
        outbox_init(&f->out);
        sender_table_init(&f->table);
        *ret = f;
        return 0;
}

void
stream_sender_free(struct stream_sender *f)
{
        f->transport = NULL;
        loop_timer_free(f->retry);
        loop_timer_free(f->end);
        f->retry = f->end = NULL;
        if (atomic_exchange(&f->job, JOB_LEFT) == JOB_NONE)
                sender_destroy(f);
}

const struct frame_hello *
stream_sender_peer(const struct stream_sender *f)
{
        return f->has_peer ? &f->peer : NULL;
}

/* --- out --- */

/* What the replica has besides it sets aside, so it must be all. */
static void
send_list(struct stream_sender *f)
{
        if (f->has_listed || !f->has_positions || f->transport == NULL ||
            !f->config.is_whole(f->config.arg))
                return;
        f->has_listed = positions_send(f->transport, f->config.store, FRAME_POSITIONS_ALL) == 0;
}

void
stream_sender_heartbeat(struct stream_sender *f, int64_t wall_ms, int64_t fence_ms)
{
        struct frame frame = { .type = FRAME_HEARTBEAT,
                               .heartbeat = { wall_ms, f->config.self.term, fence_ms } };

        if (!f->has_peer)
                return;
        (void)sender_send(f, &frame);
        send_list(f);
        sender_table_beat(&f->table);
        sender_schedule(f);
}

int
stream_sender_handoff(struct stream_sender *f, const struct frame_handoff *h)
{
        struct frame frame = { .type = FRAME_HANDOFF, .handoff = *h };
        int r = sender_send(f, &frame);

        return r < 0 ? r : 0;
}

enum candidacy
stream_sender_candidacy(const struct stream_sender *f)
{
        if (f->has_peer && sender_spoken(f) < FRAME_VERSION_CANDIDACY)
                return CANDIDACY_YES;
        return f->candidacy;
}

bool
stream_sender_knows_fetch(const struct stream_sender *f)
{
        return f->has_peer && sender_spoken(f) >= FRAME_VERSION_FETCH;
}

void
stream_sender_tell_peer(struct stream_sender *f, unsigned flags, const char *url)
{
        struct frame frame = { .type = FRAME_PEER, .peer.flags = (uint8_t)flags };

        if (!f->has_peer || sender_spoken(f) < FRAME_VERSION_CANDIDACY)
                return;
        snprintf(frame.peer.advertise_url, sizeof frame.peer.advertise_url, "%s", url);
        (void)sender_send(f, &frame);
}

static int
mark_all(void *arg, struct db *db)
{
        stream_sender_committed(arg, db);
        return 0;
}

void
stream_sender_end_after_all(struct stream_sender *f, int code, const char *text,
                            const struct frame_successor *successor)
{
        if (f->end_code != 0)
                return;
        if (successor != NULL)
                f->end_successor = *successor;
        f->end_code = code;
        f->end_text = text;
        loop_timer_start(f->end, LAST_TRANSACTIONS_MS);
        if (f->has_positions)
                store_each(f->config.store, mark_all, f);
        sender_schedule(f);
        if (!sender_has_job(f))
                sender_end_now(f);
}

void
stream_sender_writable(struct stream_sender *f)
{
        f->is_blocked = false;
        sender_schedule(f);
}

/* --- databases --- */

void
stream_sender_committed(struct stream_sender *f, struct db *db)
{
        struct sender_entry *en;

        if (!f->has_positions)
                return;
        en = sender_table_add(&f->table, db);
        if (en != NULL)
                sender_table_mark(&f->table, en);
        sender_schedule(f);
}

void
stream_sender_each_acked(const struct stream_sender *f,
                         void (*fn)(void *arg, struct db *db, struct ltx_pos acked), void *arg)
{
        for (const struct sender_entry *en = f->table.list; en != NULL; en = en->next)
                fn(arg, en->cursor.db, en->acked);
}

struct behind_question {
        const struct stream_sender *f;
        bool must_be_durable;
};

static bool
is_same_pos(struct ltx_pos a, struct ltx_pos b)
{
        return a.txid == b.txid && a.checksum == b.checksum;
}

static int
is_behind(void *arg, struct db *db)
{
        const struct behind_question *q = arg;
        const struct sender_entry *en;
        struct db_info info;

        /* What is being captured is not in the position yet, though it was begun when it was allowed. In this order: it
         * may end between the two. */
        if (db_is_committing(db))
                return 1;
        db_get_info(db, &info);
        en = sender_table_find(&q->f->table, db);
        if (en == NULL)
                return info.pos.txid != 0;
        /* One that is ahead, or elsewhere at the same number, has another history, and lacks what ours has. */
        return !is_same_pos(en->acked, info.pos) ||
               (q->must_be_durable && info.pos.txid != 0 && !is_same_pos(en->durable, info.pos));
}

bool
stream_sender_has_positions(const struct stream_sender *f)
{
        return f->has_positions;
}

static bool
has_everything(const struct stream_sender *f, bool must_be_durable)
{
        struct behind_question q = { f, must_be_durable && f->peer.version >= FRAME_VERSION_DURABLE };

        return f->has_positions && store_each(f->config.store, is_behind, &q) == 0;
}

bool
stream_sender_is_caught_up(struct stream_sender *f)
{
        return has_everything(f, false);
}

bool
stream_sender_is_durable(struct stream_sender *f)
{
        return has_everything(f, true);
}

void
stream_sender_ask_sync(struct stream_sender *f)
{
        struct frame frame = { .type = FRAME_SYNC };

        if (f->has_peer && f->peer.version >= FRAME_VERSION_DURABLE)
                (void)sender_send(f, &frame);
}

/* --- in --- */

static int
sender_on_hello(struct stream_sender *f, const struct frame_hello *h, struct err *e)
{
        const struct frame_hello *self = &f->config.self;
        struct frame reply = { .type = FRAME_HELLO, .hello = *self };

        if (f->has_peer)
                return err_text(e, E_FORMAT, "a second HELLO");
        if (h->boot_id == self->boot_id) {
                stream_sender_end(f, FRAME_ERROR_PROTOCOL, "this is the same node", NULL);
                return err_text(e, E_CONFIG, "the replica is this node itself");
        }
        if (h->cluster_id[0] != '\0' && strcmp(h->cluster_id, self->cluster_id) != 0) {
                (void)sender_send(f, &reply); /* so that it can say whose cluster this is */
                stream_sender_end(f, FRAME_ERROR_CLUSTER, "another cluster", NULL);
                return err_text(e, E_CONFIG, "%s belongs to cluster %s, this is %s", h->hostname,
                                h->cluster_id, self->cluster_id);
        }
        if (h->term > self->term) {
                stream_sender_end(f, FRAME_ERROR_TERM, "a later term has begun", NULL);
                if (self->cluster_id[0] != '\0' && strcmp(h->cluster_id, self->cluster_id) == 0)
                        f->config.outranked(f->config.arg, h->term);
                return err_text(e, E_NOT_PRIMARY, "%s has seen term %" PRIu64 ", this is %" PRIu64,
                                h->hostname, h->term, self->term);
        }
        f->peer = *h;
        f->has_peer = true;
        if (sender_send(f, &reply) < 0)
                return err_text(e, -ENOTCONN, "the transport is gone");
        f->config.connected(f->config.arg, f, h);
        return 0;
}

static int
add_target(void *arg, struct db *db)
{
        struct stream_sender *f = arg;
        struct sender_entry *en = sender_table_add(&f->table, db);
        struct db_info info;

        if (en == NULL)
                return 0;
        db_get_info(db, &info);
        sender_table_set_target(&f->table, en, info.pos.txid);
        return 0;
}

static int
sender_on_positions(struct stream_sender *f, struct frame_positions *p, struct err *e)
{
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos;
        int r = name_set_add_list(&f->listed, p, e);

        if (r < 0)
                return r;
        while (frame_positions_next(p, name, &pos)) {
                struct db *db = store_find(f->config.store, name);
                struct sender_entry *en = db == NULL ? NULL : sender_table_add(&f->table, db);

                if (db != NULL && en == NULL)
                        return err_set(e, -ENOMEM, "positions");
                if (en != NULL)
                        sender_table_reset(&f->table, en, pos);
        }
        if ((p->flags & FRAME_POSITIONS_LAST) != 0) {
                name_set_free(f->listed);
                f->listed = NULL;
        }
        if ((p->flags & FRAME_POSITIONS_LAST) != 0 && !f->has_positions) {
                f->has_positions = true;
                store_each(f->config.store, add_target, f);
                send_list(f);
                sender_send_ready(f);
        }
        sender_schedule(f);
        return 0;
}

static void
on_durable(struct stream_sender *f, const struct frame_ack *a)
{
        struct db *db = store_find(f->config.store, a->name);
        struct sender_entry *en = db == NULL ? NULL : sender_table_find(&f->table, db);

        if (en != NULL)
                en->durable = a->pos;
}

static void
on_ack(struct stream_sender *f, const struct frame_ack *a)
{
        struct db *db = store_find(f->config.store, a->name);
        struct sender_entry *en = db == NULL ? NULL : sender_table_find(&f->table, db);

        if (en == NULL)
                return;
        en->acked = a->pos;
        if (f->n_held > 0) {
                sender_let_go(f);
                sender_schedule(f);
        }
}

/* Only while the lease says that no other node can lead, and what this one has received is applied: what it lacks then,
 * nobody has. Else the others do without an answer. */
static void
on_ping(struct stream_sender *f, const struct frame_ping *p)
{
        struct frame pong = { .type = FRAME_PONG, .pong = { .nonce = p->nonce } };
        struct db *db = p->name[0] != '\0' ? store_find(f->config.store, p->name) : NULL;
        struct db_info info;

        if (db != NULL) {
                db_get_info(db, &info);
                pong.pong.pos = info.pos;
        }
        if (store_may_commit(f->config.store) == 0 && f->config.is_whole(f->config.arg))
                (void)sender_send(f, &pong);
}

static int
sender_on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct stream_sender *f = arg;

        if (!f->has_peer && frame->type != FRAME_HELLO)
                return err_text(e, E_FORMAT, "%s before HELLO", frame_type_name(frame->type));
        switch (frame->type) {
        case FRAME_HELLO:
                return sender_on_hello(f, &frame->hello, e);
        case FRAME_POSITIONS:
                return sender_on_positions(f, &frame->positions, e);
        case FRAME_ACK:
                on_ack(f, &frame->ack);
                return 0;
        case FRAME_PING:
                on_ping(f, &frame->ping);
                return 0;
        case FRAME_DURABLE:
                on_durable(f, &frame->ack);
                return 0;
        case FRAME_CANDIDACY:
                f->candidacy = frame->candidacy.is_candidate ? CANDIDACY_YES : CANDIDACY_NO;
                if (f->config.candidacy != NULL)
                        f->config.candidacy(f->config.arg);
                return 0;
        case FRAME_ERROR:
                return err_text(e, -ECONNRESET, "the replica ends the stream: %s", frame->error.text);
        default:
                return err_text(e, E_FORMAT, "%s is not for a primary", frame_type_name(frame->type));
        }
}

int
stream_sender_input(struct stream_sender *f, const uint8_t *bytes, size_t n, struct err *e)
{
        return frame_decoder_each(f->decoder, bytes, n, sender_on_frame, f, e);
}
