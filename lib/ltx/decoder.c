/* Reads v3 (layout in encoder.c) and v1: header, the page block {pgno u32, page}..., 4 zero bytes, trailer; with
 * LTX_FLAG_LZ4_V1 the page block with its zero bytes is one LZ4 frame. */
#include "ltx/decoder.h"

#include <errno.h>
#include <lz4.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/page_index.h"

#define PAGE_MAX 65536u
#define IN_SIZE 65536u

enum state { IDLE, PAGES, PAGES_DONE };

struct ltx_decoder {
        enum ltx_version version;
        enum state state;
        struct ltx_header header;
        struct byte_src *src;
        uint64_t offset; /* bytes taken from src */
        uint64_t crc;
        uint64_t xor_sum; /* of a snapshot's pages */
        uint32_t last_pgno;
        uint64_t n_pages;
        uint64_t index_crc; /* of the index that the frames should have */
        uint64_t index_size;
        LZ4F_dctx *lz4; /* v1 */
        uint8_t *in;    /* v1: compressed bytes; v3: one block */
        size_t in_size, in_used;
        bool is_frame_done;
};

int
ltx_decoder_new(struct ltx_decoder **ret)
{
        struct ltx_decoder *d = calloc(1, sizeof *d);

        if (d == NULL)
                return -ENOMEM;
        d->in = malloc(LZ4_COMPRESSBOUND(PAGE_MAX));
        if (d->in == NULL) {
                free(d);
                return -ENOMEM;
        }
        *ret = d;
        return 0;
}

void
ltx_decoder_free(struct ltx_decoder *d)
{
        if (d == NULL)
                return;
        LZ4F_freeDecompressionContext(d->lz4);
        free(d->in);
        free(d);
}

static int
decoder_bad(const struct ltx_decoder *d, struct err *e, const char *what)
{
        return err_set(e, E_FORMAT, "LTX at offset %llu: %s", (unsigned long long)d->offset, what);
}

/* Exactly @n bytes of the file. */
static int
decoder_take(struct ltx_decoder *d, void *buf, size_t n, struct err *e)
{
        ssize_t r = byte_src_read_all(d->src, buf, n);

        if (r < 0)
                return err_set(e, (int)r, "read LTX at offset %llu", (unsigned long long)d->offset);
        if ((size_t)r < n)
                return decoder_bad(d, e, "the file ends early");
        d->offset += n;
        return 0;
}

int
ltx_decoder_begin(struct ltx_decoder *d, enum ltx_version version, struct byte_src *src,
                  struct ltx_header *ret, struct err *e)
{
        uint8_t buf[LTX_HEADER_SIZE];
        int r;

        d->version = version;
        d->state = IDLE;
        d->src = src;
        d->offset = d->crc = d->xor_sum = d->n_pages = d->index_crc = d->index_size = 0;
        d->last_pgno = 0;
        d->in_size = d->in_used = 0;
        d->is_frame_done = false;
        r = decoder_take(d, buf, sizeof buf, e);
        if (r == 0)
                r = ltx_header_decode(buf, version, &d->header, e);
        if (r < 0)
                return r;
        d->crc = ltx_crc64(0, buf, sizeof buf);
        if (d->header.flags & LTX_FLAG_LZ4_V1) {
                LZ4F_freeDecompressionContext(d->lz4);
                d->lz4 = NULL;
                if (LZ4F_isError(LZ4F_createDecompressionContext(&d->lz4, LZ4F_VERSION)))
                        return err_set(e, -ENOMEM, "LZ4 context");
        }
        d->state = PAGES;
        *ret = d->header;
        return 0;
}

/* --- the page block --- */

/* Exactly @n bytes of the page block of a compressed v1 file. */
static int
take_from_frame(struct ltx_decoder *d, uint8_t *buf, size_t n, struct err *e)
{
        while (n > 0) {
                size_t in_n, out_n = n, r;
                ssize_t got;

                if (d->in_used == d->in_size) {
                        /* Not a byte past the frame may be taken: the trailer follows. The decoder says how
                         * much it wants next; before its first answer a byte will do. */
                        size_t want = d->in_size == 0 ? 1 : d->in_used;

                        if (want > IN_SIZE)
                                want = IN_SIZE;
                        got = d->src->read(d->src, d->in, want);
                        if (got < 0)
                                return err_set(e, (int)got, "read LTX at offset %llu",
                                               (unsigned long long)d->offset);
                        if (got == 0)
                                return decoder_bad(d, e, "the file ends early");
                        d->offset += (size_t)got;
                        d->in_size = (size_t)got;
                        d->in_used = 0;
                }
                in_n = d->in_size - d->in_used;
                r = LZ4F_decompress(d->lz4, buf, &out_n, d->in + d->in_used, &in_n, NULL);
                if (LZ4F_isError(r))
                        return decoder_bad(d, e, LZ4F_getErrorName(r));
                d->in_used += in_n;
                if (d->in_used == d->in_size)
                        d->in_size = d->in_used = r; /* the next read's size */
                buf += out_n;
                n -= out_n;
                if (r == 0) {
                        d->is_frame_done = true;
                        if (n > 0)
                                return decoder_bad(d, e, "the LZ4 frame ends early");
                }
        }
        return 0;
}

static int
take_block(struct ltx_decoder *d, void *buf, size_t n, struct err *e)
{
        return d->header.flags & LTX_FLAG_LZ4_V1 ? take_from_frame(d, buf, n, e)
                                                 : decoder_take(d, buf, n, e);
}

/* Behind the page block of a compressed v1 file only the frame's own end may come. */
static int
end_frame(struct ltx_decoder *d, struct err *e)
{
        uint8_t out;

        while (!d->is_frame_done) {
                size_t in_n = d->in_used < d->in_size ? d->in_size - d->in_used : 0, out_n = 1, r;

                if (in_n == 0) {
                        size_t want = d->in_size == 0 || d->in_size > IN_SIZE ? 1 : d->in_size;
                        int rr = decoder_take(d, d->in, want, e);

                        if (rr < 0)
                                return rr;
                        in_n = d->in_size = want;
                        d->in_used = 0;
                }
                r = LZ4F_decompress(d->lz4, &out, &out_n, d->in + d->in_used, &in_n, NULL);
                if (LZ4F_isError(r))
                        return decoder_bad(d, e, LZ4F_getErrorName(r));
                if (out_n > 0)
                        return decoder_bad(d, e, "data behind the last page");
                d->in_used += in_n;
                if (d->in_used == d->in_size)
                        d->in_size = d->in_used = r;
                d->is_frame_done = r == 0;
        }
        return 0;
}

static int
check_pgno(struct ltx_decoder *d, uint32_t pgno, struct err *e)
{
        const struct ltx_header *h = &d->header;

        if (pgno > h->commit || pgno == ltx_lock_pgno(h->page_size) || pgno <= d->last_pgno)
                return err_set(e, E_FORMAT, "LTX at offset %llu: page %u of %u after page %u",
                               (unsigned long long)d->offset, pgno, h->commit, d->last_pgno);
        return 0;
}

/* The index that the encoder would write for this frame, checksummed as it goes. */
static void
expect_index_entry(struct ltx_decoder *d, uint32_t pgno, uint64_t at)
{
        uint8_t buf[3 * UVARINT_MAX];
        size_t n = uvarint_put(buf, pgno);

        n += uvarint_put(buf + n, at);
        n += uvarint_put(buf + n, d->offset - at);
        d->index_crc = ltx_crc64(d->index_crc, buf, n);
        d->index_size += n;
}

static int
take_v3_page(struct ltx_decoder *d, uint8_t *page, struct err *e)
{
        uint8_t be[4];
        uint32_t size;
        int r, n;

        r = decoder_take(d, be, sizeof be, e);
        if (r < 0)
                return r;
        size = get_be32(be);
        if (size == 0 || size > LZ4_COMPRESSBOUND(PAGE_MAX))
                return decoder_bad(d, e, "size of a page's LZ4 block");
        d->crc = ltx_crc64(d->crc, be, sizeof be);
        r = decoder_take(d, d->in, size, e);
        if (r < 0)
                return r;
        n = LZ4_decompress_safe((const char *)d->in, (char *)page, (int)size, (int)d->header.page_size);
        return n == (int)d->header.page_size ? 0
                                             : decoder_bad(d, e, "a page's LZ4 block does not decode");
}

static int
next_v3(struct ltx_decoder *d, uint8_t *page, uint32_t *ret_pgno, struct err *e)
{
        uint64_t at = d->offset;
        uint8_t h[6];
        uint32_t pgno, flags;
        int r = decoder_take(d, h, sizeof h, e);

        if (r < 0)
                return r;
        pgno = get_be32(h);
        flags = get_be16(h + 4);
        d->crc = ltx_crc64(d->crc, h, sizeof h);
        if (pgno == 0)
                return flags == 0 ? 0 : decoder_bad(d, e, "end of pages");
        r = check_pgno(d, pgno, e);
        /* Flag 0 was a frame without its size, in version 0.5.0 of the library; nobody writes it any more. */
        if (r == 0 && flags != 1)
                r = decoder_bad(d, e, "page flags");
        if (r == 0)
                r = take_v3_page(d, page, e);
        if (r < 0)
                return r;
        expect_index_entry(d, pgno, at);
        *ret_pgno = pgno;
        return 1;
}

static int
next_v1(struct ltx_decoder *d, uint8_t *page, uint32_t *ret_pgno, struct err *e)
{
        uint8_t be[4];
        uint32_t pgno;
        int r = take_block(d, be, sizeof be, e);

        if (r < 0)
                return r;
        pgno = get_be32(be);
        d->crc = ltx_crc64(d->crc, be, sizeof be);
        if (pgno == 0)
                return d->header.flags & LTX_FLAG_LZ4_V1 ? end_frame(d, e) : 0;
        r = check_pgno(d, pgno, e);
        if (r == 0)
                r = take_block(d, page, d->header.page_size, e);
        if (r < 0)
                return r;
        *ret_pgno = pgno;
        return 1;
}

int
ltx_decoder_next(struct ltx_decoder *d, void *page, uint32_t *ret_pgno, struct err *e)
{
        uint32_t pgno = 0;
        int r;

        if (d->state != PAGES)
                return d->state == PAGES_DONE ? 0 : err_set(e, -EINVAL, "LTX decoder is not in a file");
        r = d->version == LTX_V1 ? next_v1(d, page, &pgno, e) : next_v3(d, page, &pgno, e);
        if (r == 0)
                d->state = PAGES_DONE;
        if (r < 0)
                d->state = IDLE;
        if (r <= 0)
                return r;
        d->crc = ltx_crc64(d->crc, page, d->header.page_size);
        d->last_pgno = pgno;
        d->n_pages++;
        if (ltx_header_is_snapshot(&d->header))
                d->xor_sum ^= ltx_page_checksum(pgno, page, d->header.page_size);
        *ret_pgno = pgno;
        return 1;
}

/* --- the end --- */

/* The index has to be the one that the frames make: nothing of it needs to be kept. */
static int
decoder_check_index(struct ltx_decoder *d, struct err *e)
{
        static const uint8_t zero;
        uint64_t left = d->index_size + 1, crc = 0;
        uint8_t buf[512], be[8];
        int r;

        d->index_crc = ltx_crc64(d->index_crc, &zero, 1);
        while (left > 0) {
                size_t n = left < sizeof buf ? (size_t)left : sizeof buf;

                r = decoder_take(d, buf, n, e);
                if (r < 0)
                        return r;
                d->crc = ltx_crc64(d->crc, buf, n);
                crc = ltx_crc64(crc, buf, n);
                left -= n;
        }
        r = decoder_take(d, be, sizeof be, e);
        if (r < 0)
                return r;
        d->crc = ltx_crc64(d->crc, be, sizeof be);
        if (crc != d->index_crc || get_be64(be) != d->index_size + 1)
                return decoder_bad(d, e, "the page index does not fit the pages");
        return 0;
}

static int
check_snapshot(struct ltx_decoder *d, uint64_t post, struct err *e)
{
        const struct ltx_header *h = &d->header;
        uint64_t want = h->commit - (h->commit >= ltx_lock_pgno(h->page_size) ? 1u : 0u);
        bool has_chain = h->chain_post != 0;

        if (!ltx_header_is_snapshot(h))
                return 0;
        if (d->n_pages != want)
                return err_set(e, E_FORMAT, "LTX snapshot has %llu pages of %u",
                               (unsigned long long)d->n_pages, h->commit);
        /* The flag cancels out over an even number of pages: set it as the sum's definition does. */
        if (has_chain)
                post = h->chain_post;
        if ((has_chain || !(h->flags & LTX_FLAG_NO_CHECKSUM)) &&
            (LTX_CHECKSUM_FLAG | d->xor_sum) != post)
                return err_set(e, E_CHECKSUM,
                               "LTX snapshot: post-apply checksum %016llx, the pages make %016llx",
                               (unsigned long long)post,
                               (unsigned long long)(LTX_CHECKSUM_FLAG | d->xor_sum));
        return 0;
}

static int
check_trailer(struct ltx_decoder *d, const uint8_t *buf, struct ltx_trailer *ret, struct err *e)
{
        struct ltx_trailer t = { get_be64(buf), get_be64(buf + 8) };
        bool has_none = (d->header.flags & LTX_FLAG_NO_CHECKSUM) != 0;

        d->crc = ltx_crc64(d->crc, buf, 8);
        if (t.file_checksum != (LTX_CHECKSUM_FLAG | d->crc))
                return err_set(e, E_CHECKSUM, "LTX file checksum %016llx, the content makes %016llx",
                               (unsigned long long)t.file_checksum,
                               (unsigned long long)(LTX_CHECKSUM_FLAG | d->crc));
        if (has_none ? t.post_apply_checksum != 0 : !(t.post_apply_checksum & LTX_CHECKSUM_FLAG))
                return decoder_bad(d, e, "post-apply checksum");
        if (!has_none && d->header.commit == 0 && t.post_apply_checksum != LTX_CHECKSUM_FLAG)
                return decoder_bad(d, e, "post-apply checksum of a deletion");
        *ret = t;
        return check_snapshot(d, t.post_apply_checksum, e);
}

int
ltx_decoder_finish(struct ltx_decoder *d, struct ltx_trailer *ret, struct err *e)
{
        uint8_t buf[LTX_TRAILER_SIZE];
        int r = 0;

        if (d->state != PAGES_DONE)
                return err_set(e, -EINVAL, "LTX pages were not read to their end");
        d->state = IDLE;
        if (d->version == LTX_V3)
                r = decoder_check_index(d, e);
        if (r == 0)
                r = decoder_take(d, buf, sizeof buf, e);
        return r < 0 ? r : check_trailer(d, buf, ret, e);
}
