/* links: litefs_sqlite */
/* Rollback journals. The first byte b chooses what is made right before the file, which is the rest, is read:
 *   0         nothing, and the database's page size is not known
 *   1         nothing, and it is 4096
 *   else      b & 7 headers with their magic, sectors of 32 << (b >> 3 & 7), pages of 512, each followed by as
 *             many records with good checksums as the last byte of its count says, at most 3. */
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "sqlite/journal_reader.h"
#include "tests/fuzz/target.h"
#include "tests/lib/memstream.h"

#define PAGE 512u
#define RECORD (PAGE + 8)

static size_t
repair_records(uint8_t *j, size_t n, size_t at, uint32_t count, uint32_t nonce)
{
        for (uint32_t i = 0; i < count && n - at >= RECORD; i++, at += RECORD)
                put_be32(j + at + 4 + PAGE, nonce + j[at + 4 + 312] + j[at + 4 + 112]);
        return at;
}

static void
repair(uint8_t *j, size_t n, uint8_t b)
{
        static const uint8_t magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        uint32_t sector = 32u << (b >> 3 & 7);
        size_t at = 0;

        for (int i = 0; i < (b & 7) && at < n && n - at >= sector; i++) {
                memcpy(j + at, magic, sizeof magic);
                put_be32(j + at + 20, sector);
                put_be32(j + at + 24, PAGE);
                at = repair_records(j, n, at + sector, j[at + 11] & 3, get_be32(j + at + 12));
                at = (at + sector - 1) / sector * sector;
        }
}

static void
read_journal(struct mem_file *file, uint32_t page_size)
{
        struct journal_reader r = { .pread = mem_file_pread, .arg = file, .size_bytes = file->n };
        uint64_t n = 0;
        uint32_t pgno;
        uint8_t *page;
        int rc = journal_reader_begin(&r, page_size);

        FUZZ_CHECK(rc == 0 || rc == 1 || rc == E_FORMAT);
        if (rc <= 0)
                return;
        FUZZ_CHECK(r.page_size >= 512 && r.page_size <= 65536);
        page = malloc(r.page_size);
        while ((rc = journal_reader_next(&r, page, &pgno)) > 0) {
                FUZZ_CHECK(pgno > 0 && r.off <= file->n);
                FUZZ_CHECK(++n <= file->n / (r.page_size + 8));
        }
        FUZZ_CHECK(rc == 0 && journal_reader_next(&r, page, &pgno) == 0);
        free(page);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct mem_file file;
        uint8_t *j;

        if (size < 1)
                return 0;
        file = (struct mem_file){ .n = size - 1 };
        file.data = j = malloc(size);
        memcpy(j, data + 1, file.n);
        if (data[0] > 1)
                repair(j, file.n, data[0]);
        read_journal(&file, data[0] == 1 ? 4096 : 0);
        free(j);
        return 0;
}
