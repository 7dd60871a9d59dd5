/* The file as applications have written it without us. What is known of it is behind, and catches up by wal_scan_next.
 *
 * An open transaction's frames may be written over in place, so whoever looks again forgets what is not captured
 * (wal_forget_uncaptured) and verifies it anew. Captured frames stay as they are until the WAL begins anew, for which a
 * checkpoint must have copied all of them, and its writes are ours to see. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "db/wal/wal_internal.h"
#include "sqlite/wal_index.h"

int
wal_dup(const struct db_wal *w)
{
        int fd = w->fd < 0 ? -ENOENT : fcntl(w->fd, F_DUPFD_CLOEXEC, 3);

        return fd == -1 ? -errno : fd;
}

int
wal_fd(const struct db_wal *w)
{
        return w->fd;
}

/* 1: the file has a header that SQLite would take, and it is another one's. */
static int
read_other_header(struct db_wal *w, uint8_t buf[WAL_HEADER_SIZE])
{
        struct wal_header h;
        ssize_t n;

        if (w->fd < 0 || w->image->page_size == 0)
                return 0;
        n = os_pread_all(w->os, "wal:read", w->fd, buf, WAL_HEADER_SIZE, 0);
        if (n < 0)
                return (int)n;
        if (n < (ssize_t)WAL_HEADER_SIZE || wal_header_decode(buf, &h) < 0 ||
            h.page_size != w->image->page_size)
                return 0; /* nothing yet, or half of one */
        /* One that died before its first frame leaves salts that the next one uses, too, with a count of its own. */
        return !w->is_live || h.salt1 != w->salt1 || h.salt2 != w->salt2 ||
               memcmp(h.cksum, w->header_sum, sizeof h.cksum) != 0;
}

int
wal_has_other_chain(struct db_wal *w)
{
        uint8_t buf[WAL_HEADER_SIZE];

        return read_other_header(w, buf);
}

int
wal_follow_other_chain(struct db_wal *w)
{
        uint8_t buf[WAL_HEADER_SIZE];
        int r = read_other_header(w, buf);

        if (r <= 0)
                return r;
        if (w->frames.n_pending > 0)
                return -EBUSY;
        wal_begin_chain(w, buf);
        return 0;
}

static uint32_t
read_mx_frame(const struct os *os, int index_fd, uint32_t salt1, uint32_t salt2)
{
        _Alignas(8) uint8_t index[WAL_INDEX_HEADER_SIZE];
        struct wal_index_header h;
        ssize_t n = os_pread_all(os, "wal:index", index_fd, index, sizeof index, 0);

        if (n < (ssize_t)sizeof index || wal_index_read_header(index, &h) < 0 || h.salt[0] != salt1 ||
            h.salt[1] != salt2)
                return 0;
        return h.mx_frame;
}

uint32_t
wal_published_frames(const struct db_wal *w, int index_fd)
{
        return w->is_live ? read_mx_frame(w->os, index_fd, w->salt1, w->salt2) : 0;
}

bool
wal_index_shows(const struct os *os, int index_fd, const struct wal_end *end)
{
        return read_mx_frame(os, index_fd, end->salt1, end->salt2) >= end->n_frames;
}

struct wal_end
wal_verified_end(const struct db_wal *w)
{
        return (struct wal_end){
                .n_frames = w->frames.n,
                .salt1 = w->salt1,
                .salt2 = w->salt2,
                .cksum = { w->verified_sum[0], w->verified_sum[1] },
                .header_at = (off_t)wal_frame_offset(w, w->frames.n),
        };
}

int
wal_rewind_to_end(struct db_wal *w, const struct wal_end *end)
{
        return wal_rewind_to(w, end->n_frames + 1);
}

bool
wal_is_at(const struct db_wal *w, const struct wal_end *end)
{
        return w->is_live && w->salt1 == end->salt1 && w->salt2 == end->salt2 &&
               w->frames.n == end->n_frames && w->verified_sum[0] == end->cksum[0] &&
               w->verified_sum[1] == end->cksum[1];
}

bool
wal_file_has_end(const struct os *os, int wal_fd, const struct wal_end *end)
{
        uint8_t first[WAL_HEADER_SIZE], h[WAL_FRAME_HEADER_SIZE];

        /* The checksum runs over all frames before it, so that it speaks for them, too. */
        return os_pread_all(os, "wal:read", wal_fd, first, sizeof first, 0) == (ssize_t)sizeof first &&
               get_be32(first + 16) == end->salt1 && get_be32(first + 20) == end->salt2 &&
               os_pread_all(os, "wal:read", wal_fd, h, sizeof h, end->header_at) == (ssize_t)sizeof h &&
               get_be32(h + 16) == end->cksum[0] && get_be32(h + 20) == end->cksum[1];
}

int
wal_skip_logged(struct db_wal *w, uint32_t n_frames, uint8_t *room)
{
        uint32_t commit;
        int r = 1;

        while (r > 0 && w->frames.n < n_frames)
                r = wal_find_commit(w, room, &commit);
        if (r < 0 || w->frames.n != n_frames)
                return r < 0 ? r : -ENOENT;
        w->n_captured = w->n_written = n_frames;
        memcpy(w->captured_sum, w->verified_sum, sizeof w->captured_sum);
        return 0;
}
