/* The frames behind the captured ones as one transaction: an application's, or one that was received and laid there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "db/wal/wal_internal.h"
#include "ltx/checksum.h"

#define WAL_SPARSE_PAGES_MAX \
        (1u << 20)       /* that a transaction grows by without a frame: SQLite had them in its cache */
#define PAGE_COUNT_AT 28 /* in page 1 */

uint32_t
wal_n_uncaptured(const struct db_wal *w)
{
        return w->frames.n - w->n_captured;
}

bool
wal_has_uncaptured(const struct db_wal *w)
{
        return w->is_live && (w->frames.n > w->n_captured || w->n_written > w->n_captured);
}

/* SQLite leaves out frames only of pages that it has taken and freed again while they were in its cache, and then page 1
 * says how many there are. A size beyond that would cost a page of zeros each, for nothing. */
static int
check_growth(const struct db_wal *w, uint32_t commit, struct err *e)
{
        uint32_t n_frames = wal_n_uncaptured(w), page_count = w->image->page_count, page_1 = 0;
        bool has_last = false;
        uint8_t count[4];
        ssize_t n;

        if (commit <= page_count)
                return 0;
        for (uint32_t f = w->n_captured; f < w->frames.n; f++) {
                has_last |= w->frames.pgnos[f] == commit;
                if (w->frames.pgnos[f] == 1)
                        page_1 = f + 1;
        }
        if ((uint64_t)page_count + n_frames + WAL_SPARSE_PAGES_MAX < commit)
                page_1 = 0;
        else if (has_last)
                return 0;
        n = page_1 == 0 ? 0
                        : os_pread_all(w->os, "wal:read", w->fd, count, sizeof count,
                                       (off_t)wal_frame_offset(w, page_1) + WAL_FRAME_HEADER_SIZE +
                                               PAGE_COUNT_AT);
        if (n < 0)
                return err_set(e, (int)n, "read page 1 of the transaction");
        if (n == sizeof count && get_be32(count) >= commit)
                return 0;
        return err_text(
                e, E_FORMAT,
                "a commit frame says that the database has %u pages, but nothing in the transaction "
                "bears that out (it had %u)",
                commit, page_count);
}

struct page_frame {
        uint32_t pgno;
        uint32_t frame;
};

static int
compare_page_frame(const void *a, const void *b)
{
        const struct page_frame *x = a, *y = b;

        if (x->pgno != y->pgno)
                return x->pgno < y->pgno ? -1 : 1;
        return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* The newest frame of each page that the transaction wrote, by page: two arrays in one allocation. */
static uint32_t *
newest_frames(const struct db_wal *w, uint32_t *ret_n)
{
        uint32_t n = wal_n_uncaptured(w), kept = 0;
        struct page_frame *list = malloc(n * sizeof *list);
        uint32_t *out = malloc((size_t)n * 2 * sizeof *out);

        if (list == NULL || out == NULL) {
                free(list);
                free(out);
                return NULL;
        }
        for (uint32_t i = 0; i < n; i++)
                list[i] = (struct page_frame){ w->frames.pgnos[w->n_captured + i],
                                               w->n_captured + i + 1 };
        qsort(list, n, sizeof *list, compare_page_frame);
        for (uint32_t i = 0; i < n; i++) {
                if (i + 1 < n && list[i + 1].pgno == list[i].pgno)
                        continue;
                out[kept] = list[i].pgno;
                out[n + kept] = list[i].frame;
                kept++;
        }
        memmove(out + kept, out + n, kept * sizeof *out);
        free(list);
        *ret_n = kept;
        return out;
}

int
wal_transaction_begin(struct db_wal *w, uint32_t commit, bool is_ours, const uint8_t *last_page,
                      struct wal_transaction *ret, struct err *e)
{
        uint32_t n_new = wal_n_uncaptured(w);
        int r = is_ours ? check_growth(w, commit, e) : 0;

        if (r < 0)
                return r;
        *ret = (struct wal_transaction){ .wal = w,
                                         .last_page = last_page,
                                         .last_frame = w->frames.n,
                                         .n_frames = n_new,
                                         .salt1 = w->salt1,
                                         .salt2 = w->salt2,
                                         .offset = (int64_t)wal_frame_offset(w, w->n_captured + 1u),
                                         .size = (int64_t)n_new * wal_frame_size(w) };
        if (n_new == 1) {
                ret->pgnos = &w->frames.pgnos[w->frames.n - 1];
                ret->n_pgnos = 1;
                ret->frames = &ret->last_frame;
                return 0;
        }
        ret->list = newest_frames(w, &ret->n_pgnos);
        if (ret->list == NULL)
                return err_set(e, -ENOMEM, "collect the transaction's frames");
        ret->pgnos = ret->list;
        ret->frames = ret->list + ret->n_pgnos;
        return 0;
}

void
wal_transaction_end(struct wal_transaction *tx)
{
        free(tx->list);
        tx->list = NULL;
}

int
wal_transaction_reserve(struct db_wal *w, const struct wal_transaction *tx)
{
        int r = wal_frames_reserve_tx(&w->frames);

        return r < 0 ? r : wal_frames_reserve_pending(&w->frames, tx->n_frames);
}

const uint8_t *
wal_transaction_page(const struct wal_transaction *tx, uint32_t i, uint8_t *room, int *ret_error)
{
        const struct db_wal *w = tx->wal;
        ssize_t n;

        if (tx->frames[i] == tx->last_frame && tx->last_page != NULL)
                return tx->last_page;
        n = os_pread_all(w->os, "wal:read", w->fd, room, w->image->page_size,
                         (off_t)wal_frame_offset(w, tx->frames[i]) + WAL_FRAME_HEADER_SIZE);
        if (n == (ssize_t)w->image->page_size)
                return room;
        *ret_error = n < 0 ? (int)n : -EIO;
        return NULL;
}

bool
wal_captured(struct db_wal *w, uint32_t commit, uint64_t txid, uint64_t lsn)
{
        struct wal_tx tx = { w->frames.n, txid, lsn };
        uint32_t lock_pgno = ltx_lock_pgno(w->image->page_size);
        bool was_synced_each = w->is_synced_each;

        for (uint32_t i = w->n_captured; i < w->frames.n; i++)
                if (w->frames.pgnos[i] <= commit && w->frames.pgnos[i] != lock_pgno)
                        wal_frames_add_pending(&w->frames, w->frames.pgnos[i]);
        wal_frames_clear_pending_above(&w->frames, commit);
        wal_frames_add_tx(&w->frames, &tx);
        w->n_captured = w->frames.n;
        memcpy(w->captured_sum, w->verified_sum, sizeof w->captured_sum);
        w->n_written = w->n_captured;
        w->is_synced_each = false;
        return was_synced_each;
}
