#include "repl/fetch.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl/frame_decoder.h"
#include "repl/log_cursor.h"

#define ENOUGH (4u << 20) /* bytes of an answer */

/* --- the answer --- */

/* Whole records. One that does not follow the position, which a stream would send to one whose history is another, is none. */
static int
fetch_read_records(struct log_cursor *c, uint64_t term, struct outbox *o)
{
        uint32_t stream = 1;
        size_t n_whole = o->n;
        struct err e = ERR_INIT;
        int r = 1;

        while (r > 0 && o->n < (log_cursor_is_in_record(c) ? FETCH_ANSWER_MAX : ENOUGH)) {
                r = log_cursor_read(c, term, &stream, 1, o, &e);
                if (c->history == TXLOG_HISTORY_OTHER)
                        break;
                if (!log_cursor_is_in_record(c))
                        n_whole = o->n;
        }
        o->n = n_whole;
        log_cursor_release(c);
        return r == -ENOMEM ? r : 0;
}

static bool
fetch_is_ahead(struct db *db, struct ltx_pos from)
{
        struct db_info info = { 0 };

        if (db != NULL)
                db_get_info(db, &info);
        return info.pos.txid > from.txid;
}

int
fetch_answer(struct store *store, const struct frame_hello *self, const char *name, struct ltx_pos from,
             char **ret, size_t *ret_n)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = *self };
        struct log_cursor c = { .db = store_find(store, name) };
        struct outbox o;
        int r;

        outbox_init(&o);
        r = outbox_put(&o, &hello, NULL);
        if (r == 0 && fetch_is_ahead(c.db, from)) {
                log_cursor_reset(&c, from);
                r = fetch_read_records(&c, self->term > 0 ? self->term : 1, &o);
        }
        if (r < 0) {
                outbox_release(&o);
                return r;
        }
        *ret = (char *)o.buf;
        *ret_n = o.n;
        return 0;
}

/* --- the question --- */

struct fetch_answer {
        const struct fetch *f;
        const char *name;
        struct ltx_pos *pos;
        bool has_hello;
        struct received *rx; /* that comes in */
        uint32_t stream;
};

static void
fetch_drop(struct fetch_answer *a)
{
        if (a->rx != NULL)
                received_release(a->rx);
        free(a->rx);
        a->rx = NULL;
}

static int
fetch_on_hello(struct fetch_answer *a, const struct frame_hello *h, struct err *e)
{
        a->has_hello = true;
        if (h->boot_id != a->f->peer->boot_id || h->term != a->f->peer->term ||
            strcmp(h->cluster_id, a->f->peer->cluster_id) != 0)
                return err_text(e, -ESTALE, "%s is not what it was a moment ago", h->hostname);
        return 0;
}

static int
fetch_on_ltx(struct fetch_answer *a, const struct frame_ltx *l, struct err *e)
{
        bool follows = l->record.min_txid == a->pos->txid + 1 &&
                       l->record.pre_apply_checksum == a->pos->checksum;

        if (!a->has_hello || a->rx != NULL || strcmp(l->name, a->name) != 0)
                return err_text(e, E_FORMAT, "LTX that was not asked for");
        if ((!follows && l->record.min_txid != 1) || l->record.max_txid <= a->pos->txid)
                return err_text(e, E_FORMAT, "LTX that does not follow");
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
fetch_on_end(struct fetch_answer *a, const struct frame_ltx_end *end, struct err *e)
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
        struct fetch_answer *a = arg;

        switch (frame->type) {
        case FRAME_HELLO:
                return fetch_on_hello(a, &frame->hello, e);
        case FRAME_LTX:
                return fetch_on_ltx(a, &frame->ltx, e);
        case FRAME_DATA:
                if (a->rx == NULL || frame->data.stream != a->stream)
                        return err_text(e, E_FORMAT, "DATA for no transaction");
                return spool_write(&a->rx->ltx, frame->data.bytes, frame->data.n, a->rx->ltx.size_bytes);
        case FRAME_LTX_END:
                return fetch_on_end(a, &frame->ltx_end, e);
        default:
                return err_text(e, E_FORMAT, "%s in an answer of transactions",
                                frame_type_name(frame->type));
        }
}

static int
fetch_decode(struct fetch_answer *a, const struct http_response *rs, struct err *e)
{
        struct frame_decoder *d;
        int r = frame_decoder_new(&d);

        if (r < 0)
                return r;
        r = frame_decoder_each(d, (const uint8_t *)rs->body, rs->body_size, fetch_on_frame, a, e);
        if (r == 0)
                r = frame_decoder_finish(d, e);
        if (r == 0 && a->rx != NULL)
                r = err_text(e, E_FORMAT, "the answer ends inside a transaction");
        fetch_drop(a);
        frame_decoder_free(d);
        return r;
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

int
fetch_some(const struct fetch *f, const char *name, struct ltx_pos *pos, int64_t timeout_ms,
           struct err *e)
{
        char url[LEASE_URL_SIZE + 3 * DBNAME_MAX + 80];
        struct http_request rq = { .method = "GET",
                                   .url = url,
                                   .timeout_ms = timeout_ms,
                                   .max_response_size = FETCH_ANSWER_MAX + (1u << 20),
                                   .headers = f->headers };
        struct fetch_answer a = { .f = f, .name = name, .pos = pos };
        struct http_response rs;
        int r;

        fetch_format_url(f, name, *pos, url, sizeof url);
        r = http_client_do(f->client, &rq, &rs, e);
        if (r == 0 && rs.status != 200)
                r = err_text(e, -EIO, "%s: status %d", url, rs.status);
        return r < 0 ? r : fetch_decode(&a, &rs, e);
}
