#include "repl/stream_sender.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/rename.h"
#include "repl/sender_table.h"
#include "repl/frame_decoder.h"
#include "repl/name_set.h"
#include "repl/positions.h"
#include "store/ownership.h"

#define CHUNK_BYTES (512u << 10) /* read by one job */
#define OPEN_MAX \
        4u /* records that are half sent: each lasts as much longer, and a snapshot costs while it lasts */
#define SNAPSHOT_RETRY_MS 20
#define LAST_TRANSACTIONS_MS 500 /* that a stream which ends has for what is in the log */

/* A worker reads for it. A job that was left frees the sender when it ends: on the loop, or, when that has stopped, itself. */
enum sender_job { JOB_NONE, JOB_RUNNING, JOB_LEFT };

struct stream_sender {
        struct stream_sender_config config;
        struct stream_transport *transport; /* NULL once freed */
        struct frame_decoder *decoder;
        struct frame_hello peer;
        bool has_peer;
        enum candidacy candidacy; /* as it has said */
        bool has_positions;
        bool is_blocked;
        bool is_ready_sent;
        bool has_listed;         /* our databases, all of them */
        struct name_set *listed; /* the names of the replica's list that is coming in */
        struct sender_table table;
        struct loop_timer *retry, *end;
        int end_code; /* 0: it does not end */
        const char *end_text;
        struct frame_successor end_successor; /* of boot id 0: none is told */

        _Atomic enum sender_job job;
        struct work work;
        struct mail mail;
        struct sender_entry *job_entries;
        struct outbox out;
        uint32_t next_stream;
        int result;
        struct err e;
};

static void schedule(struct stream_sender *f);

static bool
has_job(const struct stream_sender *f)
{
        return atomic_load(&f->job) != JOB_NONE;
}

static void
sender_retry(void *arg)
{
        schedule(arg);
}

static void
end_now(void *arg)
{
        struct stream_sender *f = arg;

        loop_timer_cancel(f->end);
        stream_sender_end(f, f->end_code, f->end_text,
                          f->end_successor.boot_id != 0 ? &f->end_successor : NULL);
        f->end_code = 0;
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
                r = loop_timer_new(config->loop, end_now, f, &f->end);
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

static void
destroy(struct stream_sender *f)
{
        void (*freed)(void *arg) = f->config.freed;
        void *arg = f->config.arg;

        sender_table_release(&f->table);
        outbox_release(&f->out);
        name_set_free(f->listed);
        frame_decoder_free(f->decoder);
        free(f);
        if (freed != NULL)
                freed(arg);
}

void
stream_sender_free(struct stream_sender *f)
{
        f->transport = NULL;
        loop_timer_free(f->retry);
        loop_timer_free(f->end);
        f->retry = f->end = NULL;
        if (atomic_exchange(&f->job, JOB_LEFT) == JOB_NONE)
                destroy(f);
}

const struct frame_hello *
stream_sender_peer(const struct stream_sender *f)
{
        return f->has_peer ? &f->peer : NULL;
}

/* --- out --- */

static int
send_frame(struct stream_sender *f, const struct frame *frame)
{
        return f->transport == NULL ? -ENOTCONN : stream_transport_send(f->transport, frame);
}

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
        (void)send_frame(f, &frame);
        send_list(f);
        sender_table_beat(&f->table);
        schedule(f);
}

int
stream_sender_handoff(struct stream_sender *f, const struct frame_handoff *h)
{
        struct frame frame = { .type = FRAME_HANDOFF, .handoff = *h };
        int r = send_frame(f, &frame);

        return r < 0 ? r : 0;
}

/* The version that both sides speak. */
static uint16_t
spoken(const struct stream_sender *f)
{
        return f->peer.version < f->config.self.version ? f->peer.version : f->config.self.version;
}

enum candidacy
stream_sender_candidacy(const struct stream_sender *f)
{
        if (f->has_peer && spoken(f) < FRAME_VERSION_CANDIDACY)
                return CANDIDACY_YES;
        return f->candidacy;
}

bool
stream_sender_knows_fetch(const struct stream_sender *f)
{
        return f->has_peer && spoken(f) >= FRAME_VERSION_FETCH;
}

void
stream_sender_tell_peer(struct stream_sender *f, unsigned flags, const char *url)
{
        struct frame frame = { .type = FRAME_PEER, .peer.flags = (uint8_t)flags };

        if (!f->has_peer || spoken(f) < FRAME_VERSION_CANDIDACY)
                return;
        snprintf(frame.peer.advertise_url, sizeof frame.peer.advertise_url, "%s", url);
        (void)send_frame(f, &frame);
}

void
stream_sender_end(struct stream_sender *f, int code, const char *text,
                  const struct frame_successor *successor)
{
        struct frame frame = { .type = FRAME_ERROR };

        if (f->transport == NULL)
                return;
        if (successor != NULL && f->has_peer && spoken(f) >= FRAME_VERSION_PING) {
                struct frame next = { .type = FRAME_SUCCESSOR, .successor = *successor };

                (void)send_frame(f, &next);
        }
        frame.error.code = (uint16_t)code;
        strncpy(frame.error.text, text, FRAME_TEXT_MAX);
        (void)send_frame(f, &frame);
        f->transport->ops->finish(f->transport);
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
        schedule(f);
        if (!has_job(f))
                end_now(f);
}

/* --- the job --- */

static uint64_t
hash_ownership(const struct path_ownership *po)
{
        uint64_t h = 14695981039346656037u;

        for (unsigned i = 0; i < po->n; i++) {
                h = (h ^ po->at[i].mode) * 1099511628211u;
                h = (h ^ po->at[i].uid) * 1099511628211u;
                h = (h ^ po->at[i].gid) * 1099511628211u;
        }
        return h | 1;
}

/* Mode and owner, if they have changed: before the next transaction, for that may be what was to be kept from others. */
static int
put_ownership(struct stream_sender *f, struct sender_entry *en)
{
        struct frame frame = { .type = FRAME_OWNERSHIP };
        struct path_ownership *po = &frame.ownership.path;
        uint64_t version = store_ownership_version(f->config.store);
        int r;

        if (en->cursor.has_new_file) /* what was sent before it is of the one before, or was of none */
                en->owned_version = en->owned_hash = 0;
        en->cursor.has_new_file = false;
        if (spoken(f) < FRAME_VERSION_OWNERSHIP || en->owned_version == version ||
            en->cursor.pos.txid == 0 || log_cursor_is_in_record(&en->cursor))
                return 0;
        r = store_read_ownership(f->config.store, en->cursor.db, po);
        en->owned_version = version;
        if (r < 0 || hash_ownership(po) == en->owned_hash)
                return 0; /* deleted, or a directory is: there is nobody to keep it from */
        strncpy(frame.ownership.name, db_name(en->cursor.db), sizeof frame.ownership.name - 1);
        en->owned_hash = hash_ownership(po);
        return outbox_put(&f->out, &frame, &f->e);
}

/* Up to @end bytes in the outbox. */
static int
read_entry(struct stream_sender *f, struct sender_entry *en, size_t end, bool *must_wait)
{
        int r = put_ownership(f, en);

        if (r < 0)
                return r;
        en->had_turn = true;
        r = f->out.n >= end ? 1
                            : log_cursor_read(&en->cursor, f->config.self.term, &f->next_stream,
                                              end - f->out.n, &f->out, &f->e);
        if (r == 0 && put_ownership(f, en) < 0) /* of what it has only now */
                return f->e.code;
        en->has_more = r != 0;
        *must_wait |= r == -EAGAIN;
        if (r >= 0 || r == -EAGAIN)
                return 0;
        /* The others go on: what was sent of this one is taken back. */
        en->error = r;
        en->e = f->e;
        return log_cursor_abandon(&en->cursor, &f->out, &f->e);
}

/* A little of each database in turn, so that a snapshot, or a transaction that takes minutes on this link, does not hold up the
 * others' transactions: what is short goes first, and what is half sent has the rest of the chunk, which is half of it at
 * least. A replica that takes one record at a time has the one that is half sent to its end. */
static int
read_entries(struct stream_sender *f)
{
        bool is_interleaved = spoken(f) >= FRAME_VERSION_INTERLEAVED, must_wait = false;
        struct sender_entry *en = f->job_entries, *between;
        unsigned n_open = 0;
        int r = 0;

        for (; en != NULL && log_cursor_is_in_record(&en->cursor); en = en->next_in_turn)
                n_open++;
        between = en;
        for (unsigned max = is_interleaved ? OPEN_MAX : 1, i = n_open;
             r == 0 && en != NULL && i < max && f->out.n < CHUNK_BYTES / (n_open > 0 ? 2 : 1);
             en = en->next_in_turn) {
                r = read_entry(f, en, CHUNK_BYTES / (n_open > 0 ? 2 : 1), &must_wait);
                i += log_cursor_is_in_record(&en->cursor);
        }
        for (en = f->job_entries; r == 0 && en != between && f->out.n < CHUNK_BYTES;
             en = en->next_in_turn)
                r = read_entry(f, en, CHUNK_BYTES, &must_wait);
        return r < 0 ? r : must_wait ? -EAGAIN : 0;
}

static void sender_report(struct mail *m);

static void
sender_run(struct work *w)
{
        struct stream_sender *f =
                (struct stream_sender *)((char *)w - offsetof(struct stream_sender, work));

        f->result = read_entries(f);
        f->mail = (struct mail){ sender_report, NULL };
        if (loop_post(f->config.loop, &f->mail) < 0 && atomic_exchange(&f->job, JOB_NONE) == JOB_LEFT)
                destroy(f);
}

/* A database that was renamed goes there once it has come under its new name. */
static void
set_limit(struct stream_sender *f, struct sender_entry *en)
{
        struct db_follow follow;
        const struct sender_entry *to;

        en->cursor.limit_txid = 0;
        if (!db_get_follow(en->cursor.db, &follow))
                return;
        to = sender_table_find(&f->table, follow.to);
        if (to == NULL || to->acked.txid < follow.to_txid)
                en->cursor.limit_txid = follow.txid - 1;
}

static void
schedule(struct stream_sender *f)
{
        if (has_job(f) || f->is_blocked || f->transport == NULL || !f->has_positions)
                return;
        f->job_entries = sender_table_take(&f->table);
        if (f->job_entries == NULL)
                return;
        for (struct sender_entry *en = f->job_entries; en != NULL; en = en->next_in_turn)
                set_limit(f, en);
        atomic_store(&f->job, JOB_RUNNING);
        f->e = (struct err)ERR_INIT;
        f->out.n = 0;
        f->work = (struct work){ sender_run, NULL };
        workers_post(f->config.workers, &f->work);
}

static void
send_ready(struct stream_sender *f)
{
        struct frame frame = { .type = FRAME_READY };

        if (f->is_ready_sent || !sender_table_is_ready(&f->table))
                return;
        f->is_ready_sent = true;
        (void)send_frame(f, &frame);
}

static void
on_failed(void *arg, const struct sender_entry *en)
{
        struct stream_sender *f = arg;

        log_event(LOG_WARN, db_name(en->cursor.db), "not sent to %s for %d s: %s", f->peer.hostname,
                  en->rest_beats, en->e.text);
}

static void
sender_report(struct mail *m)
{
        struct stream_sender *f =
                (struct stream_sender *)((char *)m - offsetof(struct stream_sender, mail));
        int r = 0;

        if (atomic_exchange(&f->job, JOB_NONE) == JOB_LEFT) {
                destroy(f);
                return;
        }
        sender_table_settle(&f->table, f->job_entries, on_failed, f);
        if (f->out.n > 0)
                r = stream_transport_write(f->transport, f->out.buf, f->out.n);
        if (f->result < 0 && f->result != -EAGAIN) {
                f->config.broken(f->config.arg, f, &f->e);
                return;
        }
        if (r < 0)
                return; /* closed() is on its way */
        f->is_blocked = r > 0;
        if (f->result == -EAGAIN)
                loop_timer_start(f->retry, SNAPSHOT_RETRY_MS);
        send_ready(f);
        if (f->result == 0)
                schedule(f);
        if (f->end_code != 0 && !has_job(f) && !f->is_blocked && f->result == 0)
                end_now(f);
}

void
stream_sender_writable(struct stream_sender *f)
{
        f->is_blocked = false;
        schedule(f);
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
        schedule(f);
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
                (void)send_frame(f, &frame);
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
                (void)send_frame(f, &reply); /* so that it can say whose cluster this is */
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
        if (send_frame(f, &reply) < 0)
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
                send_ready(f);
        }
        schedule(f);
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

/* Those that were renamed to @to, and may go now. */
static void
wake_followers(struct stream_sender *f, const struct db *to)
{
        struct db_follow follow;

        for (struct sender_entry *en = f->table.list; en != NULL; en = en->next)
                if (db_get_follow(en->cursor.db, &follow) && follow.to == to)
                        sender_table_mark(&f->table, en);
        schedule(f);
}

static void
on_ack(struct stream_sender *f, const struct frame_ack *a)
{
        struct db *db = store_find(f->config.store, a->name);
        struct sender_entry *en = db == NULL ? NULL : sender_table_find(&f->table, db);

        if (en == NULL)
                return;
        en->acked = a->pos;
        if (db_is_followed(db))
                wake_followers(f, db);
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
                (void)send_frame(f, &pong);
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
