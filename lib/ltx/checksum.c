#include "ltx/checksum.h"

#include <isa-l/crc64.h>

#include "base/bytes.h"

uint64_t
ltx_crc64(uint64_t crc, const void *buf, size_t n)
{
        return n == 0 ? crc : crc64_iso_refl(crc, buf, n);
}

uint64_t
ltx_page_checksum(uint32_t pgno, const void *page, size_t page_size)
{
        uint8_t be[4];

        put_be32(be, pgno);
        return LTX_CHECKSUM_FLAG | ltx_crc64(ltx_crc64(0, be, sizeof be), page, page_size);
}
