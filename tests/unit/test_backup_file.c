/* links: litefs_backup */
/* A directory as a destination, and what is restored from it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/restore.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/lib/files.h"
#include "tests/lib/memstream.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static struct dest *dest;
static struct os_fault faults;
static struct err e;

static void
set_up(void)
{
        dir = tmpdir_make();
        os_fault_init(&faults, os_host());
        ck_assert_int_eq(dest_file_open(&faults.os, path_in(dir, "backup"), &dest, &e), 0);
}

static void
tear_down(void)
{
        dest_free(dest);
        os_fault_release(&faults);
        tmpdir_remove(dir);
}

static int
put(const char *key, const char *text, enum dest_condition condition, char *etag)
{
        struct dest_put_options o = { .condition = condition, .etag = etag, .time_ms = 1767323045250 };
        char got[DEST_ETAG_SIZE];
        int r = dest_write(dest, key, &o, text, strlen(text), got, &e);

        if (r == 0 && etag != NULL)
                memcpy(etag, got, sizeof got);
        return r;
}

static const char *
content(const char *key)
{
        static char buf[100], etag[DEST_ETAG_SIZE];
        ssize_t n = dest_read(dest, key, buf, sizeof buf, etag, &e);

        return n < 0 ? err_code_text((int)n) : buf;
}

static size_t
count_files(const char *path)
{
        size_t n = 0;
        char command[400];
        FILE *f;

        snprintf(command, sizeof command, "find %s -type f | wc -l", path);
        f = popen(command, "r");
        ck_assert_int_eq(fscanf(f, "%zu", &n), 1);
        pclose(f);
        return n;
}

START_TEST(object_is_put_once)
{
        struct stat st;

        ck_assert_int_eq(put("app.db/ltx/0/a", "one", DEST_IF_ABSENT, NULL), 0);
        ck_assert_int_eq(put("app.db/ltx/0/a", "two", DEST_IF_ABSENT, NULL), -EEXIST);
        ck_assert_str_eq(content("app.db/ltx/0/a"), "one");
        ck_assert_uint_eq(count_files(dir), 1);
        ck_assert_int_eq(stat(path_in(dir, "backup/app.db/ltx/0/a"), &st), 0);
        ck_assert_int_eq(st.st_mtim.tv_sec, 1767323045);
        ck_assert_int_eq(st.st_mtim.tv_nsec, 250000000);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(object_is_replaced_if_it_is_what_was_seen)
{
        char mine[DEST_ETAG_SIZE] = "", others[DEST_ETAG_SIZE], buf[10], read[DEST_ETAG_SIZE];

        strcpy(others, "x");
        ck_assert_int_eq(put("h", "zero", DEST_IF_MATCH, others), -ESTALE);
        ck_assert_int_eq(put("h", "one", DEST_IF_ABSENT, mine), 0);
        ck_assert_int_eq(dest_read(dest, "h", buf, sizeof buf, read, &e), 3);
        ck_assert_str_eq(read, mine);
        memcpy(others, mine, sizeof others);
        ck_assert_int_eq(put("h", "two", DEST_IF_MATCH, mine), 0);
        ck_assert_int_eq(put("h", "three", DEST_IF_MATCH, others), -ESTALE);
        ck_assert_str_eq(content("h"), "two");
        ck_assert_int_eq(put("h", "four", DEST_IF_MATCH, mine), 0);
        ck_assert_str_eq(content("h"), "four");
        ck_assert_int_eq(put("h", "five", DEST_ALWAYS, NULL), 0);
        ck_assert_str_eq(content("h"), "five");
        ck_assert_uint_eq(count_files(dir), 1);
}
END_TEST

START_TEST(object_that_is_given_up_leaves_nothing)
{
        struct dest_put_options o = { .condition = DEST_IF_ABSENT };
        struct dest_put *p;

        ck_assert_int_eq(dest_put_begin(dest, "a", &o, &p, &e), 0);
        ck_assert_int_eq(p->sink.write(&p->sink, "x", 1), 0);
        dest_put_abort(p);
        ck_assert_uint_eq(count_files(dir), 0);
        ck_assert_str_eq(content("a"), "not found");
        ck_assert_int_eq(dest_remove(dest, "a", &e), 0);
}
END_TEST

/* Whatever fails: the object is there and whole, or it is not, and then nothing of it is. */
START_TEST(nth_call_of_a_put_fails)
{
        struct os_fault_plan plan = { .op = OS_ANY_OP, .nth = (uint64_t)_i + 1, .error = -EIO };
        int r;

        os_fault_plan(&faults, &plan);
        r = put("app.db/ltx/0/a", "whole", DEST_IF_ABSENT, NULL);
        os_fault_plan(&faults, NULL);
        if (r == 0) {
                ck_assert_str_eq(content("app.db/ltx/0/a"), "whole");
        } else {
                const char *now = content("app.db/ltx/0/a");

                ck_assert_msg(strcmp(now, "whole") == 0 || strcmp(now, "not found") == 0, "%s", now);
                r = put("app.db/ltx/0/a", "whole", DEST_IF_ABSENT, NULL);
                ck_assert(r == 0 || r == -EEXIST);
                ck_assert_str_eq(content("app.db/ltx/0/a"), "whole");
        }
}
END_TEST

/* --- states --- */

#define PAGE 512u

/* A database of one page whose content says which transaction made it. */
static void
fill(uint8_t page[PAGE], uint64_t txid)
{
        memset(page, (int)txid, PAGE);
}

static uint64_t
checksum_of(uint64_t txid)
{
        uint8_t page[PAGE];

        fill(page, txid);
        return ltx_page_checksum(1, page, PAGE);
}

static void
put_object(unsigned level, uint64_t min_txid, uint64_t max_txid, int64_t time_ms)
{
        struct ltx_header h = { .flags = LTX_FLAG_NO_CHECKSUM,
                                .page_size = PAGE,
                                .commit = 1,
                                .min_txid = min_txid,
                                .max_txid = max_txid,
                                .timestamp_ms = time_ms,
                                .chain_pre = min_txid > 1 ? checksum_of(min_txid - 1) : 0,
                                .chain_post = checksum_of(max_txid) };
        struct backup_object o = { .level = level, .min_txid = min_txid, .max_txid = max_txid };
        struct dest_put_options options = { .condition = DEST_IF_ABSENT, .time_ms = time_ms };
        char key[BACKUP_NAME_SIZE], etag[DEST_ETAG_SIZE];
        struct ltx_encoder *enc;
        struct dest_put *p;
        uint8_t page[PAGE];

        fill(page, max_txid);
        backup_object_name(dest->layout, &o, key);
        ck_assert_int_eq(ltx_encoder_new(true, &enc), 0);
        ck_assert_msg(dest_put_begin(dest, key, &options, &p, &e) == 0, "%s", e.text);
        ck_assert_msg(ltx_encoder_begin(enc, &h, &p->sink, &e) == 0, "%s", e.text);
        ck_assert_int_eq(ltx_encoder_page(enc, 1, page, &e), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, 0, NULL, &e), 0);
        ck_assert_int_eq(dest_put_finish(p, etag, &e), 0);
        ltx_encoder_free(enc);
}

static int
restore(uint64_t txid, struct backup_image_state *ret)
{
        struct backup_target target = { txid, true };
        struct backup_objects objects, plan;
        int fd = open(dir, O_TMPFILE | O_RDWR, 0600), r;
        uint8_t page[PAGE], want[PAGE];

        ck_assert_int_eq(backup_list(dest, "", &objects, &e), 0);
        r = backup_plan_make(&objects, &target, &plan, &e);
        if (r == 0)
                r = backup_restore(dest, "", &plan, os_host(), fd, NULL, ret, &e);
        if (r == 0) {
                fill(want, txid);
                ck_assert_int_eq(pread(fd, page, PAGE, 0), PAGE);
                ck_assert_mem_eq(page, want, PAGE);
                ck_assert_uint_eq(ret->pos.txid, txid);
                ck_assert_uint_eq(ret->pos.checksum, checksum_of(txid));
                ck_assert(ret->is_proved);
        }
        backup_objects_release(&objects);
        backup_objects_release(&plan);
        close(fd);
        return r;
}

START_TEST(each_border_is_restored)
{
        static const uint64_t borders[] = { 3, 4, 7, 9 };
        struct backup_image_state s;

        put_object(9, 1, 3, 1000);
        put_object(0, 4, 4, 2000);
        put_object(0, 5, 7, 3000);
        put_object(1, 4, 7, 3000);
        put_object(0, 8, 9, 4000);
        for (int i = 0; i < COUNT(borders); i++)
                ck_assert_msg(restore(borders[i], &s) == 0, "%s", e.text);
        ck_assert_int_eq(s.time_ms, 4000);
        ck_assert_int_eq(restore(6, &s), E_NOT_FOUND);
}
END_TEST

START_TEST(time_is_looked_up_in_the_headers)
{
        static const struct {
                int64_t time_ms;
                uint64_t txid; /* 0: none */
        } rows[] = { { 999, 0 },  { 1000, 3 }, { 1999, 3 }, { 2000, 4 },
                     { 3500, 7 }, { 4000, 9 }, { 99999, 9 } };
        struct backup_objects objects;

        put_object(9, 1, 3, 1000);
        put_object(0, 4, 4, 2000);
        put_object(0, 5, 7, 3000);
        put_object(1, 4, 7, 3000);
        put_object(0, 8, 9, 4000);
        ck_assert_int_eq(backup_list(dest, "", &objects, &e), 0);
        ck_assert_uint_eq(objects.n, 5);
        for (int i = 0; i < COUNT(rows); i++) {
                uint64_t txid = 0;

                ck_assert_int_eq(backup_find_time(dest, "", &objects, rows[i].time_ms, &txid, &e),
                                 rows[i].txid != 0 ? 0 : E_NOT_FOUND);
                ck_assert_uint_eq(txid, rows[i].txid);
        }
        backup_objects_release(&objects);
        ck_assert_int_eq(backup_list(dest, "other.db", &objects, &e), 0);
        ck_assert_uint_eq(objects.n, 0);
}
END_TEST

START_TEST(damage_is_found)
{
        const char *path = path_in(dir, "backup/ltx/0/0000000000000004-0000000000000004.ltx");
        struct backup_image_state s;
        struct file_bytes f;

        put_object(9, 1, 3, 1000);
        put_object(0, 4, 4, 2000);
        f = read_file(path);
        for (size_t i = 0; i < f.n; i += 7) {
                f.data[i] ^= 0x10;
                write_file(path, f.data, f.n);
                ck_assert_msg(restore(4, &s) < 0, "byte %zu", i);
                f.data[i] ^= 0x10;
        }
        write_file(path, f.data, f.n - 1);
        ck_assert_int_lt(restore(4, &s), 0);
        write_file(path, f.data, f.n);
        ck_assert_int_eq(restore(4, &s), 0);
        free(f.data);
}
END_TEST

/* Its file is whole, but it was made of another state. */
START_TEST(object_of_another_history_is_found)
{
        struct backup_image_state s;

        put_object(9, 1, 3, 1000);
        put_object(0, 5, 5, 2000);
        ck_assert_int_eq(rename(path_in(dir, "backup/ltx/0/0000000000000005-0000000000000005.ltx"),
                                path_in(dir, "backup/ltx/0/0000000000000004-0000000000000005.ltx")),
                         0);
        ck_assert_int_eq(restore(5, &s), E_FORMAT);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("file");

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, object_is_put_once);
        tcase_add_test(tc, object_is_replaced_if_it_is_what_was_seen);
        tcase_add_test(tc, object_that_is_given_up_leaves_nothing);
        tcase_add_loop_test(tc, nth_call_of_a_put_fails, 0, 30);
        tcase_add_test(tc, each_border_is_restored);
        tcase_add_test(tc, time_is_looked_up_in_the_headers);
        tcase_add_test(tc, damage_is_found);
        tcase_add_test(tc, object_of_another_history_is_found);
        return run_tests("backup_file", tc);
}
