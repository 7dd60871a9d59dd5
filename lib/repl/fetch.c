#include "repl/fetch.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/frame_decoder.h"
#include "repl/log_cursor.h"

#define ENOUGH (4u << 20) /* bytes of an answer, after which no record begins */
#define ERROR_MAX 65536   /* bytes of an answer that is none */
#define ANSWER_MS 10000   /* the asker waits for less: then others may have the database's snapshot */

/* --- the answer --- */

struct fetch_source {
        struct log_cursor cursor;
        struct outbox out; /* frames of which those from @off on are to be read */
        size_t off;
        uint64_t n_made; /* bytes */
        const struct clock *clock;
        int64_t end_ms;
        uint64_t term;
        uint32_t stream;
        bool is_over;
};

static bool
fetch_is_ahead(struct db *db, struct ltx_pos from)
{
        struct db_info info = { 0 };

        if (db != NULL)
                db_get_info(db, &info);
        return info.pos.txid > from.txid;
}

int
fetch_source_open(struct store *store, const struct frame_hello *self, const char *name,
                  struct ltx_pos from, struct fetch_source **ret)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = *self };
        struct fetch_source *s = calloc(1, sizeof *s);
        int r;

        if (s == NULL)
                return -ENOMEM;
        s->term = self->term > 0 ? self->term : 1;
        s->stream = 1;
        s->clock = store_env(store)->clock;
        s->end_ms = clock_boot_ms(s->clock) + ANSWER_MS;
        s->cursor.db = store_find(store, name);
        s->is_over = !fetch_is_ahead(s->cursor.db, from);
        outbox_init(&s->out);
        r = outbox_put(&s->out, &hello, NULL);
        if (r < 0) {
                fetch_source_close(s);
                return r;
        }
        if (!s->is_over)
                log_cursor_reset(&s->cursor, from);
        *ret = s;
        return 0;
}

void
fetch_source_close(struct fetch_source *s)
{
        if (s == NULL)
                return;
        log_cursor_release(&s->cursor);
        outbox_release(&s->out);
        free(s);
}

/* The next frames, at most to the end of a record: 0, and none at the end of all; or an error within a record. */
static int
fetch_make_frames(struct fetch_source *s)
{
        struct err e = ERR_INIT;
        int r;

        s->out.n = s->off = 0;
        if (s->is_over || (s->n_made >= ENOUGH && !log_cursor_is_in_record(&s->cursor)))
                return 0;
        if (clock_boot_ms(s->clock) >= s->end_ms)
                return -ETIMEDOUT;
        /* Of the log it reads a frame at least, and with more may be in the next record before the bound is looked at. */
        r = log_cursor_read(&s->cursor, s->term, &s->stream,
                            s->cursor.snapshot != NULL ? FRAME_DATA_MAX : 1, &s->out, &e);
        s->is_over = r <= 0;
        if (r < 0 && log_cursor_is_in_record(&s->cursor))
                return r;
        /* One that does not follow the position, which a stream would send to one whose history is another, is none. */
        if (s->cursor.history == TXLOG_HISTORY_OTHER) {
                s->is_over = true;
                s->out.n = 0;
        }
        s->n_made += s->out.n;
        return 0;
}

ssize_t
fetch_source_read(struct fetch_source *s, void *buf, size_t n)
{
        int r = s->off == s->out.n ? fetch_make_frames(s) : 0;

        if (r < 0) {
                log_cursor_release(&s->cursor);
                return r;
        }
        if (n > s->out.n - s->off)
                n = s->out.n - s->off;
        if (n > 0)
                memcpy(buf, s->out.buf + s->off, n);
        s->off += n;
        if (n == 0)
                log_cursor_release(&s->cursor);
        return (ssize_t)n;
}

/* --- the question --- */

struct fetch_intake {
        struct byte_sink sink; /* first */
        const struct fetch *f;
        const char *name;
        struct ltx_pos *pos;
        bool has_hello;
        struct received *rx; /* that comes in */
        uint32_t stream;
        uint64_t max_bytes;
        struct frame_decoder *decoder;
        struct err e; /* of what came */
};

static void
fetch_drop(struct fetch_intake *a)
{
        if (a->rx != NULL)
                received_release(a->rx);
        free(a->rx);
        a->rx = NULL;
}

static int
fetch_on_hello(struct fetch_intake *a, const struct frame_hello *h, struct err *e)
{
        a->has_hello = true;
        if (h->boot_id != a->f->peer->boot_id || h->term != a->f->peer->term ||
            strcmp(h->cluster_id, a->f->peer->cluster_id) != 0)
                return err_text(e, -ESTALE, "%s is not what it was a moment ago", h->hostname);
        return 0;
}

static int
fetch_on_ltx(struct fetch_intake *a, const struct frame_ltx *l, struct err *e)
{
        bool follows = l->record.min_txid == a->pos->txid + 1 &&
                       l->record.pre_apply_checksum == a->pos->checksum;
        int r;

        if (!a->has_hello || a->rx != NULL || strcmp(l->name, a->name) != 0)
                return err_text(e, E_FORMAT, "LTX that was not asked for");
        if ((!follows && l->record.min_txid != 1) || l->record.max_txid <= a->pos->txid)
                return err_text(e, E_FORMAT, "LTX that does not follow");
        r = frame_ltx_bound(l, &a->max_bytes, e);
        if (r < 0)
                return r;
        a->rx = malloc(sizeof *a->rx);
        if (a->rx == NULL)
                return err_set(e, -ENOMEM, "fetch a transaction");
        received_init(a->rx, a->f->env);
        a->rx->record = l->record;
        a->rx->history = (enum txlog_history)l->history;
        a->stream = l->stream;
        return 0;
}

static int
fetch_on_end(struct fetch_intake *a, const struct frame_ltx_end *end, struct err *e)
{
        struct ltx_pos pos;
        int r;

        if (a->rx == NULL || end->stream != a->stream || end->size_bytes != a->rx->ltx.size_bytes)
                return err_text(e, E_FORMAT, "LTX_END that does not fit");
        if (end->status != FRAME_LTX_COMPLETE) {
                fetch_drop(a);
                return 0;
        }
        pos = (struct ltx_pos){ a->rx->record.max_txid, a->rx->record.post_apply_checksum };
        r = a->f->push(a->f->arg, a->name, a->rx, e);
        if (r < 0)
                return r;
        a->rx = NULL;
        *a->pos = pos;
        return 0;
}

static int
fetch_on_frame(void *arg, struct frame *frame, struct err *e)
{
        struct fetch_intake *a = arg;

        switch (frame->type) {
        case FRAME_HELLO:
                return fetch_on_hello(a, &frame->hello, e);
        case FRAME_LTX:
                return fetch_on_ltx(a, &frame->ltx, e);
        case FRAME_DATA:
                if (a->rx == NULL || frame->data.stream != a->stream)
                        return err_text(e, E_FORMAT, "DATA for no transaction");
                if (frame->data.n > a->max_bytes - a->rx->ltx.size_bytes)
                        return err_text(e, E_FORMAT, "more DATA than was announced");
                return spool_write(&a->rx->ltx, frame->data.bytes, frame->data.n, a->rx->ltx.size_bytes);
        case FRAME_LTX_END:
                return fetch_on_end(a, &frame->ltx_end, e);
        default:
                return err_text(e, E_FORMAT, "%s in an answer of transactions",
                                frame_type_name(frame->type));
        }
}

static int
fetch_take(struct byte_sink *sink, const void *buf, size_t n)
{
        struct fetch_intake *a = (struct fetch_intake *)sink;

        return frame_decoder_each(a->decoder, buf, n, fetch_on_frame, a, &a->e);
}

static int
fetch_finish(struct fetch_intake *a, struct err *e)
{
        int r = frame_decoder_finish(a->decoder, e);

        return r == 0 && a->rx != NULL ? err_text(e, E_FORMAT, "the answer ends inside a transaction")
                                       : r;
}

static void
fetch_format_url(const struct fetch *f, const char *name, struct ltx_pos pos, char *ret, size_t size)
{
        char text[LTX_POS_TEXT_LEN + 1];
        int n = snprintf(ret, size, "%s/transactions?db=", f->url);

        for (const char *p = name; *p != '\0'; p++)
                n += snprintf(ret + n, size - (size_t)n,
                              isalnum((unsigned char)*p) || strchr("-._", *p) != NULL ? "%c" : "%%%02X",
                              (unsigned char)*p);
        ltx_pos_format(pos, text);
        snprintf(ret + n, size - (size_t)n, "&pos=%s", text);
}

static int
fetch_ask(struct fetch_intake *a, const struct http_request *rq, struct err *e)
{
        struct http_response rs;
        int r = http_client_do(a->f->client, rq, &rs, e);

        if (a->e.code < 0) {
                *e = a->e;
                return a->e.code;
        }
        if (r == 0 && rs.status != 200)
                return err_text(e, -EIO, "%s: status %d", rq->url, rs.status);
        return r < 0 ? r : fetch_finish(a, e);
}

int
fetch_some(const struct fetch *f, const char *name, struct ltx_pos *pos, int64_t timeout_ms,
           struct err *e)
{
        char url[LEASE_URL_SIZE + 3 * DBNAME_MAX + 80];
        struct fetch_intake a = {
                .sink = { fetch_take }, .f = f, .name = name, .pos = pos, .e = ERR_INIT
        };
        struct http_request rq = { .method = "GET",
                                   .url = url,
                                   .timeout_ms = timeout_ms > 0 ? timeout_ms : 1,
                                   .total_timeout_ms = timeout_ms > 0 ? timeout_ms : 1,
                                   .max_response_size = ERROR_MAX,
                                   .headers = f->headers,
                                   .sink = &a.sink };
        int r = frame_decoder_new(&a.decoder);

        if (r < 0)
                return err_set(e, r, "fetch transactions");
        fetch_format_url(f, name, *pos, url, sizeof url);
        r = fetch_ask(&a, &rq, e);
        fetch_drop(&a);
        frame_decoder_free(a.decoder);
        return r;
}
