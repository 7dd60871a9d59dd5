/* off size field (all integers big-endian)
 *   0    4 length of what follows
 *   4    1 type
 *   5      payload; the layouts are above the function that reads each, maxima in `types` */
#include "repl/frame.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/header.h"

#define POSITION_MIN (1 + 1 + 16)
#define POSITION_MAX (1 + DBNAME_MAX + 16)
#define CLUSTER_ID_LEN (LEASE_CLUSTER_ID_SIZE - 1)

_Static_assert(LEASE_HOSTNAME_SIZE - 1 <= UINT8_MAX && LEASE_SESSION_SIZE - 1 <= UINT8_MAX &&
                       DBNAME_MAX <= UINT8_MAX,
               "their lengths are one byte");

/* Reads fields in order. The first fault sticks, and what is read after it is zero, so that a payload is read
 * as a whole and judged once. */
struct reader {
        const uint8_t *base;
        size_t n;
        size_t off;
        const char *field; /* at fault; NULL while there is none */
        const char *what;
        size_t fault_off;
};

static void
fault(struct reader *r, const char *field, const char *what, size_t off)
{
        if (r->field != NULL)
                return;
        r->field = field;
        r->what = what;
        r->fault_off = off;
}

/* Judges the @width bytes of @field that were read last. */
static void
require(struct reader *r, bool ok, const char *field, size_t width)
{
        if (!ok)
                fault(r, field, "not allowed", r->off - width);
}

static const uint8_t *
take(struct reader *r, size_t n, const char *field)
{
        const uint8_t *p = r->base + r->off;

        if (r->n - r->off < n)
                fault(r, field, "cut off", r->off);
        if (r->field != NULL)
                return NULL;
        r->off += n;
        return p;
}

static uint8_t
take_u8(struct reader *r, const char *field)
{
        const uint8_t *p = take(r, 1, field);

        return p != NULL ? *p : 0;
}

static uint16_t
take_u16(struct reader *r, const char *field)
{
        const uint8_t *p = take(r, 2, field);

        return p != NULL ? get_be16(p) : 0;
}

static uint32_t
take_u32(struct reader *r, const char *field)
{
        const uint8_t *p = take(r, 4, field);

        return p != NULL ? get_be32(p) : 0;
}

static uint64_t
take_u64(struct reader *r, const char *field)
{
        const uint8_t *p = take(r, 8, field);

        return p != NULL ? get_be64(p) : 0;
}

/* A field that must not be 0. */
static uint64_t
take_id64(struct reader *r, const char *field)
{
        uint64_t v = take_u64(r, field);

        require(r, v != 0, field, 8);
        return v;
}

static uint32_t
take_stream(struct reader *r)
{
        uint32_t v = take_u32(r, "stream number");

        require(r, v != 0, "stream number", 4);
        return v;
}

static bool
is_plain_text(const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (p[i] < ' ' || p[i] == 0x7f)
                        return false;
        }
        return true;
}

/* @n bytes without control characters into @ret, which has room for @size with the NUL. */
static void
take_text(struct reader *r, size_t n, char *ret, size_t size, const char *field)
{
        const uint8_t *p;

        ret[0] = '\0';
        if (n >= size) {
                fault(r, field, "too long", r->off);
                return;
        }
        p = take(r, n, field);
        if (p == NULL)
                return;
        require(r, is_plain_text(p, n), field, n);
        memcpy(ret, p, n);
        ret[n] = '\0';
}

/* A length and the name of a database. Control characters are allowed: a file name may have them. */
static void
take_name(struct reader *r, char ret[DBNAME_MAX + 1])
{
        size_t n = take_u8(r, "length of the name");
        const uint8_t *p = take(r, n, "name");

        ret[0] = '\0';
        if (p == NULL)
                return;
        require(r, dbname_is_valid((const char *)p, n), "name", n);
        memcpy(ret, p, n);
        ret[n] = '\0';
}

static bool
is_position(struct ltx_pos pos)
{
        return pos.txid == 0 ? pos.checksum == 0 : (pos.checksum & LTX_CHECKSUM_FLAG) != 0;
}

static struct ltx_pos
take_pos(struct reader *r)
{
        struct ltx_pos pos;

        pos.txid = take_u64(r, "TXID");
        pos.checksum = take_u64(r, "checksum");
        require(r, is_position(pos), "checksum", 8);
        return pos;
}

static bool
is_cluster_id(const char *id)
{
        return id[0] == '\0' || (strlen(id) == CLUSTER_ID_LEN && memcmp(id, "LFSC", 4) == 0 &&
                                 strspn(id + 4, "0123456789ABCDEF") == CLUSTER_ID_LEN - 4);
}

/* u16 version, u64 node id, u64 term, u8 length and cluster id, u8 length and hostname, u16 length and URL */
static void
read_hello(struct reader *r, struct frame *ret)
{
        struct frame_hello *h = &ret->hello;
        size_t n;

        h->version = take_u16(r, "version");
        require(r, h->version != 0, "version", 2);
        h->node_id = take_u64(r, "node id");
        h->term = take_u64(r, "term");
        n = take_u8(r, "length of the cluster id");
        take_text(r, n, h->cluster_id, sizeof h->cluster_id, "cluster id");
        require(r, is_cluster_id(h->cluster_id), "cluster id", n);
        n = take_u8(r, "length of the hostname");
        take_text(r, n, h->hostname, sizeof h->hostname, "hostname");
        n = take_u16(r, "length of the URL");
        take_text(r, n, h->advertise_url, sizeof h->advertise_url, "URL");
}

static void
read_position(struct reader *r, char ret_name[DBNAME_MAX + 1], struct ltx_pos *ret_pos)
{
        take_name(r, ret_name);
        *ret_pos = take_pos(r);
}

/* u8 flags, u32 count, then each: u8 length and name, u64 TXID, u64 checksum */
static void
read_positions(struct reader *r, struct frame *ret)
{
        struct frame_positions *p = &ret->positions;
        char name[DBNAME_MAX + 1];
        struct ltx_pos pos;

        p->flags = take_u8(r, "flags");
        require(r, (p->flags & ~(FRAME_POSITIONS_LAST | FRAME_POSITIONS_ALL)) == 0, "flags", 1);
        p->count = take_u32(r, "count");
        require(r, p->count <= FRAME_POSITIONS_MAX, "count", 4);
        p->entries = r->base + r->off;
        p->size_bytes = r->n - r->off;
        for (uint32_t i = 0; i < p->count && r->field == NULL; i++)
                read_position(r, name, &pos);
}

/* The smallest LTX file is a header, an end of pages and a trailer; what lies between is its own decoder's. */
static bool
is_ltx_size(const struct txlog_record *rec)
{
        if (rec->size_bytes == 0)
                return rec->min_txid == 1;
        return rec->size_bytes > LTX_HEADER_SIZE + LTX_TRAILER_SIZE && rec->size_bytes <= INT64_MAX;
}

static bool
is_pre_apply_checksum(const struct txlog_record *rec)
{
        if (rec->min_txid == 1)
                return rec->pre_apply_checksum == 0;
        return (rec->pre_apply_checksum & LTX_CHECKSUM_FLAG) != 0;
}

/* u32 stream, u64 term, u64 min TXID, u64 max TXID, u64 pre-apply checksum, u64 post-apply checksum,
 * i64 timestamp, u32 page size, u32 commit, u64 size, u8 history, u8 length and name */
static void
read_ltx(struct reader *r, struct frame *ret)
{
        struct frame_ltx *l = &ret->ltx;
        struct txlog_record *rec = &l->record;

        l->stream = take_stream(r);
        l->term = take_id64(r, "term");
        rec->min_txid = take_id64(r, "min TXID");
        rec->max_txid = take_u64(r, "max TXID");
        require(r, rec->max_txid >= rec->min_txid, "max TXID", 8);
        rec->pre_apply_checksum = take_u64(r, "pre-apply checksum");
        require(r, is_pre_apply_checksum(rec), "pre-apply checksum", 8);
        rec->post_apply_checksum = take_u64(r, "post-apply checksum");
        require(r, (rec->post_apply_checksum & LTX_CHECKSUM_FLAG) != 0, "post-apply checksum", 8);
        rec->timestamp_ms = (int64_t)take_u64(r, "timestamp");
        rec->page_size = take_u32(r, "page size");
        require(r, ltx_is_page_size(rec->page_size), "page size", 4);
        rec->commit = take_u32(r, "commit");
        rec->size_bytes = take_u64(r, "size");
        require(r, is_ltx_size(rec), "size", 8);
        l->history = take_u8(r, "history");
        require(r, l->history <= (rec->min_txid == 1 ? TXLOG_HISTORY_UNKNOWN : TXLOG_HISTORY_OURS),
                "history", 1);
        take_name(r, l->name);
}

/* u32 stream, then the bytes */
static void
read_data(struct reader *r, struct frame *ret)
{
        ret->data.stream = take_stream(r);
        ret->data.n = r->n - r->off;
        ret->data.bytes = take(r, ret->data.n, "bytes");
}

/* u32 stream, u8 status, u64 size */
static void
read_ltx_end(struct reader *r, struct frame *ret)
{
        struct frame_ltx_end *l = &ret->ltx_end;

        l->stream = take_stream(r);
        l->status = take_u8(r, "status");
        require(r, l->status <= FRAME_LTX_ABANDONED, "status", 1);
        l->size_bytes = take_u64(r, "size");
}

/* nothing */
static void
read_ready(struct reader *r, struct frame *ret)
{
        (void)r, (void)ret;
}

/* i64 wall time, u64 term, i64 time to the fence */
static void
read_heartbeat(struct reader *r, struct frame *ret)
{
        struct frame_heartbeat *h = &ret->heartbeat;

        h->wall_ms = (int64_t)take_u64(r, "wall time");
        h->term = take_id64(r, "term");
        h->fence_ms = (int64_t)take_u64(r, "time to the fence");
        require(r, h->fence_ms >= -1, "time to the fence", 8);
}

/* u64 node id, u8 length and token */
static void
read_handoff(struct reader *r, struct frame *ret)
{
        struct frame_handoff *h = &ret->handoff;
        size_t n;

        h->node_id = take_u64(r, "node id");
        n = take_u8(r, "length of the token");
        require(r, n != 0, "length of the token", 1);
        take_text(r, n, h->token, sizeof h->token, "token");
}

/* u64 TXID, u64 checksum, u8 length and name */
static void
read_ack(struct reader *r, struct frame *ret)
{
        ret->ack.pos = take_pos(r);
        take_name(r, ret->ack.name);
}

/* u16 code, u16 length and text */
static void
read_error(struct reader *r, struct frame *ret)
{
        struct frame_error *f = &ret->error;
        size_t n;

        f->code = take_u16(r, "code");
        require(r, f->code != 0, "code", 2);
        n = take_u16(r, "length of the text");
        take_text(r, n, f->text, sizeof f->text, "text");
}

/* Writes fields in order; once one does not fit, none is written. */
struct writer {
        uint8_t *p;
        size_t left;
        bool is_full;
};

static void
put(struct writer *w, const void *p, size_t n)
{
        w->is_full = w->is_full || n > w->left;
        if (w->is_full || n == 0)
                return;
        memcpy(w->p, p, n);
        w->p += n;
        w->left -= n;
}

static void
put_u8(struct writer *w, uint8_t v)
{
        put(w, &v, 1);
}

static void
put_u16(struct writer *w, uint16_t v)
{
        uint8_t b[2];

        put_be16(b, v);
        put(w, b, sizeof b);
}

static void
put_u32(struct writer *w, uint32_t v)
{
        uint8_t b[4];

        put_be32(b, v);
        put(w, b, sizeof b);
}

static void
put_u64(struct writer *w, uint64_t v)
{
        uint8_t b[8];

        put_be64(b, v);
        put(w, b, sizeof b);
}

/* Texts of up to 255 bytes; @size is the array's, so a missing NUL is a text that is too long. */
static void
put_text8(struct writer *w, const char *text, size_t size)
{
        size_t n = strnlen(text, size);

        put_u8(w, (uint8_t)n);
        put(w, text, n);
}

static void
put_text16(struct writer *w, const char *text, size_t size)
{
        size_t n = strnlen(text, size);

        put_u16(w, (uint16_t)n);
        put(w, text, n);
}

static void
write_hello(struct writer *w, const struct frame *f)
{
        const struct frame_hello *h = &f->hello;

        put_u16(w, h->version);
        put_u64(w, h->node_id);
        put_u64(w, h->term);
        put_text8(w, h->cluster_id, sizeof h->cluster_id);
        put_text8(w, h->hostname, sizeof h->hostname);
        put_text16(w, h->advertise_url, sizeof h->advertise_url);
}

static void
write_positions(struct writer *w, const struct frame *f)
{
        put_u8(w, f->positions.flags);
        put_u32(w, f->positions.count);
        put(w, f->positions.entries, f->positions.size_bytes);
}

static void
write_ltx(struct writer *w, const struct frame *f)
{
        const struct txlog_record *rec = &f->ltx.record;

        put_u32(w, f->ltx.stream);
        put_u64(w, f->ltx.term);
        put_u64(w, rec->min_txid);
        put_u64(w, rec->max_txid);
        put_u64(w, rec->pre_apply_checksum);
        put_u64(w, rec->post_apply_checksum);
        put_u64(w, (uint64_t)rec->timestamp_ms);
        put_u32(w, rec->page_size);
        put_u32(w, rec->commit);
        put_u64(w, rec->size_bytes);
        put_u8(w, f->ltx.history);
        put_text8(w, f->ltx.name, sizeof f->ltx.name);
}

static void
write_data(struct writer *w, const struct frame *f)
{
        put_u32(w, f->data.stream);
        put(w, f->data.bytes, f->data.n);
}

static void
write_ltx_end(struct writer *w, const struct frame *f)
{
        put_u32(w, f->ltx_end.stream);
        put_u8(w, f->ltx_end.status);
        put_u64(w, f->ltx_end.size_bytes);
}

static void
write_ready(struct writer *w, const struct frame *f)
{
        (void)w, (void)f;
}

static void
write_heartbeat(struct writer *w, const struct frame *f)
{
        put_u64(w, (uint64_t)f->heartbeat.wall_ms);
        put_u64(w, f->heartbeat.term);
        put_u64(w, (uint64_t)f->heartbeat.fence_ms);
}

static void
write_handoff(struct writer *w, const struct frame *f)
{
        put_u64(w, f->handoff.node_id);
        put_text8(w, f->handoff.token, sizeof f->handoff.token);
}

static void
write_ack(struct writer *w, const struct frame *f)
{
        put_u64(w, f->ack.pos.txid);
        put_u64(w, f->ack.pos.checksum);
        put_text8(w, f->ack.name, sizeof f->ack.name);
}

static void
write_error(struct writer *w, const struct frame *f)
{
        put_u16(w, f->error.code);
        put_text16(w, f->error.text, sizeof f->error.text);
}

#define LTX_FIXED (4 + 5 * 8 + 8 + 4 + 4 + 8 + 1)
#define HELLO_FIXED (2 + 8 + 8 + 1 + 1 + 2)

static const struct type {
        const char *name;
        size_t min; /* of the payload, in bytes */
        size_t max;
        void (*read)(struct reader *r, struct frame *ret);
        void (*write)(struct writer *w, const struct frame *f);
} types[] = {
        [FRAME_HELLO] = { "HELLO", HELLO_FIXED,
                          HELLO_FIXED + CLUSTER_ID_LEN + LEASE_HOSTNAME_SIZE - 1 + LEASE_URL_SIZE - 1,
                          read_hello, write_hello },
        [FRAME_POSITIONS] = { "POSITIONS", 5, 5 + FRAME_POSITIONS_MAX *POSITION_MAX, read_positions,
                              write_positions },
        [FRAME_LTX] = { "LTX", LTX_FIXED + 2, LTX_FIXED + 1 + DBNAME_MAX, read_ltx, write_ltx },
        [FRAME_DATA] = { "DATA", 4 + 1, 4 + FRAME_DATA_MAX, read_data, write_data },
        [FRAME_LTX_END] = { "LTX_END", 13, 13, read_ltx_end, write_ltx_end },
        [FRAME_READY] = { "READY", 0, 0, read_ready, write_ready },
        [FRAME_HEARTBEAT] = { "HEARTBEAT", 24, 24, read_heartbeat, write_heartbeat },
        [FRAME_HANDOFF] = { "HANDOFF", 8 + 1 + 1, 8 + LEASE_SESSION_SIZE, read_handoff, write_handoff },
        [FRAME_ACK] = { "ACK", 16 + 1 + 1, 16 + 1 + DBNAME_MAX, read_ack, write_ack },
        [FRAME_ERROR] = { "ERROR", 4, 4 + FRAME_TEXT_MAX, read_error, write_error },
};

static const struct type *
find_type(unsigned type)
{
        if (type >= sizeof types / sizeof types[0] || types[type].name == NULL)
                return NULL;
        return &types[type];
}

const char *
frame_type_name(uint8_t type)
{
        const struct type *t = find_type(type);

        return t != NULL ? t->name : NULL;
}

int
frame_header_parse(const uint8_t header[FRAME_HEADER_SIZE], uint8_t *ret_type, size_t *ret_n,
                   struct err *e)
{
        uint32_t length = get_be32(header);
        const struct type *t = find_type(header[4]);

        if (t == NULL)
                return err_set(e, E_FORMAT, "unknown frame type %u", header[4]);
        if (length < 1 + t->min || length > 1 + t->max)
                return err_set(e, E_FORMAT, "%s: length %u, not %zu to %zu", t->name, length, 1 + t->min,
                               1 + t->max);
        *ret_type = header[4];
        *ret_n = length - 1;
        return 0;
}

int
frame_parse(uint8_t type, const uint8_t *payload, size_t n, struct frame *ret, struct err *e)
{
        const struct type *t = find_type(type);
        struct reader r = { .base = payload, .n = n };

        if (t == NULL)
                return err_set(e, E_FORMAT, "unknown frame type %u", type);
        if (n < t->min || n > t->max)
                return err_set(e, E_FORMAT, "%s: a payload of %zu bytes", t->name, n);
        t->read(&r, ret);
        if (r.field == NULL && r.off != n)
                fault(&r, "end", "more bytes follow", r.off);
        if (r.field != NULL)
                return err_set(e, E_FORMAT, "%s: %s at offset %zu of %zu: %s", t->name, r.field,
                               r.fault_off, n, r.what);
        ret->type = (enum frame_type)type;
        return 0;
}

static void
write_header(uint8_t *buf, uint8_t type, size_t n)
{
        put_be32(buf, (uint32_t)(1 + n));
        buf[4] = type;
}

ssize_t
frame_encode(const struct frame *f, uint8_t *buf, size_t size, struct err *e)
{
        const struct type *t = find_type(f->type);
        struct writer w;
        struct frame check;
        size_t n;
        int r;

        if (t == NULL)
                return err_set(e, E_FORMAT, "send frame type %u", (unsigned)f->type);
        if (size < FRAME_HEADER_SIZE)
                return err_set(e, -ENOBUFS, "send %s", t->name);
        w = (struct writer){ .p = buf + FRAME_HEADER_SIZE, .left = size - FRAME_HEADER_SIZE };
        t->write(&w, f);
        if (w.is_full)
                return err_set(e, -ENOBUFS, "send %s", t->name);
        n = (size_t)(w.p - buf) - FRAME_HEADER_SIZE;
        /* One set of rules: what we would refuse is not sent. */
        r = frame_parse((uint8_t)f->type, buf + FRAME_HEADER_SIZE, n, &check, e);
        if (r < 0) {
                (void)err_prefix(e, "send");
                return r;
        }
        write_header(buf, (uint8_t)f->type, n);
        return (ssize_t)(FRAME_HEADER_SIZE + n);
}

void
frame_data_header(uint32_t stream, size_t n, uint8_t ret[FRAME_DATA_OVERHEAD])
{
        write_header(ret, FRAME_DATA, 4 + n);
        put_be32(ret + FRAME_HEADER_SIZE, stream);
}

void
frame_positions_init(struct frame_positions_writer *w, uint8_t *buf, size_t size)
{
        *w = (struct frame_positions_writer){ .buf = buf, .size = size, .n = FRAME_HEADER_SIZE + 5 };
}

int
frame_positions_add(struct frame_positions_writer *w, const char *name, struct ltx_pos pos,
                    struct err *e)
{
        size_t n = strnlen(name, DBNAME_MAX + 1);
        struct writer out = { .p = w->buf + w->n, .left = w->size - w->n };

        if (!dbname_is_valid(name, n))
                return err_set(e, E_FORMAT, "send POSITIONS: name");
        if (!is_position(pos))
                return err_set(e, E_FORMAT, "send POSITIONS: checksum");
        if (w->count == FRAME_POSITIONS_MAX || out.left < 1 + n + 16)
                return 0;
        put_text8(&out, name, n);
        put_u64(&out, pos.txid);
        put_u64(&out, pos.checksum);
        w->n = (size_t)(out.p - w->buf);
        w->count++;
        return 1;
}

size_t
frame_positions_finish(struct frame_positions_writer *w, uint8_t flags)
{
        write_header(w->buf, FRAME_POSITIONS, w->n - FRAME_HEADER_SIZE);
        w->buf[FRAME_HEADER_SIZE] = flags;
        put_be32(w->buf + FRAME_HEADER_SIZE + 1, w->count);
        return w->n;
}

bool
frame_positions_next(struct frame_positions *p, char ret_name[DBNAME_MAX + 1], struct ltx_pos *ret_pos)
{
        struct reader r = { .base = p->entries, .n = p->size_bytes };

        if (p->count == 0)
                return false;
        read_position(&r, ret_name, ret_pos);
        if (r.field != NULL)
                return false;
        p->entries += r.off;
        p->size_bytes -= r.off;
        p->count--;
        return true;
}
