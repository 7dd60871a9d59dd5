#include "backup/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ltx/checksum.h"
#include "ltx/decoder.h"

#define GATHER_SIZE (256u << 10)
#define PAGE_MAX 65536u

typedef unsigned long long ull;

struct backup_image {
        const struct os *os;
        int fd;
        struct ltx_decoder *decoder;
        struct backup_image_state state;
        uint64_t sum;   /* XOR of the pages' checksums */
        uint64_t *sums; /* [pgno - 1] */
        uint32_t n_sums;
        uint8_t *pages; /* those that follow on each other, on their way to the file */
        uint64_t off;
        size_t n;
};

int
backup_image_new(const struct os *os, int fd, struct backup_image **ret)
{
        struct backup_image *im = calloc(1, sizeof *im);
        int r = 0;

        if (im == NULL)
                return -ENOMEM;
        im->os = os;
        im->fd = fd;
        im->pages = malloc(GATHER_SIZE + PAGE_MAX);
        r = im->pages == NULL ? -ENOMEM : ltx_decoder_new(&im->decoder);
        if (r < 0) {
                backup_image_free(im);
                return r;
        }
        *ret = im;
        return 0;
}

void
backup_image_free(struct backup_image *im)
{
        if (im == NULL)
                return;
        ltx_decoder_free(im->decoder);
        free(im->sums);
        free(im->pages);
        free(im);
}

void
backup_image_get_state(const struct backup_image *im, struct backup_image_state *ret)
{
        *ret = im->state;
}

/* --- pages --- */

static int
flush_pages(struct backup_image *im, struct err *e)
{
        int r = im->n > 0 ? os_pwrite_all(im->os, "restore:write", im->fd, im->pages, im->n,
                                          (off_t)im->off)
                          : 0;

        im->n = 0;
        return r < 0 ? err_set(e, r, "write the database") : 0;
}

static int
resize_sums(struct backup_image *im, uint32_t n)
{
        uint64_t *grown;

        for (; im->n_sums > n; im->n_sums--)
                im->sum ^= im->sums[im->n_sums - 1];
        if (n <= im->n_sums)
                return 0;
        grown = realloc(im->sums, n * sizeof *grown);
        if (grown == NULL)
                return -ENOMEM;
        memset(grown + im->n_sums, 0, (n - im->n_sums) * sizeof *grown);
        im->sums = grown;
        im->n_sums = n;
        return 0;
}

/* The page is where the next one of the gathered would be. */
static int
take_page(struct backup_image *im, uint32_t pgno, uint32_t page_size, struct err *e)
{
        uint64_t off = (uint64_t)(pgno - 1) * page_size;
        uint64_t sum = ltx_page_checksum(pgno, im->pages + im->n, page_size);
        int r = 0;

        im->sum ^= im->sums[pgno - 1] ^ sum;
        im->sums[pgno - 1] = sum;
        if (im->n > 0 && im->off + im->n != off) {
                uint8_t *page = im->pages + im->n;

                r = flush_pages(im, e);
                memmove(im->pages, page, page_size);
        }
        if (im->n == 0)
                im->off = off;
        im->n += page_size;
        return r == 0 && im->n >= GATHER_SIZE ? flush_pages(im, e) : r;
}

/* --- a file --- */

static int
check_header(const struct backup_image *im, const struct backup_object *o, const struct ltx_header *h,
             struct err *e)
{
        const struct backup_image_state *s = &im->state;

        if (h->min_txid != o->min_txid || h->max_txid != o->max_txid)
                return err_text(e, E_FORMAT, "it is the file of %016llx-%016llx", (ull)h->min_txid,
                                (ull)h->max_txid);
        if (h->min_txid == 1)
                return 0;
        if (h->min_txid > s->pos.txid + 1 || h->max_txid <= s->pos.txid)
                return err_text(e, E_POS_MISMATCH, "it does not follow on %016llx", (ull)s->pos.txid);
        if (h->page_size != s->page_size)
                return err_text(e, E_FORMAT, "its pages have %u bytes, those before it %u", h->page_size,
                                s->page_size);
        if (h->min_txid == s->pos.txid + 1 && h->chain_post != 0 && s->is_proved &&
            h->chain_pre != s->pos.checksum)
                return err_text(
                        e, E_POS_MISMATCH, "it follows on %016llx/%016llx, not on %016llx/%016llx",
                        (ull)s->pos.txid, (ull)h->chain_pre, (ull)s->pos.txid, (ull)s->pos.checksum);
        return 0;
}

static int
take_image_pages(struct backup_image *im, const struct ltx_header *h, struct err *e)
{
        uint32_t pgno = 0;
        int r = h->min_txid == 1 ? resize_sums(im, 0) : 0;

        if (r == 0)
                r = resize_sums(im, h->commit > im->n_sums ? h->commit : im->n_sums);
        if (r < 0)
                return err_set(e, r, "checksums of %u pages", h->commit);
        while ((r = ltx_decoder_next(im->decoder, im->pages + im->n, &pgno, e)) > 0) {
                r = take_page(im, pgno, h->page_size, e);
                if (r < 0)
                        return r;
        }
        return r == 0 ? flush_pages(im, e) : r;
}

static int
check_whole(struct backup_image *im, const struct ltx_header *h, const struct ltx_trailer *t,
            struct err *e)
{
        uint64_t want = h->flags & LTX_FLAG_NO_CHECKSUM ? h->chain_post : t->post_apply_checksum;
        uint64_t sum = LTX_CHECKSUM_FLAG | im->sum;

        im->state.is_proved = want != 0;
        im->state.pos = (struct ltx_pos){ h->max_txid, sum };
        if (want != 0 && want != sum)
                return err_set(e, E_CHECKSUM, "the database has %016llx, and should have %016llx",
                               (ull)sum, (ull)want);
        return 0;
}

static int
apply_file(struct backup_image *im, const struct backup_object *o, struct byte_src *src, struct err *e)
{
        struct ltx_header h;
        struct ltx_trailer t;
        int r = ltx_decoder_begin(im->decoder, LTX_V3, src, &h, e);

        if (r == 0)
                r = check_header(im, o, &h, e);
        if (r == 0)
                r = take_image_pages(im, &h, e);
        if (r == 0)
                r = ltx_decoder_finish(im->decoder, &t, e);
        if (r < 0)
                return r;
        (void)resize_sums(im, h.commit); /* it shrinks */
        r = os_ftruncate(im->os, "restore:size", im->fd, (off_t)h.commit * h.page_size);
        if (r < 0)
                return err_set(e, r, "set the size of the database");
        im->state.page_size = h.page_size;
        im->state.page_count = h.commit;
        im->state.time_ms = h.timestamp_ms;
        return check_whole(im, &h, &t, e);
}

int
backup_image_apply(struct backup_image *im, const struct backup_object *o, struct byte_src *src,
                   struct err *e)
{
        char name[BACKUP_NAME_SIZE];
        int r = apply_file(im, o, src, e);

        if (r < 0) {
                backup_object_name(BACKUP_IN_BUCKET, o, name);
                err_prefix(e, "%s", name);
        }
        return r;
}
