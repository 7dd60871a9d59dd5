/* links: litefs_history */
/* Past states against a model: the same transactions, applied to an image in memory, of which each state is kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history/moment.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/run.h"

#define PAGES_MAX 300u
#define STATES_MAX 150u

static struct state {
        uint8_t *image;
        uint32_t page_size, page_count;
        struct ltx_pos pos;
        bool hides_past;
} states[STATES_MAX + 1]; /* [txid] */
static uint64_t last_txid;
static bool next_hides_past;
static struct ltx_encoder *encoder;

static uint64_t
checksum_of(const struct state *st)
{
        uint64_t sum = 0;

        for (uint32_t pgno = 1; pgno <= st->page_count; pgno++)
                sum ^= ltx_page_checksum(pgno, st->image + (size_t)(pgno - 1) * st->page_size,
                                         st->page_size);
        return LTX_CHECKSUM_FLAG | sum;
}

/* Appends what leads from the last state to one of @page_count pages; @is_whole: with all its pages, else with those that
 * @changes says (every page that is new as well). */
static void
commit_state(uint32_t page_size, uint32_t page_count, bool is_whole, unsigned one_in)
{
        struct state *old = &states[last_txid], *st = &states[last_txid + 1];
        struct ltx_header h = { .page_size = page_size,
                                .commit = page_count,
                                .min_txid = is_whole ? 1 : last_txid + 1,
                                .max_txid = last_txid + 1,
                                .timestamp_ms = (int64_t)(last_txid + 1) * 1000,
                                .pre_apply_checksum = is_whole ? 0 : old->pos.checksum,
                                .mark.hides_past = next_hides_past };
        bool *changes = calloc(page_count + 1, sizeof *changes);
        struct txlog_record rec;
        uint64_t lsn;

        last_txid++;
        *st = (struct state){ .image = calloc(page_count + 1, page_size),
                              .page_size = page_size,
                              .page_count = page_count,
                              .hides_past = next_hides_past };
        for (uint32_t i = 0; i < page_count; i++) {
                uint8_t *page = st->image + (size_t)i * page_size;

                changes[i] = is_whole || i >= old->page_count || rand() % (int)one_in == 0;
                if (changes[i])
                        fill_page(page, page_size, (enum page_kind)(rand() % PAGE_KINDS),
                                  (uint32_t)rand());
                else
                        memcpy(page, old->image + (size_t)i * page_size, page_size);
        }
        st->pos = (struct ltx_pos){ last_txid, checksum_of(st) };
        ck_assert_msg(ltx_encoder_begin(encoder, &h, txlog_append_begin(fx.tl), &fx.e) == 0, "%s",
                      fx.e.text);
        for (uint32_t i = 0; i < page_count; i++)
                if (changes[i])
                        ck_assert_int_eq(ltx_encoder_page(encoder, i + 1,
                                                          st->image + (size_t)i * page_size, &fx.e),
                                         0);
        ck_assert_int_eq(ltx_encoder_finish(encoder, st->pos.checksum, NULL, &fx.e), 0);
        rec = (struct txlog_record){ h.min_txid,
                                     h.max_txid,
                                     h.pre_apply_checksum,
                                     st->pos.checksum,
                                     h.timestamp_ms,
                                     h.page_size,
                                     h.commit,
                                     0 };
        ck_assert_int_eq(txlog_append_commit(fx.tl, &rec, &lsn, &fx.e), 0);
        free(changes);
}

static void
commit_at_random(void)
{
        struct state *old = &states[last_txid];
        uint32_t n = old->page_count, what = (uint32_t)rand() % 20;

        next_hides_past = last_txid % 40 == 39;
        if (what == 0 || n == 0)
                commit_state(512u << (rand() % 4), 1 + (uint32_t)rand() % PAGES_MAX, true, 1);
        else if (what == 1)
                commit_state(old->page_size, 0, false, 1);
        else if (what < 4)
                commit_state(old->page_size, 1 + (uint32_t)rand() % n, false, 5);
        else
                commit_state(old->page_size, n < PAGES_MAX ? n + (uint32_t)rand() % 3 : n, false,
                             1 + (unsigned)rand() % 50);
}

static void
set_up(void)
{
        log_set_up();
        ck_assert_int_eq(ltx_encoder_new(true, &encoder), 0);
        srand(7);
        open_log(100000);
        commit_state(4096, 3, true, 1);
}

static int
find_txid(uint64_t txid, struct moment_info *ret)
{
        struct moment_spec spec = { .txid = txid };

        return moment_find(fx.tl, &spec, last_txid, ret, &fx.e);
}

static struct moment *
open_txid(uint64_t txid)
{
        struct moment_info info;
        struct moment *m = NULL;

        ck_assert_msg(find_txid(txid, &info) == 0, "%s", fx.e.text);
        ck_assert_msg(moment_open(&fx.os, fx.tl, NULL, &info, &m, &fx.e) == 0, "%s", fx.e.text);
        return m;
}

static void
check_state(const struct moment *m, uint64_t txid)
{
        const struct state *st = &states[txid];
        size_t size = (size_t)st->page_count * st->page_size, n, off;
        uint8_t *got = malloc(size + 100), page[4096];

        ck_assert(ltx_pos_equal(moment_get_info(m)->pos, st->pos));
        for (uint32_t i = 1; i < st->page_count; i++) { /* the first is shown changed: below */
                off = (size_t)i * st->page_size;
                ck_assert_msg(moment_read(m, page, st->page_size, off, &fx.e) == st->page_size, "%s",
                              fx.e.text);
                ck_assert_mem_eq(page, st->image + off, st->page_size);
        }
        ck_assert_int_eq(moment_read(m, got, size + 100, 0, &fx.e), (ssize_t)size);
        ck_assert_mem_eq(got, st->image, 18);
        ck_assert(got[18] == 1 && got[19] == 1);
        ck_assert_mem_eq(got + 20, st->image + 20, size - 20);
        off = (size_t)rand() % size;
        n = (size_t)rand() % 9000;
        if (n > size - off)
                n = size - off;
        memset(got, 0xee, size);
        ck_assert_int_eq(moment_read(m, got, n, off, &fx.e), (ssize_t)n);
        for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(got[i], off + i == 18 || off + i == 19 ? 1 : st->image[off + i]);
        ck_assert_int_eq(moment_read(m, got, 10, size, &fx.e), 0);
        free(got);
}

static bool
is_hidden_after(uint64_t txid)
{
        for (uint64_t i = txid + 1; i <= last_txid; i++)
                if (states[i].page_count == 0 || states[i].hides_past)
                        return true;
        return false;
}

START_TEST(every_state_is_what_it_was)
{
        struct moment_info info;

        while (last_txid < STATES_MAX)
                commit_at_random();
        for (uint64_t txid = 1; txid <= last_txid; txid++) {
                struct moment *m;

                if (states[txid].page_count == 0) {
                        ck_assert_int_eq(find_txid(txid, &info), E_NOT_FOUND);
                        continue;
                }
                m = open_txid(txid);
                check_state(m, txid);
                ck_assert_uint_eq(moment_bytes(m), states[txid].page_count * 8);
                ck_assert(moment_get_info(m)->is_hidden == is_hidden_after(txid));
                moment_close(m);
        }
        ck_assert_int_eq(find_txid(last_txid + 1, &info), E_NOT_FOUND);
}
END_TEST

START_TEST(time_means_the_last_transaction_before)
{
        struct moment_info info;

        while (last_txid < 50)
                commit_state(4096, 20, false, 3);
        for (int64_t ms = 0; ms < 60000; ms += 500) {
                struct moment_spec spec = { .time_ms = ms };
                int r = moment_find(fx.tl, &spec, last_txid, &info, &fx.e);

                ck_assert_int_eq(r, ms < 1000 ? E_NOT_FOUND : 0);
                if (r == 0)
                        ck_assert_uint_eq(info.pos.txid, ms < 51000 ? (uint64_t)ms / 1000 : 50);
        }
}
END_TEST

START_TEST(what_is_nobodys_yet_is_not_found)
{
        struct moment_spec late = { .time_ms = INT64_MAX }, next = { .txid = 6 };
        struct moment_info info;

        while (last_txid < 9)
                commit_state(4096, 5, false, 2);
        ck_assert_int_eq(moment_find(fx.tl, &late, 5, &info, &fx.e), 0);
        ck_assert_uint_eq(info.pos.txid, 5);
        ck_assert_int_eq(moment_find(fx.tl, &next, 5, &info, &fx.e), E_NOT_FOUND);
}
END_TEST

/* As a replica gets one that was away for long: what was left out may have been a deletion. */
START_TEST(what_a_snapshot_leaves_out_hides_what_was_before)
{
        struct moment_spec before = { .txid = 3 }, at = { .txid = 7 };
        struct moment_info info;

        next_hides_past = false;
        while (last_txid < 4)
                commit_state(4096, 5, false, 2);
        commit_state(4096, 5, true, 1); /* which leaves nothing out */
        ck_assert_int_eq(moment_find(fx.tl, &before, last_txid, &info, &fx.e), 0);
        ck_assert(!info.is_hidden);
        last_txid++;
        commit_state(4096, 5, true, 1);
        commit_state(4096, 5, false, 2);
        ck_assert_int_eq(moment_find(fx.tl, &before, last_txid, &info, &fx.e), 0);
        ck_assert(info.is_hidden);
        ck_assert_int_eq(moment_find(fx.tl, &at, last_txid, &info, &fx.e), 0);
        ck_assert(!info.is_hidden);
}
END_TEST

START_TEST(log_that_lost_its_beginning_has_states_from_the_next_whole_one_on)
{
        struct txlog_retention policy = { .keep_after_txid = 20, .max_bytes = 1 };
        struct moment_info info;
        struct moment *held, *m;

        while (last_txid < 40)
                commit_state(4096, 20, last_txid == 29, 3);
        ck_assert_int_eq(txlog_sync(fx.tl, txlog_end_lsn(fx.tl), &fx.e), 0);
        held = open_txid(8);
        ck_assert_int_gt(txlog_retain(fx.tl, &policy, &fx.e), 0);
        ck_assert_int_eq(find_txid(8, &info), E_NOT_FOUND);
        check_state(held, 8); /* reads on */
        moment_close(held);
        ck_assert_int_eq(find_txid(25, &info), 0);
        ck_assert_int_eq(moment_open(&fx.os, fx.tl, NULL, &info, &m, &fx.e), E_NOT_FOUND);
        for (uint64_t txid = 30; txid <= 40; txid++) {
                m = open_txid(txid);
                check_state(m, txid);
                moment_close(m);
        }
}
END_TEST

/* One bit of any record that leads there: the moment is not opened. */
START_TEST(damaged_log_is_never_read)
{
        struct moment_info info;
        struct moment *m;
        uint64_t size;

        open_log(0);
        while (last_txid < 20)
                commit_state(4096, 20 + (uint32_t)last_txid, false, 3);
        ck_assert_int_eq(find_txid(20, &info), 0);
        size = txlog_end_lsn(fx.tl);
        for (int i = 0; i < 300; i++) {
                off_t at = 4096 + rand() % (off_t)(size - 4096);
                int fd = open(segment_path(1), O_RDWR), r;
                uint8_t byte, other;

                ck_assert(fd >= 0 && pread(fd, &byte, 1, at) == 1);
                other = byte ^ (uint8_t)(1 << rand() % 8);
                ck_assert(pwrite(fd, &other, 1, at) == 1);
                r = moment_open(&fx.os, fx.tl, NULL, &info, &m, &fx.e);
                if (r == 0) { /* in the bytes between two records */
                        check_state(m, 20);
                        moment_close(m);
                }
                ck_assert(pwrite(fd, &byte, 1, at) == 1);
                close(fd);
        }
        m = open_txid(20);
        check_state(m, 20);
        moment_close(m);
}
END_TEST

static const struct {
        const char *text;
        uint64_t txid;
        int64_t time_ms; /* both 0: it is none */
} specs[] = {
        { "000000000000002a", 42, 0 },
        { "0000000000000000", 0, 0 },
        { "2a", 0, 0 },
        { "2026-01-02T03:04:05Z", 0, 1767323045000 },
        { "2026-01-02T03:04:05.25Z", 0, 1767323045250 },
        { "2026-01-02T03:04:05z", 0, 0 },
        { "2026-01-02 03:04:05Z", 0, 0 },
        { "2026-01-02T05:04:05+02:00", 0, 0 },
        { "-5m", 0, 1700000000000 - 300000 },
        { "-0s", 0, 1700000000000 },
        { "-2h", 0, 1700000000000 - 7200000 },
        { "-1d", 0, 1700000000000 - 86400000 },
        { "-5", 0, 0 },
        { "-m", 0, 0 },
        { "5m", 0, 0 },
        { "-5ms", 0, 0 },
        { "-99999999999999999999d", 0, 0 },
        { "-5m-wal", 0, 0 },
        { "", 0, 0 },
};

START_TEST(moment_is_written_so)
{
        struct moment_spec spec;
        int r = moment_spec_parse(specs[_i].text, 1700000000000, &spec);
        bool is_one = specs[_i].txid != 0 || specs[_i].time_ms != 0;

        ck_assert_msg((r == 0) == is_one, "%s", specs[_i].text);
        if (is_one) {
                ck_assert_uint_eq(spec.txid, specs[_i].txid);
                ck_assert_int_eq(spec.time_ms, specs[_i].time_ms);
        }
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("moment");

        tcase_add_checked_fixture(tc, set_up, log_tear_down);
        tcase_add_test(tc, every_state_is_what_it_was);
        tcase_add_test(tc, time_means_the_last_transaction_before);
        tcase_add_test(tc, what_is_nobodys_yet_is_not_found);
        tcase_add_test(tc, what_a_snapshot_leaves_out_hides_what_was_before);
        tcase_add_test(tc, log_that_lost_its_beginning_has_states_from_the_next_whole_one_on);
        tcase_add_test(tc, damaged_log_is_never_read);
        tcase_add_loop_test(tc, moment_is_written_so, 0, sizeof specs / sizeof specs[0]);
        return run_tests("moment", tc);
}
