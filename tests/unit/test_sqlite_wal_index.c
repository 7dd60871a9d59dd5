/* links: litefs_sqlite PkgConfig::SQLITE3 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sqlite/wal_format.h"
#include "sqlite/wal_index.h"
#include "tests/lib/files.h"
#include "tests/lib/run.h"
#include "tests/lib/sql.h"
#include "tests/lib/tmpdir.h"

#define MAP_SIZE 32768

static char *dir;
static sqlite3 *db;
static uint8_t *shm;

static void
set_up(void)
{
        int fd;

        dir = tmpdir_make();
        db = sql_open(path_in(dir, "db"));
        sql_exec(db, "PRAGMA page_size=1024; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;"
                     "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(9000))");
        fd = open(path_in(dir, "db-shm"), O_RDWR | O_CLOEXEC);
        shm = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert(shm != MAP_FAILED);
        close(fd);
}

static void
tear_down(void)
{
        munmap(shm, MAP_SIZE);
        sqlite3_close(db);
        tmpdir_remove(dir);
}

static uint32_t
frames_in_wal(struct wal_header *ret)
{
        struct file_bytes wal = read_file(path_in(dir, "db-wal"));
        uint32_t n = (uint32_t)((wal.n - 32) / (1024 + 24));

        ck_assert_int_eq(wal_header_decode(wal.data, ret), 0);
        free(wal.data);
        return n;
}

START_TEST(header_that_sqlite_wrote_is_read)
{
        struct wal_index_header h;
        struct wal_header w;

        for (int i = 0; i < 3; i++) {
                ck_assert_int_eq(wal_index_read_header(shm, &h), 0);
                ck_assert_uint_eq(h.mx_frame, frames_in_wal(&w));
                ck_assert_uint_eq(h.salt[0], w.salt1);
                ck_assert_uint_eq(h.salt[1], w.salt2);
                ck_assert_int_eq(h.n_pages, sql_int(db, "PRAGMA page_count"));
                sql_exec(db, "INSERT INTO t VALUES(zeroblob(5000))");
        }
}
END_TEST

START_TEST(backfill_is_what_the_checkpoint_copied)
{
        struct wal_index_header h;

        ck_assert_uint_eq(wal_index_backfill(shm), 0);
        sql_exec(db, "PRAGMA wal_checkpoint(PASSIVE)");
        ck_assert_int_eq(wal_index_read_header(shm, &h), 0);
        ck_assert_uint_eq(wal_index_backfill(shm), h.mx_frame);
}
END_TEST

START_TEST(header_with_any_byte_changed_is_refused)
{
        struct wal_index_header h;

        for (int at = 0; at < 96; at++) {
                /* Both copies alike: then the checksum, or what it stands on, has to tell. */
                for (int is_both = 0; is_both < 2; is_both++) {
                        uint8_t old = shm[at];

                        if (is_both && at >= 48)
                                continue;
                        shm[at] ^= 0x5a;
                        if (is_both)
                                shm[at + 48] ^= 0x5a;
                        ck_assert_msg(wal_index_read_header(shm, &h) == -EAGAIN, "byte %d", at);
                        shm[at] = old;
                        if (is_both)
                                shm[at + 48] ^= 0x5a;
                }
        }
        ck_assert_int_eq(wal_index_read_header(shm, &h), 0);
}
END_TEST

START_TEST(zeros_are_no_header)
{
        uint64_t zeros[WAL_INDEX_HEADER_SIZE / 8] = { 0 };
        struct wal_index_header h = { .mx_frame = 77 };

        ck_assert_int_eq(wal_index_read_header(zeros, &h), -EAGAIN);
        ck_assert_uint_eq(h.mx_frame, 77);
}
END_TEST

/* Connections that were open before and ones that come later rebuild it from the WAL, and lose nothing. */
START_TEST(sqlite_rebuilds_an_index_that_was_made_invalid)
{
        struct wal_index_header before, after;
        sqlite3 *other = sql_open(path_in(dir, "db"));

        ck_assert_int_eq(sql_int(other, "SELECT count(*) FROM t"), 1);
        for (int round = 0; round < 3; round++) {
                ck_assert_int_eq(wal_index_read_header(shm, &before), 0);
                wal_index_invalidate(shm);
                ck_assert_int_eq(wal_index_read_header(shm, &after), -EAGAIN);
                ck_assert_int_eq(sql_int(round % 2 ? db : other, "SELECT count(*) FROM t"), round + 1);
                ck_assert_int_eq(wal_index_read_header(shm, &after), 0);
                ck_assert_uint_eq(after.mx_frame, before.mx_frame);
                ck_assert_uint_eq(after.n_pages, before.n_pages);
                sql_exec(round % 2 ? other : db, "INSERT INTO t VALUES(1)");
        }
        ck_assert_int_eq(sql_int(db, "SELECT count(*) FROM t"), 4);
        sqlite3_close(other);
}
END_TEST

START_TEST(snapshot_that_is_open_lives_through_an_invalidation)
{
        sqlite3 *reader = sql_open(path_in(dir, "db"));

        sql_exec(reader, "BEGIN");
        ck_assert_int_eq(sql_int(reader, "SELECT count(*) FROM t"), 1);
        wal_index_invalidate(shm);
        sql_exec(db, "INSERT INTO t VALUES(1)");
        ck_assert_int_eq(sql_int(reader, "SELECT count(*) FROM t"), 1);
        sql_exec(reader, "COMMIT");
        ck_assert_int_eq(sql_int(reader, "SELECT count(*) FROM t"), 2);
        sqlite3_close(reader);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("wal_index");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, header_that_sqlite_wrote_is_read);
        tcase_add_test(tc, backfill_is_what_the_checkpoint_copied);
        tcase_add_test(tc, header_with_any_byte_changed_is_refused);
        tcase_add_test(tc, zeros_are_no_header);
        tcase_add_test(tc, sqlite_rebuilds_an_index_that_was_made_invalid);
        tcase_add_test(tc, snapshot_that_is_open_lives_through_an_invalidation);
        return run_tests("sqlite_wal_index", tc);
}
