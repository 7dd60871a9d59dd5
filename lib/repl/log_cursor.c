#include "repl/log_cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "db/rename.h"

/* --- frames --- */

static int
outbox_reserve(struct outbox *o, size_t n)
{
        size_t want = o->size == 0 ? 65536 : o->size;
        uint8_t *p;

        if (o->size - o->n >= n)
                return 0;
        while (want - o->n < n)
                want *= 2;
        p = realloc(o->buf, want);
        if (p == NULL)
                return -ENOMEM;
        o->buf = p;
        o->size = want;
        return 0;
}

int
outbox_put(struct outbox *o, const struct frame *f, struct err *e)
{
        int r = outbox_reserve(o, FRAME_SMALL_SIZE);
        ssize_t n;

        if (r < 0)
                return err_set(e, r, "send %s", frame_type_name(f->type));
        n = frame_encode(f, o->buf + o->n, o->size - o->n, e);
        if (n < 0)
                return (int)n;
        o->n += (size_t)n;
        return 0;
}

/* As the sink of a snapshot: any length becomes DATA frames. */
static int
put_data(struct byte_sink *sink, const void *buf, size_t n)
{
        struct outbox *o = (struct outbox *)sink;
        const uint8_t *p = buf;

        while (n > 0) {
                size_t part = n < FRAME_DATA_MAX ? n : FRAME_DATA_MAX;
                int r = outbox_reserve(o, FRAME_DATA_OVERHEAD + part);

                if (r < 0)
                        return r;
                frame_data_header(o->stream, part, o->buf + o->n);
                memcpy(o->buf + o->n + FRAME_DATA_OVERHEAD, p, part);
                o->n += FRAME_DATA_OVERHEAD + part;
                o->n_data += part;
                p += part;
                n -= part;
        }
        return 0;
}

void
outbox_init(struct outbox *o)
{
        *o = (struct outbox){ .base = { put_data } };
}

void
outbox_release(struct outbox *o)
{
        free(o->buf);
        o->buf = NULL;
        o->n = o->size = 0;
}

static int
put_begin(struct log_cursor *c, uint64_t term, uint32_t *next_stream, struct outbox *o, struct err *e)
{
        struct frame f = { .type = FRAME_LTX };

        o->stream = (*next_stream)++;
        if (*next_stream == 0)
                *next_stream = 1;
        o->n_data = 0;
        f.ltx.stream = o->stream;
        f.ltx.term = term;
        strncpy(f.ltx.name, db_name(c->db), sizeof f.ltx.name - 1);
        f.ltx.record = c->record;
        c->is_begun = true;
        f.ltx.history = c->snapshot != NULL ? c->history : TXLOG_HISTORY_OURS;
        return outbox_put(o, &f, e);
}

static int
put_ltx_end(struct log_cursor *c, enum frame_ltx_status status, struct outbox *o, struct err *e)
{
        struct frame f = { .type = FRAME_LTX_END };

        c->is_begun = false;
        f.ltx_end.stream = o->stream;
        f.ltx_end.status = (uint8_t)status;
        f.ltx_end.size_bytes = o->n_data;
        if (status == FRAME_LTX_COMPLETE) {
                c->pos = (struct ltx_pos){ c->record.max_txid, c->record.post_apply_checksum };
                c->has_new_file |= c->record.commit > 0 && (c->may_lack_file || c->record.min_txid == 1);
                c->may_lack_file = c->record.commit == 0;
        }
        return outbox_put(o, &f, e);
}

/* --- where to begin --- */

static void
close_reader(struct log_cursor *c)
{
        txlog_reader_close(c->reader);
        c->reader = NULL;
        c->src = NULL;
}

void
log_cursor_reset(struct log_cursor *c, struct ltx_pos pos)
{
        /* What is half sent is finished first: the reader keeps its place until then. */
        if (c->src == NULL && c->snapshot == NULL)
                close_reader(c);
        c->pos = pos;
        c->may_lack_file = true;
        c->is_checked = false;
        c->held_txid = c->let_go_txid = 0;
}

void
log_cursor_release(struct log_cursor *c)
{
        close_reader(c);
        db_snapshot_close(c->snapshot);
        c->snapshot = NULL;
}

/* Whether c->record is. To one that has nothing, what is deleted is nothing, too. */
static bool
is_held(struct log_cursor *c)
{
        uint64_t txid = c->record.max_txid;

        if (c->record.commit > 0 || c->pos.txid == 0 || txid == c->let_go_txid ||
            db_read_mark(c->db, txid, &c->held, NULL) < 0 || c->held.renamed_name == 0)
                return false;
        c->held_txid = txid;
        return true;
}

static int
cursor_open_snapshot(struct log_cursor *c, enum txlog_history history, const char *why, struct err *e)
{
        int r;

        close_reader(c);
        c->history = history;
        r = db_snapshot_open(c->db, &c->snapshot, &c->record, e);
        if (r == 0 && is_held(c)) {
                db_snapshot_close(c->snapshot);
                c->snapshot = NULL;
                return 0;
        }
        /* As durable as what comes record by record: see db_replicable_txid. */
        if (r == 0)
                r = txlog_sync(db_log(c->db), txlog_end_lsn(db_log(c->db)), e);
        if (r == 0)
                db_count(c->db, DB_COUNT_SENT_SNAPSHOTS);
        if (r == 0)
                log_event(LOG_INFO, db_name(c->db), "sending a snapshot of %u pages: %s",
                          c->record.commit, why);
        return r < 0 ? r : 1;
}

/* The log from the replica's position on, or a snapshot. 1: there is a reader or a snapshot; 0: the replica has
 * all there is, or there is nothing. */
static int
find_place(struct log_cursor *c, struct err *e)
{
        enum txlog_history history;
        struct db_info info;
        struct txlog_record last;
        int r;

        /* A replica that is ahead need not be, once this node has applied what it has from the last primary. */
        if (db_is_receiving(c->db))
                return -EAGAIN;
        db_get_info(c->db, &info);
        /* To nothing no position can be compared: what a replica has of an earlier database of the name may be ahead of all that
         * this one is going to have for a long time. */
        if (info.pos.txid == 0)
                return 0;
        c->is_checked = true;
        if (c->pos.txid == info.pos.txid && c->pos.checksum == info.pos.checksum)
                return 0;
        if (c->pos.txid == info.pos.txid)
                return cursor_open_snapshot(c, TXLOG_HISTORY_OTHER,
                                            "it has another transaction at our position", e);
        if (c->pos.txid > info.pos.txid)
                return cursor_open_snapshot(c, TXLOG_HISTORY_OTHER, "it is ahead", e);
        r = txlog_find_history(db_log(c->db), c->pos, &history, e);
        if (r < 0)
                return r;
        if (history == TXLOG_HISTORY_OTHER)
                return cursor_open_snapshot(c, history, "its position is not in our history", e);
        /* A log that begins with a base has nothing of what led there. */
        r = !txlog_last(db_log(c->db), &last) || last.max_txid <= c->pos.txid
                    ? E_NOT_FOUND
                    : txlog_reader_open(db_log(c->db), c->pos.txid, &c->reader, e);
        if (r == E_NOT_FOUND || history == TXLOG_HISTORY_UNKNOWN)
                return cursor_open_snapshot(
                        c, history, c->pos.txid == 0 ? "it has nothing" : "our log begins later", e);
        return r < 0 ? r : 1;
}

static bool
follows(const struct txlog_record *record, struct ltx_pos pos)
{
        return record->min_txid == 1 ||
               (record->min_txid == pos.txid + 1 && record->pre_apply_checksum == pos.checksum);
}

static bool
has_sent_all(const struct log_cursor *c)
{
        return c->pos.txid >= db_replicable_txid(c->db);
}

/* 1: c->src or c->snapshot is the next to send; 0: nothing now. */
static int
next_record(struct log_cursor *c, struct err *e)
{
        int r;

        if (c->held_txid > 0 || (c->pos.txid > 0 && c->is_checked && has_sent_all(c)))
                return 0;
        if (c->reader == NULL) {
                r = find_place(c, e);
                c->is_checked &= r >= 0;
                if (r <= 0 || c->snapshot != NULL)
                        return r;
        }
        if (has_sent_all(c))
                return 0;
        r = txlog_reader_next(c->reader, &c->record, &c->src, e);
        if (r > 0 && is_held(c)) {
                close_reader(c);
                return 0;
        }
        if (r > 0)
                db_count(c->db, DB_COUNT_SENT_RECORDS);
        if (r <= 0 || follows(&c->record, c->pos))
                return r;
        return cursor_open_snapshot(c, TXLOG_HISTORY_OTHER, "its position is not in our history", e);
}

/* --- the bytes --- */

static int
read_log(struct log_cursor *c, size_t want, struct outbox *o, struct err *e)
{
        uint8_t *buf = malloc(FRAME_DATA_MAX);
        ssize_t n = buf == NULL ? -ENOMEM : 1;
        size_t end = o->n + want;
        int r = 0;

        while (r == 0 && n > 0 && o->n < end) {
                n = byte_src_read_all(c->src, buf, FRAME_DATA_MAX);
                if (n > 0)
                        r = put_data(&o->base, buf, (size_t)n);
        }
        free(buf);
        if (n < 0 || r < 0)
                return err_set(e, n < 0 ? (int)n : r, "read the log of %s", db_name(c->db));
        if (n > 0)
                return 1;
        c->src = NULL;
        return put_ltx_end(c, FRAME_LTX_COMPLETE, o, e);
}

static int
read_snapshot(struct log_cursor *c, size_t want, struct outbox *o, struct err *e)
{
        int r = db_snapshot_read(c->snapshot, want, &o->base, e);

        if (r > 0)
                return 1;
        db_snapshot_close(c->snapshot);
        c->snapshot = NULL;
        if (r < 0) {
                /* The transport is sound: this database alone is tried again. */
                log_event(LOG_WARN, db_name(c->db), "snapshot given up: %s", e->text);
                c->is_checked = false;
                r = put_ltx_end(c, FRAME_LTX_ABANDONED, o, e);
                return r < 0 ? r : -EAGAIN;
        }
        return put_ltx_end(c, FRAME_LTX_COMPLETE, o, e);
}

/* Records of other databases have gone through @o since this one had its turn. */
static void
cursor_take_outbox(struct log_cursor *c, struct outbox *o)
{
        o->stream = c->stream;
        o->n_data = c->n_data;
}

static void
cursor_leave_outbox(struct log_cursor *c, const struct outbox *o)
{
        c->stream = o->stream;
        c->n_data = o->n_data;
}

int
log_cursor_abandon(struct log_cursor *c, struct outbox *o, struct err *e)
{
        int r;

        cursor_take_outbox(c, o);
        r = c->is_begun ? put_ltx_end(c, FRAME_LTX_ABANDONED, o, e) : 0;
        log_cursor_release(c);
        c->is_begun = c->is_checked = false;
        return r;
}

static int
cursor_read_records(struct log_cursor *c, uint64_t term, uint32_t *next_stream, size_t want,
                    struct outbox *o, struct err *e)
{
        size_t end = o->n + want, left;
        int r = 0;

        while (o->n < end) {
                if (c->src == NULL && c->snapshot == NULL) {
                        r = next_record(c, e);
                        if (r <= 0)
                                return r;
                        r = put_begin(c, term, next_stream, o, e);
                        if (r < 0)
                                return r;
                }
                /* LTX alone may have been more than was wanted. */
                left = o->n < end ? end - o->n : 1;
                r = c->snapshot != NULL ? read_snapshot(c, left, o, e) : read_log(c, left, o, e);
                if (r < 0)
                        return r;
        }
        return 1;
}

int
log_cursor_read(struct log_cursor *c, uint64_t term, uint32_t *next_stream, size_t want,
                struct outbox *o, struct err *e)
{
        int r;

        cursor_take_outbox(c, o);
        r = cursor_read_records(c, term, next_stream, want, o, e);
        cursor_leave_outbox(c, o);
        return r;
}
