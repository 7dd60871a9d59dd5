#include "tests/lib/ltx_read.h"

#include <stdlib.h>
#include <string.h>

static int
read_pages(struct ltx_decoder *d, struct ltx_content *ret, struct err *e)
{
        /* Of the page's exact size, so that a sanitizer sees a byte too many. */
        uint8_t *page = malloc(ret->header.page_size);
        uint32_t pgno;
        int r;

        while ((r = ltx_decoder_next(d, page, &pgno, e)) > 0) {
                ret->pages.sink.write(&ret->pages.sink, &pgno, sizeof pgno);
                ret->pages.sink.write(&ret->pages.sink, page, ret->header.page_size);
                ret->n_pages++;
        }
        free(page);
        return r;
}

int
ltx_read(enum ltx_version version, struct byte_src *src, struct ltx_content *ret, struct err *e)
{
        struct ltx_decoder *d;
        int r = ltx_decoder_new(&d);

        memset(ret, 0, sizeof *ret);
        mem_sink_init(&ret->pages);
        if (r == 0)
                r = ltx_decoder_begin(d, version, src, &ret->header, e);
        if (r == 0)
                r = read_pages(d, ret, e);
        if (r == 0)
                r = ltx_decoder_finish(d, &ret->trailer, e);
        ltx_decoder_free(d);
        return r;
}

int
ltx_read_bytes(enum ltx_version version, const void *data, size_t n, struct ltx_content *ret,
               struct err *e)
{
        struct mem_src src;

        mem_src_init(&src, data, n);
        return ltx_read(version, &src.src, ret, e);
}

void
ltx_content_release(struct ltx_content *c)
{
        mem_sink_release(&c->pages);
}

bool
ltx_header_equal(const struct ltx_header *a, const struct ltx_header *b)
{
        uint8_t x[LTX_HEADER_SIZE], y[LTX_HEADER_SIZE];

        ltx_header_encode(a, x);
        ltx_header_encode(b, y);
        return memcmp(x, y, sizeof x) == 0;
}

bool
ltx_content_equal(const struct ltx_content *a, const struct ltx_content *b)
{
        return ltx_header_equal(&a->header, &b->header) && a->pages.n == b->pages.n &&
               (a->pages.n == 0 || memcmp(a->pages.data, b->pages.data, a->pages.n) == 0) &&
               a->trailer.post_apply_checksum == b->trailer.post_apply_checksum &&
               a->trailer.file_checksum == b->trailer.file_checksum;
}
