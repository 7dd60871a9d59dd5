#include "repl/frame_fields.h"

#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"

void
frame_fault(struct frame_reader *r, const char *field, const char *what, size_t off)
{
        if (r->field != NULL)
                return;
        r->field = field;
        r->what = what;
        r->fault_off = off;
}

void
frame_require(struct frame_reader *r, bool ok, const char *field, size_t width)
{
        if (!ok)
                frame_fault(r, field, "not allowed", r->off - width);
}

const uint8_t *
frame_take(struct frame_reader *r, size_t n, const char *field)
{
        const uint8_t *p = r->base + r->off;

        if (r->n - r->off < n)
                frame_fault(r, field, "cut off", r->off);
        if (r->field != NULL)
                return NULL;
        r->off += n;
        return p;
}

uint8_t
frame_take_u8(struct frame_reader *r, const char *field)
{
        const uint8_t *p = frame_take(r, 1, field);

        return p != NULL ? *p : 0;
}

uint16_t
frame_take_u16(struct frame_reader *r, const char *field)
{
        const uint8_t *p = frame_take(r, 2, field);

        return p != NULL ? get_be16(p) : 0;
}

uint32_t
frame_take_u32(struct frame_reader *r, const char *field)
{
        const uint8_t *p = frame_take(r, 4, field);

        return p != NULL ? get_be32(p) : 0;
}

uint64_t
frame_take_u64(struct frame_reader *r, const char *field)
{
        const uint8_t *p = frame_take(r, 8, field);

        return p != NULL ? get_be64(p) : 0;
}

uint64_t
frame_take_id64(struct frame_reader *r, const char *field)
{
        uint64_t v = frame_take_u64(r, field);

        frame_require(r, v != 0, field, 8);
        return v;
}

uint32_t
frame_take_stream(struct frame_reader *r)
{
        uint32_t v = frame_take_u32(r, "stream number");

        frame_require(r, v != 0, "stream number", 4);
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

void
frame_take_text(struct frame_reader *r, size_t n, char *ret, size_t size, const char *field)
{
        const uint8_t *p;

        ret[0] = '\0';
        if (n >= size) {
                frame_fault(r, field, "too long", r->off);
                return;
        }
        p = frame_take(r, n, field);
        if (p == NULL)
                return;
        frame_require(r, is_plain_text(p, n), field, n);
        memcpy(ret, p, n);
        ret[n] = '\0';
}

void
frame_take_name(struct frame_reader *r, char ret[DBNAME_MAX + 1])
{
        size_t n = frame_take_u8(r, "length of the name");
        const uint8_t *p = frame_take(r, n, "name");

        ret[0] = '\0';
        if (p == NULL)
                return;
        frame_require(r, dbname_is_valid((const char *)p, n), "name", n);
        memcpy(ret, p, n);
        ret[n] = '\0';
}

bool
frame_is_position(struct ltx_pos pos)
{
        return pos.txid == 0 ? pos.checksum == 0
                             : pos.txid <= LTX_TXID_MAX && (pos.checksum & LTX_CHECKSUM_FLAG) != 0;
}

struct ltx_pos
frame_take_pos(struct frame_reader *r)
{
        struct ltx_pos pos;

        pos.txid = frame_take_u64(r, "TXID");
        pos.checksum = frame_take_u64(r, "checksum");
        frame_require(r, frame_is_position(pos), "checksum", 8);
        return pos;
}

void
frame_put(struct frame_writer *w, const void *p, size_t n)
{
        w->is_full = w->is_full || n > w->left;
        if (w->is_full || n == 0)
                return;
        memcpy(w->p, p, n);
        w->p += n;
        w->left -= n;
}

void
frame_put_u8(struct frame_writer *w, uint8_t v)
{
        frame_put(w, &v, 1);
}

void
frame_put_u16(struct frame_writer *w, uint16_t v)
{
        uint8_t b[2];

        put_be16(b, v);
        frame_put(w, b, sizeof b);
}

void
frame_put_u32(struct frame_writer *w, uint32_t v)
{
        uint8_t b[4];

        put_be32(b, v);
        frame_put(w, b, sizeof b);
}

void
frame_put_u64(struct frame_writer *w, uint64_t v)
{
        uint8_t b[8];

        put_be64(b, v);
        frame_put(w, b, sizeof b);
}

void
frame_put_text8(struct frame_writer *w, const char *text, size_t size)
{
        size_t n = strnlen(text, size);

        frame_put_u8(w, (uint8_t)n);
        frame_put(w, text, n);
}

void
frame_put_text16(struct frame_writer *w, const char *text, size_t size)
{
        size_t n = strnlen(text, size);

        frame_put_u16(w, (uint16_t)n);
        frame_put(w, text, n);
}
