/* links: litefs_ltx */
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/header.h"
#include "tests/lib/run.h"

#define FLAG ((uint64_t)1 << 63)

static const struct ltx_header plain = {
        .page_size = 4096,
        .commit = 3,
        .min_txid = 2,
        .max_txid = 5,
        .timestamp_ms = 1700000000123,
        .pre_apply_checksum = FLAG | 0x1122334455667788u,
        .wal_offset = 32,
        .wal_size = 4120,
        .wal_salt1 = 0xaabbccdd,
        .wal_salt2 = 0x01020304,
        .node_id = 0x0102030405060708u,
};

START_TEST(each_field_is_at_its_offset)
{
        uint8_t buf[LTX_HEADER_SIZE];
        struct ltx_header h = plain;

        h.flags = LTX_FLAG_NO_CHECKSUM;
        memset(buf, 0xff, sizeof buf);
        ltx_header_encode(&h, buf);
        ck_assert_mem_eq(buf, "LTX1", 4);
        ck_assert_uint_eq(get_be32(buf + 4), 2);
        ck_assert_uint_eq(get_be32(buf + 8), h.page_size);
        ck_assert_uint_eq(get_be32(buf + 12), h.commit);
        ck_assert_uint_eq(get_be64(buf + 16), h.min_txid);
        ck_assert_uint_eq(get_be64(buf + 24), h.max_txid);
        ck_assert_uint_eq(get_be64(buf + 32), (uint64_t)h.timestamp_ms);
        ck_assert_uint_eq(get_be64(buf + 40), h.pre_apply_checksum);
        ck_assert_uint_eq(get_be64(buf + 48), (uint64_t)h.wal_offset);
        ck_assert_uint_eq(get_be64(buf + 56), (uint64_t)h.wal_size);
        ck_assert_uint_eq(get_be32(buf + 64), h.wal_salt1);
        ck_assert_uint_eq(get_be32(buf + 68), h.wal_salt2);
        ck_assert_uint_eq(get_be64(buf + 72), h.node_id);
        for (int i = 80; i < LTX_HEADER_SIZE; i++)
                ck_assert_uint_eq(buf[i], 0);
}
END_TEST

START_TEST(chained_checksums_are_kept_where_other_readers_do_not_look)
{
        uint8_t buf[LTX_HEADER_SIZE];
        struct ltx_header h = plain, got;

        h.flags = LTX_FLAG_NO_CHECKSUM;
        h.pre_apply_checksum = 0;
        h.chain_pre = FLAG | 7;
        h.chain_post = FLAG | 8;
        ltx_header_encode(&h, buf);
        ck_assert_uint_eq(get_be64(buf + 40), 0);
        ck_assert_mem_eq(buf + 80, "LFS1", 4);
        ck_assert_uint_eq(get_be64(buf + 84), FLAG | 7);
        ck_assert_uint_eq(get_be64(buf + 92), FLAG | 8);
        ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &got, NULL), 0);
        ck_assert_uint_eq(got.chain_pre, FLAG | 7);
        ck_assert_uint_eq(got.chain_post, FLAG | 8);

        /* What another writer has there is its own. */
        memcpy(buf + 80, "xyz1", 4);
        ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &got, NULL), 0);
        ck_assert_uint_eq(got.chain_post, 0);
}
END_TEST

START_TEST(marks_are_where_other_readers_do_not_look)
{
        static const struct ltx_mark mark = { true, 0x01020304, 0x1112131415161718u, 0x2122, 0x3132 };
        uint8_t buf[LTX_HEADER_SIZE];
        struct ltx_header h = plain, got;

        h.mark = mark;
        ltx_header_encode(&h, buf);
        ck_assert_mem_eq(buf + 80, "LFSH", 4);
        ck_assert_uint_eq(get_be32(buf + 84), mark.renamed_name);
        ck_assert_uint_eq(get_be16(buf + 88), mark.renamed_count);
        ck_assert_uint_eq(get_be16(buf + 90), mark.renamed_group);
        ck_assert_uint_eq(get_be64(buf + 92), mark.renamed_at);
        ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &got, NULL), 0);
        ck_assert(got.mark.hides_past);
        ck_assert_uint_eq(got.mark.renamed_name, mark.renamed_name);
        ck_assert_uint_eq(got.mark.renamed_count, mark.renamed_count);
        ck_assert_uint_eq(got.mark.renamed_group, mark.renamed_group);
        ck_assert_uint_eq(got.mark.renamed_at, mark.renamed_at);

        buf[83] = 'R';
        ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &got, NULL), 0);
        ck_assert(!got.mark.hides_past);
        ck_assert_uint_eq(got.mark.renamed_at, mark.renamed_at);

        buf[83] = 'x'; /* another writer's */
        ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &got, NULL), 0);
        ck_assert(!got.mark.hides_past);
        ck_assert_uint_eq(got.mark.renamed_name, 0);

        h.flags = LTX_FLAG_NO_CHECKSUM;
        h.pre_apply_checksum = 0;
        ltx_header_encode(&h, buf);
        for (int i = 80; i < LTX_HEADER_SIZE; i++)
                ck_assert_uint_eq(buf[i], 0);
}
END_TEST

START_TEST(chained_checksums_are_those_of_the_kind_of_file)
{
        static const struct {
                uint32_t flags;
                uint64_t min_txid, pre, post;
                bool is_valid;
        } rows[] = {
                { LTX_FLAG_NO_CHECKSUM, 2, FLAG | 1, FLAG | 2, true },
                { LTX_FLAG_NO_CHECKSUM, 1, 0, FLAG | 2, true },
                { LTX_FLAG_NO_CHECKSUM, 2, 0, 0, true },
                { LTX_FLAG_NO_CHECKSUM, 2, 0, FLAG | 2, false },
                { LTX_FLAG_NO_CHECKSUM, 1, FLAG | 1, FLAG | 2, false },
                { LTX_FLAG_NO_CHECKSUM, 2, FLAG | 1, 2, false },
                { LTX_FLAG_NO_CHECKSUM, 2, FLAG | 1, 0, false },
                { 0, 2, FLAG | 1, FLAG | 2, false },
        };

        for (int i = 0; i < COUNT(rows); i++) {
                struct ltx_header h = plain;

                h.flags = rows[i].flags;
                h.min_txid = rows[i].min_txid;
                h.pre_apply_checksum = h.flags != 0 || h.min_txid == 1 ? 0 : plain.pre_apply_checksum;
                h.chain_pre = rows[i].pre;
                h.chain_post = rows[i].post;
                ck_assert_msg((ltx_header_validate(&h, LTX_V3, NULL) == 0) == rows[i].is_valid, "row %d",
                              i);
        }
}
END_TEST

static bool
is_equal(const struct ltx_header *a, const struct ltx_header *b)
{
        return a->flags == b->flags && a->page_size == b->page_size && a->commit == b->commit &&
               a->min_txid == b->min_txid && a->max_txid == b->max_txid &&
               a->timestamp_ms == b->timestamp_ms && a->pre_apply_checksum == b->pre_apply_checksum &&
               a->wal_offset == b->wal_offset && a->wal_size == b->wal_size &&
               a->wal_salt1 == b->wal_salt1 && a->wal_salt2 == b->wal_salt2 && a->node_id == b->node_id;
}

/* A good header but for what the case sets, and whether the two versions take it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const struct {
        const char *what;
        struct ltx_header h;
        bool is_v1, is_v3;
} cases[] = {
#define CASE(v1, v3, ...) \
        { \
#__VA_ARGS__, { .page_size = 4096, \
                                .commit = 3, \
                                .min_txid = 2, \
                                .max_txid = 5, \
                                .pre_apply_checksum = FLAG, \
                                __VA_ARGS__ }, \
                                v1, \
                                v3 \
        }
        CASE(true, true, .node_id = 0),
        CASE(true, false, .flags = LTX_FLAG_LZ4_V1),
        CASE(false, true, .flags = LTX_FLAG_NO_CHECKSUM, .pre_apply_checksum = 0),
        CASE(false, false, .flags = LTX_FLAG_NO_CHECKSUM),
        CASE(false, false, .flags = 3, .pre_apply_checksum = 0),
        CASE(false, false, .flags = 4),
        CASE(false, false, .flags = 0x80000000u),
        CASE(true, true, .page_size = 512),
        CASE(true, true, .page_size = 65536),
        CASE(false, false, .page_size = 0),
        CASE(false, false, .page_size = 256),
        CASE(false, false, .page_size = 131072),
        CASE(false, false, .page_size = 4095),
        CASE(false, false, .page_size = UINT32_MAX),
        CASE(true, true, .commit = 0),
        CASE(true, true, .commit = UINT32_MAX),
        CASE(false, false, .min_txid = 0),
        CASE(false, false, .min_txid = 6),
        CASE(true, true, .min_txid = 5),
        CASE(true, true, .max_txid = INT64_MAX),
        CASE(false, false, .max_txid = (uint64_t)INT64_MAX + 1),
        CASE(true, true, .min_txid = INT64_MAX, .max_txid = INT64_MAX),
        CASE(true, true, .timestamp_ms = INT64_MIN),
        CASE(true, true, .timestamp_ms = INT64_MAX),
        CASE(false, false, .min_txid = 1),
        CASE(true, true, .min_txid = 1, .pre_apply_checksum = 0),
        CASE(false, false, .pre_apply_checksum = 0),
        CASE(false, false, .pre_apply_checksum = FLAG - 1),
        CASE(true, true, .pre_apply_checksum = UINT64_MAX),
        CASE(true, true, .wal_offset = INT64_MAX, .wal_size = INT64_MAX, .wal_salt1 = UINT32_MAX),
        CASE(false, false, .wal_offset = -1, .wal_size = 1),
        CASE(false, false, .wal_offset = 1, .wal_size = -1),
        CASE(false, true, .wal_offset = 32),
        CASE(false, true, .wal_size = 32),
        CASE(false, false, .wal_salt1 = 1),
        CASE(false, false, .wal_salt2 = 1),
};
#pragma GCC diagnostic pop

static void
check_version(int i, enum ltx_version version, bool is_good)
{
        struct ltx_header h = plain;
        uint8_t buf[LTX_HEADER_SIZE];
        struct err e = ERR_INIT;
        int r;

        r = ltx_header_validate(&cases[i].h, version, &e);
        ck_assert_msg(r == (is_good ? 0 : E_FORMAT), "v%d %s: %d", version, cases[i].what, r);
        ltx_header_encode(&cases[i].h, buf);
        r = ltx_header_decode(buf, version, &h, &e);
        ck_assert_msg(r == (is_good ? 0 : E_FORMAT), "v%d %s: %d", version, cases[i].what, r);
        ck_assert(is_equal(&h, is_good ? &cases[i].h : &plain));
        ck_assert_msg(is_good || strncmp(e.text, "LTX header: ", 12) == 0, "'%s'", e.text);
}

START_TEST(limits_of_each_field)
{
        check_version(_i, LTX_V1, cases[_i].is_v1);
        check_version(_i, LTX_V3, cases[_i].is_v3);
}
END_TEST

START_TEST(any_other_magic_is_refused)
{
        uint8_t buf[LTX_HEADER_SIZE];
        struct ltx_header h;

        for (int i = 0; i < 4; i++) {
                ltx_header_encode(&plain, buf);
                ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &h, NULL), 0);
                buf[i] ^= 1;
                ck_assert_int_eq(ltx_header_decode(buf, LTX_V3, &h, NULL), E_FORMAT);
        }
}
END_TEST

START_TEST(snapshot_is_what_begins_at_the_first_transaction)
{
        struct ltx_header h = plain;

        ck_assert(!ltx_header_is_snapshot(&h));
        h.min_txid = 1;
        ck_assert(ltx_header_is_snapshot(&h));
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("header");

        tcase_add_test(tc, each_field_is_at_its_offset);
        tcase_add_test(tc, chained_checksums_are_kept_where_other_readers_do_not_look);
        tcase_add_test(tc, marks_are_where_other_readers_do_not_look);
        tcase_add_test(tc, chained_checksums_are_those_of_the_kind_of_file);
        tcase_add_loop_test(tc, limits_of_each_field, 0, COUNT(cases));
        tcase_add_test(tc, any_other_magic_is_refused);
        tcase_add_test(tc, snapshot_is_what_begins_at_the_first_transaction);
        return run_tests("ltx_header", tc);
}
