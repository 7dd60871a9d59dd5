/* links: litefs_backup sqlite3 */
/* Ranges of a real database's log, applied one after the other, make the database: in each journal mode, at any borders. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/image.h"
#include "backup/range.h"
#include "db/snapshot.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/files.h"
#include "tests/lib/memstream.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static struct db_driver *driver;
static sqlite3 *c;
static struct backup_range *range;
static struct backup_image *image;
static int fd;
static struct err e;

static void
adopt_small_file(void)
{
        const char *path = path_in(dir, "plain.db");
        sqlite3 *plain;

        ck_assert_int_eq(sqlite3_open(path, &plain), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(plain, "create table a(b)"), SQLITE_OK);
        sqlite3_close(plain);
        ck_assert_msg(db_driver_adopt(driver, path, &e) == 0, "%s", e.text);
}

static void
set_up(void)
{
        dir = tmpdir_make();
        ck_assert_int_eq(db_driver_open(os_host(), dir, &driver, &e), 0);
        adopt_small_file();
        ck_assert_int_eq(db_driver_connect(driver, 0, &c), SQLITE_OK);
        ck_assert_int_eq(backup_range_new(os_host(), dir, true, &range), 0);
        fd = open(dir, O_TMPFILE | O_RDWR, 0600);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(backup_image_new(os_host(), fd, &image), 0);
}

static void
tear_down(void)
{
        backup_image_free(image);
        backup_range_free(range);
        close(fd);
        sqlite3_close(c);
        db_driver_close(driver);
        tmpdir_remove(dir);
}

static void
run(const char *sql)
{
        ck_assert_msg(db_driver_exec(c, sql) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(c));
        db_driver_drain(driver);
}

static struct ltx_pos
pos_of_database(void)
{
        struct db_info info;

        db_get_info(db_driver_db(driver), &info);
        return info.pos;
}

static struct ltx_pos
pos_of_image(void)
{
        struct backup_image_state s;

        backup_image_get_state(image, &s);
        return s.pos;
}

static int
apply(const struct mem_sink *file, uint64_t min_txid, uint64_t max_txid)
{
        struct backup_object o = { .min_txid = min_txid, .max_txid = max_txid };
        struct mem_src src;

        mem_src_init(&src, file->data, file->n);
        return backup_image_apply(image, &o, &src.src, &e);
}

/* Brings the image up to @txid by one range, and proves it. */
static int
advance(uint64_t txid)
{
        const struct ltx_header *h = backup_range_header(range);
        struct txlog_record stop;
        struct mem_sink file;
        int r = backup_range_gather(range, db_log(db_driver_db(driver)), pos_of_image(), txid,
                                    UINT64_MAX, &stop, &e);

        if (r != 1)
                return r;
        mem_sink_init(&file);
        ck_assert_msg(backup_range_write(range, &file.sink, &e) == 0, "%s", e.text);
        ck_assert_uint_eq(h->flags, LTX_FLAG_NO_CHECKSUM);
        ck_assert_uint_eq(h->pre_apply_checksum, 0);
        ck_assert_msg(apply(&file, h->min_txid, h->max_txid) == 0, "%s", e.text);
        ck_assert_uint_eq(pos_of_image().checksum, h->chain_post);
        mem_sink_release(&file);
        return 1;
}

/* The image is the database, byte by byte. */
static void
check_image(void)
{
        struct backup_image_state s;
        uint8_t *a = malloc(65536), *b = malloc(65536);

        backup_image_get_state(image, &s);
        ck_assert_uint_eq(s.pos.txid, pos_of_database().txid);
        ck_assert_uint_eq(s.pos.checksum, pos_of_database().checksum);
        ck_assert(s.is_proved);
        ck_assert_uint_eq((uint64_t)s.page_count * s.page_size, db_size_bytes(db_driver_db(driver)));
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)s.page_count * s.page_size);
        for (uint32_t i = 0; i < s.page_count; i++) {
                off_t off = (off_t)i * s.page_size;

                ck_assert_int_eq(pread(fd, a, s.page_size, off), s.page_size);
                ck_assert_int_eq(db_read(db_driver_db(driver), b, s.page_size, (uint64_t)off),
                                 s.page_size);
                ck_assert_mem_eq(a, b, s.page_size);
        }
        free(a);
        free(b);
}

static const char *const modes[] = { "delete", "truncate", "persist", "wal" };

START_TEST(ranges_of_any_borders_make_the_database)
{
        static const char *const work[] = {
                "insert into t(x) values(randomblob(9000))",
                "update t set x=randomblob(300) where id%3=1",
                "delete from t where id%2=0",
                "vacuum",
                "insert into t(x) select randomblob(2000) from t limit 20",
                "create table if not exists u(y); insert into u values(zeroblob(20000)); drop table u",
        };
        char sql[64];
        uint64_t txid;

        snprintf(sql, sizeof sql, "pragma journal_mode=%s", modes[_i]);
        run(sql);
        run("create table t(id integer primary key, x)");
        srand((unsigned)_i + 1);
        for (int i = 0; i < 80; i++) {
                run(work[rand() % COUNT(work)]);
                txid = pos_of_database().txid;
                /* Sometimes all there is, sometimes short of it. */
                if (rand() % 4 == 0)
                        ck_assert_int_ge(advance(txid - (uint64_t)(rand() % 2)), 0);
        }
        run("pragma wal_checkpoint(truncate)");
        ck_assert_msg(advance(UINT64_MAX) >= 0, "%s", e.text);
        check_image();
}
END_TEST

START_TEST(range_has_one_image_of_each_page)
{
        struct txlog_record stop;
        struct mem_sink file;
        uint64_t one;

        run("create table t(id integer primary key, x); insert into t values(1, randomblob(100))");
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        mem_sink_init(&file);
        run("update t set x=randomblob(100)");
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos_of_image(),
                                             UINT64_MAX, UINT64_MAX, &stop, &e),
                         1);
        ck_assert_int_eq(backup_range_write(range, &file.sink, &e), 0);
        one = file.n;
        for (int i = 0; i < 50; i++)
                run("update t set x=randomblob(100)");
        file.n = 0;
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos_of_image(),
                                             UINT64_MAX, UINT64_MAX, &stop, &e),
                         1);
        ck_assert_int_eq(backup_range_write(range, &file.sink, &e), 0);
        ck_assert_uint_lt(file.n, 2 * one);
        ck_assert_uint_eq(backup_range_header(range)->min_txid, pos_of_image().txid + 1);
        ck_assert_uint_eq(backup_range_header(range)->max_txid, pos_of_database().txid);
        mem_sink_release(&file);
}
END_TEST

START_TEST(range_ends_after_so_many_bytes)
{
        struct txlog_record stop;

        run("create table t(x)");
        for (int i = 0; i < 5; i++)
                run("insert into t values(randomblob(3000))");
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos_of_image(),
                                             UINT64_MAX, 1, &stop, &e),
                         1);
        ck_assert_uint_eq(backup_range_header(range)->max_txid, 1);
}
END_TEST

/* The file as one snapshot makes it. */
static void
apply_snapshot(void)
{
        struct db_snapshot *snap;
        struct txlog_record record;
        struct mem_sink file;
        int r;

        mem_sink_init(&file);
        ck_assert_int_eq(db_snapshot_open(db_driver_db(driver), &snap, &record, &e), 0);
        db_snapshot_chain(snap);
        while ((r = db_snapshot_read(snap, 4096, &file.sink, &e)) > 0)
                ;
        ck_assert_msg(r == 0, "%s", e.text);
        db_snapshot_close(snap);
        ck_assert_msg(apply(&file, 1, record.max_txid) == 0, "%s", e.text);
        ck_assert_uint_eq(pos_of_image().checksum, record.post_apply_checksum);
        mem_sink_release(&file);
}

START_TEST(range_ends_before_a_whole_database_and_before_a_deletion)
{
        run("pragma page_size=4096; create table t(x); insert into t values(randomblob(3000))");
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        run("insert into t values(1)");
        run("pragma page_size=1024; vacuum");
        run("insert into t values(2)");
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        ck_assert_int_eq(advance(UINT64_MAX), BACKUP_RANGE_BREAK);
        apply_snapshot();
        check_image();
        run("insert into t values(3)");
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        check_image();
        sqlite3_close(c);
        c = NULL;
        ck_assert_int_eq(db_driver_drop(driver, &e), 0);
        ck_assert_int_eq(advance(UINT64_MAX), BACKUP_RANGE_BREAK);
}
END_TEST

START_TEST(position_of_another_history_is_refused)
{
        struct txlog_record stop;
        struct ltx_pos pos;

        run("create table t(x)");
        pos = pos_of_database();
        run("insert into t values(1)");
        pos.checksum ^= 1;
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos, UINT64_MAX,
                                             UINT64_MAX, &stop, &e),
                         E_POS_MISMATCH);
        pos.txid = 99;
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos, UINT64_MAX,
                                             UINT64_MAX, &stop, &e),
                         E_NOT_FOUND);
}
END_TEST

START_TEST(file_that_does_not_fit_is_refused)
{
        struct txlog_record stop;
        struct mem_sink file;
        struct ltx_pos pos;

        run("create table t(x)");
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        run("insert into t values(1)");
        pos = pos_of_database();
        run("insert into t values(2)");
        mem_sink_init(&file);
        ck_assert_int_eq(backup_range_gather(range, db_log(db_driver_db(driver)), pos, UINT64_MAX,
                                             UINT64_MAX, &stop, &e),
                         1);
        ck_assert_int_eq(backup_range_write(range, &file.sink, &e), 0);
        ck_assert_int_eq(apply(&file, pos.txid + 1, pos.txid + 1), E_POS_MISMATCH);
        ck_assert_int_eq(apply(&file, pos.txid, pos.txid + 1),
                         E_FORMAT); /* it is called something else */
        ck_assert_int_eq(advance(UINT64_MAX), 1);
        check_image();
        mem_sink_release(&file);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("range");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_loop_test(tc, ranges_of_any_borders_make_the_database, 0, COUNT(modes));
        tcase_add_test(tc, range_has_one_image_of_each_page);
        tcase_add_test(tc, range_ends_after_so_many_bytes);
        tcase_add_test(tc, range_ends_before_a_whole_database_and_before_a_deletion);
        tcase_add_test(tc, position_of_another_history_is_refused);
        tcase_add_test(tc, file_that_does_not_fit_is_refused);
        return run_tests("backup_range", tc);
}
