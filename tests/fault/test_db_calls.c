/* links: litefs_store sqlite3 */
/* The calls behind a mount's files, in any order, at any offset, of any size, with any content: what SQLite never does and
 * whoever can write to a file may. The database neither stops nor loses what was committed, its image stays what its
 * checksums say, a next start finds the same, and whoever then writes as SQLite does commits.
 *
 * The arguments are the first seed and how many: 1 and 400 in CI. A failure names its seed. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "db/apply.h"
#include "db/remote_commit.h"
#include "sqlite/wal_format.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/db_driver_internal.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define PAGE_SIZE 1024u
#define FRAME_SIZE (WAL_FRAME_HEADER_SIZE + PAGE_SIZE)
#define N_CALLS 120
#define WRITE_MAX (64u << 10)

static uint64_t first_seed = 1;
static int n_seeds = 400;

struct world {
        char *dir;
        struct os_fault os;
        struct db_driver *d;
        struct db *db;
        uint64_t state; /* of the random numbers */
        struct wal_header h;
        uint8_t buf[WRITE_MAX];
};

static uint64_t
draw(struct world *w, uint64_t n)
{
        w->state ^= w->state << 13;
        w->state ^= w->state >> 7;
        w->state ^= w->state << 17;
        return w->state % n;
}

static uint64_t
draw_offset(struct world *w)
{
        static const uint64_t far[] = {
                17695265263672,
                INT64_MAX - 100,
                INT64_MAX,
                UINT64_MAX - 10,
                WAL_HEADER_SIZE + (1ull << 32) * FRAME_SIZE,
                WAL_HEADER_SIZE + ((1ull << 32) - 1) * FRAME_SIZE,
                (1ull << 32) * PAGE_SIZE,
                ((1ull << 32) - 1) * PAGE_SIZE,
        };
        uint64_t frame = WAL_HEADER_SIZE + draw(w, 8) * FRAME_SIZE;

        switch (draw(w, 8)) {
        case 0:
                return far[draw(w, COUNT(far))];
        case 1:
                return 0;
        case 2:
                return draw(w, 40000);
        case 3:
                return frame + draw(w, 30);
        case 4:
                return frame + WAL_FRAME_HEADER_SIZE;
        case 5:
                return draw(w, 30) * PAGE_SIZE;
        default:
                return frame;
        }
}

static size_t
draw_size(struct world *w)
{
        static const size_t sizes[] = { 1,
                                        7,
                                        12,
                                        24,
                                        28,
                                        32,
                                        100,
                                        512,
                                        PAGE_SIZE,
                                        FRAME_SIZE,
                                        2 * PAGE_SIZE,
                                        5 * FRAME_SIZE + 3,
                                        WRITE_MAX };

        return sizes[draw(w, COUNT(sizes))];
}

static void
fill(struct world *w, size_t n)
{
        switch (draw(w, 4)) {
        case 0:
                memset(w->buf, 0, n);
                break;
        case 1:
                memset(w->buf, (int)draw(w, 256), n);
                break;
        default:
                for (size_t i = 0; i < n; i++)
                        w->buf[i] = (uint8_t)draw(w, 256);
        }
}

/* --- as SQLite writes --- */

static int
wait_for(struct world *w, int (*call)(struct world *w, struct db_done done))
{
        struct db_driver_wait wait;
        struct db_done done = db_driver_wait_begin(w->d, &wait);

        return db_driver_wait_end(&wait, call(w, done));
}

/* What db_wal_write is called with. */
static struct {
        size_t n;
        uint64_t off;
} next;

static int
call_wal_write(struct world *w, struct db_done done)
{
        return db_wal_write(w->db, w->buf, next.n, next.off, done);
}

/* A header that is one. */
static int
begin_wal(struct world *w)
{
        w->h = (struct wal_header){ .page_size = PAGE_SIZE, .salt1 = (uint32_t)draw(w, UINT32_MAX) };
        wal_header_encode(&w->h, w->buf);
        next.n = WAL_HEADER_SIZE;
        next.off = 0;
        return wait_for(w, call_wal_write);
}

/* The next frame of the chain, whoever began it, with the size @commit at its end. */
static int
append_frame(struct world *w, uint32_t pgno, uint32_t commit)
{
        struct db_wal_applied at;
        struct wal_header h = { .page_size = PAGE_SIZE };
        uint8_t page[PAGE_SIZE];
        int r = db_wal_frames(w->db, &at, NULL);

        if (r < 0)
                return r;
        free(at.pgnos);
        h.salt1 = at.salt[0];
        h.salt2 = at.salt[1];
        h.is_big_endian_cksum = at.is_big_endian_cksum;
        if (db_read(w->db, page, sizeof page, (uint64_t)(pgno - 1) * PAGE_SIZE) != PAGE_SIZE)
                memset(page, 0, sizeof page);
        put_be64(page + 500, draw(w, UINT64_MAX));
        wal_frame_encode(&h, pgno, commit, page, at.cksum, w->buf);
        memcpy(w->buf + WAL_FRAME_HEADER_SIZE, page, sizeof page);
        next.off = WAL_HEADER_SIZE + (uint64_t)at.n_frames * FRAME_SIZE;
        next.n = FRAME_SIZE;
        return wait_for(w, call_wal_write);
}

/* --- as nobody does --- */

static int
call_random(struct world *w, struct db_done done)
{
        uint64_t off = draw_offset(w);
        size_t n = draw_size(w);
        struct db *db = w->db;
        int r, fd = -1;

        fill(w, n);
        switch (draw(w, 20)) {
        case 0:
        case 1:
        case 2:
        case 3:
                return db_wal_write(db, w->buf, n, off, done);
        case 4:
                return db_wal_truncate(db, off);
        case 5:
                return db_wal_fsync(db, done);
        case 6:
                r = db_wal_unlink(db, &fd);
                os_close(&w->os.os, "test", fd);
                return r;
        case 7:
        case 8:
                return db_wal_create(db, 0600);
        case 9:
                return db_journal_create(db);
        case 10:
        case 11:
                return db_journal_write(db, w->buf, n, off, done);
        case 12:
                return db_journal_truncate(db, off, done);
        case 13:
                return db_journal_unlink(db, done);
        case 14:
                return db_journal_fsync(db, done);
        case 15:
                return db_write(db, w->buf, n, off, done);
        case 16:
                return db_truncate(db, off);
        case 17:
                return db_fsync(db, done);
        case 18:
                return db_capture_unjournaled(db, done);
        default:
                return (int)(db_read(db, w->buf, n, off) < 0);
        }
}

static void
step(struct world *w)
{
        static const uint32_t commits[] = { 0, 1, 2, 30, 40, 3000000, UINT32_MAX, 0x80000000u };
        struct db_retention keep = { 0 };

        switch (draw(w, 10)) {
        case 0:
                (void)begin_wal(w);
                break;
        case 1:
        case 2:
                (void)append_frame(w, 1 + (uint32_t)draw(w, 40), commits[draw(w, COUNT(commits))]);
                break;
        case 3:
                (void)db_housekeep(w->db, &keep, NULL);
                break;
        default:
                (void)wait_for(w, call_random);
        }
}

static bool
no_rest(void *arg)
{
        (void)arg;
        return true;
}

static void
check_sound(struct world *w, uint64_t seed, const char *when)
{
        struct err e = ERR_INIT;
        struct db_info info;

        db_get_info(w->db, &info);
        ck_assert_msg(!info.is_failed, "seed %" PRIu64 ": it has stopped, %s", seed, when);
        ck_assert_msg(db_verify(w->db, &(struct db_pace){ NULL, no_rest }, &e) == 0,
                      "seed %" PRIu64 ", %s: %s", seed, when, e.text);
}

/* The WAL is emptied or goes on from its captured end, as by the next SQLite process. */
static void
check_alive(struct world *w, uint64_t seed)
{
        struct db_info before, after;
        struct db_wal_mark mark;
        int r, fd = -1;

        (void)db_abandon(w->db);
        db_get_info(w->db, &before);
        if (before.page_count == 0)
                return;
        if (!db_wal_exists(w->db))
                ck_assert_int_eq(db_wal_create(w->db, 0600), 0);
        if (!db_wal_captured(w->db, &mark)) {
                r = begin_wal(w);
                ck_assert_msg(r == 0, "seed %" PRIu64 ": a header: %d", seed, r);
        }
        r = append_frame(w, 1, before.page_count);
        ck_assert_msg(r == 0, "seed %" PRIu64 ": a commit: %d", seed, r);
        db_get_info(w->db, &after);
        ck_assert_msg(after.pos.txid == before.pos.txid + 1, "seed %" PRIu64 ": nothing was committed",
                      seed);
        if (db_wal_unlink(w->db, &fd) == 0)
                os_close(&w->os.os, "test", fd);
}

static void
play(uint64_t seed)
{
        struct world *w = calloc(1, sizeof *w);
        struct err e = ERR_INIT;
        struct db_info before, after;
        char root[300];

        w->dir = tmpdir_make();
        w->state = seed * 0x9e3779b97f4a7c15u + 1;
        os_fault_init(&w->os, os_host());
        w->os.skips_sync = true;
        snprintf(root, sizeof root, "%s/node", w->dir);
        db_driver_make_template(root, draw(w, 2) == 0 ? "delete" : "wal", 60);
        ck_assert_msg(db_driver_open_with(&w->os.os, root, 64 << 10, &w->d, &e) == 0, "%s", e.text);
        w->db = db_driver_db(w->d);
        for (int i = 0; i < N_CALLS; i++)
                step(w);
        check_sound(w, seed, "after the calls");
        check_alive(w, seed);
        check_sound(w, seed, "after a commit");
        db_driver_drain(w->d);
        db_get_info(w->db, &before);
        db_driver_close(w->d);
        ck_assert_msg(db_driver_open(&w->os.os, root, &w->d, &e) == 0, "seed %" PRIu64 ": %s", seed,
                      e.text);
        w->db = db_driver_db(w->d);
        db_get_info(w->db, &after);
        ck_assert_uint_eq(after.pos.txid, before.pos.txid);
        ck_assert_uint_eq(after.pos.checksum, before.pos.checksum);
        check_sound(w, seed, "after a restart");
        db_driver_close(w->d);
        os_fault_release(&w->os);
        tmpdir_remove(w->dir);
        free(w);
}

START_TEST(any_calls_leave_a_sound_database)
{
        for (int i = _i; i < n_seeds; i += 20)
                play(first_seed + (uint64_t)i);
}
END_TEST

int
main(int argc, char **argv)
{
        TCase *tc = tcase_create("calls");

        if (argc > 2) {
                first_seed = strtoull(argv[1], NULL, 10);
                n_seeds = atoi(argv[2]);
        }
        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 3600);
        tcase_add_loop_test(tc, any_calls_leave_a_sound_database, 0, 20);
        return run_tests("db_calls", tc);
}
