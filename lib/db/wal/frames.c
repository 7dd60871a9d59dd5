#include "db/wal/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
wal_frames_reset(struct wal_frames *f)
{
        free(f->pgnos);
        free(f->sums);
        free(f->txs);
        free(f->index);
        free(f->pending);
        *f = (struct wal_frames){ 0 };
}

int
wal_frames_push(struct wal_frames *f, uint32_t pgno, uint64_t sum)
{
        if (f->n == f->capacity) {
                uint32_t want = f->capacity == 0 ? 64 : f->capacity * 2;
                uint32_t *pgnos = realloc(f->pgnos, want * sizeof *pgnos);
                uint64_t *sums;

                if (pgnos == NULL)
                        return -ENOMEM;
                f->pgnos = pgnos;
                sums = realloc(f->sums, want * sizeof *sums);
                if (sums == NULL)
                        return -ENOMEM;
                f->sums = sums;
                f->capacity = want;
        }
        f->pgnos[f->n] = pgno;
        f->sums[f->n] = sum;
        f->n++;
        return 0;
}

void
wal_frames_cut(struct wal_frames *f, uint32_t n)
{
        if (n < f->n)
                f->n = n;
        if (n < f->n_indexed) {
                /* Its entries name frames that hold something else from now on. */
                free(f->index);
                f->index = NULL;
                f->index_size = f->n_indexed = 0;
        }
}

int
wal_frames_reserve_tx(struct wal_frames *f)
{
        uint32_t want = f->txs_capacity == 0 ? 32 : f->txs_capacity * 2;
        struct wal_tx *p;

        if (f->n_txs < f->txs_capacity)
                return 0;
        p = realloc(f->txs, want * sizeof *p);
        if (p == NULL)
                return -ENOMEM;
        f->txs = p;
        f->txs_capacity = want;
        return 0;
}

void
wal_frames_add_tx(struct wal_frames *f, const struct wal_tx *tx)
{
        f->txs[f->n_txs++] = *tx;
}

/* Index of the first transaction that ends at or after @frame. */
static uint32_t
first_tx_from(const struct wal_frames *f, uint32_t frame)
{
        uint32_t lo = 0, hi = f->n_txs;

        while (lo < hi) {
                uint32_t mid = lo + (hi - lo) / 2;

                if (f->txs[mid].n_frames < frame)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

const struct wal_tx *
wal_frames_tx_of(const struct wal_frames *f, uint32_t frame)
{
        uint32_t i = first_tx_from(f, frame);

        return i < f->n_txs ? &f->txs[i] : NULL;
}

const struct wal_tx *
wal_frames_tx_within(const struct wal_frames *f, uint32_t n_frames)
{
        uint32_t i = first_tx_from(f, n_frames + 1);

        return i > 0 ? &f->txs[i - 1] : NULL;
}

static uint32_t
hash_image(uint32_t pgno, uint64_t sum)
{
        return (uint32_t)(sum ^ sum >> 32) ^ pgno * 2654435761u;
}

static void
index_insert(struct wal_frames *f, uint32_t frame)
{
        uint32_t mask = f->index_size - 1;
        uint32_t i = hash_image(f->pgnos[frame - 1], f->sums[frame - 1]) & mask;

        while (f->index[i] != 0)
                i = (i + 1) & mask;
        f->index[i] = frame;
}

static int
index_catch_up(struct wal_frames *f, uint32_t n_captured)
{
        if ((uint64_t)n_captured * 2 >= f->index_size) {
                uint32_t size = 1024;
                uint32_t *index;

                while (size <= (uint64_t)n_captured * 4 && size < 1u << 31)
                        size *= 2;
                index = calloc(size, sizeof *index);
                if (index == NULL)
                        return -ENOMEM;
                free(f->index);
                f->index = index;
                f->index_size = size;
                f->n_indexed = 0;
        }
        while (f->n_indexed < n_captured)
                index_insert(f, ++f->n_indexed);
        return 0;
}

int64_t
wal_frames_find(struct wal_frames *f, uint32_t n_captured, uint32_t pgno, uint64_t sum)
{
        uint32_t mask, i;
        int64_t found = 0;
        int r = index_catch_up(f, n_captured);

        if (r < 0)
                return r;
        mask = f->index_size - 1;
        for (i = hash_image(pgno, sum) & mask; f->index[i] != 0; i = (i + 1) & mask) {
                uint32_t frame = f->index[i];

                if (f->pgnos[frame - 1] == pgno && f->sums[frame - 1] == sum && frame > found &&
                    frame <= n_captured)
                        found = frame;
        }
        return found;
}

static uint32_t
hash_pgno(uint32_t pgno)
{
        return pgno * 2654435761u;
}

static uint32_t
pending_slot(const uint32_t *set, uint32_t size, uint32_t pgno)
{
        uint32_t i = hash_pgno(pgno) & (size - 1);

        while (set[i] != 0 && set[i] != pgno)
                i = (i + 1) & (size - 1);
        return i;
}

int
wal_frames_reserve_pending(struct wal_frames *f, uint32_t n_more)
{
        uint64_t need = ((uint64_t)f->n_pending + n_more) * 2;
        uint32_t size = f->pending_size == 0 ? 128 : f->pending_size;
        uint32_t *set;

        if (need <= f->pending_size)
                return 0;
        while (size < need) {
                if (size > UINT32_MAX / 2)
                        return -ENOMEM;
                size *= 2;
        }
        set = calloc(size, sizeof *set);
        if (set == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < f->pending_size; i++)
                if (f->pending[i] != 0)
                        set[pending_slot(set, size, f->pending[i])] = f->pending[i];
        free(f->pending);
        f->pending = set;
        f->pending_size = size;
        return 0;
}

void
wal_frames_add_pending(struct wal_frames *f, uint32_t pgno)
{
        uint32_t i = pending_slot(f->pending, f->pending_size, pgno);

        if (f->pending[i] == 0) {
                f->pending[i] = pgno;
                f->n_pending++;
        }
}

bool
wal_frames_is_pending(const struct wal_frames *f, uint32_t pgno)
{
        return f->n_pending > 0 && f->pending[pending_slot(f->pending, f->pending_size, pgno)] == pgno;
}

void
wal_frames_clear_pending(struct wal_frames *f, uint32_t pgno)
{
        uint32_t mask = f->pending_size - 1, i, j;

        if (!wal_frames_is_pending(f, pgno))
                return;
        i = j = pending_slot(f->pending, f->pending_size, pgno);
        /* Moves the rest of the probe run up, so that the set needs no tombstones. */
        for (;;) {
                j = (j + 1) & mask;
                if (f->pending[j] == 0)
                        break;
                if (((j - hash_pgno(f->pending[j])) & mask) < ((j - i) & mask))
                        continue;
                f->pending[i] = f->pending[j];
                i = j;
        }
        f->pending[i] = 0;
        f->n_pending--;
}

void
wal_frames_clear_pending_above(struct wal_frames *f, uint32_t pgno)
{
        for (uint32_t i = 0; i < f->pending_size && f->n_pending > 0;) {
                if (f->pending[i] > pgno)
                        wal_frames_clear_pending(f, f->pending[i]);
                else
                        i++;
        }
}
