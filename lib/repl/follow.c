#include "repl/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/frame_decoder.h"

/* A database whose transactions are thrown away until one follows: it was refused, and the primary told where we
 * are. */
struct resync {
        struct resync *next;
        struct db *db;
};

struct follow {
        struct follow_config config;
        struct link *link;
        struct frame_decoder *decoder;
        bool has_hello;
        bool is_ready;      /* READY came */
        bool was_announced; /* and what came before it is applied */
        bool is_stopped;    /* we do not read until the applier has room */
        uint64_t term;
        struct resync *resyncs;

        struct received *rx; /* the record that is coming in, of stream number rx_stream */
        uint32_t rx_stream;
        char rx_name[DBNAME_MAX + 1];
        struct txlog_record rx_announced;
};

int
follow_new(const struct follow_config *config, struct link *link, struct follow **ret)
{
        struct follow *f = calloc(1, sizeof *f);

        if (f == NULL || frame_decoder_new(&f->decoder) < 0) {
                free(f);
                return -ENOMEM;
        }
        f->config = *config;
        f->link = link;
        *ret = f;
        return 0;
}

static void
drop_record(struct follow *f)
{
        if (f->rx == NULL)
                return;
        received_release(f->rx);
        free(f->rx);
        f->rx = NULL;
}

void
follow_free(struct follow *f)
{
        if (f == NULL)
                return;
        while (f->resyncs != NULL) {
                struct resync *r = f->resyncs;

                f->resyncs = r->next;
                free(r);
        }
        drop_record(f);
        frame_decoder_free(f->decoder);
        free(f);
}

/* --- out --- */

static int
send_frame(struct follow *f, const struct frame *frame)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        ssize_t n = frame_encode(frame, buf, sizeof buf, &e);
        int r;

        if (n < 0)
                return (int)n;
        r = link_write(f->link, buf, (size_t)n);
        return r < 0 ? r : 0;
}

struct positions_sender {
        struct follow *f;
        struct frame_positions_writer w;
        uint8_t *buf;
        int result;
};

static void
flush_positions(struct positions_sender *ps, uint8_t flags)
{
        size_t n = frame_positions_finish(&ps->w, flags);
        int r = link_write(ps->f->link, ps->buf, n);

        if (r < 0 && ps->result == 0)
                ps->result = r;
        frame_positions_init(&ps->w, ps->buf, FRAME_POSITIONS_SIZE);
}

static int
add_position(void *arg, struct db *db)
{
        struct positions_sender *ps = arg;
        struct db_info info;
        struct err e = ERR_INIT;
        int r;

        db_get_info(db, &info);
        r = frame_positions_add(&ps->w, db_name(db), info.pos, &e);
        if (r == 0) {
                flush_positions(ps, 0);
                r = frame_positions_add(&ps->w, db_name(db), info.pos, &e);
        }
        if (r < 0)
                log_event(LOG_WARN, db_name(db), "not replicated: %s", e.text);
        return 0;
}

int
follow_start(struct follow *f, struct err *e)
{
        struct positions_sender ps = { .f = f, .buf = malloc(FRAME_POSITIONS_SIZE) };
        struct frame hello = { .type = FRAME_HELLO, .hello = f->config.self };
        int r = ps.buf == NULL ? -ENOMEM : send_frame(f, &hello);

        if (r == 0) {
                frame_positions_init(&ps.w, ps.buf, FRAME_POSITIONS_SIZE);
                store_each(f->config.store, add_position, &ps);
                flush_positions(&ps, FRAME_POSITIONS_LAST | FRAME_POSITIONS_ALL);
                r = ps.result;
        }
        free(ps.buf);
        return r < 0 ? err_set(e, r, "send positions") : 0;
}

/* Where this node is, for the primary to go on from; 0 asks for a snapshot. */
static void
send_reset(struct follow *f, struct db *db, bool wants_snapshot)
{
        struct frame_positions_writer w;
        uint8_t buf[FRAME_SMALL_SIZE];
        struct db_info info;
        struct err e = ERR_INIT;

        db_get_info(db, &info);
        if (wants_snapshot)
                info.pos = (struct ltx_pos){ 0 };
        frame_positions_init(&w, buf, sizeof buf);
        if (frame_positions_add(&w, db_name(db), info.pos, &e) > 0)
                (void)link_write(f->link, buf, frame_positions_finish(&w, FRAME_POSITIONS_LAST));
}

/* --- in --- */

static struct resync **
find_resync(struct follow *f, const struct db *db)
{
        struct resync **p = &f->resyncs;

        while (*p != NULL && (*p)->db != db)
                p = &(*p)->next;
        return p;
}

static int
on_hello(struct follow *f, const struct frame_hello *h, struct err *e)
{
        const struct frame_hello *self = &f->config.self;

        if (f->has_hello)
                return err_text(e, E_FORMAT, "a second HELLO");
        if (h->node_id == self->node_id)
                return err_text(
                        e, E_CONFIG,
                        "the node at %s is this one; lease.advertise-url must reach each node by an "
                        "address of its own",
                        h->advertise_url);
        if (self->cluster_id[0] != '\0' && h->cluster_id[0] != '\0' &&
            strcmp(self->cluster_id, h->cluster_id) != 0)
                return err_text(
                        e, E_CONFIG,
                        "the primary %s belongs to cluster %s, this node's data to %s; if this node "
                        "is to join, move its data directory away and start it again",
                        h->hostname, h->cluster_id, self->cluster_id);
        if (h->term < self->term)
                return err_text(e, E_NOT_PRIMARY,
                                "%s is the primary of term %" PRIu64 ", this node has seen %" PRIu64,
                                h->hostname, h->term, self->term);
        f->has_hello = true;
        f->term = h->term;
        f->config.connected(f->config.arg, h);
        return 0;
}

static int
on_ltx(struct follow *f, const struct frame_ltx *l, struct err *e)
{
        if (f->rx != NULL)
                return err_text(e, E_FORMAT, "LTX within another one");
        if (l->term != f->term)
                return err_text(e, E_FORMAT, "LTX of term %" PRIu64 " in a stream of term %" PRIu64,
                                l->term, f->term);
        f->rx = malloc(sizeof *f->rx);
        if (f->rx == NULL)
                return err_set(e, -ENOMEM, "receive a transaction");
        received_init(f->rx, f->config.env);
        f->rx_stream = l->stream;
        f->rx_announced = l->record;
        f->rx->history = (enum txlog_history)l->history;
        memcpy(f->rx_name, l->name, sizeof f->rx_name);
        return 0;
}

static int
on_data(struct follow *f, const struct frame_data *d, struct err *e)
{
        int r;

        if (f->rx == NULL || d->stream != f->rx_stream)
                return err_text(e, E_FORMAT, "DATA for no transaction");
        if (f->rx_announced.size_bytes != 0 && f->rx->ltx.size_bytes + d->n > f->rx_announced.size_bytes)
                return err_text(e, E_FORMAT, "more DATA than was announced");
        r = spool_write(&f->rx->ltx, d->bytes, d->n, f->rx->ltx.size_bytes);
        return r < 0 ? err_set(e, r, "keep a transaction of %s", f->rx_name) : 0;
}

static bool
is_as_announced(const struct txlog_record *a, const struct txlog_record *b)
{
        return a->min_txid == b->min_txid && a->max_txid == b->max_txid && a->commit == b->commit &&
               a->page_size == b->page_size;
}

static int
on_ltx_end(struct follow *f, const struct frame_ltx_end *end, struct err *e)
{
        struct received *rx = f->rx;
        struct db *db;
        int r;

        if (rx == NULL || end->stream != f->rx_stream || end->size_bytes != rx->ltx.size_bytes)
                return err_text(e, E_FORMAT, "LTX_END that does not fit");
        if (end->status != FRAME_LTX_COMPLETE) {
                drop_record(f);
                return 0;
        }
        r = received_verify(rx, e);
        if (r < 0)
                return err_prefix(e, "transaction of %s", f->rx_name), r;
        if (!is_as_announced(&rx->record, &f->rx_announced))
                return err_text(e, E_FORMAT, "a transaction of %s is not the one announced", f->rx_name);
        db = store_find(f->config.store, f->rx_name);
        if (db != NULL && *find_resync(f, db) != NULL) {
                struct resync **p = find_resync(f, db), *gone = *p;

                if (db_follows(db, rx, NULL) < 0) {
                        drop_record(f);
                        return 0;
                }
                *p = gone->next;
                free(gone);
        }
        r = applier_push(f->config.applier, f->rx_name, rx, e);
        if (r < 0)
                return r;
        f->rx = NULL;
        if (applier_is_full(f->config.applier) && !f->is_stopped) {
                f->is_stopped = true;
                f->link->ops->read_stop(f->link);
        }
        return 0;
}

/* What the primary has is what will come; what it never had is only here. */
static void
on_positions(const struct frame_positions *p)
{
        (void)p;
}

static void
announce_ready(struct follow *f)
{
        if (!f->is_ready || f->was_announced || !applier_is_empty(f->config.applier) ||
            f->resyncs != NULL)
                return;
        f->was_announced = true;
        f->config.ready(f->config.arg);
}

static int
on_frame(struct follow *f, const struct frame *frame, struct err *e)
{
        if (!f->has_hello && frame->type != FRAME_HELLO && frame->type != FRAME_ERROR)
                return err_text(e, E_FORMAT, "%s before HELLO", frame_type_name(frame->type));
        switch (frame->type) {
        case FRAME_HELLO:
                return on_hello(f, &frame->hello, e);
        case FRAME_POSITIONS:
                on_positions(&frame->positions);
                return 0;
        case FRAME_LTX:
                return on_ltx(f, &frame->ltx, e);
        case FRAME_DATA:
                return on_data(f, &frame->data, e);
        case FRAME_LTX_END:
                return on_ltx_end(f, &frame->ltx_end, e);
        case FRAME_READY:
                f->is_ready = true;
                announce_ready(f);
                return 0;
        case FRAME_HEARTBEAT:
                f->config.heartbeat(f->config.arg, &frame->heartbeat,
                                    f->rx == NULL && applier_is_empty(f->config.applier));
                return 0;
        case FRAME_HANDOFF:
                f->config.handoff(f->config.arg, &frame->handoff);
                return 0;
        case FRAME_ERROR:
                return err_text(e, -ECONNRESET, "the primary ends the stream: %s", frame->error.text);
        default:
                return err_text(e, E_FORMAT, "%s is not for a replica", frame_type_name(frame->type));
        }
}

int
follow_input(struct follow *f, const uint8_t *bytes, size_t n, struct err *e)
{
        struct frame frame;
        int r;

        while ((r = frame_decoder_next(f->decoder, &bytes, &n, &frame, e)) > 0) {
                r = on_frame(f, &frame, e);
                if (r < 0)
                        return r;
        }
        return r;
}

/* --- what the applier tells --- */

void
follow_applied(struct follow *f, struct db *db, struct ltx_pos pos)
{
        struct frame ack = { .type = FRAME_ACK };

        ack.ack.pos = pos;
        strncpy(ack.ack.name, db_name(db), sizeof ack.ack.name - 1);
        (void)send_frame(f, &ack);
}

void
follow_failed(struct follow *f, struct db *db, int code)
{
        struct resync *r;

        if (*find_resync(f, db) == NULL) {
                r = calloc(1, sizeof *r);
                if (r == NULL)
                        return;
                *r = (struct resync){ f->resyncs, db };
                f->resyncs = r;
        }
        send_reset(f, db, code != E_POS_MISMATCH);
}

void
follow_drained(struct follow *f)
{
        if (f->is_stopped && !applier_is_full(f->config.applier)) {
                f->is_stopped = false;
                f->link->ops->read_start(f->link);
        }
        announce_ready(f);
}
