/* The wal-index, worked on in a copy, written back by calls; why not in a mapping: self_mount.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/apply_internal.h"

int
apply_index_write(struct apply *a, size_t from, size_t to)
{
        return from < to ? own_write(a->s, &a->shm, (uint8_t *)a->index + from, to - from, (off_t)from)
                         : 0;
}

/* One word, which other processes change at other times. */
void
apply_index_write_word(struct apply *a, size_t at)
{
        if (apply_index_write(a, at, at + sizeof(uint32_t)) < 0)
                log_event(LOG_WARN, db_name(a->db), "the wal-index could not be written");
}

/* The copy's first @size bytes are the file's, from @from on read anew. */
static int
read_index_copy(struct apply *a, size_t from, size_t size)
{
        ssize_t n = own_read(a->s, &a->shm, (uint8_t *)a->index + from, size - from, (off_t)from);

        return n < 0 ? (int)n : n < (ssize_t)(size - from) ? -EIO : 0;
}

/* Readers and checkpoints of other processes move its marks. Where the header is not the one that was last seen here,
 * another process has rebuilt or extended the whole: its slots need not be where ours are. The header comes first, for it is
 * published last. */
int
apply_index_refresh(struct apply *a)
{
        int r = read_index_copy(a, 0, WAL_INDEX_HEADER_SIZE);

        if (r < 0 || memcmp(a->index, a->index_seen, sizeof a->index_seen) == 0)
                return r;
        r = read_index_copy(a, WAL_INDEX_HEADER_SIZE, a->index_size);
        if (r == 0)
                memcpy(a->index_seen, a->index, sizeof a->index_seen);
        return r;
}

static int
grow_index(struct apply *a, uint32_t n_frames)
{
        size_t want = wal_index_size(n_frames), had = a->index_size;
        struct stat st;
        void *p;
        int r;

        if (want <= had)
                return 0;
        r = own_stat(a->s, &a->shm, &st);
        if (r == 0 && (size_t)st.st_size < want)
                r = own_truncate(a->s, &a->shm, (off_t)want);
        if (r < 0)
                return r;
        p = realloc(a->index, want);
        if (p == NULL)
                return -ENOMEM;
        a->index = p;
        a->index_size = want;
        return read_index_copy(a, had, want);
}

/* The file as SQLite would make it: whoever may use the database may use it. */
int
apply_index_open(struct apply *a)
{
        struct stat st;
        int r;

        if (a->shm.fd >= 0)
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        r = own_open(a->s, a->db, "-shm", 0, 0, &a->shm);
        if (r == -ENOENT)
                r = own_open(a->s, a->db, "-shm", O_CREAT, st.st_mode & 0777, &a->shm);
        if (r < 0)
                return r;
        /* Whoever gets this byte for itself alone takes the content for that of a crashed process. */
        r = own_lock(&a->shm, F_RDLCK, SQLITE_WAL_DMS_LOCK, 1);
        if (r == 0)
                r = grow_index(a, 1);
        if (r < 0)
                own_close(a->s, &a->shm);
        return r;
}

int
apply_index_publish(struct apply *a, const struct db_wal_applied *w, uint32_t mx_frame)
{
        struct wal_index_commit commit = {
                .page_size = w->page_size,
                .mx_frame = mx_frame,
                .n_pages = w->n_pages,
                .frame_cksum = { w->cksum[0], w->cksum[1] },
                .salt = { w->salt[0], w->salt[1] },
                .is_big_endian_cksum = w->is_big_endian_cksum,
        };

        wal_index_publish(a->index, &commit);
        memcpy(a->index_seen, a->index, sizeof a->index_seen);
        return apply_index_write(a, 0, WAL_INDEX_PUBLISHED);
}

int
apply_index_enter(struct apply *a, const struct db_wal_applied *w)
{
        struct wal_index_range pgnos = { 0, 0 }, slots = { 0, 0 };
        int r = grow_index(a, w->first_frame + w->n_frames);

        for (uint32_t i = 0; i < w->n_frames && r == 0; i++) {
                uint32_t frame = w->first_frame + i;

                wal_index_enter(a->index, frame, w->pgnos[i], &pgnos, &slots);
                if (i + 1 < w->n_frames && wal_index_size(frame + 1) == wal_index_size(frame))
                        continue;
                /* The last one of its block. */
                r = apply_index_write(a, pgnos.from, pgnos.to);
                if (r == 0)
                        r = apply_index_write(a, slots.from, slots.to);
                pgnos = slots = (struct wal_index_range){ 0, 0 };
        }
        return r;
}

bool
apply_index_is_right(struct apply *a, const struct db_wal_mark *mark)
{
        struct wal_index_header h;

        if (wal_index_read_header(a->index, &h) < 0)
                return false;
        if (mark == NULL)
                return h.mx_frame == 0;
        return h.salt[0] == mark->salt1 && h.salt[1] == mark->salt2 && h.mx_frame == mark->n_frames;
}

/* From what we know of the WAL, under the locks that SQLite's own recovery takes. */
int
apply_index_rebuild(struct apply *a, struct err *e)
{
        struct db_wal_applied w;
        int r;

        r = own_lock(&a->shm, F_WRLCK, SQLITE_WAL_CKPT_LOCK, 7);
        if (r < 0)
                return err_set(e, r, "rebuild the wal-index");
        r = db_wal_frames(a->db, &w, e);
        if (r == 0) {
                r = apply_index_enter(a, &w);
                if (r < 0)
                        err_set(e, r, "rebuild the wal-index");
        }
        if (r == 0) {
                wal_index_restart(a->index);
                r = apply_index_write(a, WAL_INDEX_AT_BACKFILL, WAL_INDEX_HEADER_SIZE);
                if (r == 0)
                        r = apply_index_publish(a, &w, w.n_frames);
                if (r < 0)
                        err_set(e, r, "rebuild the wal-index");
        }
        free(w.pgnos);
        (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_CKPT_LOCK, 7);
        return r;
}
