/* links: litefs_sqlite PkgConfig::SQLITE3 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "sqlite/dbheader.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/sql.h"
#include "tests/lib/tmpdir.h"

START_TEST(header_that_sqlite_wrote_is_read)
{
        uint32_t page_size = 512u << (_i / 2);
        bool is_wal = _i % 2 == 1;
        char *dir = tmpdir_make(), sql[200];
        const char *path = path_in(dir, "db");
        struct sqlite_dbheader h;
        struct file_bytes b;
        sqlite3 *db = sql_open(path);

        snprintf(sql, sizeof sql,
                 "PRAGMA page_size=%u; PRAGMA journal_mode=%s; CREATE TABLE t(a);"
                 "INSERT INTO t VALUES(zeroblob(5000));",
                 page_size, is_wal ? "wal" : "delete");
        sql_exec(db, sql);
        sqlite3_close(db);
        b = read_file(path);
        ck_assert_int_eq(sqlite_dbheader_parse(b.data, b.n, &h), 0);
        ck_assert_uint_eq(h.page_size, page_size);
        ck_assert_uint_eq(h.page_count, b.n / page_size);
        ck_assert(h.is_page_count_valid);
        ck_assert(h.is_wal == is_wal);
        free(b.data);
        tmpdir_remove(dir);
}
END_TEST

static void
make_header(uint8_t buf[SQLITE_DBHEADER_SIZE])
{
        memset(buf, 0, SQLITE_DBHEADER_SIZE);
        memcpy(buf, "SQLite format 3", 16);
        put_be16(buf + 16, 4096);
        buf[18] = buf[19] = 1;
        put_be32(buf + 24, 7);
        put_be32(buf + 28, 3);
        put_be32(buf + 92, 7);
}

START_TEST(page_count_counts_only_with_the_change_counter)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;

        make_header(buf);
        ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), 0);
        ck_assert(h.is_page_count_valid && h.page_count == 3);
        put_be32(buf + 92, 6);
        ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), 0);
        ck_assert(!h.is_page_count_valid);
        put_be32(buf + 92, 7);
        put_be32(buf + 28, 0);
        ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), 0);
        ck_assert(!h.is_page_count_valid);
}
END_TEST

START_TEST(wal_needs_both_versions)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;

        make_header(buf);
        for (int v = 0; v < 4; v++) {
                buf[18] = v & 1 ? 2 : 1;
                buf[19] = v & 2 ? 2 : 1;
                ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), 0);
                ck_assert(h.is_wal == (v == 3));
        }
}
END_TEST

START_TEST(page_size_is_a_power_of_two_or_1_for_65536)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;
        int n_good = 0;

        make_header(buf);
        for (uint32_t v = 0; v < 65536; v++) {
                put_be16(buf + 16, (uint16_t)v);
                if (sqlite_dbheader_parse(buf, sizeof buf, &h) == 0) {
                        ck_assert_uint_eq(h.page_size, v == 1 ? 65536 : v);
                        n_good++;
                }
        }
        ck_assert_int_eq(n_good, 8);
}
END_TEST

START_TEST(what_is_no_beginning_of_a_database_is_refused)
{
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct sqlite_dbheader h;

        make_header(buf);
        for (size_t n = 0; n < sizeof buf; n++)
                ck_assert_int_eq(sqlite_dbheader_parse(buf, n, &h), E_FORMAT);
        for (int i = 0; i < 16; i++) {
                buf[i] ^= 0x20;
                ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), E_FORMAT);
                buf[i] ^= 0x20;
        }
        ck_assert_int_eq(sqlite_dbheader_parse(buf, sizeof buf, &h), 0);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("dbheader");

        tcase_add_loop_test(tc, header_that_sqlite_wrote_is_read, 0, 16);
        tcase_add_test(tc, page_count_counts_only_with_the_change_counter);
        tcase_add_test(tc, wal_needs_both_versions);
        tcase_add_test(tc, page_size_is_a_power_of_two_or_1_for_65536);
        tcase_add_test(tc, what_is_no_beginning_of_a_database_is_refused);
        return run_tests("sqlite_dbheader", tc);
}
