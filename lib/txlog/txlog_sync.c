/* Making the log durable, and space ahead of its end, so that appends overwrite instead of extend. */
#include "txlog/txlog_internal.h"

#include <errno.h>
#include <fcntl.h>

#include "base/thread.h"

#define SPACE_MIN (64u << 10)
#define SPACE_MAX (1u << 20)

void
txlog_lock_syncs(struct txlog *log)
{
        thread_will_wait("the log of a database to be durable");
        pthread_mutex_lock(&log->sync_lock);
}

/* The oldest segment that is not durable, and how much of the log there is. */
static struct segment *
first_to_sync(struct txlog *log, uint64_t *ret_lsn)
{
        struct segment *s;

        pthread_mutex_lock(&log->lock);
        for (s = log->head; s != NULL && s->is_durable; s = s->next)
                ;
        *ret_lsn = s != NULL ? s->lsn_start + s->end : log->end_lsn;
        pthread_mutex_unlock(&log->lock);
        return s;
}

/* A segment that is not the tail does not change any more; retention leaves it alone while it is not
 * durable, so the pointer stays good without the lock. */
static int
sync_segment(struct txlog *log, struct segment *s, bool *ret_is_tail)
{
        uint64_t end;
        int r = 0;

        pthread_mutex_lock(&log->lock);
        end = s->end;
        pthread_mutex_unlock(&log->lock);
        if (!s->header.is_previous_durable) {
                s->header.is_previous_durable = true;
                r = txlog_write_header(log, s);
        }
        if (r == 0)
                r = os_fdatasync(log->os, "txlog:sync", s->fd);
        if (r == 0 && !s->has_name_synced) {
                r = os_sync_dir(log->os, "txlog:sync", log->dir);
                s->has_name_synced = r == 0;
        }
        if (r < 0)
                return r;
        pthread_mutex_lock(&log->lock);
        *ret_is_tail = s == log->tail;
        if (s->end == end)
                s->is_durable = true;
        if (s->lsn_start + end > log->synced_lsn)
                log->synced_lsn = s->lsn_start + end;
        log->has_synced = true;
        if (!*ret_is_tail)
                txlog_close_if_durable(log, s);
        pthread_mutex_unlock(&log->lock);
        return 0;
}

static int
sync_up_to(struct txlog *log, uint64_t lsn, struct err *e)
{
        struct segment *s;
        uint64_t reach;
        bool is_tail;
        int r;

        while (txlog_synced_lsn(log) < lsn) {
                if (log->is_sync_broken)
                        return err_set(e, -EIO, "the log in %s lost an earlier sync", log->dir);
                s = first_to_sync(log, &reach);
                if (s == NULL)
                        return 0;
                r = sync_segment(log, s, &is_tail);
                if (r < 0) {
                        log->is_sync_broken = true;
                        log->is_broken = true;
                        return err_set(e, r, "sync the log in %s", log->dir);
                }
        }
        return 0;
}

int
txlog_sync(struct txlog *log, uint64_t lsn, struct err *e)
{
        int r;

        if (txlog_synced_lsn(log) >= lsn)
                return 0;
        /* Whoever waits here finds its records covered by the sync of the one before it, most times. */
        txlog_lock_syncs(log);
        r = sync_up_to(log, lsn, e);
        pthread_mutex_unlock(&log->sync_lock);
        return r;
}

/* --- space ahead --- */

/* Grows with the segment, so that a log of few records stays small. */
static uint64_t
space_wanted(const struct segment *s)
{
        uint64_t n = s->end / 2;

        return n < SPACE_MIN ? SPACE_MIN : n > SPACE_MAX ? SPACE_MAX : n;
}

bool
txlog_wants_space(struct txlog *log)
{
        bool wants;

        pthread_mutex_lock(&log->lock);
        wants = log->tail != NULL && log->has_synced && log->filling == NULL && !log->is_broken &&
                log->tail->end < log->segment_bytes &&
                log->tail->allocated < log->tail->end + space_wanted(log->tail) / 2;
        pthread_mutex_unlock(&log->lock);
        return wants;
}

static int
write_zeros(struct txlog *log, int fd, uint64_t from, uint64_t to)
{
        static const uint8_t zeros[65536];
        int r = 0;

        while (r == 0 && from < to) {
                size_t n = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;

                r = os_pwrite_all(log->os, "txlog:space", fd, zeros, n, (off_t)from);
                from += n;
        }
        return r;
}

/* Claims the bytes to fill: with the lock. */
static bool
claim_space(struct txlog *log)
{
        struct segment *s = log->tail;

        if (s == NULL || s->fd < 0 || log->filling != NULL)
                return false;
        log->fill_from = s->allocated > s->end ? s->allocated : s->end;
        /* Room for the appends that come while the zeros are on their way. */
        if (log->fill_from < s->end + 8192)
                log->fill_from = s->end + 8192;
        log->fill_to = s->end + space_wanted(s) + 8192;
        if (log->fill_to <= log->fill_from)
                return false;
        log->filling = s;
        log->is_zeroing = true;
        log->has_synced = false;
        return true;
}

static void
end_zeroing(struct txlog *log)
{
        pthread_mutex_lock(&log->lock);
        log->is_zeroing = false;
        pthread_cond_broadcast(&log->zeroed);
        pthread_mutex_unlock(&log->lock);
}

/* The segment once more. The kernel tells each descriptor of a lost write, and each once: if the zeros were synced by
 * the segment's own, they could hear of a record's loss in place of the commit's sync that runs at the same time. */
static int
open_to_fill(const struct txlog *log, const struct segment *s)
{
        struct stat own, found;
        char path[PATH_MAX];
        int r = txlog_segment_path(log, s->header.seq, path, sizeof path);
        int fd = r < 0 ? r : os_open(log->os, "txlog:space", path, O_WRONLY | O_CLOEXEC, 0);

        if (fd < 0)
                return fd;
        r = os_fstat(log->os, "txlog:space", s->fd, &own);
        if (r == 0)
                r = os_fstat(log->os, "txlog:space", fd, &found);
        if (r == 0 && (own.st_dev != found.st_dev || own.st_ino != found.st_ino))
                r = -ESTALE; /* the database was moved, and another has its place */
        if (r == 0)
                return fd;
        (void)os_close(log->os, "txlog:space", fd);
        return r;
}

int
txlog_make_space(struct txlog *log)
{
        bool is_mine;
        struct segment *s;
        int r, fd;

        pthread_mutex_lock(&log->lock);
        is_mine = claim_space(log);
        s = log->tail;
        pthread_mutex_unlock(&log->lock);
        if (!is_mine)
                return 0;
        fd = open_to_fill(log, s);
        r = fd < 0 ? fd : write_zeros(log, fd, log->fill_from, log->fill_to);
        end_zeroing(log);
        if (r == 0)
                r = os_fdatasync(log->os, "txlog:space", fd);
        (void)os_close(log->os, "txlog:space", fd);
        pthread_mutex_lock(&log->lock);
        if (r == 0 && log->fill_to > s->allocated)
                s->allocated = log->fill_to;
        log->filling = NULL;
        if (s != log->tail)
                txlog_close_if_durable(log, s);
        pthread_mutex_unlock(&log->lock);
        return r;
}
