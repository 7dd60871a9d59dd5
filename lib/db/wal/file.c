/* The file NAME-wal but for writes to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "db/wal/wal_internal.h"

int
wal_new(const struct os *os, struct db_image *image, struct db_wal **ret)
{
        struct db_wal *w = malloc(sizeof *w);

        if (w == NULL)
                return -ENOMEM;
        *w = (struct db_wal){ .os = os, .image = image, .fd = -1 };
        *ret = w;
        return 0;
}

void
wal_free(struct db_wal *w)
{
        if (w == NULL)
                return;
        wal_frames_reset(&w->frames);
        os_close(w->os, "db:close", w->fd);
        free(w);
}

bool
wal_is_live(const struct db_wal *w)
{
        return w->is_live;
}

bool
wal_exists(const struct db_wal *w)
{
        return w->fd >= 0;
}

void
wal_get_state(const struct db_wal *w, struct wal_state *ret)
{
        *ret = (struct wal_state){ .is_live = w->is_live,
                                   .is_big_endian = w->is_big_endian,
                                   .salt1 = w->salt1,
                                   .salt2 = w->salt2,
                                   .n_captured = w->n_captured };
        memcpy(ret->cksum, w->captured_sum, sizeof ret->cksum);
}

int
wal_create(struct db_wal *w, const char *path, mode_t mode)
{
        int fd;

        if (w->fd >= 0)
                return -EEXIST;
        fd = os_open(w->os, "wal:create", path, O_RDWR | O_CREAT | O_TRUNC, mode);
        if (fd < 0)
                return fd;
        w->fd = fd;
        wal_reset(w);
        return 0;
}

int
wal_keep_file(struct db_wal *w, const char *path)
{
        int fd = os_open(w->os, "wal:take", path, O_RDWR, 0);

        if (fd < 0)
                return fd;
        w->fd = fd;
        wal_reset(w);
        return 0;
}

int
wal_take_file(struct db_wal *w, const char *path, const char *to)
{
        int r = os_rename(w->os, "wal:take", path, to);

        if (r == 0)
                r = wal_keep_file(w, to);
        return r < 0 ? r : wal_read_header(w);
}

int
wal_stat(const struct db_wal *w, struct stat *ret)
{
        return w->fd < 0 ? -ENOENT : os_fstat(w->os, "wal:stat", w->fd, ret);
}

ssize_t
wal_read(const struct db_wal *w, void *buf, size_t n, uint64_t off)
{
        return w->fd < 0 ? -ENOENT : os_pread_all(w->os, "wal:read", w->fd, buf, n, (off_t)off);
}

int
wal_truncate(struct db_wal *w, uint64_t size_bytes)
{
        uint64_t kept = w->image->page_size > 0 && size_bytes >= WAL_HEADER_SIZE
                                ? (size_bytes - WAL_HEADER_SIZE) / wal_frame_size(w)
                                : 0;
        int r;

        w->header_frame = 0;
        if (w->fd < 0)
                return -ENOENT;
        if (size_bytes > INT64_MAX)
                return -EFBIG;
        if (w->is_live && kept < w->n_captured && w->frames.n_pending > 0)
                return -EBUSY;
        image_save_wal(w->image);
        r = os_ftruncate(w->os, "wal:truncate", w->fd, (off_t)size_bytes);
        if (r == 0 && w->is_live && kept < w->n_captured)
                wal_reset(w);
        else if (r == 0 && w->is_live && kept < w->frames.n)
                r = wal_rewind_to(w, (uint32_t)kept + 1);
        if (r == 0 && w->n_written > kept)
                w->n_written = kept > w->n_captured ? (uint32_t)kept : w->n_captured;
        return r;
}

int
wal_empty(struct db_wal *w)
{
        int r;

        image_save_wal(w->image);
        r = os_ftruncate(w->os, "apply:wal", w->fd, 0);
        if (r == 0)
                wal_reset(w);
        return r;
}

int
wal_restart(struct db_wal *w, uint32_t salt)
{
        struct wal_header h = { .page_size = w->image->page_size,
                                .salt1 = w->is_live ? w->salt1 + 1 : ~salt,
                                .salt2 = salt,
                                .is_big_endian_cksum = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ };
        uint8_t buf[WAL_HEADER_SIZE];
        int r;

        if (w->fd < 0 || w->image->page_size == 0)
                return -ENOENT;
        if (w->frames.n_pending > 0)
                return -EBUSY;
        wal_header_encode(&h, buf);
        image_save_wal(w->image);
        r = os_pwrite_all(w->os, "apply:wal", w->fd, buf, sizeof buf, 0);
        if (r == 0)
                wal_begin_chain(w, buf);
        return r;
}

int
wal_unlink(struct db_wal *w, const char *path, int *ret_fd)
{
        int r = w->fd < 0 ? -ENOENT : w->frames.n_pending > 0 ? -EBUSY : 0;

        if (r < 0)
                return r;
        image_save_wal(w->image);
        r = os_unlink(w->os, "wal:unlink", path);
        if (r == 0)
                *ret_fd = wal_detach(w);
        return r;
}

int
wal_detach(struct db_wal *w)
{
        int fd = w->fd;

        image_save_wal(w->image);
        w->fd = -1;
        wal_reset(w);
        return fd;
}

void
wal_note_sync(struct db_wal *w)
{
        w->is_synced_each = true;
}

void
wal_forget_uncaptured(struct db_wal *w)
{
        w->header_frame = 0;
        (void)wal_rewind_to(w, w->n_captured + 1); /* which reads nothing */
        w->n_written = w->n_captured;
}
