/* Layout: header, page frames {pgno u32, flags u16 = 1, size u32, LZ4 block}, 6 zero bytes, page index,
 * trailer. The file checksum covers header, each frame with its page uncompressed, the 6 zero bytes, the index
 * with its length, and the post-apply checksum. */
#include "ltx/encoder.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/page_index.h"

#define FRAME_HEADER_SIZE 10u
#define PAGE_MAX 65536u
#define OUT_SIZE (FRAME_HEADER_SIZE + LZ4_COMPRESSBOUND(PAGE_MAX))

enum state { IDLE, PAGES };

struct ltx_encoder {
        bool is_compressing;
        enum state state;
        struct ltx_header header;
        struct byte_sink *sink;
        uint64_t offset;
        uint64_t crc;
        uint32_t last_pgno;
        uint8_t *index;
        size_t index_size;
        size_t index_capacity;
        void *lz4_state;
        uint8_t out[OUT_SIZE];
};

int
ltx_encoder_new(bool compress, struct ltx_encoder **ret)
{
        struct ltx_encoder *enc = malloc(sizeof *enc);

        if (enc == NULL)
                return -ENOMEM;
        /* `out` is left as it is: pages of it that are never used cost no memory. */
        memset(enc, 0, offsetof(struct ltx_encoder, out));
        enc->is_compressing = compress;
        *ret = enc;
        return 0;
}

void
ltx_encoder_free(struct ltx_encoder *enc)
{
        if (enc == NULL)
                return;
        free(enc->lz4_state);
        free(enc->index);
        free(enc);
}

static int
encoder_put(struct ltx_encoder *enc, const void *buf, size_t n, struct err *e)
{
        int r = enc->sink->write(enc->sink, buf, n);

        if (r < 0)
                return err_set(e, r, "write LTX at offset %llu", (unsigned long long)enc->offset);
        enc->offset += n;
        return 0;
}

int
ltx_encoder_begin(struct ltx_encoder *enc, const struct ltx_header *header, struct byte_sink *sink,
                  struct err *e)
{
        uint8_t buf[LTX_HEADER_SIZE];
        int r = ltx_header_validate(header, LTX_V3, e);

        if (r < 0)
                return r;
        if (enc->is_compressing && enc->lz4_state == NULL) {
                enc->lz4_state = malloc((size_t)LZ4_sizeofState());
                if (enc->lz4_state == NULL)
                        return err_set(e, -ENOMEM, "LZ4 state");
        }
        enc->header = *header;
        enc->sink = sink;
        enc->offset = 0;
        enc->last_pgno = 0;
        enc->index_size = 0;
        enc->state = PAGES;
        ltx_header_encode(header, buf);
        enc->crc = ltx_crc64(0, buf, sizeof buf);
        return encoder_put(enc, buf, sizeof buf, e);
}

/* The only page that may follow @pgno in a snapshot. */
static uint32_t
next_in_snapshot(uint32_t pgno, uint32_t page_size)
{
        return pgno + 1 == ltx_lock_pgno(page_size) ? pgno + 2 : pgno + 1;
}

static int
check_order(const struct ltx_encoder *enc, uint32_t pgno, struct err *e)
{
        const struct ltx_header *h = &enc->header;

        if (pgno == 0 || pgno > h->commit || pgno == ltx_lock_pgno(h->page_size))
                return err_set(e, E_FORMAT, "page %u cannot be in an LTX file of %u pages", pgno,
                               h->commit);
        if (pgno <= enc->last_pgno)
                return err_set(e, E_FORMAT, "page %u after page %u", pgno, enc->last_pgno);
        if (ltx_header_is_snapshot(h) && pgno != next_in_snapshot(enc->last_pgno, h->page_size))
                return err_set(e, E_FORMAT, "page %u of a snapshot is missing", enc->last_pgno + 1);
        return 0;
}

/* A block of literals only: what LZ4 calls its last sequence. */
static size_t
store_block(uint8_t *out, const void *page, size_t n)
{
        size_t at = 0, rest;

        if (n < 15) {
                out[at++] = (uint8_t)(n << 4);
        } else {
                out[at++] = 0xf0;
                for (rest = n - 15; rest >= 255; rest -= 255)
                        out[at++] = 255;
                out[at++] = (uint8_t)rest;
        }
        memcpy(out + at, page, n);
        return at + n;
}

static size_t
make_block(struct ltx_encoder *enc, const void *page)
{
        int n = (int)enc->header.page_size, r = 0;

        if (enc->is_compressing)
                r = LZ4_compress_fast_extState(enc->lz4_state, page,
                                               (char *)enc->out + FRAME_HEADER_SIZE, n, n - 1, 1);
        return r > 0 ? (size_t)r : store_block(enc->out + FRAME_HEADER_SIZE, page, (size_t)n);
}

static int
reserve_index(struct ltx_encoder *enc, struct err *e)
{
        size_t want = enc->index_capacity == 0 ? 256 : enc->index_capacity * 2;
        uint8_t *p;

        if (enc->index_size + 3 * UVARINT_MAX + 16 <= enc->index_capacity)
                return 0;
        p = realloc(enc->index, want);
        if (p == NULL)
                return err_set(e, -ENOMEM, "page index");
        enc->index = p;
        enc->index_capacity = want;
        return 0;
}

int
ltx_encoder_page(struct ltx_encoder *enc, uint32_t pgno, const void *page, struct err *e)
{
        uint64_t at = enc->offset;
        size_t size;
        int r;

        if (enc->state != PAGES)
                return err_set(e, -EINVAL, "LTX encoder is not in a file");
        r = check_order(enc, pgno, e);
        if (r == 0)
                r = reserve_index(enc, e);
        if (r < 0)
                return r;
        size = make_block(enc, page);
        put_be32(enc->out, pgno);
        put_be16(enc->out + 4, 1);
        put_be32(enc->out + 6, (uint32_t)size);
        enc->crc = ltx_crc64(enc->crc, enc->out, FRAME_HEADER_SIZE);
        enc->crc = ltx_crc64(enc->crc, page, enc->header.page_size);
        r = encoder_put(enc, enc->out, FRAME_HEADER_SIZE + size, e);
        if (r < 0)
                return r;
        enc->index_size += uvarint_put(enc->index + enc->index_size, pgno);
        enc->index_size += uvarint_put(enc->index + enc->index_size, at);
        enc->index_size += uvarint_put(enc->index + enc->index_size, enc->offset - at);
        enc->last_pgno = pgno;
        return 0;
}

static int
encoder_check_end(const struct ltx_encoder *enc, uint64_t post, struct err *e)
{
        const struct ltx_header *h = &enc->header;
        bool wants_none = (h->flags & LTX_FLAG_NO_CHECKSUM) != 0;

        if (ltx_header_is_snapshot(h) && h->commit > 0 &&
            next_in_snapshot(enc->last_pgno, h->page_size) <= h->commit)
                return err_set(e, E_FORMAT, "snapshot ends at page %u of %u", enc->last_pgno, h->commit);
        if (wants_none ? post != 0
                       : !(post & LTX_CHECKSUM_FLAG) || (h->commit == 0 && post != LTX_CHECKSUM_FLAG))
                return err_set(e, E_FORMAT, "post-apply checksum %016llx", (unsigned long long)post);
        return 0;
}

/* Everything behind the pages, in one write. */
static int
encoder_put_end(struct ltx_encoder *enc, uint64_t post, uint64_t *ret_crc, struct err *e)
{
        static const uint8_t zeros[6];
        uint8_t tail[24];
        int r;

        enc->crc = ltx_crc64(enc->crc, zeros, sizeof zeros);
        r = encoder_put(enc, zeros, sizeof zeros, e);
        if (r == 0)
                r = reserve_index(enc, e);
        if (r < 0)
                return r;
        enc->index[enc->index_size++] = 0;
        put_be64(tail, enc->index_size);
        put_be64(tail + 8, post);
        enc->crc = ltx_crc64(enc->crc, enc->index, enc->index_size);
        enc->crc = ltx_crc64(enc->crc, tail, 16);
        *ret_crc = LTX_CHECKSUM_FLAG | enc->crc;
        put_be64(tail + 16, *ret_crc);
        r = encoder_put(enc, enc->index, enc->index_size, e);
        return r < 0 ? r : encoder_put(enc, tail, sizeof tail, e);
}

int
ltx_encoder_finish(struct ltx_encoder *enc, uint64_t post_apply_checksum, struct ltx_trailer *ret,
                   struct err *e)
{
        uint64_t crc = 0;
        int r;

        if (enc->state != PAGES)
                return err_set(e, -EINVAL, "LTX encoder is not in a file");
        r = encoder_check_end(enc, post_apply_checksum, e);
        if (r == 0)
                r = encoder_put_end(enc, post_apply_checksum, &crc, e);
        ltx_encoder_abort(enc);
        if (r == 0 && ret != NULL)
                *ret = (struct ltx_trailer){ post_apply_checksum, crc };
        return r;
}

void
ltx_encoder_abort(struct ltx_encoder *enc)
{
        enc->state = IDLE;
        enc->sink = NULL;
        /* A huge file's index is not kept for the small ones to come. */
        if (enc->index_capacity > 65536) {
                free(enc->index);
                enc->index = NULL;
                enc->index_capacity = 0;
        }
}
