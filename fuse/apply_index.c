/* The wal-index, worked on in a copy, written back by calls; why not in a mapping: mount_access.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/apply_internal.h"

int
apply_index_write(struct apply *a, size_t from, size_t to)
{
        ssize_t n = from < to ? pwrite(a->shm_fd, (uint8_t *)a->index + from, to - from, (off_t)from)
                              : 0;

        return n < 0 ? -errno : n < (ssize_t)(to - from) ? -EIO : 0;
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
read_index(struct apply *a, size_t from, size_t size)
{
        ssize_t n = pread(a->shm_fd, (uint8_t *)a->index + from, size - from, (off_t)from);

        return n < 0 ? -errno : n < (ssize_t)(size - from) ? -EIO : 0;
}

/* Readers and checkpoints of other processes move its marks. */
int
apply_index_refresh(struct apply *a)
{
        return read_index(a, 0, WAL_INDEX_HEADER_SIZE);
}

static int
grow_index(struct apply *a, uint32_t n_frames)
{
        size_t want = wal_index_size(n_frames), had = a->index_size;
        struct stat st;
        void *p;

        if (want <= had)
                return 0;
        if (fstat(a->shm_fd, &st) < 0 ||
            ((size_t)st.st_size < want && ftruncate(a->shm_fd, (off_t)want) < 0))
                return -errno;
        p = realloc(a->index, want);
        if (p == NULL)
                return -ENOMEM;
        a->index = p;
        a->index_size = want;
        return read_index(a, had, want);
}

/* The file as SQLite would make it: whoever may use the database may use it. */
int
apply_index_open(struct apply *a)
{
        struct stat st;
        int r;

        if (a->shm_fd >= 0)
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        a->shm_fd = apply_open_through(a, "-shm", 0, 0);
        if (a->shm_fd == -ENOENT) {
                a->shm_fd = apply_open_through(a, "-shm", O_CREAT, st.st_mode & 0777);
                if (a->shm_fd >= 0 && geteuid() == 0)
                        (void)!fchown(a->shm_fd, st.st_uid, st.st_gid);
        }
        if (a->shm_fd < 0) {
                r = a->shm_fd;
                a->shm_fd = -1;
                return r;
        }
        /* Whoever gets this byte for itself alone takes the content for that of a crashed process. */
        r = apply_lock(a->shm_fd, F_RDLCK, SQLITE_WAL_DMS_LOCK, 1);
        if (r == 0)
                r = grow_index(a, 1);
        if (r < 0) {
                close(a->shm_fd);
                a->shm_fd = -1;
        }
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

        r = apply_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_CKPT_LOCK, 7);
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
        (void)apply_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_CKPT_LOCK, 7);
        return r;
}
