/* links: litefs_repl litefs_store sqlite3 -Wl,--wrap=http_client_do */
/* Transactions of the last term that another node is asked for (repl/fetch.h): what it answers out of a real log, and what is
 * made of answers that are no such thing. */
#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/workers.h"
#include "ltx/checksum.h"
#include "repl/fetch.h"
#include "repl/log_cursor.h"
#include "store/store.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/fetch_all.h"
#include "tests/lib/os_no_sync.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

#define NAME "t.db"
#define N_COMMITS 5
#define LARGE_COMMIT 3
#define ENOUGH (4u << 20) /* of which an answer has a record more at the most */
#define SUM LTX_CHECKSUM_FLAG
#define TIMEOUT_MS 1000

static const struct frame_hello self = { .version = FRAME_VERSION,
                                         .boot_id = 7,
                                         .term = 3,
                                         .cluster_id = "LFSC0123456789ABCDEF",
                                         .hostname = "there",
                                         .advertise_url = "http://there:20202" };

/* --- the connection between them --- */

static struct {
        const char *body;
        size_t n;
        int status, error;
        char url[2048];
        size_t slice; /* in which it comes; 0: at once */
} net;

int __wrap_http_client_do(struct http_client *c, const struct http_request *q, struct http_response *ret,
                          struct err *e);

int
__wrap_http_client_do(struct http_client *c, const struct http_request *q, struct http_response *ret,
                      struct err *e)
{
        size_t part;
        int r = 0;

        (void)c;
        snprintf(net.url, sizeof net.url, "%s", q->url);
        ck_assert_int_eq(q->total_timeout_ms, TIMEOUT_MS);
        if (net.error < 0)
                return err_set(e, net.error, "request");
        *ret = (struct http_response){ .status = net.status };
        if (net.status != 200)
                return 0;
        for (size_t off = 0; r == 0 && off < net.n; off += part) {
                part = net.slice > 0 && net.slice < net.n - off ? net.slice : net.n - off;
                r = q->sink->write(q->sink, net.body + off, part);
        }
        return r < 0 ? err_set(e, r, "GET %s", q->url) : 0;
}

/* --- the node that asks --- */

struct asker {
        struct fetch fetch;
        struct db_env env;
        struct ltx_pos pos;
        char *dir;
        struct received *got[16];
        int n_got, refusal;
};

static int
take(void *arg, const char *name, struct received *rx, struct err *e)
{
        struct asker *a = arg;

        ck_assert_str_eq(name, NAME);
        if (a->refusal < 0)
                return err_set(e, a->refusal, "take");
        ck_assert_int_lt(a->n_got, COUNT(a->got));
        a->got[a->n_got++] = rx;
        return 0;
}

static void
asker_begin(struct asker *a, struct ltx_pos pos)
{
        *a = (struct asker){ .dir = tmpdir_make(), .pos = pos };
        a->env = (struct db_env){ .os = os_host(), .tmp_dir = a->dir };
        a->fetch = (struct fetch){
                .url = "http://there:20202", .peer = &self, .env = &a->env, .push = take, .arg = a
        };
        net.status = 200;
}

static void
asker_forget(struct asker *a)
{
        while (a->n_got > 0) {
                received_release(a->got[--a->n_got]);
                free(a->got[a->n_got]);
        }
}

static void
asker_end(struct asker *a)
{
        asker_forget(a);
        tmpdir_remove(a->dir);
}

static int
ask(struct asker *a, const void *body, size_t n, struct err *e)
{
        net.body = body;
        net.n = n;
        return fetch_some(&a->fetch, NAME, &a->pos, TIMEOUT_MS, e);
}

/* --- the node that answers --- */

struct answerer {
        char *dir;
        char root[256];
        struct os os;
        struct ltx_pos at[N_COMMITS + 1]; /* after each commit; [0]: before them */
        struct workers *workers;
        struct lease *lease;
        struct store *store;
};

/* Its database, with commits of about @n_bytes on top, one of them of @n_large. */
static void
make_database(struct answerer *t, int n_bytes, int n_large)
{
        struct err e = ERR_INIT;
        struct db_driver *d;
        struct db_info info;
        char sql[120];
        sqlite3 *c;

        db_driver_make_template(t->root, "delete", 50);
        ck_assert_msg(db_driver_open(&t->os, t->root, &d, &e) == 0, "%s", e.text);
        ck_assert_int_eq(db_driver_connect(d, 0, &c), SQLITE_OK);
        ck_assert_int_eq(db_driver_exec(c, "pragma page_size=65536; vacuum"), SQLITE_OK);
        for (int i = 0; i <= N_COMMITS; i++) {
                snprintf(sql, sizeof sql, "update t set x=randomblob(%d) where id=%d",
                         i == LARGE_COMMIT ? n_large : n_bytes, i);
                if (i > 0)
                        ck_assert_int_eq(db_driver_exec(c, sql), SQLITE_OK);
                db_get_info(db_driver_db(d), &info);
                t->at[i] = info.pos;
        }
        ck_assert_uint_eq(t->at[N_COMMITS].txid, t->at[0].txid + N_COMMITS);
        ck_assert_int_eq(sqlite3_close(c), SQLITE_OK);
        db_driver_close(d);
}

static void
answerer_begin_at(struct answerer *t, const struct clock *clock, int n_bytes, int n_large)
{
        struct store_config config = { .os = &t->os, .clock = clock, .data_dir = t->root };
        struct err e = ERR_INIT;

        *t = (struct answerer){ .dir = tmpdir_make(), .os = os_no_sync() };
        snprintf(t->root, sizeof t->root, "%s/data", t->dir);
        make_database(t, n_bytes, n_large);
        ck_assert_int_eq(workers_new(2, &t->workers), 0);
        ck_assert_int_eq(lease_static_new(false, "there", "http://there:20202", &t->lease), 0);
        config.workers = t->workers;
        ck_assert_msg(store_open(&config, t->lease, &t->store, &e) == 0, "%s", e.text);
}

static void
answerer_begin_with(struct answerer *t, int n_bytes, int n_large)
{
        answerer_begin_at(t, clock_host(), n_bytes, n_large);
}

static void
answerer_begin(struct answerer *t, int n_bytes)
{
        answerer_begin_with(t, n_bytes, n_bytes);
}

static void
answerer_end(struct answerer *t)
{
        store_close(t->store);
        workers_free(t->workers);
        t->lease->ops->free(t->lease);
        tmpdir_remove(t->dir);
}

/* The size of the answer. */
static size_t
ask_there(struct asker *a, struct answerer *t, const char *name)
{
        struct err e = ERR_INIT;
        char *body;
        size_t n;

        ck_assert_int_eq(fetch_all(t->store, &self, name, a->pos, &body, &n), 0);
        ck_assert_msg(ask(a, body, n, &e) == 0, "%s", e.text);
        free(body);
        return n;
}

static void
check_got(struct asker *a, const struct answerer *t, int first, int last)
{
        struct err e = ERR_INIT;

        ck_assert_int_eq(a->n_got, last - first + 1);
        for (int i = 0; i < a->n_got; i++) {
                ck_assert_msg(received_verify(a->got[i], &e) == 0, "%s", e.text);
                ck_assert_uint_eq(a->got[i]->record.min_txid, t->at[first + i].txid);
                ck_assert_uint_eq(a->got[i]->record.pre_apply_checksum, t->at[first + i - 1].checksum);
                ck_assert_uint_eq(a->got[i]->record.post_apply_checksum, t->at[first + i].checksum);
        }
        ck_assert_uint_eq(a->pos.txid, t->at[last].txid);
        ck_assert_uint_eq(a->pos.checksum, t->at[last].checksum);
}

START_TEST(what_follows_a_position_is_answered)
{
        struct answerer t;
        struct asker a;

        answerer_begin(&t, 3000);
        for (int from = 0; from < N_COMMITS; from++) {
                asker_begin(&a, t.at[from]);
                ask_there(&a, &t, NAME);
                check_got(&a, &t, from + 1, N_COMMITS);
                asker_end(&a);
        }
        answerer_end(&t);
}
END_TEST

START_TEST(nothing_is_answered_to_who_has_it_all_or_is_elsewhere)
{
        struct answerer t;
        struct asker a;
        size_t n_hello;

        answerer_begin(&t, 3000);
        asker_begin(&a, t.at[N_COMMITS]);
        n_hello = ask_there(&a, &t, NAME);
        ck_assert_int_eq(a.n_got, 0);
        a.pos.txid += 10; /* ahead of it */
        ck_assert_uint_eq(ask_there(&a, &t, NAME), n_hello);
        a.pos = t.at[2]; /* as far as it was, in another history */
        a.pos.checksum ^= 1;
        ck_assert_uint_eq(ask_there(&a, &t, NAME), n_hello);
        a.pos = t.at[2];
        ck_assert_uint_eq(ask_there(&a, &t, "unknown.db"), n_hello);
        ck_assert_uint_eq(a.pos.txid, t.at[2].txid);
        ck_assert_int_eq(a.n_got, 0);
        asker_end(&a);
        answerer_end(&t);
}
END_TEST

START_TEST(an_answer_is_bounded_and_the_next_one_goes_on)
{
        const int n_bytes = 3 << 19;
        struct answerer t;
        struct asker a;
        size_t n;

        answerer_begin(&t, n_bytes);
        asker_begin(&a, t.at[0]);
        for (int got = 0; got < N_COMMITS; got += a.n_got) {
                asker_forget(&a);
                n = ask_there(&a, &t, NAME);
                ck_assert_uint_le(n, ENOUGH + 2 * (size_t)n_bytes);
                ck_assert_int_ge(a.n_got, 1);
                ck_assert_int_lt(a.n_got, N_COMMITS);
                check_got(&a, &t, got + 1, got + a.n_got);
        }
        asker_end(&a);
        answerer_end(&t);
}
END_TEST

struct test_clock {
        struct clock clock; /* first */
        int64_t late_ms;
};

static int64_t
late_boot_ms(const struct clock *c)
{
        return clock_boot_ms(clock_host()) + ((const struct test_clock *)c)->late_ms;
}

/* It may have the database's one snapshot. */
START_TEST(an_answer_that_is_read_too_slowly_ends)
{
        struct test_clock clock = { *clock_host(), 0 };
        struct fetch_source *s;
        struct answerer t;
        uint8_t byte;

        clock.clock.boot_ms = late_boot_ms;
        answerer_begin_at(&t, &clock.clock, 3000, 3000);
        ck_assert_int_eq(fetch_source_open(t.store, &self, NAME, (struct ltx_pos){ 0 }, &s), 0);
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(fetch_source_read(s, &byte, 1), 1);
        clock.late_ms = 11000;
        for (int i = 0; i < 1 << 20 && fetch_source_read(s, &byte, 1) == 1; i++)
                ;
        ck_assert_int_eq(fetch_source_read(s, &byte, 1), -ETIMEDOUT);
        fetch_source_close(s);
        answerer_end(&t);
}
END_TEST

static size_t
heap_bytes(void)
{
        struct mallinfo2 m = mallinfo2();

        return m.uordblks + m.hblkhd;
}

/* It comes whole, and neither node ever has much of it in memory. */
START_TEST(a_transaction_may_be_of_any_size)
{
        const size_t n_large = 66u << 20;
        struct err e = ERR_INIT;
        struct fetch_source *s;
        struct answerer t;
        struct asker a;
        char *piece = malloc(FETCH_ALL_PIECE), *body;
        size_t before, n = 0, n_body;
        ssize_t r;

        answerer_begin_with(&t, 3000, (int)n_large);
        asker_begin(&a, t.at[0]);
        before = heap_bytes();
        ck_assert_int_eq(fetch_source_open(t.store, &self, NAME, a.pos, &s), 0);
        while ((r = fetch_source_read(s, piece, FETCH_ALL_PIECE)) > 0) {
                n += (size_t)r;
                ck_assert_uint_lt(heap_bytes(), before + (4u << 20));
        }
        ck_assert_int_eq(r, 0);
        ck_assert_uint_gt(n, n_large);
        fetch_source_close(s);
        ck_assert_int_eq(fetch_all(t.store, &self, NAME, a.pos, &body, &n_body), 0);
        ck_assert_uint_eq(n_body, n);
        before = heap_bytes();
        net.slice = 16384;
        ck_assert_msg(ask(&a, body, n_body, &e) == 0, "%s", e.text);
        net.slice = 0;
        ck_assert_uint_lt(heap_bytes(), before + (8u << 20));
        check_got(&a, &t, 1, LARGE_COMMIT);
        free(body);
        asker_forget(&a);
        ask_there(&a, &t, NAME);
        check_got(&a, &t, LARGE_COMMIT + 1, N_COMMITS);
        free(piece);
        asker_end(&a);
        answerer_end(&t);
}
END_TEST

/* However little is wanted, and although the frame before it is more than that: a snapshot is as large as its database. */
START_TEST(a_snapshot_is_read_in_pieces)
{
        const size_t n_bytes = 1 << 20;
        struct err e = ERR_INIT;
        struct log_cursor c = { 0 };
        struct answerer t;
        struct outbox o;
        uint32_t stream = 1;
        size_t total = 0, before;
        int r;

        answerer_begin(&t, n_bytes);
        c.db = store_find(t.store, NAME);
        outbox_init(&o);
        log_cursor_reset(&c, (struct ltx_pos){ t.at[N_COMMITS].txid, t.at[N_COMMITS].checksum ^ 1 });
        do {
                before = o.n;
                r = log_cursor_read(&c, 1, &stream, 1, &o, &e);
                ck_assert_msg(r >= 0, "%s", e.text);
                ck_assert_uint_le(o.n - before, 3 * 65536);
                total += o.n - before;
                o.n = 0;
        } while (log_cursor_is_in_record(&c));
        ck_assert_uint_gt(total, N_COMMITS * n_bytes);
        log_cursor_release(&c);
        outbox_release(&o);
        answerer_end(&t);
}
END_TEST

/* --- answers by hand --- */

static const struct ltx_pos asked_from = { 4, SUM | 4 };

static struct frame
ltx(uint64_t txid)
{
        return (struct frame){ .type = FRAME_LTX,
                               .ltx = { .stream = 1,
                                        .term = 3,
                                        .name = NAME,
                                        .record = { .min_txid = txid,
                                                    .max_txid = txid,
                                                    .pre_apply_checksum = SUM | (txid - 1),
                                                    .post_apply_checksum = SUM | txid,
                                                    .timestamp_ms = 1700000000000,
                                                    .page_size = 4096,
                                                    .commit = 7,
                                                    .size_bytes = 5000 } } };
}

static void
put(struct outbox *o, const struct frame *f)
{
        struct err e = ERR_INIT;

        ck_assert_msg(outbox_put(o, f, &e) == 0, "%s", e.text);
}

static void
put_hello(struct outbox *o)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = self };

        outbox_init(o);
        put(o, &hello);
}

static void
put_data(struct outbox *o, uint32_t stream)
{
        o->stream = stream;
        ck_assert_int_eq(o->base.write(&o->base, "xyz", 3), 0);
}

static void
put_end(struct outbox *o, uint32_t stream, uint64_t size_bytes, enum frame_ltx_status status)
{
        struct frame end = {
                .type = FRAME_LTX_END,
                .ltx_end = { .stream = stream, .status = (uint8_t)status, .size_bytes = size_bytes }
        };

        put(o, &end);
}

static void
put_transaction(struct outbox *o, uint64_t txid)
{
        struct frame f = ltx(txid);

        put(o, &f);
        put_data(o, 1);
        put_end(o, 1, 3, FRAME_LTX_COMPLETE);
}

/* After one whole transaction of the answer, which stays. */
static void
check_answer(struct outbox *o, int want, int n_got)
{
        struct err e = ERR_INIT;
        struct asker a;
        int r;

        asker_begin(&a, asked_from);
        r = ask(&a, o->buf, o->n, &e);
        ck_assert_msg(r == want, "%d, not %d: %s", r, want, e.text);
        ck_assert_int_eq(a.n_got, n_got);
        ck_assert_uint_eq(a.pos.txid, asked_from.txid + (uint64_t)n_got);
        ck_assert_uint_eq(a.pos.checksum, SUM | a.pos.txid);
        outbox_release(o);
        asker_end(&a);
}

START_TEST(another_node_than_the_one_that_was_asked_is_not_believed)
{
        struct frame hello = { .type = FRAME_HELLO, .hello = self };
        struct outbox o;

        if (_i == 0)
                hello.hello.boot_id++;
        else if (_i == 1)
                hello.hello.term++;
        else
                strcpy(hello.hello.cluster_id, "LFSC0000000000000000");
        outbox_init(&o);
        put(&o, &hello);
        put_transaction(&o, 5);
        check_answer(&o, -ESTALE, 0);
}
END_TEST

START_TEST(more_bytes_than_were_announced_are_refused)
{
        uint8_t data[4000] = { 0 };
        struct frame f = ltx(5);
        struct outbox o;

        if (_i == 1)
                f.ltx.record.size_bytes = 1u << 20; /* for seven pages */
        put_hello(&o);
        put(&o, &f);
        o.stream = 1;
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(o.base.write(&o.base, data, sizeof data), 0);
        put_end(&o, 1, 2 * sizeof data, FRAME_LTX_COMPLETE);
        check_answer(&o, E_FORMAT, 0);
}
END_TEST

START_TEST(transactions_without_a_hello_are_refused)
{
        struct outbox o;

        outbox_init(&o);
        put_transaction(&o, 5);
        check_answer(&o, E_FORMAT, 0);
}
END_TEST

/* What comes after one that is good: a change of the next one's LTX. */
static void
change_gap(struct frame_ltx *l)
{
        l->record.min_txid = l->record.max_txid = 7;
}

static void
change_again(struct frame_ltx *l)
{
        l->record.min_txid = l->record.max_txid = 5;
}

static void
change_checksum(struct frame_ltx *l)
{
        l->record.pre_apply_checksum ^= 2;
}

static void
change_name(struct frame_ltx *l)
{
        strcpy(l->name, "other.db");
}

static void
change_old_snapshot(struct frame_ltx *l)
{
        l->record.min_txid = 1;
        l->record.max_txid = 5;
        l->record.pre_apply_checksum = 0;
}

static void (*const changes[])(struct frame_ltx *l) = { change_gap, change_again, change_checksum,
                                                        change_name, change_old_snapshot };

START_TEST(what_does_not_follow_is_refused)
{
        struct frame f = ltx(6);
        struct outbox o;

        changes[_i](&f.ltx);
        put_hello(&o);
        put_transaction(&o, 5);
        put(&o, &f);
        put_data(&o, 1);
        put_end(&o, 1, 3, FRAME_LTX_COMPLETE);
        check_answer(&o, E_FORMAT, 1);
}
END_TEST

START_TEST(frames_in_another_order_are_refused)
{
        struct frame f = ltx(6), ready = { .type = FRAME_READY };
        struct outbox o;

        put_hello(&o);
        put_transaction(&o, 5);
        if (_i != 0)
                put(&o, &f);
        if (_i == 0)
                put_data(&o, 1); /* of no transaction */
        else if (_i == 1)
                put_data(&o, 2); /* of another one */
        else if (_i == 2)
                put(&o, &f); /* within one */
        else if (_i == 3)
                put_end(&o, 1, 3, FRAME_LTX_COMPLETE); /* of more than came */
        else if (_i == 4)
                put_end(&o, 2, 0, FRAME_LTX_COMPLETE); /* of another one */
        else
                put(&o, &ready);
        check_answer(&o, E_FORMAT, 1);
}
END_TEST

START_TEST(what_was_abandoned_is_none_and_the_rest_counts)
{
        struct frame f = ltx(5);
        struct outbox o;

        put_hello(&o);
        put(&o, &f);
        put_data(&o, 1);
        put_end(&o, 1, 3, FRAME_LTX_ABANDONED);
        put_transaction(&o, 5);
        put_transaction(&o, 6);
        check_answer(&o, 0, 2);
}
END_TEST

/* Cut anywhere: what is whole counts, and nothing else. */
START_TEST(an_answer_that_ends_early_is_no_answer_from_there_on)
{
        size_t n_hello, n_first, n_all;
        struct outbox o;

        put_hello(&o);
        n_hello = o.n;
        put_transaction(&o, 5);
        n_first = o.n;
        put_transaction(&o, 6);
        n_all = o.n;
        for (size_t n = 0; n <= n_all; n++) {
                struct err e = ERR_INIT;
                struct asker a;
                bool is_whole = n == 0 || n == n_hello || n == n_first || n == n_all;

                asker_begin(&a, asked_from);
                net.slice = n % 7;
                ck_assert_int_eq(ask(&a, o.buf, n, &e), is_whole ? 0 : E_FORMAT);
                ck_assert_int_eq(a.n_got, (n >= n_first) + (n == n_all));
                asker_end(&a);
        }
        net.slice = 0;
        outbox_release(&o);
}
END_TEST

START_TEST(bytes_that_are_no_frames_are_refused)
{
        struct err e = ERR_INIT;
        struct asker a;

        asker_begin(&a, asked_from);
        ck_assert_int_eq(ask(&a, "\xff\xff\xff\xff\x04garbage", 12, &e), E_FORMAT);
        ck_assert_int_eq(ask(&a, "<html>Not here</html>", 21, &e), E_FORMAT);
        ck_assert_int_eq(a.n_got, 0);
        asker_end(&a);
}
END_TEST

START_TEST(what_is_not_taken_ends_it)
{
        struct err e = ERR_INIT;
        struct outbox o;
        struct asker a;

        put_hello(&o);
        put_transaction(&o, 5);
        put_transaction(&o, 6);
        asker_begin(&a, asked_from);
        a.refusal = -EBUSY;
        ck_assert_int_eq(ask(&a, o.buf, o.n, &e), -EBUSY);
        ck_assert_uint_eq(a.pos.txid, asked_from.txid);
        outbox_release(&o);
        asker_end(&a);
}
END_TEST

START_TEST(failures_of_the_request_are_told)
{
        struct err e = ERR_INIT;
        struct asker a;

        asker_begin(&a, asked_from);
        net.status = 404;
        ck_assert_int_eq(ask(&a, "", 0, &e), -EIO);
        ck_assert_ptr_nonnull(strstr(e.text, "404"));
        net.error = -EMSGSIZE;
        ck_assert_int_eq(ask(&a, "", 0, &e), -EMSGSIZE);
        asker_end(&a);
}
END_TEST

START_TEST(names_are_escaped_in_the_question)
{
        struct err e = ERR_INIT;
        struct asker a;

        asker_begin(&a, asked_from);
        ck_assert_int_eq(fetch_some(&a.fetch, "a b/ü&c=%.db", &a.pos, TIMEOUT_MS, &e), 0);
        ck_assert_str_eq(net.url, "http://there:20202/transactions?db=a%20b%2F%C3%BC%26c%3D%25.db"
                                  "&pos=0000000000000004/8000000000000004");
        asker_end(&a);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("fetch");

        db_driver_use_memory();
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, what_follows_a_position_is_answered);
        tcase_add_test(tc, nothing_is_answered_to_who_has_it_all_or_is_elsewhere);
        tcase_add_test(tc, an_answer_is_bounded_and_the_next_one_goes_on);
        tcase_add_test(tc, a_transaction_may_be_of_any_size);
        tcase_add_test(tc, a_snapshot_is_read_in_pieces);
        tcase_add_loop_test(tc, another_node_than_the_one_that_was_asked_is_not_believed, 0, 3);
        tcase_add_loop_test(tc, more_bytes_than_were_announced_are_refused, 0, 2);
        tcase_add_test(tc, an_answer_that_is_read_too_slowly_ends);
        tcase_add_test(tc, transactions_without_a_hello_are_refused);
        tcase_add_loop_test(tc, what_does_not_follow_is_refused, 0, COUNT(changes));
        tcase_add_loop_test(tc, frames_in_another_order_are_refused, 0, 6);
        tcase_add_test(tc, what_was_abandoned_is_none_and_the_rest_counts);
        tcase_add_test(tc, an_answer_that_ends_early_is_no_answer_from_there_on);
        tcase_add_test(tc, bytes_that_are_no_frames_are_refused);
        tcase_add_test(tc, what_is_not_taken_ends_it);
        tcase_add_test(tc, failures_of_the_request_are_told);
        tcase_add_test(tc, names_are_escaped_in_the_question);
        return run_tests("fetch", tc);
}
