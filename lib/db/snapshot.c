#include "db/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"

#define SAVED_CAP (4u << 20) /* memory for saved pages before they spill */

struct db_snapshot {
        struct db *db;
        struct ltx_encoder *encoder;
        struct ltx_header header;
        uint64_t post_apply_checksum;

        /* Guarded by the database's snapshot_lock: */
        uint32_t next_pgno; /* those below are read */
        int fd;             /* the file's, our own: it may be dropped meanwhile */
        uint32_t *frames;   /* [pgno - 1] of pages that are in the WAL only, or 0; NULL: none is */
        int file_fd; /* the database's then: checkpoints go there, unless the file is another by now */
        struct overlay saved;
        int error; /* a page could not be saved: the snapshot is lost */

        bool has_begun;
        uint8_t *page;
        struct counting_sink {
                struct byte_sink base;
                struct byte_sink *out;
                size_t n;
        } sink;
};

static int
write_counted(struct byte_sink *sink, const void *buf, size_t n)
{
        struct counting_sink *s = (struct counting_sink *)sink;

        s->n += n;
        return s->out->write(s->out, buf, n);
}

/* --- saving, by those who change the database --- */

/* The page as it was, from where it was. With the snapshot_lock. */
static int
read_original(struct db_snapshot *snap, uint32_t pgno, uint8_t *page)
{
        struct db *db = snap->db;
        uint32_t ps = snap->header.page_size, frame = snap->frames != NULL ? snap->frames[pgno - 1] : 0;
        ssize_t n;

        if (frame != 0) {
                off_t off = (off_t)(WAL_HEADER_SIZE +
                                    (uint64_t)(frame - 1) * (WAL_FRAME_HEADER_SIZE + ps) +
                                    WAL_FRAME_HEADER_SIZE);

                n = os_pread_all(db->env->os, "snapshot:wal", db->wal.fd, page, ps, off);
                return n == (ssize_t)ps ? 0 : n < 0 ? (int)n : -EIO;
        }
        n = os_pread_all(db->env->os, "snapshot:read", snap->fd, page, ps, (off_t)(pgno - 1) * ps);
        if (n < 0)
                return (int)n;
        memset(page + n, 0, ps - (size_t)n);
        return 0;
}

/* With the snapshot_lock. */
static void
save_page(struct db_snapshot *snap, uint32_t pgno)
{
        uint8_t *page;
        int r;

        if (pgno < snap->next_pgno || snap->error != 0 || overlay_has(&snap->saved, pgno))
                return;
        page = malloc(snap->header.page_size);
        r = page == NULL ? -ENOMEM : read_original(snap, pgno, page);
        if (r == 0)
                r = overlay_put(&snap->saved, pgno, page);
        free(page);
        snap->error = r;
}

static void
save_range(struct db_snapshot *snap, uint64_t from, uint64_t to)
{
        uint64_t first = from / snap->header.page_size + 1;
        uint64_t last = (to + snap->header.page_size - 1) / snap->header.page_size;

        if (first < snap->next_pgno)
                first = snap->next_pgno;
        for (uint64_t pgno = first; pgno <= last && pgno <= snap->header.commit; pgno++)
                if (snap->frames == NULL || snap->frames[pgno - 1] == 0)
                        save_page(snap, (uint32_t)pgno);
}

void
snapshot_save_file(struct db *db, uint64_t from, uint64_t to)
{
        struct db_snapshot *snap;

        pthread_mutex_lock(&db->snapshot_lock);
        snap = db->snapshot;
        if (snap != NULL)
                save_range(snap, from, to);
        pthread_mutex_unlock(&db->snapshot_lock);
}

/* So that there is nothing left to save when the WAL begins anew: whoever waits for that would wait for all of it. */
void
snapshot_save_frame(struct db *db, uint32_t pgno, uint32_t frame)
{
        struct db_snapshot *snap;

        pthread_mutex_lock(&db->snapshot_lock);
        snap = db->snapshot;
        if (snap != NULL && snap->frames != NULL && pgno <= snap->header.commit &&
            snap->frames[pgno - 1] != 0 && (snap->frames[pgno - 1] != frame || snap->file_fd != db->fd))
                save_page(snap, pgno);
        pthread_mutex_unlock(&db->snapshot_lock);
}

void
snapshot_note_copied(struct db *db, uint32_t pgno, uint32_t frame)
{
        struct db_snapshot *snap;

        pthread_mutex_lock(&db->snapshot_lock);
        snap = db->snapshot;
        if (snap != NULL && snap->frames != NULL && pgno <= snap->header.commit &&
            snap->frames[pgno - 1] == frame && snap->file_fd == db->fd)
                snap->frames[pgno - 1] = 0;
        pthread_mutex_unlock(&db->snapshot_lock);
}

void
snapshot_save_wal(struct db *db)
{
        struct db_snapshot *snap;

        pthread_mutex_lock(&db->snapshot_lock);
        snap = db->snapshot;
        if (snap != NULL && snap->frames != NULL) {
                for (uint32_t pgno = snap->next_pgno; pgno <= snap->header.commit; pgno++)
                        if (snap->frames[pgno - 1] != 0)
                                save_page(snap, pgno);
                free(snap->frames);
                snap->frames = NULL;
        }
        pthread_mutex_unlock(&db->snapshot_lock);
}

/* --- the state at the position --- */

static int
copy_late(struct db_snapshot *snap)
{
        struct db *db = snap->db;
        uint32_t *pgnos = overlay_sorted_pgnos(&db->late);
        int r = pgnos == NULL && !overlay_is_empty(&db->late) ? -ENOMEM : 0;

        for (uint32_t i = 0; i < db->late.n_pages && r == 0; i++) {
                const uint8_t *page = overlay_get(&db->late, pgnos[i], db->page_buf, &r);

                if (page != NULL && pgnos[i] <= db->page_count)
                        r = overlay_put(&snap->saved, pgnos[i], page);
        }
        free(pgnos);
        return r;
}

static int
map_frames(struct db_snapshot *snap)
{
        struct db *db = snap->db;

        if (db->wal.frames.n_pending == 0)
                return 0;
        snap->frames = calloc(db->page_count, sizeof *snap->frames);
        if (snap->frames == NULL)
                return -ENOMEM;
        for (uint32_t f = 1; f <= db->wal.n_captured; f++) {
                uint32_t pgno = db->wal.frames.pgnos[f - 1];

                if (pgno <= db->page_count && wal_frames_is_pending(&db->wal.frames, pgno))
                        snap->frames[pgno - 1] = f;
        }
        return 0;
}

/* With the database's lock. */
static int
take_state(struct db_snapshot *snap)
{
        struct db *db = snap->db;
        int r;

        if (db->state != DB_READY || db->snapshot != NULL)
                return db->state == DB_FAILED ? -EIO : -EAGAIN;
        if (db->pos.txid == 0)
                return -ENOENT;
        snap->header = (struct ltx_header){ .page_size = db->page_size,
                                            .commit = db->page_count,
                                            .min_txid = 1,
                                            .max_txid = db->pos.txid,
                                            .timestamp_ms = db->timestamp_ms,
                                            .node_id = db->env->node_id };
        snap->post_apply_checksum = db->pos.checksum;
        if (db->page_count == 0) { /* deleted: no page has a size */
                snap->header.page_size = 4096;
                return 0;
        }
        overlay_set_page_size(&snap->saved, db->page_size);
        snap->fd = dup(db->fd);
        if (snap->fd < 0)
                return -errno;
        snap->file_fd = db->fd;
        r = copy_late(snap);
        if (r == 0)
                r = map_frames(snap);
        if (r == 0) {
                pthread_mutex_lock(&db->snapshot_lock);
                db->snapshot = snap;
                pthread_mutex_unlock(&db->snapshot_lock);
        }
        return r;
}

int
db_snapshot_open(struct db *db, struct db_snapshot **ret, struct txlog_record *ret_record, struct err *e)
{
        struct db_snapshot *snap = calloc(1, sizeof *snap);
        int r = snap == NULL ? -ENOMEM : 0;

        if (r < 0)
                return err_set(e, r, "snapshot %s", db->name);
        snap->db = db;
        snap->fd = -1;
        snap->next_pgno = 1;
        snap->sink.base.write = write_counted;
        overlay_init(&snap->saved, db->env->os, db->env->tmp_dir, SAVED_CAP);
        snap->page = malloc(DB_PAGE_BUF);
        r = snap->page == NULL ? -ENOMEM : ltx_encoder_new(db->env->is_compressed, &snap->encoder);
        if (r == 0) {
                pthread_mutex_lock(&db->lock);
                r = take_state(snap);
                pthread_mutex_unlock(&db->lock);
        }
        if (r < 0) {
                db_snapshot_close(snap);
                return err_set(e, r, "snapshot %s", db->name);
        }
        *ret_record = (struct txlog_record){ .min_txid = 1,
                                             .max_txid = snap->header.max_txid,
                                             .post_apply_checksum = snap->post_apply_checksum,
                                             .timestamp_ms = snap->header.timestamp_ms,
                                             .page_size = snap->header.page_size,
                                             .commit = snap->header.commit };
        *ret = snap;
        return 0;
}

void
db_snapshot_close(struct db_snapshot *snap)
{
        struct db *db;

        if (snap == NULL)
                return;
        db = snap->db;
        pthread_mutex_lock(&db->snapshot_lock);
        if (db->snapshot == snap)
                db->snapshot = NULL;
        pthread_mutex_unlock(&db->snapshot_lock);
        if (snap->fd >= 0)
                close(snap->fd);
        ltx_encoder_free(snap->encoder);
        overlay_release(&snap->saved);
        free(snap->frames);
        free(snap->page);
        free(snap);
}

/* --- reading --- */

static int
read_page(struct db_snapshot *snap, uint32_t pgno, const uint8_t **ret)
{
        int r = 0;

        pthread_mutex_lock(&snap->db->snapshot_lock);
        if (snap->error != 0) {
                r = snap->error;
        } else if (overlay_has(&snap->saved, pgno)) {
                const uint8_t *p = overlay_get(&snap->saved, pgno, snap->page, &r);

                /* It may be in the overlay's memory, which the next save can move. */
                if (p != NULL && p != snap->page)
                        memcpy(snap->page, p, snap->header.page_size);
        } else {
                r = read_original(snap, pgno, snap->page);
        }
        snap->next_pgno = pgno + 1;
        pthread_mutex_unlock(&snap->db->snapshot_lock);
        *ret = snap->page;
        return r;
}

static int
read_pages(struct db_snapshot *snap, size_t want, struct err *e)
{
        uint32_t lock_pgno = ltx_lock_pgno(snap->header.page_size);
        const uint8_t *page;
        int r = 0;

        while (r == 0 && snap->next_pgno <= snap->header.commit && snap->sink.n < want) {
                uint32_t pgno = snap->next_pgno;

                if (pgno == lock_pgno) {
                        snap->next_pgno++;
                        continue;
                }
                r = read_page(snap, pgno, &page);
                if (r < 0)
                        return err_set(e, r, "read page %u of %s", pgno, snap->db->name);
                r = ltx_encoder_page(snap->encoder, pgno, page, e);
        }
        return r;
}

int
db_snapshot_read(struct db_snapshot *snap, size_t want, struct byte_sink *sink, struct err *e)
{
        int r = 0;

        snap->sink.out = sink;
        snap->sink.n = 0;
        if (!snap->has_begun) {
                r = ltx_encoder_begin(snap->encoder, &snap->header, &snap->sink.base, e);
                snap->has_begun = r == 0;
        }
        if (r == 0)
                r = read_pages(snap, want, e);
        if (r < 0)
                return r;
        if (snap->next_pgno <= snap->header.commit)
                return 1;
        return ltx_encoder_finish(snap->encoder, snap->post_apply_checksum, NULL, e);
}
