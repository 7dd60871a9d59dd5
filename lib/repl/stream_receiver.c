#include "repl/stream_receiver.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/frame_decoder.h"
#include "repl/name_set.h"
#include "repl/positions.h"

/* A database whose transactions are thrown away until one follows: it was refused, and the primary told where we
 * are. */
struct resync {
        struct resync *next;
        struct db *db; /* NULL: there is none yet */
        char name[];
};

/* A record that is coming in. */
struct incoming {
        struct received *rx;
        uint32_t stream; /* its number */
        char name[DBNAME_MAX + 1];
        uint64_t max_bytes;
        uint64_t n_bytes; /* that have come */
        struct err lost;  /* why they could not be kept; code 0: they are */
};

struct stream_receiver {
        struct stream_receiver_config config;
        struct stream_transport *transport;
        struct frame_decoder *decoder;
        bool has_hello;
        uint16_t version;        /* that both sides speak; 0 before the hello */
        bool is_ready;           /* READY came */
        bool was_announced;      /* and what came before it is applied */
        bool is_stopped;         /* we do not read until the applier has room */
        struct name_set *listed; /* the names of the primary's list that is coming in */
        uint64_t term;
        struct resync *resyncs;

        struct incoming incoming[FRAME_OPEN_MAX]; /* in any order */
        unsigned n_incoming;
};

int
stream_receiver_new(const struct stream_receiver_config *config, struct stream_transport *transport,
                    struct stream_receiver **ret)
{
        struct stream_receiver *f = calloc(1, sizeof *f);

        if (f == NULL || frame_decoder_new(&f->decoder) < 0) {
                free(f);
                return -ENOMEM;
        }
        f->config = *config;
        f->transport = transport;
        *ret = f;
        return 0;
}

/* Its record belongs to somebody else, or is gone. */
static void
forget_incoming(struct stream_receiver *f, struct incoming *in)
{
        *in = f->incoming[--f->n_incoming];
}

static void
drop_record(struct stream_receiver *f, struct incoming *in)
{
        received_release(in->rx);
        free(in->rx);
        forget_incoming(f, in);
}

static struct incoming *
find_incoming(struct stream_receiver *f, uint32_t stream)
{
        for (unsigned i = 0; i < f->n_incoming; i++)
                if (f->incoming[i].stream == stream)
                        return &f->incoming[i];
        return NULL;
}

void
stream_receiver_free(struct stream_receiver *f)
{
        if (f == NULL)
                return;
        while (f->resyncs != NULL) {
                struct resync *r = f->resyncs;

                f->resyncs = r->next;
                free(r);
        }
        while (f->n_incoming > 0)
                drop_record(f, f->incoming);
        name_set_free(f->listed);
        frame_decoder_free(f->decoder);
        free(f);
}

/* --- out --- */

int
stream_receiver_start(struct stream_receiver *f, struct err *e)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = f->config.self };
        int r = stream_transport_send(f->transport, &hello);

        if (r >= 0)
                r = positions_send(f->transport, f->config.store, FRAME_POSITIONS_ALL);
        return r < 0 ? err_set(e, r, "send positions") : 0;
}

static void
tell_candidacy(struct stream_receiver *f)
{
        struct frame frame = { .type = FRAME_CANDIDACY, .candidacy = { f->config.is_candidate } };

        if (f->version >= FRAME_VERSION_CANDIDACY)
                (void)stream_transport_send(f->transport, &frame);
}

void
stream_receiver_set_candidate(struct stream_receiver *f, bool is_candidate)
{
        bool is_new = is_candidate != f->config.is_candidate;

        f->config.is_candidate = is_candidate;
        if (is_new)
                tell_candidacy(f);
}

int
stream_receiver_ping(struct stream_receiver *f, uint64_t nonce, const char *name)
{
        struct frame ping = { .type = FRAME_PING, .ping = { .nonce = nonce } };

        if (f->version < FRAME_VERSION_PING)
                return -ENOTSUP;
        strncpy(ping.ping.name, name, sizeof ping.ping.name - 1);
        return stream_transport_send(f->transport, &ping);
}

/* Where this node is, for the primary to go on from; 0 asks for a snapshot. */
static void
send_reset(struct stream_receiver *f, const char *name, struct db *db, bool wants_snapshot)
{
        struct frame_positions_writer w;
        uint8_t buf[FRAME_SMALL_SIZE];
        struct db_info info = { 0 };
        struct err e = ERR_INIT;

        if (db != NULL && !wants_snapshot)
                db_get_info(db, &info);
        frame_positions_init(&w, buf, sizeof buf);
        if (frame_positions_add(&w, name, info.pos, &e) > 0)
                (void)stream_transport_write(f->transport, buf,
                                             frame_positions_finish(&w, FRAME_POSITIONS_LAST));
}

/* --- in --- */

static struct resync **
find_resync(struct stream_receiver *f, const char *name)
{
        struct resync **p = &f->resyncs;

        while (*p != NULL && strcmp((*p)->name, name) != 0)
                p = &(*p)->next;
        return p;
}

static int
tell_durable(void *arg, struct db *db)
{
        stream_receiver_durable(arg, db);
        return 0;
}

static int
receiver_on_hello(struct stream_receiver *f, const struct frame_hello *h, struct err *e)
{
        const struct frame_hello *self = &f->config.self;

        if (f->has_hello)
                return err_text(e, E_FORMAT, "a second HELLO");
        if (h->boot_id == self->boot_id)
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
        f->version = h->version < self->version ? h->version : self->version;
        f->term = h->term;
        tell_candidacy(f);
        f->config.connected(f->config.arg, h);
        store_each(f->config.store, tell_durable, f);
        return 0;
}

static int
check_new_record(struct stream_receiver *f, const struct frame_ltx *l, struct err *e)
{
        if (f->n_incoming >= (f->version >= FRAME_VERSION_INTERLEAVED ? FRAME_OPEN_MAX : 1))
                return err_text(e, E_FORMAT, "LTX while %u others are coming in", f->n_incoming);
        if (find_incoming(f, l->stream) != NULL)
                return err_text(e, E_FORMAT, "a second LTX of number %" PRIu32, l->stream);
        for (unsigned i = 0; i < f->n_incoming; i++)
                if (strcmp(f->incoming[i].name, l->name) == 0)
                        return err_text(e, E_FORMAT, "LTX of %s within another one of it", l->name);
        if (l->term != f->term)
                return err_text(e, E_FORMAT, "LTX of term %" PRIu64 " in a stream of term %" PRIu64,
                                l->term, f->term);
        return 0;
}

static int
on_ltx(struct stream_receiver *f, const struct frame_ltx *l, struct err *e)
{
        struct incoming *in = &f->incoming[f->n_incoming];
        uint64_t max_bytes;
        int r = check_new_record(f, l, e);

        if (r == 0)
                r = frame_ltx_bound(l, &max_bytes, e);
        if (r < 0)
                return r;
        *in = (struct incoming){ .rx = malloc(sizeof *in->rx),
                                 .stream = l->stream,
                                 .max_bytes = max_bytes,
                                 .lost = ERR_INIT };
        if (in->rx == NULL)
                return err_set(e, -ENOMEM, "receive a transaction");
        received_init(in->rx, f->config.env);
        in->rx->record = l->record;
        in->rx->history = (enum txlog_history)l->history;
        memcpy(in->name, l->name, sizeof in->name);
        f->n_incoming++;
        return 0;
}

static int
on_data(struct stream_receiver *f, const struct frame_data *d, struct err *e)
{
        struct incoming *in = find_incoming(f, d->stream);
        int r;

        if (in == NULL)
                return err_text(e, E_FORMAT, "DATA for no transaction");
        in->n_bytes += d->n;
        if (in->n_bytes > in->max_bytes)
                return err_text(e, E_FORMAT, "more DATA than was announced");
        if (in->lost.code != 0)
                return 0;
        r = spool_write(&in->rx->ltx, d->bytes, d->n, in->rx->ltx.size_bytes);
        if (r < 0) { /* a full disk, say: the stream, and the other databases, go on */
                err_set(&in->lost, r, "keep a transaction of %s", in->name);
                spool_reset(&in->rx->ltx);
        }
        return 0;
}

/* Whether it is to be thrown away: the primary has been told where to go on, and this is from before. */
static bool
is_from_before(struct stream_receiver *f, const struct incoming *in)
{
        struct resync **p = find_resync(f, in->name), *gone = *p;

        if (gone == NULL)
                return false;
        if (gone->db != NULL ? db_follows(gone->db, in->rx, NULL) < 0 : in->rx->record.min_txid != 1)
                return true;
        *p = gone->next;
        free(gone);
        return false;
}

static void
stop_when_full(struct stream_receiver *f)
{
        if (!applier_is_full(f->config.applier) || f->is_stopped)
                return;
        f->is_stopped = true;
        f->transport->ops->read_stop(f->transport);
}

static int
on_ltx_end(struct stream_receiver *f, const struct frame_ltx_end *end, struct err *e)
{
        struct incoming *in = find_incoming(f, end->stream);
        int r;

        if (in == NULL || end->size_bytes != in->n_bytes)
                return err_text(e, E_FORMAT, "LTX_END that does not fit");
        if (end->status != FRAME_LTX_COMPLETE || is_from_before(f, in)) {
                drop_record(f, in);
                return 0;
        }
        if (in->lost.code != 0) {
                r = applier_lose(f->config.applier, in->name, &in->lost);
                drop_record(f, in);
                return r < 0 ? err_set(e, r, "receive a transaction") : 0;
        }
        r = applier_push(f->config.applier, in->name, in->rx, e);
        if (r < 0)
                return r;
        forget_incoming(f, in);
        stop_when_full(f);
        return 0;
}

/* In its turn, behind the transactions that came before. */
static int
on_ownership(struct stream_receiver *f, const struct frame_ownership *o, struct err *e)
{
        struct received *rx = malloc(sizeof *rx);
        int r;

        if (rx == NULL)
                return err_set(e, -ENOMEM, "receive an owner");
        received_init(rx, f->config.env);
        rx->ownership = malloc(sizeof *rx->ownership);
        if (rx->ownership != NULL) {
                *rx->ownership = o->path;
                r = applier_push(f->config.applier, o->name, rx, e);
        } else {
                r = err_set(e, -ENOMEM, "receive an owner");
        }
        if (r < 0) {
                received_release(rx);
                free(rx);
        }
        return r;
}

/* --- what the primary does not have --- */

struct absence {
        struct stream_receiver *f;
        struct err *e;
};

/* Its transactions are set aside, in its turn: what is queued for it comes first. */
static int
push_absent(void *arg, struct db *db)
{
        struct absence *ab = arg;
        struct received *rx;
        struct db_info info;
        int r;

        db_get_info(db, &info);
        if ((info.pos.txid == 0 && !db_is_receiving(db)) || name_set_has(ab->f->listed, db_name(db)))
                return 0;
        rx = malloc(sizeof *rx);
        if (rx == NULL)
                return err_set(ab->e, -ENOMEM, "set %s aside", db_name(db));
        received_init(rx, ab->f->config.env);
        rx->is_absent = true;
        r = applier_push(ab->f->config.applier, db_name(db), rx, ab->e);
        if (r < 0)
                free(rx);
        return r;
}

static int
receiver_on_positions(struct stream_receiver *f, struct frame_positions *p, struct err *e)
{
        struct absence ab = { f, e };
        int r = name_set_add_list(&f->listed, p, e);

        if (r < 0 || (p->flags & FRAME_POSITIONS_LAST) == 0)
                return r;
        if ((p->flags & FRAME_POSITIONS_ALL) != 0)
                r = store_each(f->config.store, push_absent, &ab);
        name_set_free(f->listed);
        f->listed = NULL;
        return r;
}

static void
announce_ready(struct stream_receiver *f)
{
        if (!f->is_ready || f->was_announced || !applier_is_whole(f->config.applier) ||
            f->resyncs != NULL)
                return;
        f->was_announced = true;
        f->config.ready(f->config.arg);
}

static int
receiver_on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct stream_receiver *f = arg;

        if (!f->has_hello && frame->type != FRAME_HELLO && frame->type != FRAME_ERROR)
                return err_text(e, E_FORMAT, "%s before HELLO", frame_type_name(frame->type));
        switch (frame->type) {
        case FRAME_HELLO:
                return receiver_on_hello(f, &frame->hello, e);
        case FRAME_POSITIONS:
                return receiver_on_positions(f, &frame->positions, e);
        case FRAME_LTX:
                return on_ltx(f, &frame->ltx, e);
        case FRAME_DATA:
                return on_data(f, &frame->data, e);
        case FRAME_LTX_END:
                return on_ltx_end(f, &frame->ltx_end, e);
        case FRAME_OWNERSHIP:
                return on_ownership(f, &frame->ownership, e);
        case FRAME_READY:
                f->is_ready = true;
                announce_ready(f);
                return 0;
        case FRAME_HEARTBEAT:
                f->config.heartbeat(f->config.arg, &frame->heartbeat,
                                    f->n_incoming == 0 && f->resyncs == NULL &&
                                            applier_is_whole(f->config.applier));
                return 0;
        case FRAME_HANDOFF:
                f->config.handoff(f->config.arg, &frame->handoff);
                return 0;
        case FRAME_PONG:
                if (f->config.pong != NULL)
                        f->config.pong(f->config.arg, &frame->pong);
                return 0;
        case FRAME_SUCCESSOR:
                if (f->config.successor != NULL)
                        f->config.successor(f->config.arg, &frame->successor);
                return 0;
        case FRAME_PEER:
                if (f->config.peer != NULL)
                        f->config.peer(f->config.arg, &frame->peer);
                return 0;
        case FRAME_SYNC:
                f->config.sync(f->config.arg);
                return 0;
        case FRAME_ERROR:
                if (f->has_hello && frame->error.code == FRAME_ERROR_NOT_PRIMARY)
                        f->config.stopped(f->config.arg, f->term);
                return err_text(e, -ECONNRESET, "the primary ends the stream: %s", frame->error.text);
        default:
                return err_text(e, E_FORMAT, "%s is not for a replica", frame_type_name(frame->type));
        }
}

int
stream_receiver_input(struct stream_receiver *f, const uint8_t *bytes, size_t n, struct err *e)
{
        return frame_decoder_each(f->decoder, bytes, n, receiver_on_frame, f, e);
}

/* --- what the applier tells --- */

void
stream_receiver_applied(struct stream_receiver *f, struct db *db, struct ltx_pos pos)
{
        struct frame ack = { .type = FRAME_ACK };

        ack.ack.pos = pos;
        strncpy(ack.ack.name, db_name(db), sizeof ack.ack.name - 1);
        (void)stream_transport_send(f->transport, &ack);
}

void
stream_receiver_durable(struct stream_receiver *f, struct db *db)
{
        struct frame frame = { .type = FRAME_DURABLE };
        bool has_all;

        if (!f->has_hello || f->version < FRAME_VERSION_DURABLE)
                return;
        frame.ack.pos = db_durable_pos(db, &has_all);
        if (frame.ack.pos.txid == 0)
                return;
        strncpy(frame.ack.name, db_name(db), sizeof frame.ack.name - 1);
        (void)stream_transport_send(f->transport, &frame);
}

void
stream_receiver_failed(struct stream_receiver *f, const char *name, struct db *db, int code)
{
        struct resync *r = *find_resync(f, name);

        if (r == NULL) {
                size_t n = strlen(name) + 1;

                r = calloc(1, sizeof *r + n);
                if (r == NULL)
                        return;
                memcpy(r->name, name, n);
                r->next = f->resyncs;
                f->resyncs = r;
        }
        r->db = db;
        /* Where its image is not what it should be, no transaction will do. */
        send_reset(f, name, db, code == E_CHECKSUM);
}

void
stream_receiver_drained(struct stream_receiver *f)
{
        if (f->is_stopped && !applier_is_full(f->config.applier)) {
                f->is_stopped = false;
                f->transport->ops->read_start(f->transport);
        }
        announce_ready(f);
}

bool
stream_receiver_lacks_something(const struct stream_receiver *f)
{
        return !f->was_announced || f->resyncs != NULL || applier_has_gaps(f->config.applier);
}
