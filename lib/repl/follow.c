#include "repl/follow.h"

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

struct follow {
        struct follow_config config;
        struct link *link;
        struct frame_decoder *decoder;
        bool has_hello;
        bool is_ready;           /* READY came */
        bool was_announced;      /* and what came before it is applied */
        bool is_stopped;         /* we do not read until the applier has room */
        struct name_set *listed; /* the names of the primary's list that is coming in */
        uint64_t term;
        struct resync *resyncs;

        struct received *rx; /* the record that is coming in, of stream number rx_stream */
        uint32_t rx_stream;
        char rx_name[DBNAME_MAX + 1];
        uint64_t rx_announced_bytes; /* 0: not known */
        uint64_t rx_max_bytes;
        uint64_t rx_bytes;  /* that have come */
        struct err rx_lost; /* why they could not be kept; code 0: they are */
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
        name_set_free(f->listed);
        frame_decoder_free(f->decoder);
        free(f);
}

/* --- out --- */

int
follow_start(struct follow *f, struct err *e)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = f->config.self };
        int r = link_send(f->link, &hello);

        if (r >= 0)
                r = positions_send(f->link, f->config.store, FRAME_POSITIONS_ALL);
        return r < 0 ? err_set(e, r, "send positions") : 0;
}

/* Where this node is, for the primary to go on from; 0 asks for a snapshot. */
static void
send_reset(struct follow *f, const char *name, struct db *db, bool wants_snapshot)
{
        struct frame_positions_writer w;
        uint8_t buf[FRAME_SMALL_SIZE];
        struct db_info info = { 0 };
        struct err e = ERR_INIT;

        if (db != NULL && !wants_snapshot)
                db_get_info(db, &info);
        frame_positions_init(&w, buf, sizeof buf);
        if (frame_positions_add(&w, name, info.pos, &e) > 0)
                (void)link_write(f->link, buf, frame_positions_finish(&w, FRAME_POSITIONS_LAST));
}

/* --- in --- */

static struct resync **
find_resync(struct follow *f, const char *name)
{
        struct resync **p = &f->resyncs;

        while (*p != NULL && strcmp((*p)->name, name) != 0)
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

/* What an LTX file of that many pages can be at most: each page with its header, as much longer as LZ4 makes what it
 * cannot shorten, and its place in the index. */
static uint64_t
max_bytes(const struct txlog_record *rec)
{
        return 65536 + ((uint64_t)rec->commit + 1) * (rec->page_size + rec->page_size / 255 + 64);
}

static int
on_ltx(struct follow *f, const struct frame_ltx *l, struct err *e)
{
        if (f->rx != NULL)
                return err_text(e, E_FORMAT, "LTX within another one");
        if (l->term != f->term)
                return err_text(e, E_FORMAT, "LTX of term %" PRIu64 " in a stream of term %" PRIu64,
                                l->term, f->term);
        f->rx_max_bytes = max_bytes(&l->record);
        if (l->record.size_bytes > f->rx_max_bytes)
                return err_text(e, E_FORMAT, "LTX of %" PRIu64 " bytes for %" PRIu32 " pages",
                                l->record.size_bytes, l->record.commit);
        f->rx = malloc(sizeof *f->rx);
        if (f->rx == NULL)
                return err_set(e, -ENOMEM, "receive a transaction");
        received_init(f->rx, f->config.env);
        f->rx_stream = l->stream;
        f->rx_bytes = 0;
        f->rx_lost = (struct err)ERR_INIT;
        f->rx->record = l->record;
        f->rx_announced_bytes = l->record.size_bytes;
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
        f->rx_bytes += d->n;
        if (f->rx_bytes > (f->rx_announced_bytes != 0 ? f->rx_announced_bytes : f->rx_max_bytes))
                return err_text(e, E_FORMAT, "more DATA than was announced");
        if (f->rx_lost.code != 0)
                return 0;
        r = spool_write(&f->rx->ltx, d->bytes, d->n, f->rx->ltx.size_bytes);
        if (r < 0) { /* a full disk, say: the stream, and the other databases, go on */
                err_set(&f->rx_lost, r, "keep a transaction of %s", f->rx_name);
                spool_reset(&f->rx->ltx);
        }
        return 0;
}

/* Whether it is to be thrown away: the primary has been told where to go on, and this is from before. */
static bool
is_from_before(struct follow *f, const struct received *rx)
{
        struct resync **p = find_resync(f, f->rx_name), *gone = *p;

        if (gone == NULL)
                return false;
        if (gone->db != NULL ? db_follows(gone->db, rx, NULL) < 0 : rx->record.min_txid != 1)
                return true;
        *p = gone->next;
        free(gone);
        return false;
}

static void
stop_when_full(struct follow *f)
{
        if (!applier_is_full(f->config.applier) || f->is_stopped)
                return;
        f->is_stopped = true;
        f->link->ops->read_stop(f->link);
}

static int
on_ltx_end(struct follow *f, const struct frame_ltx_end *end, struct err *e)
{
        struct received *rx = f->rx;
        int r;

        if (rx == NULL || end->stream != f->rx_stream || end->size_bytes != f->rx_bytes)
                return err_text(e, E_FORMAT, "LTX_END that does not fit");
        if (end->status != FRAME_LTX_COMPLETE || is_from_before(f, rx)) {
                drop_record(f);
                return 0;
        }
        if (f->rx_lost.code != 0) {
                drop_record(f);
                r = applier_lose(f->config.applier, f->rx_name, &f->rx_lost);
                return r < 0 ? err_set(e, r, "receive a transaction") : 0;
        }
        r = applier_push(f->config.applier, f->rx_name, rx, e);
        if (r < 0)
                return r;
        f->rx = NULL;
        stop_when_full(f);
        return 0;
}

/* --- what the primary does not have --- */

struct absence {
        struct follow *f;
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
on_positions(struct follow *f, struct frame_positions *p, struct err *e)
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
announce_ready(struct follow *f)
{
        if (!f->is_ready || f->was_announced || !applier_is_whole(f->config.applier) ||
            f->resyncs != NULL)
                return;
        f->was_announced = true;
        f->config.ready(f->config.arg);
}

static int
on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct follow *f = arg;

        if (!f->has_hello && frame->type != FRAME_HELLO && frame->type != FRAME_ERROR)
                return err_text(e, E_FORMAT, "%s before HELLO", frame_type_name(frame->type));
        switch (frame->type) {
        case FRAME_HELLO:
                return on_hello(f, &frame->hello, e);
        case FRAME_POSITIONS:
                return on_positions(f, &frame->positions, e);
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
                                    f->rx == NULL && f->resyncs == NULL &&
                                            applier_is_whole(f->config.applier));
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
        return frame_decoder_each(f->decoder, bytes, n, on_frame, f, e);
}

/* --- what the applier tells --- */

void
follow_applied(struct follow *f, struct db *db, struct ltx_pos pos)
{
        struct frame ack = { .type = FRAME_ACK };

        ack.ack.pos = pos;
        strncpy(ack.ack.name, db_name(db), sizeof ack.ack.name - 1);
        (void)link_send(f->link, &ack);
}

void
follow_failed(struct follow *f, const char *name, struct db *db, int code)
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
follow_drained(struct follow *f)
{
        if (f->is_stopped && !applier_is_full(f->config.applier)) {
                f->is_stopped = false;
                f->link->ops->read_start(f->link);
        }
        announce_ready(f);
}

bool
follow_lacks_something(const struct follow *f)
{
        return !f->was_announced || f->resyncs != NULL || applier_has_gaps(f->config.applier);
}
