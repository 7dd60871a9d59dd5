/* A log that nobody appends to needs no descriptor. */
#include <errno.h>
#include <fcntl.h>

#include "txlog/txlog_internal.h"

/* Of one that is not durable the descriptor may be the only one that is told of a lost write. With the locks. */
static bool
may_rest(const struct txlog *log)
{
        const struct segment *s = log->tail;

        return s != NULL && s->fd >= 0 && s->is_durable && log->filling == NULL && !log->is_broken &&
               !log->is_readonly && !log->wants_cut && !log->is_swapping;
}

bool
txlog_rest(struct txlog *log)
{
        struct stat st;
        bool rests;

        if (pthread_mutex_trylock(&log->sync_lock) != 0)
                return false;
        pthread_mutex_lock(&log->lock);
        rests = may_rest(log) && os_fstat(log->os, "txlog:rest", log->tail->fd, &st) == 0;
        if (rests) {
                os_close(log->os, "txlog:rest", log->tail->fd);
                log->tail->fd = -1;
                log->tail->inode = st.st_ino;
        }
        pthread_mutex_unlock(&log->lock);
        pthread_mutex_unlock(&log->sync_lock);
        return rests;
}

int
txlog_wake(struct txlog *log)
{
        struct segment *s = log->tail;
        char path[PATH_MAX];
        struct stat st;
        int r, fd;

        if (s == NULL || s->fd >= 0 || log->is_readonly)
                return 0;
        r = txlog_segment_path(log, s->header.seq, path, sizeof path);
        fd = r < 0 ? r : os_open(log->os, "txlog:wake", path, O_RDWR, 0);
        if (fd < 0)
                return fd;
        r = os_fstat(log->os, "txlog:wake", fd, &st);
        if (r == 0 && st.st_ino != s->inode)
                r = -ESTALE; /* the database was moved, and another has its place */
        if (r < 0) {
                os_close(log->os, "txlog:wake", fd);
                return r;
        }
        pthread_mutex_lock(&log->lock);
        s->fd = fd;
        pthread_mutex_unlock(&log->lock);
        return 0;
}
