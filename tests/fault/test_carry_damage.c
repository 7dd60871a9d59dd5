/* links: litefs_store sqlite3 */
/* A parcel whose checksum is right, and whose content is not: what a program of another making might hand over. It is refused, or
 * read as something, and nothing else; tests/fault/test_resume.c has those that are right. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parcel.h"
#include "base/workers.h"
#include "db/carry.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define N_DAMAGES 150

struct carried {
        char *dir, db_dir[4096], tmp_dir[4096];
        uint8_t *bytes;
        size_t n;
        struct db_env env;
};

/* What is handed over in the middle of a transaction that has spilled. */
static void
gather(struct carried *all, const char *mode)
{
        struct err e = ERR_INIT;
        struct parcel p = { 0 };
        struct db_driver *d;
        sqlite3 *c;

        *all = (struct carried){ .dir = tmpdir_make() };
        db_driver_make_template(all->dir, mode, 40);
        ck_assert_msg(db_driver_open(os_host(), all->dir, &d, &e) == 0, "%s", e.text);
        ck_assert_int_eq(db_driver_connect(d, 5, &c), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "begin immediate; update t set x=randomblob(300)"),
                         SQLITE_OK);
        db_carry_out(db_driver_db(d), &p);
        ck_assert_int_eq(p.error, 0);
        all->bytes = malloc(p.n);
        ck_assert_ptr_nonnull(all->bytes);
        memcpy(all->bytes, p.bytes, p.n);
        all->n = p.n;
        parcel_release(&p);
        ck_assert_int_eq(db_driver_exec(c, "rollback"), SQLITE_OK);
        sqlite3_close(c);
        db_driver_close(d);
        snprintf(all->db_dir, sizeof all->db_dir, "%s/dbs/t.db", all->dir);
        snprintf(all->tmp_dir, sizeof all->tmp_dir, "%s/tmp", all->dir);
        all->env = (struct db_env){ .os = os_host(),
                                    .clock = clock_host(),
                                    .tmp_dir = all->tmp_dir,
                                    .node_id = 1,
                                    .segment_bytes = 64 << 10,
                                    .is_resumed = true };
        ck_assert_int_eq(workers_new(1, &all->env.workers), 0);
}

static void
drop(struct carried *all)
{
        workers_free(all->env.workers);
        free(all->bytes);
        tmpdir_remove(all->dir);
}

/* Of a word, for that is what a parcel consists of: to what a wrong one may well be. */
static void
damage_word(uint8_t *bytes, size_t n, unsigned *seed)
{
        static const uint64_t values[] = {
                0, 1, 2, 511, 4096, 1u << 16, UINT32_MAX, INT64_MAX, UINT64_MAX, 3, UINT64_MAX - 7
        };
        size_t at = (size_t)rand_r(seed) % (n / 8) * 8;
        uint64_t value = rand_r(seed) % 4 == 0
                                 ? (uint64_t)rand_r(seed) << 16 | (uint64_t)rand_r(seed)
                                 : values[(size_t)rand_r(seed) % (sizeof values / sizeof values[0])];

        if ((size_t)rand_r(seed) % 4 != 0)
                at = (size_t)rand_r(seed) % 40 * 8 % n / 8 * 8; /* most numbers stand at the begin */
        memcpy(bytes + at, &value, sizeof value);
}

static int
read_damaged(const struct carried *all, const uint8_t *bytes, size_t n)
{
        struct parcel p = { 0 };
        struct parcel_reader r = { 0 };
        struct err e = ERR_INIT;
        struct db *db = NULL;
        int fd, result;

        for (size_t i = 0; i + 8 <= n; i += 8) {
                uint64_t word;

                memcpy(&word, bytes + i, sizeof word);
                parcel_put(&p, word);
        }
        fd = parcel_finish(&p, 1, &e);
        parcel_release(&p);
        ck_assert_msg(fd >= 0, "%s", e.text);
        ck_assert_int_eq(parcel_open(fd, 1, &r, &e), 0);
        ck_assert_msg(db_open(&all->env, "t.db", all->db_dir, &db, &e) == 0, "%s", e.text);
        result = db_carry_in(db, &r, &e);
        if (result == 0)
                result = parcel_check(&r, NULL);
        db_close(db);
        parcel_reader_release(&r);
        close(fd);
        return result;
}

static void
damage_and_read(const char *mode, unsigned seed)
{
        struct carried all;
        int n_refused = 0;

        gather(&all, mode);
        ck_assert_int_eq(read_damaged(&all, all.bytes, all.n), 0);
        for (int i = 0; i < N_DAMAGES; i++) {
                uint8_t *copy = malloc(all.n);
                size_t n = rand_r(&seed) % 8 == 0 ? (size_t)rand_r(&seed) % all.n / 8 * 8 : all.n;

                ck_assert_ptr_nonnull(copy);
                memcpy(copy, all.bytes, all.n);
                for (int k = 1 + rand_r(&seed) % 3; k > 0; k--)
                        damage_word(copy, all.n, &seed);
                n_refused += read_damaged(&all, copy, n) < 0;
                free(copy);
        }
        ck_assert_int_gt(n_refused, N_DAMAGES / 4);
        drop(&all);
}

START_TEST(damaged_content_is_refused_or_read_as_something)
{
        damage_and_read(_i % 2 == 0 ? "delete" : "wal", (unsigned)_i + 1);
}
END_TEST

int
main(int argc, char **argv)
{
        TCase *tc = tcase_create("carry_damage");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 120);
        tcase_add_loop_test(tc, damaged_content_is_refused_or_read_as_something, 0,
                            argc > 1 ? atoi(argv[1]) : 2);
        return run_tests("carry_damage", tc);
}
