#include "sqlite/wal_format.h"

#include "base/bytes.h"
#include "base/err.h"

#define MAGIC_LE 0x377f0682u
#define MAGIC_BE 0x377f0683u
#define WAL_VERSION 3007000u

void
wal_checksum(bool is_big_endian, const uint8_t *p, size_t n, uint32_t s[2])
{
        uint32_t s0 = s[0], s1 = s[1];

        if (is_big_endian) {
                for (size_t i = 0; i < n; i += 8) {
                        s0 += get_be32(p + i) + s1;
                        s1 += get_be32(p + i + 4) + s0;
                }
        } else {
                for (size_t i = 0; i < n; i += 8) {
                        s0 += get_le32(p + i) + s1;
                        s1 += get_le32(p + i + 4) + s0;
                }
        }
        s[0] = s0;
        s[1] = s1;
}

int
wal_header_decode(const uint8_t buf[WAL_HEADER_SIZE], struct wal_header *ret)
{
        uint32_t magic = get_be32(buf), page_size = get_be32(buf + 8), s[2] = { 0, 0 };

        if ((magic != MAGIC_LE && magic != MAGIC_BE) || get_be32(buf + 4) != WAL_VERSION ||
            page_size < 512 || page_size > 65536 || (page_size & (page_size - 1)) != 0)
                return E_FORMAT;
        wal_checksum(magic == MAGIC_BE, buf, 24, s);
        if (s[0] != get_be32(buf + 24) || s[1] != get_be32(buf + 28))
                return E_CHECKSUM;
        *ret = (struct wal_header){ page_size,          get_be32(buf + 12), get_be32(buf + 16),
                                    get_be32(buf + 20), { s[0], s[1] },     magic == MAGIC_BE };
        return 0;
}

void
wal_header_encode(struct wal_header *h, uint8_t ret[WAL_HEADER_SIZE])
{
        put_be32(ret, h->is_big_endian_cksum ? MAGIC_BE : MAGIC_LE);
        put_be32(ret + 4, WAL_VERSION);
        put_be32(ret + 8, h->page_size);
        put_be32(ret + 12, h->checkpoint_seq);
        put_be32(ret + 16, h->salt1);
        put_be32(ret + 20, h->salt2);
        h->cksum[0] = h->cksum[1] = 0;
        wal_checksum(h->is_big_endian_cksum, ret, 24, h->cksum);
        put_be32(ret + 24, h->cksum[0]);
        put_be32(ret + 28, h->cksum[1]);
}

void
wal_frame_encode(const struct wal_header *h, uint32_t pgno, uint32_t commit, const uint8_t *page,
                 uint32_t s[2], uint8_t ret[WAL_FRAME_HEADER_SIZE])
{
        put_be32(ret, pgno);
        put_be32(ret + 4, commit);
        put_be32(ret + 8, h->salt1);
        put_be32(ret + 12, h->salt2);
        wal_checksum(h->is_big_endian_cksum, ret, 8, s);
        wal_checksum(h->is_big_endian_cksum, page, h->page_size, s);
        put_be32(ret + 16, s[0]);
        put_be32(ret + 20, s[1]);
}
