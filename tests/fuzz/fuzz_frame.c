/* links: litefs_repl */
/* The replication stream. The first byte chooses:
 *   0      the rest is payloads with types and lengths (u8, u16) that are right, for frame_parse alone
 *   n > 0  the rest is a stream, read at once and in slices of n bytes, with the same result
 * What is accepted encodes to the bytes that it came from: there is one way to say a thing. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "repl/frame_decoder.h"
#include "tests/fuzz/target.h"

static void
check_positions(struct frame_positions p)
{
        char name[DBNAME_MAX + 1];
        uint32_t n = p.count;
        struct ltx_pos pos;

        FUZZ_CHECK(n <= FRAME_POSITIONS_MAX);
        for (uint32_t i = 0; i < n; i++) {
                FUZZ_CHECK(frame_positions_next(&p, name, &pos));
                FUZZ_CHECK(dbname_is_valid(name, strlen(name)));
        }
        FUZZ_CHECK(!frame_positions_next(&p, name, &pos) && p.size_bytes == 0);
}

/* @bytes, @n is the whole frame that @f was parsed from. */
static void
check_frame(const struct frame *f, const uint8_t *bytes, size_t n)
{
        uint8_t *buf = malloc(n);
        struct err e = ERR_INIT;

        if (buf == NULL)
                abort();
        FUZZ_CHECK(frame_encode(f, buf, n, &e) == (ssize_t)n);
        FUZZ_CHECK(memcmp(buf, bytes, n) == 0);
        if (f->type == FRAME_POSITIONS)
                check_positions(f->positions);
        else if (f->type != FRAME_DATA)
                FUZZ_CHECK(n <= FRAME_SMALL_SIZE);
        free(buf);
}

static void
check_payload(uint8_t type, const uint8_t *payload, size_t n)
{
        uint8_t *frame = malloc(FRAME_HEADER_SIZE + n), found;
        struct err e = ERR_INIT;
        struct frame f;
        size_t size;

        if (frame == NULL)
                abort();
        put_be32(frame, (uint32_t)(1 + n));
        frame[4] = type;
        if (n > 0)
                memcpy(frame + FRAME_HEADER_SIZE, payload, n);
        if (frame_parse(type, frame + FRAME_HEADER_SIZE, n, &f, &e) == 0) {
                FUZZ_CHECK(frame_header_parse(frame, &found, &size, &e) == 0 && found == type &&
                           size == n);
                check_frame(&f, frame, FRAME_HEADER_SIZE + n);
        } else {
                FUZZ_CHECK(e.code == E_FORMAT && e.text[0] != '\0');
        }
        free(frame);
}

static void
check_payloads(const uint8_t *data, size_t size)
{
        while (size >= 3) {
                size_t n = get_be16(data + 1);

                n = n < size - 3 ? n : size - 3;
                check_payload(data[0], data + 3, n);
                data += 3 + n;
                size -= 3 + n;
        }
}

/* How reading a stream came out. */
struct outcome {
        size_t n_bytes; /* in whole frames */
        int code;
        struct err err;
};

static struct outcome
read_stream(const uint8_t *data, size_t size, size_t step)
{
        struct outcome o = { .err = ERR_INIT };
        struct frame_decoder *d;
        struct frame f;

        if (frame_decoder_new(&d) < 0)
                abort();
        for (size_t off = 0; off < size && o.code >= 0; off += step) {
                size_t n = size - off < step ? size - off : step;
                uint8_t *slice = malloc(n); /* of its own, so that a look past its end is found */
                const uint8_t *p = slice;

                if (slice == NULL)
                        abort();
                memcpy(slice, data + off, n);
                while ((o.code = frame_decoder_next(d, &p, &n, &f, &o.err)) > 0) {
                        size_t length = 4 + get_be32(data + o.n_bytes);

                        check_frame(&f, data + o.n_bytes, length);
                        o.n_bytes += length;
                }
                FUZZ_CHECK(o.code < 0 || n == 0);
                free(slice);
        }
        if (o.code == 0) {
                o.code = frame_decoder_finish(d, &o.err);
                FUZZ_CHECK((o.code == 0) == (o.n_bytes == size));
        }
        frame_decoder_free(d);
        return o;
}

static void
check_stream(const uint8_t *data, size_t size, size_t step)
{
        struct outcome whole = read_stream(data, size, size > 0 ? size : 1);
        struct outcome sliced = read_stream(data, size, step);

        FUZZ_CHECK(whole.code == sliced.code && whole.n_bytes == sliced.n_bytes);
        FUZZ_CHECK(strcmp(whole.err.text, sliced.err.text) == 0);
        FUZZ_CHECK(whole.code == 0 || whole.code == E_FORMAT);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        if (data[0] == 0)
                check_payloads(data + 1, size - 1);
        else
                check_stream(data + 1, size - 1, data[0]);
        return 0;
}
