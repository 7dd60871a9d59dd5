/* links: litefs_sqlite PkgConfig::SQLITE3 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "sqlite/wal_format.h"
#include "sqlite/wal_reader.h"
#include "tests/lib/files.h"
#include "tests/lib/memstream.h"
#include "tests/lib/run.h"
#include "tests/lib/sql.h"
#include "tests/lib/tmpdir.h"

#define ROWS 40
#define TRANSACTIONS 5

/* A database, its WAL with TRANSACTIONS commits, and the database with the WAL checkpointed into it. */
struct golden {
        char *dir;
        uint32_t page_size;
        struct file_bytes db, wal, after;
};

static struct golden g;

/* SQLite's WAL as it lies beside the database while that is open. */
static void
make_golden(uint32_t page_size)
{
        char sql[200];
        const char *path;
        sqlite3 *db;

        g.dir = tmpdir_make();
        g.page_size = page_size;
        path = path_in(g.dir, "db");
        db = sql_open(path);
        snprintf(
                sql, sizeof sql,
                "PRAGMA page_size=%u; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;"
                "PRAGMA cache_size=10; CREATE TABLE t(a INTEGER PRIMARY KEY, b); PRAGMA wal_checkpoint;",
                page_size);
        sql_exec(db, sql);
        for (int i = 0; i < TRANSACTIONS; i++) {
                snprintf(
                        sql, sizeof sql,
                        "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)"
                        "INSERT INTO t(b) SELECT randomblob(300) FROM n; UPDATE t SET b=b||%d; COMMIT;",
                        ROWS, i);
                sql_exec(db, sql);
        }
        g.db = read_file(path);
        g.wal = read_file(path_in(g.dir, "db-wal"));
        sqlite3_close(db);
        g.after = read_file(path);
}

static void
set_up(void)
{
        make_golden(1024);
}

static void
tear_down(void)
{
        free(g.db.data);
        free(g.wal.data);
        free(g.after.data);
        tmpdir_remove(g.dir);
}

struct result {
        int n_frames, n_commits;
        uint32_t size;  /* after the last commit */
        uint8_t *image; /* of the database then; room for what it should be */
};

/* Applies whole transactions to @image. Returns what ended the walk. */
static int
replay(const struct mem_file *file, struct result *ret)
{
        struct wal_reader r = { .pread = mem_file_pread, .arg = (void *)file };
        uint8_t *page, *pending;
        uint32_t pgno, commit;
        int rc = wal_reader_begin(&r);

        *ret = (struct result){ .image = calloc(1, g.after.n) };
        if (rc <= 0)
                return rc;
        memcpy(ret->image, g.db.data, g.db.n < g.after.n ? g.db.n : g.after.n);
        pending = malloc(g.after.n);
        memcpy(pending, ret->image, g.after.n);
        page = malloc(r.header.page_size);
        while ((rc = wal_reader_next(&r, page, &pgno, &commit)) > 0) {
                ck_assert_uint_ge(pgno, 1);
                if (pgno <= g.after.n / g.page_size)
                        memcpy(pending + (size_t)(pgno - 1) * g.page_size, page, g.page_size);
                ret->n_frames++;
                if (commit > 0) {
                        memcpy(ret->image, pending, g.after.n);
                        ret->n_commits++;
                        ret->size = commit;
                }
        }
        free(page);
        free(pending);
        return rc;
}

static void
check_golden(void)
{
        struct mem_file file = { g.wal.data, g.wal.n, 0 };
        struct result r;

        ck_assert_int_eq(replay(&file, &r), 0);
        ck_assert_int_eq(r.n_commits, TRANSACTIONS);
        ck_assert_uint_eq(r.size, g.after.n / g.page_size);
        ck_assert_uint_eq((uint64_t)r.n_frames, (g.wal.n - 32) / (24 + g.page_size));
        ck_assert_mem_eq(r.image, g.after.data, g.after.n);
        free(r.image);
}

START_TEST(wal_that_sqlite_wrote_gives_the_image_that_sqlite_checkpoints)
{
        tear_down();
        make_golden(512u << _i);
        check_golden();
}
END_TEST

/* The same WAL as a machine of the other byte order would have written it. */
static void
turn_checksums(uint8_t *wal, size_t n, uint32_t page_size, bool is_big_endian)
{
        uint32_t s[2] = { 0, 0 };

        put_be32(wal, is_big_endian ? 0x377f0683 : 0x377f0682);
        wal_checksum(is_big_endian, wal, 24, s);
        put_be32(wal + 24, s[0]);
        put_be32(wal + 28, s[1]);
        for (size_t at = 32; at + 24 + page_size <= n; at += 24 + page_size) {
                wal_checksum(is_big_endian, wal + at, 8, s);
                wal_checksum(is_big_endian, wal + at + 24, page_size, s);
                put_be32(wal + at + 16, s[0]);
                put_be32(wal + at + 20, s[1]);
        }
}

START_TEST(checksums_of_either_byte_order_are_read_and_are_what_sqlite_takes)
{
        bool is_big_endian = _i == 1;
        struct wal_header h;
        sqlite3 *db;

        turn_checksums(g.wal.data, g.wal.n, g.page_size, is_big_endian);
        ck_assert_int_eq(wal_header_decode(g.wal.data, &h), 0);
        ck_assert(h.is_big_endian_cksum == is_big_endian);
        check_golden();
        write_file(path_in(g.dir, "turned"), g.db.data, g.db.n);
        write_file(path_in(g.dir, "turned-wal"), g.wal.data, g.wal.n);
        db = sql_open(path_in(g.dir, "turned"));
        ck_assert_int_eq(sql_int(db, "SELECT count(*) FROM t"), ROWS * TRANSACTIONS);
        sqlite3_close(db);
}
END_TEST

START_TEST(checksum_has_the_documented_sums)
{
        static const uint8_t words[16] = { 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4 };
        uint32_t be[2] = { 0, 0 }, le[2] = { 5, 6 };

        wal_checksum(true, words, 16, be);
        /* s0 = 1, s1 = 3; s0 = 1 + 3 + 3 = 7, s1 = 3 + 4 + 7 = 14 */
        ck_assert_uint_eq(be[0], 7);
        ck_assert_uint_eq(be[1], 14);
        wal_checksum(false, words, 8, le);
        ck_assert_uint_eq(le[0], 5 + 0x01000000 + 6);
        ck_assert_uint_eq(le[1], 6 + 0x02000000 + le[0]);
}
END_TEST

START_TEST(header_fields_are_at_their_offsets)
{
        struct wal_header h;

        ck_assert_int_eq(wal_header_decode(g.wal.data, &h), 0);
        ck_assert_uint_eq(h.page_size, g.page_size);
        ck_assert_uint_eq(h.checkpoint_seq, get_be32(g.wal.data + 12));
        ck_assert_uint_eq(h.salt1, get_be32(g.wal.data + 16));
        ck_assert_uint_eq(h.salt2, get_be32(g.wal.data + 20));
        ck_assert_uint_eq(h.cksum[0], get_be32(g.wal.data + 24));
        ck_assert_uint_eq(h.cksum[1], get_be32(g.wal.data + 28));
}
END_TEST

START_TEST(header_with_any_bit_changed_is_refused)
{
        struct wal_header h;

        for (int i = 0; i < 32 * 8; i++) {
                int r;

                g.wal.data[i / 8] ^= (uint8_t)(1 << i % 8);
                r = wal_header_decode(g.wal.data, &h);
                ck_assert_msg(r == E_FORMAT || r == E_CHECKSUM, "bit %d: %d", i, r);
                g.wal.data[i / 8] ^= (uint8_t)(1 << i % 8);
        }
}
END_TEST

START_TEST(page_size_must_be_one_of_the_eight)
{
        static const uint32_t bad[] = { 0, 1, 256, 1000, 131072, 0x80000000u, UINT32_MAX };
        uint8_t buf[32];
        struct wal_header h;

        memcpy(buf, g.wal.data, sizeof buf);
        for (int i = 0; i < COUNT(bad); i++) {
                put_be32(buf + 8, bad[i]);
                turn_checksums(buf, sizeof buf, 512, false);
                ck_assert_int_eq(wal_header_decode(buf, &h), E_FORMAT);
        }
        for (uint32_t size = 512; size <= 65536; size *= 2) {
                put_be32(buf + 8, size);
                turn_checksums(buf, sizeof buf, 512, false);
                ck_assert_int_eq(wal_header_decode(buf, &h), 0);
        }
}
END_TEST

START_TEST(chain_ends_where_the_file_is_cut)
{
        for (size_t n = 0; n < g.wal.n; n += n < 40 ? 1 : 97) {
                struct mem_file file = { g.wal.data, n, 0 };
                size_t frames = n < 32 ? 0 : (n - 32) / (24 + g.page_size);
                struct result r;

                ck_assert_int_eq(replay(&file, &r), 0);
                ck_assert_uint_eq((uint64_t)r.n_frames, frames);
                free(r.image);
        }
}
END_TEST

/* Every byte of a frame is covered: by the salts, by the checksum, or it is the checksum. */
START_TEST(chain_ends_at_a_frame_with_any_byte_changed)
{
        size_t frame = 24 + g.page_size, third = 32 + 2 * frame;

        for (size_t i = 0; i < frame; i++) {
                struct mem_file file = { g.wal.data, g.wal.n, 0 };
                struct result r;

                g.wal.data[third + i] ^= 0x10;
                ck_assert_int_eq(replay(&file, &r), 0);
                ck_assert_int_eq(r.n_frames, 2);
                free(r.image);
                g.wal.data[third + i] ^= 0x10;
        }
}
END_TEST

START_TEST(frames_of_an_earlier_generation_are_not_taken)
{
        struct mem_file file = { g.wal.data, g.wal.n, 0 };
        size_t frame = 24 + g.page_size;
        struct result r;

        /* As SQLite restarts a WAL: new salts in the header and the frames that were written since. */
        put_be32(g.wal.data + 16, get_be32(g.wal.data + 16) + 1);
        for (size_t at = 32; at < 32 + 3 * frame; at += frame)
                put_be32(g.wal.data + at + 8, get_be32(g.wal.data + at + 8) + 1);
        turn_checksums(g.wal.data, g.wal.n, g.page_size, false);
        ck_assert_int_eq(replay(&file, &r), 0);
        ck_assert_int_eq(r.n_frames, 3);
        free(r.image);
}
END_TEST

START_TEST(frame_of_page_0_ends_the_chain)
{
        struct mem_file file = { g.wal.data, g.wal.n, 0 };
        struct result r;

        put_be32(g.wal.data + 32 + 24 + g.page_size, 0);
        turn_checksums(g.wal.data, g.wal.n, g.page_size, false);
        ck_assert_int_eq(replay(&file, &r), 0);
        ck_assert_int_eq(r.n_frames, 1);
        free(r.image);
}
END_TEST

START_TEST(read_errors_are_passed_on)
{
        for (uint64_t from = 1; from < 3 * (24 + g.page_size); from += 13) {
                struct mem_file file = { g.wal.data, g.wal.n, from };
                struct result r;

                ck_assert_int_eq(replay(&file, &r), -EIO);
                free(r.image);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("wal");

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, wal_that_sqlite_wrote_gives_the_image_that_sqlite_checkpoints, 0, 8);
        tcase_add_loop_test(tc, checksums_of_either_byte_order_are_read_and_are_what_sqlite_takes, 0, 2);
        tcase_add_test(tc, checksum_has_the_documented_sums);
        tcase_add_test(tc, header_fields_are_at_their_offsets);
        tcase_add_test(tc, header_with_any_bit_changed_is_refused);
        tcase_add_test(tc, page_size_must_be_one_of_the_eight);
        tcase_add_test(tc, chain_ends_where_the_file_is_cut);
        tcase_add_test(tc, chain_ends_at_a_frame_with_any_byte_changed);
        tcase_add_test(tc, frames_of_an_earlier_generation_are_not_taken);
        tcase_add_test(tc, frame_of_page_0_ends_the_chain);
        tcase_add_test(tc, read_errors_are_passed_on);
        return run_tests("sqlite_wal", tc);
}
