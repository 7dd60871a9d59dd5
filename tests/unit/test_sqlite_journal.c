/* links: litefs_sqlite PkgConfig::SQLITE3 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "sqlite/journal_reader.h"
#include "tests/lib/files.h"
#include "tests/lib/memstream.h"
#include "tests/lib/run.h"
#include "tests/lib/sql.h"
#include "tests/lib/tmpdir.h"

/* --- journals that SQLite left in the middle of a transaction --- */

struct golden {
        struct file_bytes before, middle, journal;
};

static void
make_golden(struct golden *g, uint32_t page_size, const char *synchronous)
{
        char *dir = tmpdir_make(), sql[300];
        const char *path = path_in(dir, "db");
        sqlite3 *db = sql_open(path);

        snprintf(sql, sizeof sql,
                 "PRAGMA page_size=%u; PRAGMA journal_mode=delete; PRAGMA synchronous=%s;"
                 "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60)"
                 "INSERT INTO t(b) SELECT randomblob(%u) FROM n;",
                 page_size, synchronous, page_size / 2);
        sql_exec(db, sql);
        g->before = read_file(path);
        /* Two rounds of more pages than the cache holds: they spill, and each spill syncs a segment. */
        sql_exec(db, "PRAGMA cache_size=5; BEGIN; UPDATE t SET b=zeroblob(length(b)) WHERE a%2=0;"
                     "UPDATE t SET b=randomblob(length(b)); INSERT INTO t(b) SELECT b FROM t;"
                     "DELETE FROM t WHERE a%3=1;");
        g->middle = read_file(path);
        g->journal = read_file(path_in(dir, "db-journal"));
        sql_exec(db, "ROLLBACK");
        sqlite3_close(db);
        tmpdir_remove(dir);
}

static void
release_golden(struct golden *g)
{
        free(g->before.data);
        free(g->middle.data);
        free(g->journal.data);
}

static int
count_headers(const struct file_bytes *j, uint32_t sector)
{
        int n = 0;

        for (size_t at = 0; at + 8 <= j->n; at += sector)
                n += memcmp(j->data + at, j->data, 8) == 0;
        return n;
}

static void
roll_back(struct golden *g, int *ret_n_headers)
{
        struct mem_file file = { g->journal.data, g->journal.n, 0 };
        struct journal_reader r = { .pread = mem_file_pread, .arg = &file, .size_bytes = file.n };
        uint8_t *image = malloc(g->before.n), *page;
        uint32_t pgno;
        int rc;

        memcpy(image, g->middle.data, g->middle.n < g->before.n ? g->middle.n : g->before.n);
        ck_assert_int_eq(journal_reader_begin(&r, 0), 1);
        ck_assert_uint_eq((uint64_t)r.page_count * r.page_size, g->before.n);
        page = malloc(r.page_size);
        while ((rc = journal_reader_next(&r, page, &pgno)) > 0) {
                ck_assert_uint_le(pgno, r.page_count);
                memcpy(image + (size_t)(pgno - 1) * r.page_size, page, r.page_size);
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(journal_reader_next(&r, page, &pgno), 0);
        ck_assert_mem_eq(image, g->before.data, g->before.n);
        *ret_n_headers = count_headers(&g->journal, r.sector_size);
        free(page);
        free(image);
}

START_TEST(journal_that_sqlite_wrote_gives_the_image_before)
{
        struct golden g;
        int n_headers;

        make_golden(&g, 512u << _i, "full");
        ck_assert(g.middle.n != g.before.n || memcmp(g.middle.data, g.before.data, g.before.n) != 0);
        roll_back(&g, &n_headers);
        ck_assert_int_ge(n_headers, 2);
        release_golden(&g);
}
END_TEST

/* With synchronous=OFF SQLite writes the number of records as "to the end". */
START_TEST(journal_without_syncs_is_read_to_its_end)
{
        struct golden g;
        int n_headers;

        make_golden(&g, 1024, "off");
        ck_assert_uint_eq(get_be32(g.journal.data + 8), UINT32_MAX);
        roll_back(&g, &n_headers);
        release_golden(&g);
}
END_TEST

/* --- journals made here --- */

#define PAGE 512u

static struct mem_sink j;

static void
set_up(void)
{
        mem_sink_init(&j);
}

static void
tear_down(void)
{
        mem_sink_release(&j);
}

static void
put(const void *buf, size_t n)
{
        ck_assert_int_eq(j.sink.write(&j.sink, buf, n), 0);
}

static void
pad_to(size_t n)
{
        while (j.n % n != 0)
                put("", 1);
}

static void
put_header(uint32_t n_records, uint32_t nonce, uint32_t page_count, uint32_t sector, uint32_t page_size)
{
        uint8_t h[28] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };

        put_be32(h + 8, n_records);
        put_be32(h + 12, nonce);
        put_be32(h + 16, page_count);
        put_be32(h + 20, sector);
        put_be32(h + 24, page_size);
        put(h, sizeof h);
        if (sector >= 32 && sector <= 65536)
                pad_to(sector);
}

static void
put_record(uint32_t pgno, uint32_t nonce)
{
        uint8_t page[PAGE], be[4];

        for (uint32_t i = 0; i < PAGE; i++)
                page[i] = (uint8_t)(pgno * 7 + i);
        put_be32(be, pgno);
        put(be, 4);
        put(page, PAGE);
        /* 512 - 200 = 312, 112 */
        put_be32(be, nonce + page[312] + page[112]);
        put(be, 4);
}

/* Reads all of @j: the page numbers into @pgnos, and their count or the error. */
static int
read_all(uint32_t *pgnos, int max, uint32_t page_size)
{
        struct mem_file file = { j.data, j.n, 0 };
        struct journal_reader r = { .pread = mem_file_pread, .arg = &file, .size_bytes = j.n };
        uint8_t *page = malloc(65536);
        int rc = journal_reader_begin(&r, page_size), n = 0;

        while (rc > 0 && (rc = journal_reader_next(&r, page, &pgnos[n])) > 0) {
                ck_assert_uint_eq(page[100], (uint8_t)(pgnos[n] * 7 + 100));
                ck_assert_int_lt(++n, max);
        }
        free(page);
        return rc < 0 ? rc : n;
}

START_TEST(segments_follow_each_other_at_sectors)
{
        uint32_t sector = 32u << _i, got[10];

        put_header(2, 100, 9, sector, PAGE);
        put_record(3, 100);
        put_record(5, 100);
        pad_to(sector);
        put_header(1, 7, 9, sector, PAGE);
        put_record(9, 7);
        pad_to(sector);
        put_header(UINT32_MAX, 8, 9, sector, PAGE);
        put_record(1, 8);
        put_record(2, 8);
        ck_assert_int_eq(read_all(got, 10, 0), 5);
        ck_assert_mem_eq(got, ((uint32_t[]){ 3, 5, 9, 1, 2 }), 20);
}
END_TEST

START_TEST(count_of_records_ends_a_segment)
{
        uint32_t got[10];

        put_header(1, 1, 9, 512, PAGE);
        put_record(3, 1);
        put_record(4, 1); /* written, not counted: not synced */
        ck_assert_int_eq(read_all(got, 10, 0), 1);
}
END_TEST

START_TEST(count_that_was_never_filled_in_means_to_the_end)
{
        uint32_t got[10];

        put_header(_i == 0 ? 0 : UINT32_MAX, 1, 9, 512, PAGE);
        put_record(3, 1);
        put_record(4, 1);
        ck_assert_int_eq(read_all(got, 10, 0), 2);
}
END_TEST

START_TEST(count_beyond_the_file_reads_what_there_is)
{
        uint32_t got[10];

        put_header(1000000, 1, 9, 512, PAGE);
        put_record(3, 1);
        ck_assert_int_eq(read_all(got, 10, 0), 1);
}
END_TEST

START_TEST(journal_cut_at_any_byte_gives_the_whole_records)
{
        uint32_t got[10];
        size_t n;

        put_header(2, 100, 9, 512, PAGE);
        put_record(3, 100);
        put_record(5, 100);
        pad_to(512);
        put_header(1, 7, 9, 512, PAGE);
        put_record(9, 7);
        for (n = j.n; n > 0; n--) {
                int want;

                j.n = n - 1;
                want = (j.n >= 512 + 520) + (j.n >= 512 + 1040) + (j.n >= 2048 + 512 + 520);
                ck_assert_int_eq(read_all(got, 10, 0), want);
        }
}
END_TEST

START_TEST(record_whose_checksum_fails_ends_the_journal)
{
        uint32_t got[10];

        put_header(3, 1, 9, 512, PAGE);
        put_record(3, 1);
        put_record(4, 2);
        put_record(5, 1);
        ck_assert_int_eq(read_all(got, 10, 0), 1);
}
END_TEST

START_TEST(record_of_page_0_ends_the_journal)
{
        uint32_t got[10];

        put_header(3, 1, 9, 512, PAGE);
        put_record(3, 1);
        put_record(0, 1);
        put_record(5, 1);
        ck_assert_int_eq(read_all(got, 10, 0), 1);
}
END_TEST

/* --- the super-journal's name --- */

static ssize_t
super_of(const uint8_t *bytes, size_t n, char *buf, size_t size)
{
        struct mem_file file = { (uint8_t *)bytes, n, 0 };
        struct journal_reader r = { .pread = mem_file_pread, .arg = &file, .size_bytes = n };

        return journal_reader_super(&r, buf, size);
}

/* As pager.c writes it: the lock page's number, the name, its length, the sum of its bytes, the magic. What SQLite itself
 * writes meets the reader in tests/integration/cluster/test_groups.py. */
START_TEST(super_journal_is_named_at_the_end)
{
        static const uint8_t end[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        static const char super[] = "/mnt/sub/a.db-mj0123456789";
        size_t n = sizeof super - 1, total = 512 + 4 + n + 16;
        uint8_t bytes[600] = { 0 }, *p = bytes + 512;
        char name[64];
        uint32_t sum = 0;

        put_be32(p, 262145);
        memcpy(p + 4, super, n);
        for (size_t i = 0; i < n; i++)
                sum += (uint8_t)super[i];
        put_be32(p + 4 + n, (uint32_t)n);
        put_be32(p + 8 + n, sum);
        memcpy(p + 12 + n, end, sizeof end);
        ck_assert_int_eq(super_of(bytes, total, name, sizeof name), (ssize_t)n);
        ck_assert_mem_eq(name, super, n);
        ck_assert_int_eq(super_of(bytes, total, name, n), (ssize_t)n);
        ck_assert_int_eq(super_of(bytes, total, name, n - 1), 0);
        for (size_t cut = 0; cut < total; cut++)
                ck_assert_int_eq(super_of(bytes, cut, name, sizeof name), 0);
        for (size_t at = 516; at < total; at++) {
                bytes[at] ^= 1;
                ck_assert_int_eq(super_of(bytes, total, name, sizeof name), 0);
                bytes[at] ^= 1;
        }
        put_be32(p + 4 + n, UINT32_MAX);
        ck_assert_int_eq(super_of(bytes, total, name, sizeof name), 0);
}
END_TEST

START_TEST(finalised_journal_has_nothing_to_roll_back)
{
        uint32_t got[10];

        ck_assert_int_eq(read_all(got, 10, PAGE), 0);
        put_header(1, 1, 9, 512, PAGE);
        put_record(3, 1);
        memset(j.data, 0, 28); /* as journal_mode=PERSIST leaves it */
        ck_assert_int_eq(read_all(got, 10, PAGE), 0);
}
END_TEST

START_TEST(page_size_comes_from_the_database_when_the_header_has_none)
{
        uint32_t got[10];

        put_header(1, 1, 9, 512, 0);
        put_record(3, 1);
        ck_assert_int_eq(read_all(got, 10, PAGE), 1);
        ck_assert_int_eq(read_all(got, 10, 0), E_FORMAT);
}
END_TEST

static const struct {
        uint32_t sector, page_size;
        int result;
} sizes[] = {
        { 32, PAGE, 0 },
        { 65536, PAGE, 0 },
        { 0, PAGE, E_FORMAT },
        { 1, PAGE, E_FORMAT },
        { 16, PAGE, E_FORMAT },
        { 33, PAGE, E_FORMAT },
        { 131072, PAGE, E_FORMAT },
        { UINT32_MAX, PAGE, E_FORMAT },
        { 512, 256, E_FORMAT },
        { 512, 513, E_FORMAT },
        { 512, 131072, E_FORMAT },
        { 512, UINT32_MAX, E_FORMAT },
};

START_TEST(sizes_that_cannot_be_are_refused)
{
        uint32_t got[10];

        put_header(1, 1, 9, sizes[_i].sector, sizes[_i].page_size);
        ck_assert_int_eq(read_all(got, 10, PAGE), sizes[_i].result);
}
END_TEST

START_TEST(read_errors_are_passed_on)
{
        uint8_t page[PAGE];
        uint32_t pgno = 77;

        put_header(1, 1, 9, 512, PAGE);
        put_record(3, 1);
        for (uint64_t from = 1; from < j.n; from += from < 28 ? 1 : 31) {
                struct mem_file file = { j.data, j.n, from };
                struct journal_reader r = { .pread = mem_file_pread, .arg = &file, .size_bytes = j.n };
                int rc = journal_reader_begin(&r, 0);

                ck_assert_int_eq(rc, from < 28 ? -EIO : 1);
                if (rc > 0)
                        ck_assert_int_eq(journal_reader_next(&r, page, &pgno), -EIO);
        }
        ck_assert_uint_eq(pgno, 77);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("journal");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, journal_that_sqlite_wrote_gives_the_image_before, 0, 8);
        tcase_add_test(tc, journal_without_syncs_is_read_to_its_end);
        tcase_add_loop_test(tc, segments_follow_each_other_at_sectors, 0, 12);
        tcase_add_test(tc, count_of_records_ends_a_segment);
        tcase_add_loop_test(tc, count_that_was_never_filled_in_means_to_the_end, 0, 2);
        tcase_add_test(tc, count_beyond_the_file_reads_what_there_is);
        tcase_add_test(tc, journal_cut_at_any_byte_gives_the_whole_records);
        tcase_add_test(tc, record_whose_checksum_fails_ends_the_journal);
        tcase_add_test(tc, record_of_page_0_ends_the_journal);
        tcase_add_test(tc, super_journal_is_named_at_the_end);
        tcase_add_test(tc, finalised_journal_has_nothing_to_roll_back);
        tcase_add_test(tc, page_size_comes_from_the_database_when_the_header_has_none);
        tcase_add_loop_test(tc, sizes_that_cannot_be_are_refused, 0, COUNT(sizes));
        tcase_add_test(tc, read_errors_are_passed_on);
        return run_tests("sqlite_journal", tc);
}
