/* Verified frames of the WAL as one transaction: an application's, or one that was received and laid there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db/wal_chain.h"
#include "ltx/checksum.h"

struct wal_capture {
        const uint32_t *frames;   /* of each page in the request */
        const uint8_t *last_page; /* content of the last frame, when it is at hand */
        uint32_t last_frame;
};

static const uint8_t *
get_frame_page(const struct capturer *c, const struct commit_request *rq, uint32_t i, int *ret_error)
{
        const struct wal_capture *wc = rq->arg;
        struct db *db = c->db;
        ssize_t n;

        if (wc->frames[i] == wc->last_frame && wc->last_page != NULL)
                return wc->last_page;
        n = os_pread_all(db->env->os, "wal:read", db->wal.fd, c->page, db->page_size,
                         (off_t)wal_frame_offset(db, wc->frames[i]) + WAL_FRAME_HEADER_SIZE);
        if (n == (ssize_t)db->page_size)
                return c->page;
        *ret_error = n < 0 ? (int)n : -EIO;
        return NULL;
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
newest_frames(const struct db *db, uint32_t *ret_n)
{
        const struct db_wal *w = &db->wal;
        uint32_t n = w->frames.n - w->n_captured, kept = 0;
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

/* After the commit: the chain's captured end, and the pages that now live in the WAL only. */
static void
move_captured(const struct capturer *c, uint32_t commit)
{
        struct db *db = c->db;
        struct db_wal *w = &db->wal;
        struct wal_tx tx = { w->frames.n, db->pos.txid, db->last_lsn };

        capturer_lock(c);
        for (uint32_t i = w->n_captured; i < w->frames.n; i++)
                if (w->frames.pgnos[i] <= commit && w->frames.pgnos[i] != ltx_lock_pgno(db->page_size))
                        wal_frames_add_pending(&w->frames, w->frames.pgnos[i]);
        wal_frames_clear_pending_above(&w->frames, commit);
        wal_frames_add_tx(&w->frames, &tx);
        w->n_captured = w->frames.n;
        memcpy(w->captured_sum, w->verified_sum, sizeof w->captured_sum);
        w->n_written = w->n_captured;
        if (w->is_synced_each)
                sync_expected(db);
        w->is_synced_each = false;
        capturer_unlock(c);
}

/* Captures the frames after n_captured as one transaction of @commit pages. */
int
wal_capture_frames(const struct capturer *c, uint32_t commit, const uint8_t *last_page, struct err *e)
{
        struct db *db = c->db;
        struct db_wal *w = &db->wal;
        struct wal_capture wc = { .last_page = last_page, .last_frame = w->frames.n };
        struct commit_request rq = { .page_size = db->page_size,
                                     .commit = commit,
                                     .get = get_frame_page,
                                     .arg = &wc,
                                     .wal_salt1 = w->salt1,
                                     .wal_salt2 = w->salt2,
                                     .received = db->received };
        uint32_t n_new = w->frames.n - w->n_captured;
        uint32_t *pages = NULL;
        int r;

        rq.wal_offset = (int64_t)wal_frame_offset(db, w->n_captured + 1);
        rq.wal_size = (int64_t)n_new * wal_frame_size(db);
        if (n_new == 1) {
                rq.pgnos = &w->frames.pgnos[w->frames.n - 1];
                rq.n_pgnos = 1;
                wc.frames = &wc.last_frame;
        } else {
                pages = newest_frames(db, &rq.n_pgnos);
                if (pages == NULL)
                        return err_set(e, -ENOMEM, "collect the transaction's frames");
                rq.pgnos = pages;
                wc.frames = pages + rq.n_pgnos;
        }
        capturer_lock(c);
        r = wal_frames_reserve_tx(&w->frames);
        if (r == 0)
                r = wal_frames_reserve_pending(&w->frames, n_new);
        capturer_unlock(c);
        if (r < 0)
                err_set(e, r, "remember the transaction's frames");
        else
                r = commit_transaction(c, &rq, e);
        free(pages);
        if (r < 0)
                return r;
        move_captured(c, commit);
        return verify_commit(c, e);
}

int
wal_capture_received(const struct capturer *c, uint32_t commit, struct err *e)
{
        struct db *db = c->db;
        int r = wal_capture_frames(c, commit, NULL, e);

        if (r < 0) {
                capturer_lock(c);
                wal_revoke_from(db, db->wal.n_captured + 1);
                (void)wal_rewind_to_captured(db);
                capturer_unlock(c);
        }
        return r;
}
