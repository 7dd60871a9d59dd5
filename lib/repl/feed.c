#include "repl/feed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/feed_table.h"
#include "repl/frame_decoder.h"
#include "repl/name_set.h"
#include "repl/positions.h"

#define CHUNK_BYTES (512u << 10) /* read by one job */
#define SNAPSHOT_RETRY_MS 20

struct feed {
        struct feed_config config;
        struct link *link; /* NULL once freed */
        struct frame_decoder *decoder;
        struct frame_hello peer;
        bool has_peer;
        bool has_positions;
        bool is_blocked;
        bool is_ready_sent;
        bool has_listed;         /* our databases, all of them */
        struct name_set *listed; /* the names of the replica's list that is coming in */
        struct feed_table table;
        struct loop_timer *retry;

        bool has_job;
        struct work work;
        struct mail mail;
        struct feed_entry *job_entries;
        struct outbox out;
        uint32_t next_stream;
        int result;
        struct err e;
};

static void schedule(struct feed *f);

static void
retry(void *arg)
{
        schedule(arg);
}

int
feed_new(const struct feed_config *config, struct link *link, struct feed **ret)
{
        struct feed *f = calloc(1, sizeof *f);
        int r = f == NULL ? -ENOMEM : 0;

        if (r == 0)
                r = frame_decoder_new(&f->decoder);
        if (r == 0)
                r = loop_timer_new(config->loop, retry, f, &f->retry);
        if (r < 0) {
                if (f != NULL)
                        frame_decoder_free(f->decoder);
                free(f);
                return r;
        }
        f->config = *config;
        f->link = link;
        f->next_stream = 1;
        outbox_init(&f->out);
        feed_table_init(&f->table);
        *ret = f;
        return 0;
}

static void
destroy(struct feed *f)
{
        void (*freed)(void *arg) = f->config.freed;
        void *arg = f->config.arg;

        feed_table_release(&f->table);
        outbox_release(&f->out);
        name_set_free(f->listed);
        frame_decoder_free(f->decoder);
        free(f);
        if (freed != NULL)
                freed(arg);
}

void
feed_free(struct feed *f)
{
        f->link = NULL;
        loop_timer_free(f->retry);
        f->retry = NULL;
        if (!f->has_job)
                destroy(f);
}

const struct frame_hello *
feed_peer(const struct feed *f)
{
        return f->has_peer ? &f->peer : NULL;
}

/* --- out --- */

static int
send_frame(struct feed *f, const struct frame *frame)
{
        return f->link == NULL ? -ENOTCONN : link_send(f->link, frame);
}

/* What the replica has besides it sets aside, so it must be all. */
static void
send_list(struct feed *f)
{
        if (f->has_listed || !f->has_positions || f->link == NULL || !f->config.is_whole(f->config.arg))
                return;
        f->has_listed = positions_send(f->link, f->config.store, FRAME_POSITIONS_ALL) == 0;
}

void
feed_heartbeat(struct feed *f, int64_t wall_ms, int64_t fence_ms)
{
        struct frame frame = { .type = FRAME_HEARTBEAT,
                               .heartbeat = { wall_ms, f->config.self.term, fence_ms } };

        if (!f->has_peer)
                return;
        (void)send_frame(f, &frame);
        send_list(f);
        feed_table_beat(&f->table);
        schedule(f);
}

int
feed_handoff(struct feed *f, const struct frame_handoff *h)
{
        struct frame frame = { .type = FRAME_HANDOFF, .handoff = *h };
        int r = send_frame(f, &frame);

        return r < 0 ? r : 0;
}

void
feed_end(struct feed *f, int code, const char *text)
{
        struct frame frame = { .type = FRAME_ERROR };

        if (f->link == NULL)
                return;
        frame.error.code = (uint16_t)code;
        strncpy(frame.error.text, text, FRAME_TEXT_MAX);
        (void)send_frame(f, &frame);
        f->link->ops->finish(f->link);
}

/* --- the job --- */

/* A little of each database in turn, so that a snapshot does not hold up the others' transactions. */
static int
read_entries(struct feed *f)
{
        bool must_wait = false;

        for (struct feed_entry *en = f->job_entries; en != NULL && f->out.n < CHUNK_BYTES;
             en = en->next_in_turn) {
                int r = cursor_read(&en->cursor, f->config.self.term, &f->next_stream,
                                    CHUNK_BYTES - f->out.n, &f->out, &f->e);

                en->has_more = r != 0;
                must_wait |= r == -EAGAIN;
                if (r < 0 && r != -EAGAIN) {
                        /* The others go on: what was sent of this one is taken back. */
                        en->error = r;
                        en->e = f->e;
                        r = cursor_abandon(&en->cursor, &f->out, &f->e);
                        if (r < 0)
                                return r;
                }
                if (en->cursor.src != NULL || en->cursor.snapshot != NULL)
                        break; /* in the middle of a record: it goes on first */
        }
        return must_wait ? -EAGAIN : 0;
}

static void report(struct mail *m);

static void
run(struct work *w)
{
        struct feed *f = (struct feed *)((char *)w - offsetof(struct feed, work));

        f->result = read_entries(f);
        f->mail = (struct mail){ report, NULL };
        if (loop_post(f->config.loop, &f->mail) < 0)
                f->has_job = false; /* the loop has stopped: its owner frees what is left */
}

static void
schedule(struct feed *f)
{
        if (f->has_job || f->is_blocked || f->link == NULL || !f->has_positions)
                return;
        f->job_entries = feed_table_take(&f->table);
        if (f->job_entries == NULL)
                return;
        f->has_job = true;
        f->e = (struct err)ERR_INIT;
        f->out.n = 0;
        f->work = (struct work){ run, NULL };
        workers_post(f->config.workers, &f->work);
}

static void
send_ready(struct feed *f)
{
        struct frame frame = { .type = FRAME_READY };

        if (f->is_ready_sent || !feed_table_is_ready(&f->table))
                return;
        f->is_ready_sent = true;
        (void)send_frame(f, &frame);
}

static void
on_failed(void *arg, const struct feed_entry *en)
{
        struct feed *f = arg;

        log_event(LOG_WARN, db_name(en->cursor.db), "not sent to %s for %d s: %s", f->peer.hostname,
                  en->rest_beats, en->e.text);
}

static void
report(struct mail *m)
{
        struct feed *f = (struct feed *)((char *)m - offsetof(struct feed, mail));
        int r = 0;

        f->has_job = false;
        if (f->link == NULL) {
                destroy(f);
                return;
        }
        feed_table_settle(&f->table, f->job_entries, on_failed, f);
        if (f->out.n > 0)
                r = link_write(f->link, f->out.buf, f->out.n);
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
}

void
feed_writable(struct feed *f)
{
        f->is_blocked = false;
        schedule(f);
}

/* --- databases --- */

void
feed_committed(struct feed *f, struct db *db)
{
        struct feed_entry *en;

        if (!f->has_positions)
                return;
        en = feed_table_add(&f->table, db);
        if (en != NULL)
                feed_table_mark(&f->table, en);
        schedule(f);
}

struct ltx_pos
feed_acked(const struct feed *f, const struct db *db)
{
        const struct feed_entry *en = feed_table_find(&f->table, db);

        return en == NULL ? (struct ltx_pos){ 0 } : en->acked;
}

void
feed_each_acked(const struct feed *f, void (*fn)(void *arg, struct db *db, struct ltx_pos acked),
                void *arg)
{
        for (const struct feed_entry *en = f->table.list; en != NULL; en = en->next)
                fn(arg, en->cursor.db, en->acked);
}

static int
is_behind(void *arg, struct db *db)
{
        const struct feed *f = arg;
        struct ltx_pos acked;
        struct db_info info;

        /* What is being captured is not in the position yet, though it was begun when it was allowed. In this order: it
         * may end between the two. */
        if (db_is_busy(db))
                return 1;
        db_get_info(db, &info);
        acked = feed_acked(f, db);
        /* One that is ahead, or elsewhere at the same number, has another history, and lacks what ours has. */
        return acked.txid != info.pos.txid || acked.checksum != info.pos.checksum;
}

bool
feed_has_positions(const struct feed *f)
{
        return f->has_positions;
}

bool
feed_is_caught_up(struct feed *f)
{
        return f->has_positions && store_each(f->config.store, is_behind, f) == 0;
}

/* --- in --- */

static int
on_hello(struct feed *f, const struct frame_hello *h, struct err *e)
{
        const struct frame_hello *self = &f->config.self;
        struct frame reply = { .type = FRAME_HELLO, .hello = *self };

        if (f->has_peer)
                return err_text(e, E_FORMAT, "a second HELLO");
        if (h->node_id == self->node_id) {
                feed_end(f, FRAME_ERROR_PROTOCOL, "this is the same node");
                return err_text(e, E_CONFIG, "the replica is this node itself");
        }
        if (h->cluster_id[0] != '\0' && strcmp(h->cluster_id, self->cluster_id) != 0) {
                (void)send_frame(f, &reply); /* so that it can say whose cluster this is */
                feed_end(f, FRAME_ERROR_CLUSTER, "another cluster");
                return err_text(e, E_CONFIG, "%s belongs to cluster %s, this is %s", h->hostname,
                                h->cluster_id, self->cluster_id);
        }
        if (h->term > self->term) {
                feed_end(f, FRAME_ERROR_TERM, "a later term has begun");
                return err_text(e, E_NOT_PRIMARY, "%s has seen term %" PRIu64 ", this is %" PRIu64,
                                h->hostname, h->term, self->term);
        }
        f->peer = *h;
        f->has_peer = true;
        if (send_frame(f, &reply) < 0)
                return err_text(e, -ENOTCONN, "the link is gone");
        f->config.connected(f->config.arg, f, h);
        return 0;
}

static int
add_target(void *arg, struct db *db)
{
        struct feed *f = arg;
        struct feed_entry *en = feed_table_add(&f->table, db);
        struct db_info info;

        if (en == NULL)
                return 0;
        db_get_info(db, &info);
        feed_table_set_target(&f->table, en, info.pos.txid);
        return 0;
}

static int
on_positions(struct feed *f, struct frame_positions *p, struct err *e)
{
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos;
        int r = name_set_add_list(&f->listed, p, e);

        if (r < 0)
                return r;
        while (frame_positions_next(p, name, &pos)) {
                struct db *db = store_find(f->config.store, name);
                struct feed_entry *en = db == NULL ? NULL : feed_table_add(&f->table, db);

                if (db != NULL && en == NULL)
                        return err_set(e, -ENOMEM, "positions");
                if (en != NULL)
                        feed_table_reset(&f->table, en, pos);
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
on_ack(struct feed *f, const struct frame_ack *a)
{
        struct db *db = store_find(f->config.store, a->name);
        struct feed_entry *en = db == NULL ? NULL : feed_table_find(&f->table, db);

        if (en != NULL)
                en->acked = a->pos;
}

static int
on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct feed *f = arg;

        if (!f->has_peer && frame->type != FRAME_HELLO)
                return err_text(e, E_FORMAT, "%s before HELLO", frame_type_name(frame->type));
        switch (frame->type) {
        case FRAME_HELLO:
                return on_hello(f, &frame->hello, e);
        case FRAME_POSITIONS:
                return on_positions(f, &frame->positions, e);
        case FRAME_ACK:
                on_ack(f, &frame->ack);
                return 0;
        case FRAME_ERROR:
                return err_text(e, -ECONNRESET, "the replica ends the stream: %s", frame->error.text);
        default:
                return err_text(e, E_FORMAT, "%s is not for a primary", frame_type_name(frame->type));
        }
}

int
feed_input(struct feed *f, const uint8_t *bytes, size_t n, struct err *e)
{
        return frame_decoder_each(f->decoder, bytes, n, on_frame, f, e);
}
