#include "sqlite/dbheader.h"

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"

int
sqlite_dbheader_parse(const uint8_t *buf, size_t n, struct sqlite_dbheader *ret)
{
        uint32_t page_size;

        if (n < SQLITE_DBHEADER_SIZE || memcmp(buf, "SQLite format 3", 16) != 0)
                return E_FORMAT;
        page_size = get_be16(buf + 16);
        if (page_size == 1)
                page_size = 65536;
        if (page_size < 512 || (page_size & (page_size - 1)) != 0)
                return E_FORMAT;
        *ret = (struct sqlite_dbheader){
                .page_size = page_size,
                .page_count = get_be32(buf + 28),
                .is_wal = buf[18] == 2 && buf[19] == 2,
        };
        /* Versions before 3.7.0 did not keep the count: it holds if the change counter agrees. */
        ret->is_page_count_valid = ret->page_count > 0 && get_be32(buf + 24) == get_be32(buf + 92);
        return 0;
}
