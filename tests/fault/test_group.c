/* links: litefs_store sqlite3 */
/* A transaction over two databases, whatever fails under it and whenever the power goes: it is in both or in neither, and
 * what was answered is in both. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "db/group.h"
#include "store/groups.h"
#include "store/store.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/os_crash.h"
#include "tests/lib/os_fault.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define SUPER "a.db-mj01234A9F0"
#define PAGE 1024u
#define MARK_OFF (2u * PAGE + 500u) /* in page 3, where nobody but this test writes */

static const char *const names[] = { "a.db", "sub/b.db" };

struct world {
        char *dir;
        char root[256];
        const struct os *os;
        struct workers *workers;
        struct lease *lease;
        struct store *s;
        struct err e;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_done;
        int result;
};

static int
open_store(struct world *w)
{
        struct store_config config = {
                .os = w->os, .clock = clock_host(), .workers = w->workers, .data_dir = w->root
        };
        struct lease_state holder = { 0 };
        int r = store_open(&config, w->lease, &w->s, &w->e);

        if (r == 0)
                store_set_role(w->s, true, &holder);
        return r;
}

static void
close_store(struct world *w)
{
        store_close(w->s);
        w->s = NULL;
}

static void
begin(struct world *w)
{
        *w = (struct world){ .dir = tmpdir_make(), .os = os_host(), .e = ERR_INIT };
        snprintf(w->root, sizeof w->root, "%s/data", w->dir);
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->changed, NULL);
        ck_assert_int_eq(workers_new(2, &w->workers), 0);
        ck_assert_int_eq(lease_static_new(true, "here", "http://127.0.0.1:1", &w->lease), 0);
}

static void
end(struct world *w)
{
        workers_free(w->workers);
        w->lease->ops->free(w->lease);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        tmpdir_remove(w->dir);
}

static struct db *
get_db(struct world *w, int i)
{
        struct db *db = store_find(w->s, names[i]);

        ck_assert_msg(db != NULL, "%s is not there", names[i]);
        return db;
}

static void
make_databases(struct world *w)
{
        char path[300];
        struct db *db;

        ck_assert_msg(open_store(w) == 0, "%s", w->e.text);
        snprintf(path, sizeof path, "%s/plain", w->dir);
        for (int i = 0; i < 2; i++) {
                db_driver_make_plain(path, 20);
                ck_assert_int_eq(store_create_db(w->s, names[i], &db, &w->e), 0);
                ck_assert_msg(db_adopt_file(db, path, &w->e) == 0, "%s", w->e.text);
        }
        close_store(w);
}

static uint32_t
mark_of(struct world *w, int i)
{
        uint32_t mark = 0;

        ck_assert_int_eq(db_read(get_db(w, i), &mark, sizeof mark, MARK_OFF), sizeof mark);
        return mark;
}

static int
write_mark(struct world *w, int i, uint32_t mark)
{
        uint8_t page[PAGE];

        if (db_read(get_db(w, i), page, PAGE, 2 * PAGE) != PAGE)
                return -EIO;
        memcpy(page + (MARK_OFF - 2 * PAGE), &mark, sizeof mark);
        return db_write(get_db(w, i), page, PAGE, 2 * PAGE, (struct db_done){ 0 });
}

/* What SQLite writes before a page: a header, and at the end where the super-journal is. */
static int
write_journal(struct db *db)
{
        static const uint8_t magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        const char *super = "/where/it/is/mounted/" SUPER;
        uint8_t journal[640] = { 0 }, *p = journal + 512;
        size_t n = strlen(super);
        uint32_t sum = 0;
        int r = db_journal_create(db);

        memcpy(journal, magic, sizeof magic);
        memcpy(p, super, n);
        for (size_t i = 0; i < n; i++)
                sum += (uint8_t)super[i];
        p += n;
        *p++ = 0, *p++ = 0, *p++ = 0, *p++ = (uint8_t)n;
        *p++ = 0, *p++ = 0, *p++ = (uint8_t)(sum >> 8), *p++ = (uint8_t)sum;
        memcpy(p, magic, sizeof magic);
        return r < 0 ? r
                     : db_journal_write(db, journal, (size_t)(p + 8 - journal), 0,
                                        (struct db_done){ 0 });
}

static void
note_done(void *arg, int result)
{
        struct world *w = arg;

        pthread_mutex_lock(&w->lock);
        w->is_done = true;
        w->result = result;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
}

static int
commit(struct world *w)
{
        struct db **dbs = NULL;
        int n = groups_find(w->s, SUPER, &dbs), r;

        ck_assert_int_eq(n, 2);
        w->is_done = false;
        r = groups_commit(w->s, dbs, 2, (struct db_done){ note_done, w });
        if (r == DB_PENDING) {
                pthread_mutex_lock(&w->lock);
                while (!w->is_done)
                        pthread_cond_wait(&w->changed, &w->lock);
                pthread_mutex_unlock(&w->lock);
                r = w->result;
        }
        workers_drain(w->workers);
        free(dbs);
        return r;
}

/* One transaction, and how it ended: 0 or negative; rolled back then, where that is possible. */
static int
transact(struct world *w, uint32_t mark)
{
        uint32_t before[2] = { mark_of(w, 0), mark_of(w, 1) };
        int r = 0;

        for (int i = 0; i < 2 && r == 0; i++) {
                r = write_journal(get_db(w, i));
                if (r == 0)
                        r = write_mark(w, i, mark);
        }
        if (r == 0)
                r = commit(w);
        for (int i = 0; i < 2; i++) {
                if (r < 0)
                        (void)write_mark(w, i, before[i]);
                (void)db_journal_unlink(get_db(w, i), (struct db_done){ 0 });
        }
        return r;
}

/* The mark that both have. */
static uint32_t
check_whole(struct world *w)
{
        uint32_t a = mark_of(w, 0), b = mark_of(w, 1);

        ck_assert_msg(a == b, "half of a transaction: %u and %u", a, b);
        return a;
}

START_TEST(both_have_it)
{
        struct ltx_pos was[2], now;
        struct db_info info;
        struct world w;

        begin(&w);
        make_databases(&w);
        ck_assert_int_eq(open_store(&w), 0);
        for (int i = 0; i < 2; i++) {
                db_get_info(get_db(&w, i), &info);
                was[i] = info.pos;
        }
        ck_assert_int_eq(transact(&w, 7), 0);
        ck_assert_uint_eq(check_whole(&w), 7);
        for (int i = 0; i < 2; i++) {
                db_get_info(get_db(&w, i), &info);
                now = info.pos;
                ck_assert_uint_eq(now.txid, was[i].txid + 1);
        }
        close_store(&w);
        ck_assert_int_eq(open_store(&w), 0);
        ck_assert_uint_eq(check_whole(&w), 7);
        close_store(&w);
        end(&w);
}
END_TEST

START_TEST(others_do_not_belong_to_it)
{
        struct db **dbs = NULL;
        struct world w;

        begin(&w);
        make_databases(&w);
        ck_assert_int_eq(open_store(&w), 0);
        ck_assert_int_eq(groups_find(w.s, SUPER, &dbs), 0);
        ck_assert_int_eq(write_journal(get_db(&w, 1)), 0);
        ck_assert_int_eq(groups_find(w.s, "b.db-mj01234A9F0", &dbs), 0);
        ck_assert_int_eq(groups_find(w.s, SUPER, &dbs), 1);
        ck_assert_ptr_eq(dbs[0], get_db(&w, 1));
        free(dbs);
        ck_assert(groups_is_super(SUPER));
        ck_assert(!groups_is_super("a.db-mj01234a9f0"));
        ck_assert(!groups_is_super("a.db-mj01234A8F0"));
        ck_assert(!groups_is_super("-mj01234A9F0"));
        close_store(&w);
        end(&w);
}
END_TEST

static bool
is_failed(struct world *w, int i)
{
        struct db_info info;

        db_get_info(get_db(w, i), &info);
        return info.is_failed;
}

/* One call fails, once, in each way. */
START_TEST(a_call_fails)
{
        static const int errors[] = { -EIO, -ENOSPC };
        static const enum os_op ops[] = { OS_PWRITE, OS_FDATASYNC, OS_FSYNC, OS_OPEN };
        unsigned n_failed = 0, n_ok = 0;
        struct os_fault of;
        struct world w;
        bool has_failed = true;

        for (uint64_t nth = 1; has_failed; nth++) {
                struct os_fault_plan plan = { .op = ops[_i / 2], .nth = nth, .error = errors[_i % 2] };
                uint32_t found;
                bool is_stopped;
                int r;

                begin(&w);
                make_databases(&w);
                os_fault_init(&of, os_host());
                w.os = &of.os;
                ck_assert_int_eq(open_store(&w), 0);
                ck_assert_int_eq(transact(&w, 1), 0);
                os_fault_plan(&of, &plan);
                r = transact(&w, 2);
                has_failed = os_fault_failed(&of) > 0;
                os_fault_plan(&of, NULL);
                r < 0 ? n_failed++ : n_ok++;
                is_stopped = is_failed(&w, 0);
                ck_assert_int_eq(is_failed(&w, 1), is_stopped);
                close_store(&w);
                w.os = os_host();
                ck_assert_msg(open_store(&w) == 0, "%s", w.e.text);
                found = check_whole(&w);
                /* Whoever is told an error by a database that goes on is told the truth. */
                ck_assert_msg(found == (r == 0 ? 2 : 1) || (r < 0 && is_stopped && found == 2),
                              "call %llu: answered %d, found %u", (unsigned long long)nth, r, found);
                ck_assert_int_eq(transact(&w, 3), 0);
                ck_assert_uint_eq(check_whole(&w), 3);
                close_store(&w);
                os_fault_release(&of);
                end(&w);
        }
        ck_assert_uint_gt(n_ok, 0);
        if (ops[_i / 2] != OS_FSYNC) /* of a directory: only a first note needs that */
                ck_assert_uint_gt(n_failed, 0);
}
END_TEST

/* Who goes on trying fills no log. */
START_TEST(failures_are_told_once_then_counted)
{
        static const struct os_fault_plan plan = {
                .op = OS_PWRITE, .tag = "groups:", .nth = 1, .error = -ENOSPC
        };
        struct log_config quiet = { .fd = -1 }, heard = { 0 };
        char path[300], text[8192];
        size_t n_lines = 0;
        struct os_fault of;
        struct world w;
        ssize_t n;

        begin(&w);
        make_databases(&w);
        os_fault_init(&of, os_host());
        w.os = &of.os;
        ck_assert_int_eq(open_store(&w), 0);
        snprintf(path, sizeof path, "%s/log", w.dir);
        heard.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        ck_assert_int_ge(heard.fd, 0);
        log_configure(&heard);
        for (uint32_t i = 1; i <= 10; i++) {
                os_fault_plan(&of, &plan);
                ck_assert_int_eq(transact(&w, i), -ENOSPC);
        }
        os_fault_plan(&of, NULL);
        ck_assert_int_eq(transact(&w, 11), 0);
        log_configure(&quiet);
        n = pread(heard.fd, text, sizeof text - 1, 0);
        ck_assert_int_gt(n, 0);
        text[n] = '\0';
        for (const char *s = text; (s = strstr(s, "commit failed: over 2 databases")) != NULL; s++)
                n_lines++;
        ck_assert_msg(n_lines == 1, "%zu lines:\n%s", n_lines, text);
        close(heard.fd);
        close_store(&w);
        os_fault_release(&of);
        end(&w);
}
END_TEST

/* The file of notes as one over more databases has left it, with its end behind the next one's. */
static void
leave_longer_note(struct world *w)
{
        uint8_t bytes[900];
        char path[300];

        memset(bytes, 0x55, sizeof bytes);
        memset(bytes, 0, 8);
        snprintf(path, sizeof path, "%s/groups", w->root);
        (void)mkdir(path, 0700);
        write_file(path_in(path, "0"), bytes, sizeof bytes);
}

/* The power goes in the n-th call that changes something. */
START_TEST(power_is_lost)
{
        unsigned n_there = 0, n_gone = 0;

        for (uint64_t seed = 1; seed <= 160; seed++) {
                struct os_crash *oc;
                struct world w;
                uint32_t answered = 0, found;

                begin(&w);
                make_databases(&w);
                if (seed % 2 == 0)
                        leave_longer_note(&w);
                oc = os_crash_new(w.root, seed);
                w.os = os_crash_os(oc);
                ck_assert_int_eq(open_store(&w), 0);
                ck_assert_int_eq(transact(&w, 1), 0);
                answered = 1;
                os_crash_after(oc, 1 + seed % 20);
                for (uint32_t mark = 2; mark <= 4 && !os_crash_is_dead(oc); mark++)
                        if (transact(&w, mark) == 0)
                                answered = mark;
                os_crash_now(oc);
                close_store(&w);
                w.os = os_host();
                ck_assert_msg(open_store(&w) == 0, "seed %llu: %s", (unsigned long long)seed, w.e.text);
                found = check_whole(&w);
                ck_assert_msg(found == answered || found == answered + 1,
                              "seed %llu: answered %u, found %u", (unsigned long long)seed, answered,
                              found);
                found == answered ? n_gone++ : n_there++;
                ck_assert_int_eq(transact(&w, 9), 0);
                ck_assert_uint_eq(check_whole(&w), 9);
                close_store(&w);
                os_crash_free(oc);
                end(&w);
        }
        printf("the transaction under way: %u times there, %u times gone\n", n_there, n_gone);
        ck_assert_uint_gt(n_gone, 0);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("group");

        db_driver_use_memory();
        log_configure(&(struct log_config){ .fd = -1 });
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, both_have_it);
        tcase_add_test(tc, others_do_not_belong_to_it);
        tcase_add_loop_test(tc, a_call_fails, 0, 8);
        tcase_add_test(tc, failures_are_told_once_then_counted);
        tcase_add_test(tc, power_is_lost);
        return run_tests("group", tc);
}
