/* links: litefs_sqlite */
/* WAL files. The first byte b chooses what is made right before the file, which is the rest, is read:
 *   0         nothing
 *   else      magic (of either byte order: b & 1), version, page size (512 << (b >> 1 & 7)), the checksums of
 *             the header and, of the first 1 + (b >> 4) frames, salts and checksums, so that what lies behind
 *             the checksums is reached. */
#include <string.h>

#include "base/bytes.h"
#include "sqlite/wal_reader.h"
#include "tests/fuzz/target.h"
#include "tests/lib/memstream.h"

static void
repair(uint8_t *wal, size_t n, uint8_t b)
{
        uint32_t page_size = 512u << (b >> 1 & 7), s[2] = { 0, 0 };
        size_t frame = WAL_FRAME_HEADER_SIZE + page_size, at = WAL_HEADER_SIZE;
        bool is_big_endian = b & 1;

        put_be32(wal, is_big_endian ? 0x377f0683 : 0x377f0682);
        put_be32(wal + 4, 3007000);
        put_be32(wal + 8, page_size);
        wal_checksum(is_big_endian, wal, 24, s);
        put_be32(wal + 24, s[0]);
        put_be32(wal + 28, s[1]);
        for (int i = 0; i < 1 + (b >> 4) && n - at >= frame; i++, at += frame) {
                memcpy(wal + at + 8, wal + 16, 8);
                wal_checksum(is_big_endian, wal + at, 8, s);
                wal_checksum(is_big_endian, wal + at + WAL_FRAME_HEADER_SIZE, page_size, s);
                put_be32(wal + at + 16, s[0]);
                put_be32(wal + at + 20, s[1]);
        }
}

static void
read_wal(struct mem_file *file)
{
        struct wal_reader r = { .pread = mem_file_pread, .arg = file };
        uint32_t pgno, commit;
        uint8_t *page;
        int rc = wal_reader_begin(&r);

        FUZZ_CHECK(rc == 0 || rc == 1);
        if (rc == 0)
                return;
        FUZZ_CHECK(r.header.page_size >= 512 && r.header.page_size <= 65536);
        page = malloc(r.header.page_size);
        while ((rc = wal_reader_next(&r, page, &pgno, &commit)) > 0) {
                FUZZ_CHECK(pgno > 0 && r.off <= file->n);
                FUZZ_CHECK(memcmp(page, file->data + r.off - r.header.page_size, r.header.page_size) ==
                           0);
        }
        FUZZ_CHECK(rc == 0);
        free(page);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct mem_file file;
        uint8_t *wal;

        if (size < 1)
                return 0;
        file = (struct mem_file){ .n = size - 1 };
        file.data = wal = malloc(size);
        memcpy(wal, data + 1, file.n);
        if (data[0] != 0 && file.n >= WAL_HEADER_SIZE)
                repair(wal, file.n, data[0]);
        read_wal(&file);
        free(wal);
        return 0;
}
