#include "sqlite/wal_reader.h"

#include "base/bytes.h"

int
wal_reader_begin(struct wal_reader *r)
{
        uint8_t buf[WAL_HEADER_SIZE];
        ssize_t n = r->pread(r->arg, buf, sizeof buf, 0);

        if (n < 0)
                return (int)n;
        if (n < (ssize_t)sizeof buf || wal_header_decode(buf, &r->header) < 0)
                return 0;
        r->cksum[0] = r->header.cksum[0];
        r->cksum[1] = r->header.cksum[1];
        r->off = WAL_HEADER_SIZE;
        return 1;
}

int
wal_reader_next(struct wal_reader *r, void *page, uint32_t *ret_pgno, uint32_t *ret_commit)
{
        uint8_t h[WAL_FRAME_HEADER_SIZE];
        uint32_t s[2] = { r->cksum[0], r->cksum[1] };
        ssize_t a = r->pread(r->arg, h, sizeof h, r->off);
        ssize_t b = r->pread(r->arg, page, r->header.page_size, r->off + sizeof h);

        if (a < 0 || b < 0)
                return (int)(a < 0 ? a : b);
        if (a < (ssize_t)sizeof h || b < (ssize_t)r->header.page_size || get_be32(h) == 0 ||
            get_be32(h + 8) != r->header.salt1 || get_be32(h + 12) != r->header.salt2)
                return 0;
        wal_checksum(r->header.is_big_endian_cksum, h, 8, s);
        wal_checksum(r->header.is_big_endian_cksum, page, r->header.page_size, s);
        if (s[0] != get_be32(h + 16) || s[1] != get_be32(h + 20))
                return 0;
        r->cksum[0] = s[0];
        r->cksum[1] = s[1];
        r->off += sizeof h + r->header.page_size;
        *ret_pgno = get_be32(h);
        *ret_commit = get_be32(h + 4);
        return 1;
}
