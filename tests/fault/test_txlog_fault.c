/* links: litefs_txlog sqlite3 litefs_db -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* A log is appended to, synced, extended, read and shortened while the n-th call fails, or until the power goes. What
 * an append returned 0 for is there afterwards, in order and byte by byte; what it returned an error for is not, nor
 * can anything follow it; and of a power loss a prefix survives that holds all that was synced. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "txlog/txlog.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/db_driver_fault.h"
#include "tests/lib/os_crash.h"
#include "tests/lib/tmpdir.h"
#include "tests/lib/run.h"

#define TXIDS_MAX 256
#define PAYLOAD_MAX (3u << 19)

struct run {
        struct txlog *log;
        uint32_t attempts[TXIDS_MAX]; /* how often a transaction was tried: part of its bytes */
        uint64_t last;                /* acknowledged */
        uint64_t synced;
        uint64_t dropped; /* retention may have dropped up to here */
        bool is_in_doubt; /* last + 1 failed, and the log takes no more */
        bool was_misread; /* while it was open */
};

/* Random enough that one record's bytes are never another's. */
static void
fill(uint8_t *p, size_t n, uint64_t txid, uint32_t attempt)
{
        uint64_t x = txid * 0x9e3779b97f4a7c15u + attempt;

        for (size_t i = 0; i < n; i++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                p[i] = (uint8_t)(x >> 56);
        }
}

static size_t
size_of(uint64_t txid)
{
        return txid % 9 == 5 ? PAYLOAD_MAX - (size_t)txid : 100 + (size_t)(txid * 977 % 3000);
}

static int
append_once(struct run *run)
{
        static uint8_t payload[PAYLOAD_MAX];
        uint64_t txid = run->last + 1, lsn;
        size_t n = size_of(txid);
        struct txlog_record rec = { .min_txid = txid,
                                    .max_txid = txid,
                                    .post_apply_checksum = txid,
                                    .timestamp_ms = (int64_t)txid,
                                    .page_size = 1024,
                                    .commit = 1 };
        struct byte_sink *sink = txlog_append_begin(run->log);
        int r = 0;

        if (txid >= TXIDS_MAX)
                abort(); /* check's own assertions take memory, which is what may be failing */
        if (sink == NULL)
                return -ENOMEM;
        fill(payload, n, txid, ++run->attempts[txid]);
        for (size_t at = 0; at < n && r == 0; at += 60000)
                r = sink->write(sink, payload + at, n - at < 60000 ? n - at : 60000);
        if (r < 0) {
                txlog_append_abort(run->log);
                return r;
        }
        r = txlog_append_commit(run->log, &rec, &lsn, NULL);
        if (r == 0)
                run->last = txid;
        return r;
}

/* Whoever fails tries again; a log that cannot be repaired goes on failing. */
static void
append(struct run *run)
{
        run->is_in_doubt = append_once(run) < 0 && append_once(run) < 0;
}

static void
sync_all(struct run *run)
{
        uint64_t last = run->last;

        if (txlog_sync(run->log, txlog_end_lsn(run->log), NULL) == 0)
                run->synced = last;
}

static void
retain(struct run *run)
{
        struct txlog_retention policy = { .keep_after_txid = run->synced / 2,
                                          .now_ms = 1 << 20,
                                          .max_age_ms = 1 };

        run->dropped = run->synced / 2;
        (void)txlog_retain(run->log, &policy, NULL);
}

/* @p is what the transaction was given, or, if it was not acknowledged, what one of the attempts was. */
static bool
is_expected(const struct run *run, const uint8_t *p, size_t n, uint64_t txid)
{
        static uint8_t expected[PAYLOAD_MAX];

        for (uint32_t attempt = run->attempts[txid]; attempt > 0; attempt--) {
                fill(expected, n, txid, attempt);
                if (memcmp(expected, p, n) == 0)
                        return true;
                if (txid <= run->last)
                        return false;
        }
        return false;
}

/* The records from the oldest on: each is what was appended. 0, an error of the reading, or 1: it is not. */
static int
read_all(struct run *run, uint64_t *ret_first, uint64_t *ret_last)
{
        static uint8_t got[PAYLOAD_MAX + 1];
        struct txlog_reader *reader;
        struct txlog_record rec;
        struct byte_src *src;
        int r;

        *ret_first = *ret_last = 0;
        if (!txlog_first(run->log, &rec))
                return 0;
        *ret_first = rec.min_txid;
        *ret_last = rec.min_txid - 1;
        r = txlog_reader_open(run->log, rec.min_txid - 1, &reader, NULL);
        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &rec, &src, NULL)) > 0) {
                uint64_t txid = rec.max_txid;
                ssize_t n = byte_src_read_all(src, got, sizeof got);

                if (n < 0) {
                        r = (int)n;
                        break;
                }
                r = 1;
                if (txid != *ret_last + 1 || txid >= TXIDS_MAX || (size_t)n != size_of(txid))
                        break;
                if (!is_expected(run, got, (size_t)n, txid))
                        break;
                *ret_last = txid;
        }
        txlog_reader_close(reader);
        return r;
}

/* What every scenario does; any step may fail. */
static void
act(struct run *run)
{
        uint64_t first, last;

        run->was_misread = false;
        for (int i = 0; i < 12 && !run->is_in_doubt; i++) {
                append(run);
                if (i % 3 == 1)
                        sync_all(run);
                if (txlog_wants_space(run->log))
                        (void)txlog_make_space(run->log);
        }
        run->was_misread = read_all(run, &first, &last) == 1;
        sync_all(run);
        retain(run);
        if (!run->is_in_doubt)
                append(run);
}

static const struct txlog_options small = { 6000 };

/* Nine records in several segments. */
static void
make_log(const char *dir, struct run *run)
{
        struct err e = ERR_INIT;

        memset(run, 0, sizeof *run);
        ck_assert_msg(txlog_open(os_host(), dir, &small, 0, &run->log, &e) == 0, "%s", e.text);
        while (run->last < 9)
                ck_assert_int_eq(append_once(run), 0);
        sync_all(run);
        txlog_close(run->log);
        run->log = NULL;
}

static void
check_log(struct run *run, const char *dir, uint64_t at_least, const char *what, uint64_t n)
{
        struct err e = ERR_INIT;
        uint64_t first, last;
        int r;

        r = txlog_open(os_host(), dir, &small, 0, &run->log, &e);
        ck_assert_msg(r == 0, "%s, call %llu: %s", what, (unsigned long long)n, e.text);
        r = read_all(run, &first, &last);
        ck_assert_msg(r == 0, "%s, call %llu: record %llu is not what was appended (%d)", what,
                      (unsigned long long)n, (unsigned long long)last + 1, r);
        ck_assert_msg(last >= at_least && last <= run->last + (run->is_in_doubt ? 1 : 0),
                      "%s, call %llu: ends at %llu, of %llu to %llu", what, (unsigned long long)n,
                      (unsigned long long)last, (unsigned long long)at_least,
                      (unsigned long long)run->last);
        ck_assert_msg(first <= run->dropped + 1, "%s, call %llu: begins at %llu, kept after %llu", what,
                      (unsigned long long)n, (unsigned long long)first,
                      (unsigned long long)run->dropped);
        run->last = last;
        ck_assert_int_eq(append_once(run), 0);
        txlog_close(run->log);
}

static bool
fail_once(const char *template, const char *dir, const struct run *made, const struct fault_kind *kind,
          uint64_t n, bool is_for_ever)
{
        struct run run = *made;
        struct os_fault of;
        uint64_t n_failed;
        int r;

        db_driver_remove_tree(dir);
        db_driver_copy_tree(template, dir);
        os_fault_init(&of, os_host());
        of.skips_sync = true;
        fault_arm(&of, kind, n, is_for_ever);
        r = txlog_open(&of.os, dir, &small, 0, &run.log, NULL);
        if (r == 0)
                act(&run);
        n_failed = fault_disarm(&of, kind);
        ck_assert(n_failed > 0 || (r == 0 && !run.is_in_doubt));
        ck_assert(!run.was_misread);
        txlog_close(run.log);
        check_log(&run, dir, run.last, kind->name, n);
        os_fault_release(&of);
        return n_failed > 0;
}

START_TEST(nth_call_fails)
{
        char *base = tmpdir_make(), template[PATH_MAX], dir[PATH_MAX];
        uint64_t n;
        struct run run;

        snprintf(template, sizeof template, "%s/template", base);
        snprintf(dir, sizeof dir, "%s/log", base);
        make_log(template, &run);
        for (int for_ever = 0; for_ever < 2; for_ever++) {
                if (for_ever && fault_kinds[_i].plan.error == -EINTR)
                        continue;
                n = 1;
                while (fail_once(template, dir, &run, &fault_kinds[_i], n, for_ever))
                        n += 1 + n / 20;
        }
        tmpdir_remove(base);
}
END_TEST

START_TEST(power_is_lost)
{
        const char *text = getenv("SEED");
        uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 1;
        char *base = tmpdir_make(), template[PATH_MAX], root[PATH_MAX], dir[PATH_MAX + 8];
        struct run made, run;
        bool was_cut = true;

        snprintf(template, sizeof template, "%s/template/log", base);
        ck_assert_int_eq(os_mkdir_all(os_host(), "test", template, 0777), 0);
        make_log(template, &made);
        snprintf(template, sizeof template, "%s/template", base);
        snprintf(root, sizeof root, "%s/root", base);
        snprintf(dir, sizeof dir, "%s/log", root);
        for (uint64_t n = 1; was_cut; n++) {
                struct os_crash *oc;

                db_driver_remove_tree(root);
                db_driver_copy_tree(template, root);
                oc = os_crash_new(root, seed + n);
                os_crash_after(oc, n);
                run = made;
                if (txlog_open(os_crash_os(oc), dir, &small, 0, &run.log, NULL) == 0)
                        act(&run);
                was_cut = os_crash_is_dead(oc);
                os_crash_now(oc);
                txlog_close(run.log);
                os_crash_free(oc);
                run.is_in_doubt = true; /* what the power interrupted may have been written */
                check_log(&run, dir, run.synced, "power lost", n);
        }
        tmpdir_remove(base);
}
END_TEST

int
main(void)
{
        static const struct log_config quiet = { .fd = -1 };
        TCase *tc = tcase_create("txlog_fault");

        log_configure(&quiet);
        db_driver_use_memory();
        tcase_set_timeout(tc, 300);
        tcase_add_loop_test(tc, nth_call_fails, 0, (int)n_fault_kinds);
        tcase_add_test(tc, power_is_lost);
        return run_tests("txlog_fault", tc);
}
