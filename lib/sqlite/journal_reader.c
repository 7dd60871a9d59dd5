#include "sqlite/journal_reader.h"

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"

static const uint8_t magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };

#define RECORD_OVERHEAD 8u
#define COUNT_TO_END 0xffffffffu

static bool
is_power_of_two(uint32_t v, uint32_t min, uint32_t max)
{
        return v >= min && v <= max && (v & (v - 1)) == 0;
}

/* How many whole records fit from @off to the end of the file. */
static uint64_t
records_to_end(const struct journal_reader *r, uint64_t off)
{
        return off >= r->size_bytes ? 0 : (r->size_bytes - off) / (r->page_size + RECORD_OVERHEAD);
}

/* The header at @off: 1 or 0. Sizes are those of the first. */
static int
begin_segment(struct journal_reader *r, uint64_t off)
{
        uint8_t h[JOURNAL_HEADER_SIZE];
        uint32_t n;
        ssize_t got;

        if (off > r->size_bytes || r->size_bytes - off < r->sector_size)
                return 0;
        got = r->pread(r->arg, h, sizeof h, off);
        if (got < 0)
                return (int)got;
        if (got < (ssize_t)sizeof h || memcmp(h, magic, sizeof magic) != 0)
                return 0;
        n = get_be32(h + 8);
        r->nonce = get_be32(h + 12);
        r->off = off + r->sector_size;
        r->n_left = records_to_end(r, r->off);
        if (n != COUNT_TO_END && n != 0 && n < r->n_left)
                r->n_left = n;
        return 1;
}

int
journal_reader_begin(struct journal_reader *r, uint32_t page_size)
{
        uint8_t h[JOURNAL_HEADER_SIZE];
        ssize_t got;

        r->is_at_end = true;
        got = r->pread(r->arg, h, sizeof h, 0);
        if (got < 0)
                return (int)got;
        if (got < (ssize_t)sizeof h || memcmp(h, magic, sizeof magic) != 0)
                return 0;
        r->page_count = get_be32(h + 16);
        r->sector_size = get_be32(h + 20);
        r->page_size = get_be32(h + 24);
        if (r->page_size == 0)
                r->page_size = page_size;
        if (!is_power_of_two(r->page_size, 512, 65536) || !is_power_of_two(r->sector_size, 32, 65536))
                return E_FORMAT;
        r->is_at_end = false;
        return begin_segment(r, 0);
}

static uint32_t
record_checksum(uint32_t nonce, const uint8_t *page, uint32_t page_size)
{
        for (int64_t i = (int64_t)page_size - 200; i > 0; i -= 200)
                nonce += page[i];
        return nonce;
}

/* Behind a segment, at the next sector, another may begin. */
static int
next_segment(struct journal_reader *r)
{
        uint64_t off = (r->off + r->sector_size - 1) / r->sector_size * r->sector_size;
        int rc = begin_segment(r, off);

        r->is_at_end = rc <= 0;
        return rc;
}

int
journal_reader_next(struct journal_reader *r, void *page, uint32_t *ret_pgno)
{
        uint8_t be[4], sum[4];
        ssize_t a, b, c;
        int rc;

        while (!r->is_at_end && r->n_left == 0)
                if ((rc = next_segment(r)) < 0)
                        return rc;
        if (r->is_at_end)
                return 0;
        a = r->pread(r->arg, be, 4, r->off);
        b = r->pread(r->arg, page, r->page_size, r->off + 4);
        c = r->pread(r->arg, sum, 4, r->off + 4 + r->page_size);
        if (a < 0 || b < 0 || c < 0)
                return (int)(a < 0 ? a : b < 0 ? b : c);
        if (a < 4 || b < (ssize_t)r->page_size || c < 4 || get_be32(be) == 0 ||
            get_be32(sum) != record_checksum(r->nonce, page, r->page_size)) {
                r->is_at_end = true;
                return 0;
        }
        r->off += r->page_size + RECORD_OVERHEAD;
        r->n_left--;
        *ret_pgno = get_be32(be);
        return 1;
}

/* ... name, length, sum of the name's bytes, magic. */
ssize_t
journal_reader_super(struct journal_reader *r, char *buf, size_t size)
{
        uint8_t tail[16];
        uint32_t len, sum = 0;
        ssize_t n;

        if (r->size_bytes < sizeof tail)
                return 0;
        n = r->pread(r->arg, tail, sizeof tail, r->size_bytes - sizeof tail);
        if (n < 0)
                return n;
        if (n < (ssize_t)sizeof tail || memcmp(tail + 8, magic, sizeof magic) != 0)
                return 0;
        len = get_be32(tail);
        if (len == 0 || len > size || len > r->size_bytes - sizeof tail)
                return 0;
        n = r->pread(r->arg, buf, len, r->size_bytes - sizeof tail - len);
        if (n < (ssize_t)len)
                return n < 0 ? n : 0;
        for (uint32_t i = 0; i < len; i++)
                sum += (uint32_t)(signed char)buf[i];
        return sum == get_be32(tail + 4) && memchr(buf, 0, len) == NULL ? (ssize_t)len : 0;
}
