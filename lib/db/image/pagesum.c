#include "db/image/pagesum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ltx/checksum.h"

void
pagesum_release(struct pagesum *ps)
{
        free(ps->sums);
        *ps = (struct pagesum){ 0 };
}

int
pagesum_reserve(struct pagesum *ps, uint32_t n_pages)
{
        uint64_t want = n_pages;
        uint64_t *p;

        if (n_pages <= ps->capacity)
                return 0;
        /* An eighth more than asked: growth stays amortised, and the waste below 12 bytes a page. */
        want += want / 8 + 16;
        if (want > UINT32_MAX)
                want = UINT32_MAX;
        p = realloc(ps->sums, (size_t)want * sizeof *p);
        if (p == NULL)
                return -ENOMEM;
        ps->sums = p;
        ps->capacity = (uint32_t)want;
        return 0;
}

int
pagesum_resize(struct pagesum *ps, uint32_t n_pages)
{
        int r = pagesum_reserve(ps, n_pages);

        if (r < 0)
                return r;
        if (n_pages > ps->n_pages)
                memset(ps->sums + ps->n_pages, 0, (size_t)(n_pages - ps->n_pages) * sizeof *ps->sums);
        for (uint32_t i = n_pages; i < ps->n_pages; i++)
                ps->xor_sum ^= ps->sums[i];
        ps->n_pages = n_pages;
        return 0;
}

uint64_t
pagesum_get(const struct pagesum *ps, uint32_t pgno)
{
        return pgno == 0 || pgno > ps->n_pages ? 0 : ps->sums[pgno - 1];
}

uint32_t
pagesum_copy(void *sums, uint32_t first_pgno, uint64_t *ret, uint32_t n)
{
        const struct pagesum *ps = sums;
        uint32_t i;

        for (i = 0; i < n && first_pgno + i <= ps->n_pages; i++)
                ret[i] = pagesum_get(ps, first_pgno + i);
        return i;
}

void
pagesum_set(struct pagesum *ps, uint32_t pgno, uint64_t sum)
{
        if (pgno < 1 || pgno > ps->n_pages)
                return; /* the total is then not what the log says, which each commit and each start compares */
        ps->xor_sum ^= ps->sums[pgno - 1] ^ sum;
        ps->sums[pgno - 1] = sum;
}

uint64_t
pagesum_total(const struct pagesum *ps)
{
        return LTX_CHECKSUM_FLAG | ps->xor_sum;
}
