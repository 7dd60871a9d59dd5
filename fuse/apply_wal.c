/* Transactions by way of the WAL, whose readers neither wait nor notice, and the checkpoints that follow from that. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fuse/apply_internal.h"
#include "sqlite/wal_format.h"

#define CHECKPOINT_FRAMES 1000u /* SQLite's own default */

/* --- checkpoint --- */

/* The last frame that no reader stands before: SQLite's rule. With CKPT. */
static uint32_t
safe_frame(struct apply *a, uint32_t mx_frame)
{
        uint32_t safe = mx_frame;

        for (int i = 1; i < WAL_READ_MARKS; i++) {
                uint32_t mark = wal_index_read_mark(a->index, i);

                if (safe <= mark)
                        continue;
                if (own_lock(&a->shm, F_WRLCK, SQLITE_WAL_READ_LOCK(i), 1) == 0) {
                        wal_index_set_read_mark(a->index, i, i == 1 ? safe : WAL_READ_MARK_NOT_USED);
                        apply_index_write_word(a, WAL_INDEX_AT_READ_MARK(i));
                        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_READ_LOCK(i), 1);
                } else {
                        safe = mark;
                }
        }
        return safe;
}

/* Runs of neighbours go together. */
void
apply_notify_pages(struct apply *a, const struct db_changes *ch)
{
        uint32_t i = 0;

        while (i < ch->n_pages) {
                uint32_t from = i++;

                while (i < ch->n_pages && ch->pgnos[i] == ch->pgnos[i - 1] + 1)
                        i++;
                notify_content(a->s, a->db, "", (int64_t)(ch->pgnos[from] - 1) * ch->page_size,
                               (int64_t)(i - from) * ch->page_size);
        }
}

/* The kernel learns the size here, while nobody needs it: see notify_wal. */
void
apply_settle_size(struct apply *a)
{
        off_t want = (off_t)db_size_bytes(a->db);
        struct stat st;

        for (int i = 0; i < 100 && own_stat(a->s, &a->file, &st) == 0 && st.st_size != want; i++)
                notify_attr(a->s, a->db);
}

static void
copy_back(struct apply *a, const struct db_wal_mark *mark, uint32_t from, uint32_t to)
{
        struct db_changes ch;
        struct err e = ERR_INIT;

        /* READ(0) is held by those who read the file alone. */
        if (own_lock(&a->shm, F_WRLCK, SQLITE_WAL_READ_LOCK(0), 1) < 0)
                return;
        wal_index_set_backfill_attempted(a->index, to);
        apply_index_write_word(a, WAL_INDEX_AT_BACKFILL_ATTEMPTED);
        if (db_wal_checkpoint(a->db, from, to, &ch, &e) == 0) {
                apply_notify_pages(a, &ch);
                if (to == mark->n_frames)
                        db_wal_cut_file(a->db);
                apply_settle_size(a);
                wal_index_set_backfill(a->index, to);
                apply_index_write_word(a, WAL_INDEX_AT_BACKFILL);
                db_wal_backfilled(a->db, mark, to);
        } else {
                log_event(LOG_WARN, db_name(a->db), "checkpoint: %s", e.text);
                apply_notify_pages(a, &ch);
        }
        free(ch.pgnos);
        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_READ_LOCK(0), 1);
}

/* Passive: whatever readers allow. */
static void
checkpoint(struct apply *a)
{
        struct db_wal_mark mark;
        uint32_t from, to;

        if (a->index == NULL || !db_wal_captured(a->db, &mark) || mark.n_frames < CHECKPOINT_FRAMES ||
            apply_index_refresh(a) < 0 || !apply_index_is_right(a, &mark))
                return;
        from = wal_index_backfill(a->index);
        if (from >= mark.n_frames || own_lock(&a->shm, F_WRLCK, SQLITE_WAL_CKPT_LOCK, 1) < 0)
                return;
        /* With CKPT: where it is now, and where readers stand. */
        to = apply_index_refresh(a) == 0 ? safe_frame(a, mark.n_frames) : 0;
        from = wal_index_backfill(a->index);
        if (to > from)
                copy_back(a, &mark, from, to);
        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_CKPT_LOCK, 1);
}

/* --- WAL --- */

/* The WAL and its index begin anew. With WRITE, and nobody reading frames. */
static int
restart_wal(struct apply *a, struct err *e)
{
        struct db_wal_applied w;
        int r = db_wal_restart(a->db, e);

        notify_wal(a->s, a->db, 0, WAL_HEADER_SIZE);
        if (r == 0)
                r = db_wal_frames(a->db, &w, e);
        if (r < 0)
                return r;
        wal_index_restart(a->index);
        r = apply_index_write(a, WAL_INDEX_AT_BACKFILL, WAL_INDEX_HEADER_SIZE);
        if (r == 0)
                r = apply_index_publish(a, &w, 0);
        free(w.pgnos);
        return r < 0 ? err_set(e, r, "restart the wal-index") : 0;
}

/* A WAL that is copied back and unread begins anew; an empty one begins. With WRITE. */
static int
restart_if_possible(struct apply *a, struct err *e)
{
        struct db_wal_mark mark;
        bool is_live = db_wal_captured(a->db, &mark);
        int r;

        if (is_live && (mark.n_frames == 0 || wal_index_backfill(a->index) != mark.n_frames))
                return 0;
        if (own_lock(&a->shm, F_WRLCK, SQLITE_WAL_READ_LOCK(1), 4) < 0)
                /* Readers of an empty WAL do not mind its header. */
                return is_live ? 0 : db_wal_restart(a->db, e);
        r = restart_wal(a, e);
        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_READ_LOCK(1), 4);
        return r;
}

/* A writer whose first frame was refused has restarted the index before, over a WAL that is copied back: nobody reads
 * frames, and those who read the file do not mind. To rebuild the index would have to wait for them. */
static bool
is_restarted_index(struct apply *a)
{
        struct wal_index_header h;

        return wal_index_read_header(a->index, &h) == 0 && h.mx_frame == 0 && !db_wal_has_pending(a->db);
}

static int
repair_index(struct apply *a, struct err *e)
{
        int r;

        if (!is_restarted_index(a) || own_lock(&a->shm, F_WRLCK, SQLITE_WAL_READ_LOCK(1), 4) < 0)
                return apply_index_rebuild(a, e);
        r = restart_wal(a, e);
        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_READ_LOCK(1), 4);
        return r;
}

static int
append_frames(struct apply *a, const struct received *rx, struct err *e)
{
        struct db_wal_applied w;
        struct db_wal_mark mark;
        int r = 0;

        r = apply_index_refresh(a);
        if (r < 0)
                return err_set(e, r, "read the wal-index");
        if (!apply_index_is_right(a, db_wal_captured(a->db, &mark) ? &mark : NULL))
                r = repair_index(a, e);
        if (r == 0)
                r = restart_if_possible(a, e);
        if (r < 0)
                return r;
        r = db_apply_wal(a->db, rx, &w, e);
        if (r == 0) {
                uint64_t frame_size = WAL_FRAME_HEADER_SIZE + (uint64_t)w.page_size;

                notify_wal(a->s, a->db,
                           w.first_frame == 1 ? 0 : WAL_HEADER_SIZE + (w.first_frame - 1) * frame_size,
                           w.n_frames * frame_size + (w.first_frame == 1 ? WAL_HEADER_SIZE : 0));
                r = apply_index_enter(a, &w);
                if (r == 0)
                        r = apply_index_publish(a, &w, w.first_frame + w.n_frames - 1);
                if (r < 0)
                        /* Committed, but readers cannot be told: the next transaction rebuilds it. */
                        log_event(LOG_WARN, db_name(a->db), "wal-index: %s", err_code_text(r));
                r = 0;
        }
        free(w.pgnos);
        return r;
}

int
apply_by_wal(struct apply *a, const struct received *rx, struct err *e)
{
        int r = apply_take_shared(a);

        if (r == 0)
                r = apply_index_open(a);
        if (r == 0)
                r = own_lock(&a->shm, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r < 0)
                return err_set(e, r, "take SQLite's locks");
        r = append_frames(a, rx, e);
        if (!a->is_reserved)
                (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r == 0)
                checkpoint(a);
        return r;
}
