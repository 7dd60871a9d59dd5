/* links: litefs_store sqlite3 */
/* Transactions of another node that leave out what they need. */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/apply.h"
#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "ltx/pos.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"
#include "tests/lib/run.h"
#include "tests/lib/tmpdir.h"

struct world {
        char *dir;
        char root[256];
        struct db_driver *d;
        struct db_env env; /* of what is received */
        struct err e;
};

static struct db_info
info(struct world *w)
{
        struct db_info ret;

        db_get_info(db_driver_db(w->d), &ret);
        return ret;
}

static void
begin(struct world *w, const char *mode)
{
        *w = (struct world){ .dir = tmpdir_make(), .e = ERR_INIT };
        snprintf(w->root, sizeof w->root, "%s/node", w->dir);
        db_driver_make_template(w->root, mode, 100);
        ck_assert_msg(db_driver_open(os_host(), w->root, &w->d, &w->e) == 0, "%s", w->e.text);
        w->env = (struct db_env){ .os = os_host(), .tmp_dir = w->dir };
}

static void
end(struct world *w)
{
        db_driver_close(w->d);
        tmpdir_remove(w->dir);
}

struct spool_sink {
        struct byte_sink base;
        struct spool *to;
};

static int
write_spool(struct byte_sink *sink, const void *buf, size_t n)
{
        struct spool *to = ((struct spool_sink *)sink)->to;

        return spool_write(to, buf, n, to->size_bytes);
}

/* Of the pages @pgnos, each all @fill; ends the list with 0. */
static void
make(struct world *w, struct received *rx, const struct ltx_header *h, const uint32_t *pgnos, int fill,
     uint64_t post)
{
        struct spool_sink sink = { { write_spool }, &rx->ltx };
        struct ltx_encoder *enc;
        uint8_t *page = malloc(65536);

        received_init(rx, &w->env);
        memset(page, fill, 65536);
        ck_assert_int_eq(ltx_encoder_new(true, &enc), 0);
        ck_assert_msg(ltx_encoder_begin(enc, h, &sink.base, &w->e) == 0, "%s", w->e.text);
        for (; *pgnos != 0; pgnos++)
                ck_assert_int_eq(ltx_encoder_page(enc, *pgnos, page, &w->e), 0);
        ck_assert_int_eq(ltx_encoder_finish(enc, post, NULL, &w->e), 0);
        ltx_encoder_free(enc);
        free(page);
}

/* The next of the database, which has then @commit pages. */
static struct ltx_header
next_header(struct world *w, uint32_t commit)
{
        struct db_info in = info(w);

        return (struct ltx_header){ .page_size = in.page_size,
                                    .commit = commit,
                                    .min_txid = in.pos.txid + 1,
                                    .max_txid = in.pos.txid + 1,
                                    .timestamp_ms = 1,
                                    .pre_apply_checksum = in.pos.checksum };
}

/* What the page @pgno adds to a checksum when it is all @fill. */
static uint64_t
sum_of(struct world *w, uint32_t pgno, int fill)
{
        static uint8_t page[65536];

        memset(page, fill, sizeof page);
        return ltx_page_checksum(pgno, page, info(w).page_size) & ~LTX_CHECKSUM_FLAG;
}

static int
apply(struct world *w, struct received *rx)
{
        struct db *db = db_driver_db(w->d);
        struct db_changes ch;
        int r = db_apply_direct(db, rx, &ch, &w->e);

        free(ch.pgnos);
        if (r == 0)
                db_apply_shown(db);
        return r;
}

static const char *const modes[] = { "delete", "wal" };

/* 660 bytes that promise two billion pages. */
START_TEST(growth_without_its_pages_is_refused)
{
        struct world w;
        struct db_wal_applied applied;
        struct received rx;
        struct db_info before;
        struct ltx_header h;

        begin(&w, modes[_i]);
        before = info(&w);
        h = next_header(&w, 0x7fffffff);
        make(&w, &rx, &h, (uint32_t[]){ 1, 0 }, 7, LTX_CHECKSUM_FLAG | 1);
        ck_assert_int_eq(received_verify(&rx, &w.e), 0);
        ck_assert_uint_eq(rx.last_missing, 0x7fffffff);
        ck_assert_int_eq(apply(&w, &rx), E_FORMAT);
        ck_assert_int_eq(db_apply_wal(db_driver_db(w.d), &rx, &applied, &w.e), E_FORMAT);
        ck_assert_int_eq(received_fill(&rx, before.page_count, &w.env, &w.e), E_FORMAT);
        ck_assert_uint_eq(info(&w).page_count, before.page_count);
        ck_assert(ltx_pos_equal(info(&w).pos, before.pos));
        received_release(&rx);
        end(&w);
}
END_TEST

/* As LiteFS sends pages of the free list that nobody has written. */
START_TEST(holes_are_zero_pages_if_the_checksum_says_so)
{
        struct world w;
        struct received rx;
        struct ltx_header h;
        uint32_t n;
        uint64_t post;

        begin(&w, "delete");
        n = info(&w).page_count;
        h = next_header(&w, n + 3);
        post = h.pre_apply_checksum ^ sum_of(&w, n + 1, 0) ^ sum_of(&w, n + 2, 7) ^ sum_of(&w, n + 3, 0);
        for (int is_true = 0; is_true < 2; is_true++) {
                make(&w, &rx, &h, (uint32_t[]){ n + 2, 0 }, 7,
                     LTX_CHECKSUM_FLAG | (is_true ? post : post ^ 1));
                ck_assert_int_eq(received_verify(&rx, &w.e), 0);
                ck_assert_uint_eq(rx.last_missing, n + 3);
                ck_assert_int_eq(apply(&w, &rx), E_FORMAT);
                ck_assert_int_eq(received_fill(&rx, n, &w.env, &w.e), 0);
                ck_assert_uint_le(rx.last_missing, n);
                ck_assert_int_eq(apply(&w, &rx), is_true ? 0 : E_CHECKSUM);
                ck_assert_uint_eq(info(&w).page_count, is_true ? n + 3 : n);
                received_release(&rx);
        }
        end(&w);
}
END_TEST

/* SQLite never writes it, so nobody can send it. */
START_TEST(the_lock_page_is_not_missing)
{
        struct ltx_header h = { .page_size = 65536,
                                .commit = 16386,
                                .min_txid = 2,
                                .max_txid = 2,
                                .timestamp_ms = 1,
                                .pre_apply_checksum = LTX_CHECKSUM_FLAG };
        struct world w;
        struct received rx;

        begin(&w, "delete");
        make(&w, &rx, &h, (uint32_t[]){ 16386, 0 }, 7, LTX_CHECKSUM_FLAG);
        ck_assert_int_eq(received_verify(&rx, &w.e), 0);
        ck_assert_uint_eq(rx.last_missing, 16384);
        received_release(&rx);
        make(&w, &rx, &h, (uint32_t[]){ 16383, 16384, 16386, 0 }, 7, LTX_CHECKSUM_FLAG);
        ck_assert_int_eq(received_verify(&rx, &w.e), 0);
        ck_assert_uint_eq(rx.last_missing, 16382);
        ck_assert_int_eq(received_fill(&rx, 16380, &w.env, &w.e), 0);
        ck_assert_uint_eq(rx.last_missing, 16380);
        received_release(&rx);
        end(&w);
}
END_TEST

START_TEST(work_on_what_was_received_ends_with_the_node)
{
        atomic_bool is_ending = false;
        struct received rx;
        struct ltx_header h;
        struct world w;

        begin(&w, "delete");
        w.env.is_ending = &is_ending;
        h = next_header(&w, info(&w).page_count);
        make(&w, &rx, &h, (uint32_t[]){ 1, 0 }, 7, LTX_CHECKSUM_FLAG);
        ck_assert_int_eq(received_verify(&rx, &w.e), 0);
        is_ending = true;
        ck_assert_int_eq(received_verify(&rx, &w.e), -ECANCELED);
        ck_assert_int_eq(apply(&w, &rx), -ECANCELED);
        received_release(&rx);
        end(&w);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("received");

        tcase_set_timeout(tc, 30);
        tcase_add_loop_test(tc, growth_without_its_pages_is_refused, 0, 2);
        tcase_add_test(tc, holes_are_zero_pages_if_the_checksum_says_so);
        tcase_add_test(tc, the_lock_page_is_not_missing);
        tcase_add_test(tc, work_on_what_was_received_ends_with_the_node);
        return run_tests("received", tc);
}
