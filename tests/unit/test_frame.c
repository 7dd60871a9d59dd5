/* links: litefs_repl */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "repl/frame.h"
#include "repl/frame_decoder.h"
#include "tests/lib/run.h"

#define SUM 0x8000000000000000ULL

static const struct txlog_record record = {
        .min_txid = 0x11,
        .max_txid = 0x12,
        .pre_apply_checksum = SUM | 1,
        .post_apply_checksum = SUM | 2,
        .timestamp_ms = 1700000000000,
        .page_size = 4096,
        .commit = 7,
        .size_bytes = 5000,
};

static struct frame
hello(void)
{
        return (struct frame){ .type = FRAME_HELLO,
                               .hello = { .version = 1,
                                          .boot_id = 0x0102030405060708,
                                          .term = 9,
                                          .cluster_id = "LFSC0123456789ABCDEF",
                                          .hostname = "a",
                                          .advertise_url = "http://a" } };
}

static struct frame
ltx(void)
{
        return (struct frame){ .type = FRAME_LTX,
                               .ltx = { .stream = 3, .term = 4, .name = "t/7.db", .record = record } };
}

/* Each type, as the document lays it out. */
static const struct {
        const char *name;
        struct frame frame;
        const char *bytes;
        size_t n;
} golden[] = {
#define BYTES(s) s, sizeof(s) - 1
        { "hello without cluster",
          { .type = FRAME_HELLO,
            .hello = { .version = 1, .boot_id = 0x0102030405060708, .term = 9, .hostname = "n" } },
          BYTES("\0\0\0\x18\x01"
                "\0\x01"
                "\x01\x02\x03\x04\x05\x06\x07\x08"
                "\0\0\0\0\0\0\0\x09"
                "\0"
                "\x01"
                "n"
                "\0\0") },
        { "hello",
          { .type = FRAME_HELLO,
            .hello = { .version = 0x102,
                       .boot_id = 1,
                       .term = 0,
                       .cluster_id = "LFSC0123456789ABCDEF",
                       .hostname = "h1",
                       .advertise_url = "http://h1:20202" } },
          BYTES("\0\0\0\x3c\x01"
                "\x01\x02"
                "\0\0\0\0\0\0\0\x01"
                "\0\0\0\0\0\0\0\0"
                "\x14"
                "LFSC0123456789ABCDEF"
                "\x02"
                "h1"
                "\0\x0f"
                "http://h1:20202") },
        { "empty positions",
          { .type = FRAME_POSITIONS, .positions = { .flags = 3 } },
          BYTES("\0\0\0\x06\x02"
                "\x03"
                "\0\0\0\0") },
        { "ltx",
          { .type = FRAME_LTX,
            .ltx = { .stream = 3,
                     .term = 4,
                     .name = "t/7.db",
                     .record = { .min_txid = 0x11,
                                 .max_txid = 0x12,
                                 .pre_apply_checksum = SUM | 1,
                                 .post_apply_checksum = SUM | 2,
                                 .timestamp_ms = 0x0102030405,
                                 .page_size = 4096,
                                 .commit = 7,
                                 .size_bytes = 5000 } } },
          BYTES("\0\0\0\x4d\x03"
                "\0\0\0\x03"
                "\0\0\0\0\0\0\0\x04"
                "\0\0\0\0\0\0\0\x11"
                "\0\0\0\0\0\0\0\x12"
                "\x80\0\0\0\0\0\0\x01"
                "\x80\0\0\0\0\0\0\x02"
                "\0\0\0\x01\x02\x03\x04\x05"
                "\0\0\x10\0"
                "\0\0\0\x07"
                "\0\0\0\0\0\0\x13\x88"
                "\0"
                "\x06"
                "t/7.db") },
        { "data",
          { .type = FRAME_DATA,
            .data = { .stream = 0x01020304, .bytes = (const uint8_t *)"xyz", .n = 3 } },
          BYTES("\0\0\0\x08\x04"
                "\x01\x02\x03\x04"
                "xyz") },
        { "ltx end",
          { .type = FRAME_LTX_END,
            .ltx_end = { .stream = 3, .status = FRAME_LTX_ABANDONED, .size_bytes = 0x1388 } },
          BYTES("\0\0\0\x0e\x05"
                "\0\0\0\x03"
                "\x01"
                "\0\0\0\0\0\0\x13\x88") },
        { "ready", { .type = FRAME_READY }, BYTES("\0\0\0\x01\x06") },
        { "heartbeat",
          { .type = FRAME_HEARTBEAT, .heartbeat = { .wall_ms = 0x0102, .term = 5, .fence_ms = -1 } },
          BYTES("\0\0\0\x19\x07"
                "\0\0\0\0\0\0\x01\x02"
                "\0\0\0\0\0\0\0\x05"
                "\xff\xff\xff\xff\xff\xff\xff\xff") },
        { "handoff",
          { .type = FRAME_HANDOFF, .handoff = { .boot_id = 0xa, .token = "s-1" } },
          BYTES("\0\0\0\x0d\x08"
                "\0\0\0\0\0\0\0\x0a"
                "\x03"
                "s-1") },
        { "ack",
          { .type = FRAME_ACK,
            .ack = { .name = "app.db", .pos = { .txid = 0x12, .checksum = SUM | 2 } } },
          BYTES("\0\0\0\x18\x09"
                "\0\0\0\0\0\0\0\x12"
                "\x80\0\0\0\0\0\0\x02"
                "\x06"
                "app.db") },
        { "error",
          { .type = FRAME_ERROR, .error = { .code = FRAME_ERROR_TERM, .text = "no" } },
          BYTES("\0\0\0\x07\x0a"
                "\0\x05"
                "\0\x02"
                "no") },
        { "ping",
          { .type = FRAME_PING, .ping = { .nonce = 0x0102, .name = "app.db" } },
          BYTES("\0\0\0\x10\x0b"
                "\0\0\0\0\0\0\x01\x02"
                "\x06"
                "app.db") },
        { "ping of no database",
          { .type = FRAME_PING, .ping = { .nonce = 3 } },
          BYTES("\0\0\0\x0a\x0b"
                "\0\0\0\0\0\0\0\x03"
                "\0") },
        { "pong",
          { .type = FRAME_PONG, .pong = { .nonce = 3, .pos = { .txid = 0x12, .checksum = SUM | 2 } } },
          BYTES("\0\0\0\x19\x0c"
                "\0\0\0\0\0\0\0\x03"
                "\0\0\0\0\0\0\0\x12"
                "\x80\0\0\0\0\0\0\x02") },
        { "ownership",
          { .type = FRAME_OWNERSHIP,
            .ownership = { .name = "d/a.db",
                           .path = { 3, { { 0755, 0, 0 }, { 02770, 1, 2 }, { 0640, 0x10203, 4 } } } } },
          BYTES("\0\0\0\x27\x10"
                "\x03"
                "\x01\xed"
                "\0\0\0\0"
                "\0\0\0\0"
                "\x05\xf8"
                "\0\0\0\x01"
                "\0\0\0\x02"
                "\x01\xa0"
                "\0\x01\x02\x03"
                "\0\0\0\x04"
                "\x06"
                "d/a.db") },
        { "successor",
          { .type = FRAME_SUCCESSOR,
            .successor = { .boot_id = 0xa, .hostname = "b", .advertise_url = "http://b" } },
          BYTES("\0\0\0\x15\x0d"
                "\0\0\0\0\0\0\0\x0a"
                "\x01"
                "b"
                "\0\x08"
                "http://b") },
        { "durable",
          { .type = FRAME_DURABLE,
            .ack = { .name = "app.db", .pos = { .txid = 0x12, .checksum = SUM | 2 } } },
          BYTES("\0\0\0\x18\x0e"
                "\0\0\0\0\0\0\0\x12"
                "\x80\0\0\0\0\0\0\x02"
                "\x06"
                "app.db") },
        { "candidacy",
          { .type = FRAME_CANDIDACY, .candidacy = { true } },
          BYTES("\0\0\0\x02\x11"
                "\x01") },
        { "peer",
          { .type = FRAME_PEER, .peer = { FRAME_PEER_FIRST | FRAME_PEER_LAST, "http://b" } },
          BYTES("\0\0\0\x0c\x12"
                "\x03"
                "\0\x08"
                "http://b") },
        { "sync", { .type = FRAME_SYNC }, BYTES("\0\0\0\x01\x0f") },
};

START_TEST(frame_is_laid_out_as_documented)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        ssize_t n = frame_encode(&golden[_i].frame, buf, sizeof buf, &e);

        ck_assert_msg(n == (ssize_t)golden[_i].n, "%s: %zd bytes, %s", golden[_i].name, n, e.text);
        ck_assert_msg(memcmp(buf, golden[_i].bytes, golden[_i].n) == 0, "%s", golden[_i].name);
}
END_TEST

/* Parses and writes again: what was read is what was meant. */
START_TEST(parsed_frame_encodes_to_the_same_bytes)
{
        const uint8_t *p = (const uint8_t *)golden[_i].bytes;
        uint8_t buf[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        struct frame f;
        uint8_t type;
        size_t n;

        ck_assert_int_eq(frame_header_parse(p, &type, &n, &e), 0);
        ck_assert_uint_eq(n, golden[_i].n - FRAME_HEADER_SIZE);
        memset(&f, 0xa5, sizeof f);
        ck_assert_msg(frame_parse(type, p + FRAME_HEADER_SIZE, n, &f, &e) == 0, "%s", e.text);
        ck_assert_int_eq(f.type, golden[_i].frame.type);
        ck_assert_int_eq(frame_encode(&f, buf, sizeof buf, &e), (ssize_t)golden[_i].n);
        ck_assert_int_eq(memcmp(buf, p, golden[_i].n), 0);
}
END_TEST

/* Each payload cut at each byte, and with a byte too many; DATA, whose bytes have no length of their own,
 * aside. */
START_TEST(payload_of_another_length_is_refused)
{
        const uint8_t *p = (const uint8_t *)golden[_i].bytes + FRAME_HEADER_SIZE;
        size_t n = golden[_i].n - FRAME_HEADER_SIZE;
        uint8_t type = (uint8_t)golden[_i].frame.type, longer[FRAME_SMALL_SIZE] = { 0 };
        struct err e = ERR_INIT;
        struct frame f;

        if (type == FRAME_DATA)
                return;
        for (size_t i = 0; i < n; i++)
                ck_assert_msg(frame_parse(type, p, i, &f, &e) == E_FORMAT, "%s cut at %zu",
                              golden[_i].name, i);
        memcpy(longer, p, n);
        ck_assert_int_eq(frame_parse(type, longer, n + 1, &f, &e), E_FORMAT);
        ck_assert_ptr_nonnull(strstr(e.text, frame_type_name(type)));
}
END_TEST

START_TEST(buffer_too_small_is_left_alone_past_its_end)
{
        for (size_t size = 0; size < golden[_i].n; size++) {
                uint8_t *buf = malloc(size + 1);

                buf[size] = 0x5a;
                ck_assert_int_eq(frame_encode(&golden[_i].frame, buf, size, NULL), -ENOBUFS);
                ck_assert_int_eq(buf[size], 0x5a);
                free(buf);
        }
}
END_TEST

/* One byte or two of a good frame changed: the offset is in the payload. */
static const struct {
        int golden;
        size_t off;
        const char *bytes;
        size_t n;
        const char *want; /* in the words of the error */
} bad[] = {
        { 0, 0, BYTES("\0\0"), "version at offset 0" },
        { 1, 18, BYTES("\x13"), "cluster id at offset 19" },
        { 1, 18, BYTES("\x15"), "cluster id at offset 19" },
        { 1, 19, BYTES("X"), "cluster id at offset 19" },
        { 1, 23, BYTES("a"), "cluster id" },
        { 1, 40, BYTES("\n"), "hostname at offset 40" },
        { 1, 44, BYTES("\x7f"), "URL at offset 44" },
        { 1, 42, BYTES("\xff\xff"), "URL at offset 44 of 59: too long" },
        { 2, 0, BYTES("\x04"), "flags at offset 0" },
        { 2, 4, BYTES("\x01"), "length of the name at offset 5 of 5: cut off" },
        { 2, 1, BYTES("\x7f\xff\xff\xff"), "count at offset 1" },
        { 3, 0, BYTES("\0\0\0\0"), "stream number" },
        { 3, 11, BYTES("\0"), "term at offset 4" },
        { 3, 19, BYTES("\0"), "min TXID at offset 12" },
        { 3, 27, BYTES("\x10"), "max TXID at offset 20" },
        { 3, 28, BYTES("\0"), "pre-apply checksum at offset 28" },
        { 3, 19, BYTES("\x01"), "pre-apply checksum at offset 28" }, /* a snapshot */
        { 3, 36, BYTES("\0"), "post-apply checksum at offset 36" },
        { 3, 54, BYTES("\x11"), "page size at offset 52" },
        { 3, 66, BYTES("\0\0"), "size at offset 60" }, /* 0, and no snapshot */
        { 3, 66, BYTES("\0\x74"), "size at offset 60" },
        { 3, 60, BYTES("\x80"), "size at offset 60" },
        { 3, 68, BYTES("\x01"), "history at offset 68" }, /* of a record that is no snapshot */
        { 3, 69, BYTES("\x05"), "end at offset 75 of 76: more bytes follow" },
        { 3, 69, BYTES("\x07"), "name at offset 70 of 76: cut off" },
        { 3, 70, BYTES("/"), "name at offset 70" },
        { 4, 0, BYTES("\0\0\0\0"), "stream number at offset 0" },
        { 5, 4, BYTES("\x02"), "status at offset 4" },
        { 7, 15, BYTES("\0"), "term at offset 8" },
        { 7, 23, BYTES("\xfe"), "time to the fence at offset 16" },
        { 8, 9, BYTES("\x01"), "token at offset 9" },
        { 8, 8, BYTES("\0"), "length of the token at offset 8" },
        { 9, 8, BYTES("\0"), "checksum at offset 8" },
        { 9, 7, BYTES("\0"), "checksum at offset 8" }, /* txid 0 with a checksum */
        { 10, 1, BYTES("\0"), "code at offset 0" },
        { 10, 2, BYTES("\x01\x91"), "text at offset 4 of 6: too long" },
};

START_TEST(field_that_is_not_allowed_is_named)
{
        const uint8_t *p = (const uint8_t *)golden[bad[_i].golden].bytes;
        size_t n = golden[bad[_i].golden].n - FRAME_HEADER_SIZE;
        uint8_t payload[FRAME_SMALL_SIZE];
        struct err e = ERR_INIT;
        struct frame f;

        memcpy(payload, p + FRAME_HEADER_SIZE, n);
        ck_assert_uint_le(bad[_i].off + bad[_i].n, n);
        memcpy(payload + bad[_i].off, bad[_i].bytes, bad[_i].n);
        ck_assert_int_eq(frame_parse(p[4], payload, n, &f, &e), E_FORMAT);
        ck_assert_msg(strstr(e.text, bad[_i].want) != NULL, "\"%s\" in \"%s\"", bad[_i].want, e.text);
}
END_TEST

static const struct {
        const char *name;
        bool is_good;
} names[] = {
        { "app.db", true },    { "tenants/7.db", true }, { "a", true },
        { "\xc3\xa9", true },  { "..a", true },          { "a/.hidden", true },
        { "-wal", true }, /* not a companion: of a database without a name */
        { "", false },         { "/a", false },          { "a/", false },
        { "a//b", false },     { ".", false },           { "..", false },
        { "a/../b", false },   { "a/..", false },        { "../a", false },
        { "./a", false },      { "a.db-wal", false },    { "a.db-journal", false },
        { "a.db-shm", false }, { "a.db-pos", false },
};

START_TEST(name_of_a_database_is_checked_both_ways)
{
        uint8_t buf[FRAME_SMALL_SIZE] = { 0 };
        struct frame f = ltx(), g;
        size_t n = strlen(names[_i].name);
        struct err e = ERR_INIT;
        ssize_t r;

        snprintf(f.ltx.name, sizeof f.ltx.name, "%s", names[_i].name);
        r = frame_encode(&f, buf, sizeof buf, &e);
        ck_assert_msg((r > 0) == names[_i].is_good, "\"%s\": %zd %s", names[_i].name, r, e.text);
        /* What a peer with other rules would send. */
        put_be64(buf, 1);
        put_be64(buf + 8, SUM);
        buf[16] = (uint8_t)n;
        memcpy(buf + 17, names[_i].name, n);
        r = frame_parse(FRAME_ACK, buf, 17 + n, &g, &e);
        ck_assert_msg((r == 0) == names[_i].is_good, "\"%s\": %zd", names[_i].name, r);
}
END_TEST

START_TEST(name_that_is_too_long_escaped_is_refused)
{
        char name[DBNAME_MAX + 1];

        memset(name, 'x', DBNAME_MAX);
        ck_assert(dbname_is_valid(name, DBNAME_MAX));
        name[100] = '/'; /* takes three bytes */
        ck_assert(!dbname_is_valid(name, DBNAME_MAX));
        ck_assert(dbname_is_valid(name, DBNAME_MAX - 2));
        name[5] = '\0';
        ck_assert(!dbname_is_valid(name, 50));
}
END_TEST

/* Texts as long as their arrays, and one more without the NUL. */
START_TEST(texts_have_their_maxima)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct frame f = hello();
        struct err e = ERR_INIT;

        memset(f.hello.hostname, 'h', LEASE_HOSTNAME_SIZE - 1);
        memset(f.hello.advertise_url, 'u', LEASE_URL_SIZE - 1);
        ck_assert_msg(frame_encode(&f, buf, sizeof buf, &e) > 0, "%s", e.text);
        f.hello.advertise_url[LEASE_URL_SIZE - 1] = 'u';
        ck_assert_int_eq(frame_encode(&f, buf, sizeof buf, &e), E_FORMAT);
        f = (struct frame){ .type = FRAME_ERROR, .error.code = 1 };
        memset(f.error.text, 't', FRAME_TEXT_MAX);
        ck_assert_msg(frame_encode(&f, buf, sizeof buf, &e) > 0, "%s", e.text);
        f = (struct frame){ .type = FRAME_HANDOFF };
        memset(f.handoff.token, 't', LEASE_SESSION_SIZE - 1);
        ck_assert_msg(frame_encode(&f, buf, sizeof buf, &e) > 0, "%s", e.text);
        f.handoff.token[LEASE_SESSION_SIZE - 1] = 't';
        ck_assert_int_eq(frame_encode(&f, buf, sizeof buf, &e), E_FORMAT);
        f.type = (enum frame_type)99;
        ck_assert_int_eq(frame_encode(&f, buf, sizeof buf, &e), E_FORMAT);
}
END_TEST

START_TEST(snapshot_may_come_without_a_size)
{
        uint8_t buf[FRAME_SMALL_SIZE];
        struct frame f = ltx(), g;
        struct err e = ERR_INIT;
        ssize_t n;

        f.ltx.record.min_txid = 1;
        f.ltx.record.pre_apply_checksum = 0;
        f.ltx.record.size_bytes = 0;
        n = frame_encode(&f, buf, sizeof buf, &e);
        ck_assert_msg(n > 0, "%s", e.text);
        ck_assert_int_eq(
                frame_parse(FRAME_LTX, buf + FRAME_HEADER_SIZE, (size_t)n - FRAME_HEADER_SIZE, &g, &e),
                0);
        ck_assert_uint_eq(g.ltx.record.size_bytes, 0);
        ck_assert_uint_eq(g.ltx.record.min_txid, 1);
        f.ltx.record.commit = 0; /* a deletion, as a snapshot or not */
        ck_assert_int_gt(frame_encode(&f, buf, sizeof buf, &e), 0);
}
END_TEST

START_TEST(positions_come_in_full_batches)
{
        uint8_t *buf = malloc(FRAME_POSITIONS_SIZE);
        struct frame_positions_writer w;
        char name[DBNAME_MAX + 1];
        struct err e = ERR_INIT;
        struct ltx_pos pos;
        struct frame f;
        size_t n, size;
        uint8_t type;

        frame_positions_init(&w, buf, FRAME_POSITIONS_SIZE);
        memset(name, 'n', sizeof name);
        for (unsigned i = 0; i < FRAME_POSITIONS_MAX; i++) {
                snprintf(name + DBNAME_MAX - 4, 5, "%04u", i);
                pos = (struct ltx_pos){ .txid = i, .checksum = i == 0 ? 0 : SUM | i };
                ck_assert_int_eq(frame_positions_add(&w, name, pos, &e), 1);
        }
        ck_assert_int_eq(frame_positions_add(&w, "x", (struct ltx_pos){ 0, 0 }, &e), 0);
        n = frame_positions_finish(&w, FRAME_POSITIONS_ALL);
        ck_assert_uint_eq(n, FRAME_POSITIONS_SIZE);
        ck_assert_int_eq(frame_header_parse(buf, &type, &size, &e), 0);
        ck_assert_uint_eq(size, n - FRAME_HEADER_SIZE);
        ck_assert_msg(frame_parse(type, buf + FRAME_HEADER_SIZE, size, &f, &e) == 0, "%s", e.text);
        ck_assert_uint_eq(f.positions.count, FRAME_POSITIONS_MAX);
        ck_assert_uint_eq(f.positions.flags, FRAME_POSITIONS_ALL);
        for (unsigned i = 0; i < FRAME_POSITIONS_MAX; i++) {
                ck_assert(frame_positions_next(&f.positions, name, &pos));
                ck_assert_uint_eq(strlen(name), DBNAME_MAX);
                ck_assert_uint_eq((unsigned)atoi(name + DBNAME_MAX - 4), i);
                ck_assert_uint_eq(pos.txid, i);
        }
        ck_assert(!frame_positions_next(&f.positions, name, &pos));
        free(buf);
}
END_TEST

START_TEST(positions_writer_refuses_what_a_peer_would)
{
        uint8_t buf[FRAME_HEADER_SIZE + 5 + 17 + 3];
        struct frame_positions_writer w;
        struct err e = ERR_INIT;

        frame_positions_init(&w, buf, sizeof buf);
        ck_assert_int_eq(frame_positions_add(&w, "../x", (struct ltx_pos){ 0, 0 }, &e), E_FORMAT);
        ck_assert_int_eq(frame_positions_add(&w, "x", (struct ltx_pos){ 1, 5 }, &e), E_FORMAT);
        ck_assert_int_eq(frame_positions_add(&w, "x", (struct ltx_pos){ 0, SUM }, &e), E_FORMAT);
        ck_assert_int_eq(frame_positions_add(&w, "long", (struct ltx_pos){ 1, SUM }, &e), 0);
        ck_assert_int_eq(frame_positions_add(&w, "fit", (struct ltx_pos){ 1, SUM }, &e), 1);
        ck_assert_uint_eq(frame_positions_finish(&w, FRAME_POSITIONS_LAST), sizeof buf);
}
END_TEST

static size_t
all_golden(uint8_t *buf)
{
        size_t n = 0;

        for (int i = 0; i < COUNT(golden); i++) {
                memcpy(buf + n, golden[i].bytes, golden[i].n);
                n += golden[i].n;
        }
        return n;
}

/* Feeds @n bytes in slices of @step, each in memory of its own, and encodes what comes out into @out. */
static int
feed(struct frame_decoder *d, const uint8_t *bytes, size_t n, size_t step, uint8_t *out, size_t *ret_n,
     struct err *e)
{
        struct frame f;
        int r = 0;

        *ret_n = 0;
        for (size_t off = 0; off < n && r >= 0; off += step) {
                size_t left = n - off < step ? n - off : step;
                uint8_t *slice = malloc(left);
                const uint8_t *p = slice;

                memcpy(slice, bytes + off, left);
                while ((r = frame_decoder_next(d, &p, &left, &f, e)) > 0) {
                        ssize_t m = frame_encode(&f, out + *ret_n, 1u << 20, e);

                        ck_assert_msg(m > 0, "%s", e->text);
                        *ret_n += (size_t)m;
                }
                if (r == 0)
                        ck_assert_uint_eq(left, 0);
                free(slice);
        }
        return r;
}

START_TEST(stream_is_cut_into_frames_whatever_the_slices)
{
        uint8_t buf[4096], *out = malloc(2u << 20);
        size_t n = all_golden(buf), m;
        struct err e = ERR_INIT;

        for (size_t step = 1; step <= n; step++) {
                struct frame_decoder *d;

                ck_assert_int_eq(frame_decoder_new(&d), 0);
                ck_assert_msg(feed(d, buf, n, step, out, &m, &e) == 0, "%s", e.text);
                ck_assert_uint_eq(m, n);
                ck_assert_int_eq(memcmp(buf, out, n), 0);
                ck_assert_int_eq(frame_decoder_finish(d, &e), 0);
                frame_decoder_free(d);
        }
        free(out);
}
END_TEST

START_TEST(largest_data_passes_in_small_slices)
{
        size_t n = FRAME_DATA_OVERHEAD + FRAME_DATA_MAX, m;
        uint8_t *buf = malloc(n), *out = malloc(2u << 20);
        struct frame_decoder *d;
        struct err e = ERR_INIT;

        frame_data_header(7, FRAME_DATA_MAX, buf);
        for (size_t i = FRAME_DATA_OVERHEAD; i < n; i++)
                buf[i] = (uint8_t)(i * 7);
        ck_assert_int_eq(frame_decoder_new(&d), 0);
        ck_assert_msg(feed(d, buf, n, 1000, out, &m, &e) == 0, "%s", e.text);
        ck_assert_uint_eq(m, n);
        ck_assert_int_eq(memcmp(buf, out, n), 0);
        frame_decoder_free(d);
        free(buf);
        free(out);
}
END_TEST

START_TEST(stream_that_ends_in_a_frame_is_an_error)
{
        const uint8_t *p = (const uint8_t *)golden[0].bytes;
        struct frame_decoder *d;
        struct err e = ERR_INIT;
        struct frame f;

        for (size_t cut = 1; cut < golden[0].n; cut++) {
                const uint8_t *q = p;
                size_t left = cut;

                ck_assert_int_eq(frame_decoder_new(&d), 0);
                ck_assert_int_eq(frame_decoder_next(d, &q, &left, &f, &e), 0);
                ck_assert_int_eq(frame_decoder_finish(d, &e), E_FORMAT);
                frame_decoder_free(d);
        }
}
END_TEST

/* Five bytes are enough to know; with any of them in a slice of its own. */
static const struct {
        const char *bytes;
        const char *want;
} bad_headers[] = {
        { "\0\0\0\x01\x00", "unknown frame type 0" },
        { "\0\0\0\x01\x13", "unknown frame type 19" },
        { "\0\0\0\x01\xff", "unknown frame type 255" },
        { "\0\0\0\0\x06", "READY: length 0" },
        { "\0\0\0\x02\x06", "READY: length 2" },
        { "\0\x04\0\x06\x04", "DATA: length 262150" },
        { "\0\0\0\x05\x04", "DATA: length 5" },
        { "\xff\xff\xff\xff\x04", "DATA: length 4294967295" },
        { "\0\x02\x20\x07\x02", "POSITIONS: length 139271" },
        { "\0\0\x05\x3c\x01", "HELLO: length 1340" },
};

START_TEST(bad_header_is_refused_before_its_payload_comes)
{
        uint8_t buf[64];
        size_t before = golden[6].n, m;
        uint8_t *out = malloc(2u << 20);
        struct err e = ERR_INIT;

        memcpy(buf, golden[6].bytes, before);
        memcpy(buf + before, bad_headers[_i].bytes, FRAME_HEADER_SIZE);
        for (size_t step = 1; step <= before + FRAME_HEADER_SIZE; step++) {
                struct frame_decoder *d;
                struct err again = ERR_INIT;

                ck_assert_int_eq(frame_decoder_new(&d), 0);
                ck_assert_int_eq(feed(d, buf, before + FRAME_HEADER_SIZE, step, out, &m, &e), E_FORMAT);
                ck_assert_uint_eq(m, before);
                ck_assert_msg(strstr(e.text, bad_headers[_i].want) != NULL, "%s", e.text);
                ck_assert_ptr_nonnull(strstr(e.text, "stream offset 5: "));
                /* And it is final. */
                ck_assert_int_eq(feed(d, buf, before, before, out, &m, &again), E_FORMAT);
                ck_assert_str_eq(again.text, e.text);
                ck_assert_int_eq(frame_decoder_finish(d, &again), E_FORMAT);
                frame_decoder_free(d);
        }
        free(out);
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("frame");

        tcase_add_loop_test(tc, frame_is_laid_out_as_documented, 0, COUNT(golden));
        tcase_add_loop_test(tc, parsed_frame_encodes_to_the_same_bytes, 0, COUNT(golden));
        tcase_add_loop_test(tc, payload_of_another_length_is_refused, 0, COUNT(golden));
        tcase_add_loop_test(tc, buffer_too_small_is_left_alone_past_its_end, 0, COUNT(golden));
        tcase_add_loop_test(tc, field_that_is_not_allowed_is_named, 0, COUNT(bad));
        tcase_add_loop_test(tc, name_of_a_database_is_checked_both_ways, 0, COUNT(names));
        tcase_add_test(tc, name_that_is_too_long_escaped_is_refused);
        tcase_add_test(tc, texts_have_their_maxima);
        tcase_add_test(tc, snapshot_may_come_without_a_size);
        tcase_add_test(tc, positions_come_in_full_batches);
        tcase_add_test(tc, positions_writer_refuses_what_a_peer_would);
        tcase_add_test(tc, stream_is_cut_into_frames_whatever_the_slices);
        tcase_add_test(tc, largest_data_passes_in_small_slices);
        tcase_add_test(tc, stream_that_ends_in_a_frame_is_an_error);
        tcase_add_loop_test(tc, bad_header_is_refused_before_its_payload_comes, 0, COUNT(bad_headers));
        return run_tests("frame", tc);
}
