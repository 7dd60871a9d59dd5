/* links: litefs_repl litefs_store sqlite3 */
/* The lease is handed over while a commit stands between "it may" and its answer: nothing is offered before it is answered, and
 * what is answered is never missing where the lease goes. The moment is a call that the disk holds. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "db/import.h"
#include "store/groups.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/files.h"
#include "tests/lib/primary.h"
#include "tests/lib/run.h"

#define PAGE 1024u
#define HANDOFF_MS 300 /* long enough for one that waits for nobody */

static const char *const names[] = { "a.db", "sub/b.db" };
static const char *const held_calls[] = { "txlog:append", "txlog:sync" };

/* A commit by a thread of its own, and what it was told. */
struct writer {
        pthread_t thread;
        struct primary *p;
        int (*commit)(struct writer *c);
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_done;
        int result;
};

static void
note_result(void *arg, int result)
{
        struct writer *c = arg;

        pthread_mutex_lock(&c->lock);
        c->is_done = true;
        c->result = result;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
}

static int
wait_for_result(struct writer *c)
{
        pthread_mutex_lock(&c->lock);
        while (!c->is_done)
                pthread_cond_wait(&c->changed, &c->lock);
        pthread_mutex_unlock(&c->lock);
        return c->result;
}

/* As POST /import. */
static int
commit_import(struct writer *c)
{
        const char *path = path_in(c->p->dir, "file");
        struct db_changes ch = { .old_fd = -1, .old_wal_fd = -1 };
        struct db *db = store_find(c->p->store, names[0]);
        struct import_file file;
        struct received rx;
        int fd, r;

        db_driver_make_plain(path, 40);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        received_init(&rx, store_env(c->p->store));
        r = import_check(&c->p->os.os, fd, &file, NULL);
        if (r == 0)
                r = import_build(db, fd, &file, &rx, NULL);
        if (r == 0) {
                r = db_apply_direct(db, &rx, &ch, NULL);
                db_apply_shown(db);
        }
        if (r == 0)
                r = db_may_confirm(db);
        free(ch.pgnos);
        received_release(&rx);
        close(fd);
        return r;
}

/* What SQLite does before it removes the super-journal of a transaction over both. */
static void
write_both(struct primary *p)
{
        static const uint8_t magic[512] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
        uint8_t page[PAGE];

        for (int i = 0; i < COUNT(names); i++) {
                struct db *db = store_find(p->store, names[i]);

                ck_assert_int_eq(db_journal_create(db), 0);
                ck_assert_int_eq(db_journal_write(db, magic, sizeof magic, 0, (struct db_done){ 0 }), 0);
                ck_assert_int_eq(db_journal_fsync(db, (struct db_done){ 0 }), 0); /* as with FULL */
                ck_assert_int_eq(db_read(db, page, PAGE, 2 * PAGE), PAGE);
                page[500] ^= 1;
                ck_assert_int_eq(db_write(db, page, PAGE, 2 * PAGE, (struct db_done){ 0 }), 0);
        }
}

static int
commit_group(struct writer *c)
{
        struct db *dbs[] = { store_find(c->p->store, names[0]), store_find(c->p->store, names[1]) };
        int r;

        write_both(c->p);
        r = groups_commit(c->p->store, dbs, COUNT(dbs), (struct db_done){ note_result, c });
        return r == DB_PENDING ? wait_for_result(c) : r;
}

static int
commit_journal(struct writer *c)
{
        struct db *db = store_find(c->p->store, names[0]);
        int r;

        write_both(c->p);
        r = db_journal_unlink(db, (struct db_done){ note_result, c });
        return r == DB_PENDING ? wait_for_result(c) : r;
}

static int (*const commits[])(struct writer *c) = { commit_import, commit_group, commit_journal };

static void *
run_commit(void *arg)
{
        struct writer *c = arg;

        c->result = c->commit(c);
        return NULL;
}

static void
make_databases(struct primary *p)
{
        const char *path = path_in(p->dir, "plain");
        struct err e = ERR_INIT;
        struct db *db;

        for (int i = 0; i < COUNT(names); i++) {
                db_driver_make_plain(path, 20);
                ck_assert_int_eq(store_create_db(p->store, names[i], &db, &e), 0);
                ck_assert_msg(db_adopt_file(db, path, &e) == 0, "%s", e.text);
        }
}

static void
begin_commit(struct writer *c, struct primary *p, int i, const char *held)
{
        const struct timespec moment = { 0, 1000000 };

        *c = (struct writer){ .p = p, .commit = commits[i] };
        pthread_mutex_init(&c->lock, NULL);
        pthread_cond_init(&c->changed, NULL);
        holding_set(&p->os, held);
        ck_assert_int_eq(pthread_create(&c->thread, NULL, run_commit, c), 0);
        /* What was held may have been another call, for what was there before. */
        for (holding_wait(&p->os); store_is_quiet(p->store);)
                nanosleep(&moment, NULL);
}

static int
end_commit(struct writer *c)
{
        holding_set(&c->p->os, NULL);
        pthread_join(c->thread, NULL);
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->lock);
        return c->result;
}

static void
check_not_handed_over(struct primary *p)
{
        struct err e = ERR_INIT;

        ck_assert_int_lt(node_handoff(p->node, "other", 0, HANDOFF_MS, &e), 0);
        ck_assert(p->lease.is_held && !p->lease.is_offered);
        ck_assert_uint_eq(p->lease.term, 1);
}

START_TEST(nothing_is_offered_before_a_commit_is_answered)
{
        struct primary p;
        struct writer c;

        primary_begin(&p);
        make_databases(&p);
        primary_join(&p, true);
        begin_commit(&c, &p, _i / COUNT(held_calls), held_calls[_i % COUNT(held_calls)]);
        check_not_handed_over(&p);
        ck_assert_int_eq(end_commit(&c), 0);
        check_not_handed_over(&p); /* it was answered, and the replica lacks it */
        node_stop(p.node);
        primary_end(&p);
}
END_TEST

/* Should the lease be gone all the same, to a node that lacks it. */
START_TEST(what_was_passed_on_without_it_is_not_confirmed)
{
        struct primary p;
        struct writer c;

        primary_begin(&p);
        make_databases(&p);
        begin_commit(&c, &p, _i, "txlog:append");
        store_set_handed_over(p.store, true);
        __atomic_store_n(&p.lease.deadline_ms, INT64_MIN, __ATOMIC_SEQ_CST);
        ck_assert_int_lt(end_commit(&c), 0);
        node_stop(p.node);
        primary_end(&p);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("handoff_commits");

        tcase_add_loop_test(tc, nothing_is_offered_before_a_commit_is_answered, 0,
                            COUNT(commits) * COUNT(held_calls));
        tcase_add_loop_test(tc, what_was_passed_on_without_it_is_not_confirmed, 0, COUNT(commits));
        return run_tests("handoff_commits", tc);
}
