/* off size field (all integers big-endian)
 *   0    4 length of what follows
 *   4    1 type
 *   5      payload: frame_types.c */
#include "repl/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "repl/frame_fields.h"
#include "repl/frame_types.h"

const char *
frame_type_name(uint8_t type)
{
        const struct frame_layout *t = frame_find_layout(type);

        return t != NULL ? t->name : NULL;
}

int
frame_header_parse(const uint8_t header[FRAME_HEADER_SIZE], uint8_t *ret_type, size_t *ret_n,
                   struct err *e)
{
        uint32_t length = get_be32(header);
        const struct frame_layout *t = frame_find_layout(header[4]);

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
        const struct frame_layout *t = frame_find_layout(type);
        struct frame_reader r = { .base = payload, .n = n };

        if (t == NULL)
                return err_set(e, E_FORMAT, "unknown frame type %u", type);
        if (n < t->min || n > t->max)
                return err_set(e, E_FORMAT, "%s: a payload of %zu bytes", t->name, n);
        t->read(&r, ret);
        if (r.field == NULL && r.off != n)
                frame_fault(&r, "end", "more bytes follow", r.off);
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
        const struct frame_layout *t = frame_find_layout(f->type);
        struct frame_writer w;
        struct frame check;
        size_t n;
        int r;

        if (t == NULL)
                return err_set(e, E_FORMAT, "send frame type %u", (unsigned)f->type);
        if (size < FRAME_HEADER_SIZE)
                return err_set(e, -ENOBUFS, "send %s", t->name);
        w = (struct frame_writer){ .p = buf + FRAME_HEADER_SIZE, .left = size - FRAME_HEADER_SIZE };
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
        struct frame_writer out = { .p = w->buf + w->n, .left = w->size - w->n };

        if (!dbname_is_valid(name, n))
                return err_set(e, E_FORMAT, "send POSITIONS: name");
        if (!frame_is_position(pos))
                return err_set(e, E_FORMAT, "send POSITIONS: checksum");
        if (w->count == FRAME_POSITIONS_MAX || out.left < 1 + n + 16)
                return 0;
        frame_put_text8(&out, name, n);
        frame_put_u64(&out, pos.txid);
        frame_put_u64(&out, pos.checksum);
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
        struct frame_reader r = { .base = p->entries, .n = p->size_bytes };

        if (p->count == 0)
                return false;
        frame_take_name(&r, ret_name);
        *ret_pos = frame_take_pos(&r);
        if (r.field != NULL)
                return false;
        p->entries += r.off;
        p->size_bytes -= r.off;
        p->count--;
        return true;
}

int
frame_ltx_bound(const struct frame_ltx *ltx, uint64_t *ret, struct err *e)
{
        const struct txlog_record *rec = &ltx->record;
        /* Each page with its header, as much longer as LZ4 makes what it cannot shorten, and its place in the index. */
        uint64_t most = 65536 +
                        ((uint64_t)rec->commit + 1) * (rec->page_size + rec->page_size / 255 + 64);

        if (rec->size_bytes > most)
                return err_text(e, E_FORMAT, "LTX of %" PRIu64 " bytes for %" PRIu32 " pages",
                                rec->size_bytes, rec->commit);
        *ret = rec->size_bytes != 0 ? rec->size_bytes : most;
        return 0;
}
