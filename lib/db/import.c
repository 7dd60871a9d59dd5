#include "db/import.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "sqlite/dbheader.h"

/* In the file's header. */
#define WRITE_VERSION_AT 18
#define READ_VERSION_AT 19
#define CHANGE_COUNTER_AT 24
#define PAGE_COUNT_AT 28
#define SCHEMA_COOKIE_AT 40
#define VALID_FOR_AT 92

int
import_check(const struct os *os, int fd, struct import_file *ret, struct err *e)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;
        struct stat st;
        uint64_t n_pages;
        ssize_t n;
        int r = os_fstat(os, "import:stat", fd, &st);

        if (r < 0)
                return err_set(e, r, "read the file");
        n = os_pread_all(os, "import:read", fd, buf, sizeof buf, 0);
        if (n < 0)
                return err_set(e, (int)n, "read database header");
        if (n < (ssize_t)sizeof buf)
                return err_text(e, E_FORMAT,
                                "read database header: EOF (%lld bytes, a database has 512 or more)",
                                (long long)st.st_size);
        if (sqlite_dbheader_parse(buf, sizeof buf, &h) < 0)
                return err_text(e, E_FORMAT, "read database header: this is not a SQLite database");
        n_pages = (uint64_t)st.st_size / h.page_size;
        if (h.is_page_count_valid && h.page_count > n_pages)
                return err_text(e, E_FORMAT,
                                "the file has %llu pages of %u bytes, its header says %u: it is cut off",
                                (unsigned long long)n_pages, h.page_size, h.page_count);
        if (n_pages == 0 || n_pages > UINT32_MAX)
                return err_text(e, E_FORMAT, "%lld bytes are not a database of %u-byte pages",
                                (long long)st.st_size, h.page_size);
        *ret = (struct import_file){ .page_size = h.page_size,
                                     .page_count = h.is_page_count_valid ? h.page_count
                                                                         : (uint32_t)n_pages,
                                     .is_wal = h.is_wal };
        return 0;
}

struct spool_sink {
        struct byte_sink base;
        struct spool *spool;
};

static int
write_spool(struct byte_sink *sink, const void *buf, size_t n)
{
        struct spool *s = ((struct spool_sink *)sink)->spool;

        return spool_write(s, buf, n, s->size_bytes);
}

static int
read_page(struct db *db, int fd, const struct import_file *file, uint32_t pgno, uint8_t *page,
          struct err *e)
{
        ssize_t n = os_pread_all(db->env->os, "import:read", fd, page, file->page_size,
                                 (off_t)(pgno - 1) * file->page_size);

        if (n < 0)
                return err_set(e, (int)n, "read page %u", pgno);
        if (n < (ssize_t)file->page_size)
                return err_text(e, E_FORMAT, "the file ends in page %u", pgno);
        return 0;
}

void
import_mark_first_page(uint8_t *page, uint32_t page_count, uint32_t fresh, bool is_wal)
{
        put_be32(page + CHANGE_COUNTER_AT, fresh);
        put_be32(page + VALID_FOR_AT, fresh);
        put_be32(page + PAGE_COUNT_AT, page_count);
        put_be32(page + SCHEMA_COOKIE_AT, fresh);
        if (is_wal)
                page[WRITE_VERSION_AT] = page[READ_VERSION_AT] = 2;
}

/* Whether the database has that page already. A snapshot has to have all. */
static bool
has_page(struct db *db, const struct ltx_header *h, uint32_t pgno, uint64_t sum)
{
        bool has;

        db_lock(db);
        has = !ltx_header_is_snapshot(h) && pagesum_get(&db->image.sums, pgno) == sum;
        pthread_mutex_unlock(&db->lock);
        return has;
}

static int
encode_pages(struct db *db, int fd, const struct import_file *file, const struct ltx_header *h,
             struct ltx_encoder *enc, uint64_t *ret_checksum, struct err *e)
{
        struct db_info info;
        uint32_t lock_pgno = ltx_lock_pgno(file->page_size);
        uint8_t *page = malloc(file->page_size);
        uint64_t sum = 0, page_sum;
        int r = page == NULL ? err_set(e, -ENOMEM, "import") : 0;

        db_get_info(db, &info);
        for (uint32_t pgno = 1; pgno <= file->page_count && r == 0; pgno++) {
                if (pgno == lock_pgno)
                        continue;
                r = read_page(db, fd, file, pgno, page, e);
                if (r == 0 && pgno == 1)
                        import_mark_first_page(page, file->page_count, (uint32_t)h->timestamp_ms,
                                               info.page_count > 0 && info.is_wal);
                page_sum = ltx_page_checksum(pgno, page, file->page_size);
                sum ^= page_sum;
                if (r == 0 && !has_page(db, h, pgno, page_sum))
                        r = ltx_encoder_page(enc, pgno, page, e);
        }
        free(page);
        *ret_checksum = sum | LTX_CHECKSUM_FLAG;
        return r;
}

/* A change of the page size can only be a snapshot, whose transactions are counted from 1. */
static void
fill_import_header(struct db *db, const struct import_file *file, struct ltx_header *h)
{
        struct db_info info;

        db_get_info(db, &info);
        *h = (struct ltx_header){ .page_size = file->page_size,
                                  .commit = file->page_count,
                                  .min_txid = info.pos.txid + 1,
                                  .max_txid = info.pos.txid + 1,
                                  .timestamp_ms = clock_wall_ms(db->env->clock),
                                  .pre_apply_checksum = info.pos.checksum,
                                  .node_id = db->env->node_id };
        if (info.page_count > 0 && info.page_size == file->page_size)
                return;
        h->min_txid = 1;
        h->pre_apply_checksum = 0;
}

int
import_build(struct db *db, int fd, const struct import_file *file, struct received *rx, struct err *e)
{
        struct spool_sink sink = { { write_spool }, &rx->ltx };
        struct ltx_encoder *enc = NULL;
        struct ltx_header h;
        uint64_t checksum = 0;
        int r = ltx_encoder_new(db->env->is_compressed, &enc);

        if (r < 0)
                return err_set(e, r, "import");
        fill_import_header(db, file, &h);
        r = ltx_encoder_begin(enc, &h, &sink.base, e);
        if (r == 0)
                r = encode_pages(db, fd, file, &h, enc, &checksum, e);
        if (r == 0)
                r = ltx_encoder_finish(enc, checksum, NULL, e);
        ltx_encoder_free(enc);
        if (r < 0)
                return r;
        rx->is_local = true;
        rx->record = (struct txlog_record){ .min_txid = h.min_txid,
                                            .max_txid = h.max_txid,
                                            .pre_apply_checksum = h.pre_apply_checksum,
                                            .post_apply_checksum = checksum,
                                            .timestamp_ms = h.timestamp_ms,
                                            .page_size = h.page_size,
                                            .commit = h.commit,
                                            .size_bytes = rx->ltx.size_bytes };
        return 0;
}
