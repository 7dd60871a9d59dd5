/* Appending to the last segment, and taking back what was appended. How a crash is survived:
 *
 * A record is one frame, and a frame checks out only when all its bytes are there; the frames of a segment are
 * a chain. So the valid records of the last segment are a prefix of what was appended, and synced ones are in
 * it. A new segment is begun without waiting for the old one to be durable; sync makes the old one durable
 * first, then notes that in the new one's header, then syncs that. So at open, if the old one's chain ends
 * early, the note tells damage (an error) from a crash before the sync (nothing after the gap was ever
 * acknowledged as durable: the newer segment goes). */
#include "txlog/txlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "txlog/txlog_internal.h"
#include "ltx/checksum.h"

#define GATHER_MAX (1u << 20)
#define GATHER_MIN 8192u
#define CUT_SIZE 8u /* bytes that make a frame none */

/* --- the last segment --- */

static int64_t
wall_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t
last_txid(struct txlog *log)
{
        struct txlog_record last;

        return txlog_last(log, &last) ? last.max_txid : 0;
}

static bool
is_tail_durable(struct txlog *log)
{
        bool r;

        pthread_mutex_lock(&log->lock);
        r = log->tail == NULL || log->tail->is_durable;
        pthread_mutex_unlock(&log->lock);
        return r;
}

static int
create_segment(struct txlog *log, struct segment **ret, struct err *e)
{
        struct segment *s = calloc(1, sizeof *s);
        char path[PATH_MAX];
        int r;

        if (s == NULL)
                return err_set(e, -ENOMEM, "new log segment");
        s->fd = -1;
        s->header.seq = log->tail != NULL ? log->tail->header.seq + 1 : 1;
        s->header.created_ms = wall_ms();
        s->header.is_previous_durable = is_tail_durable(log);
        s->header.previous_txid = last_txid(log);
        if (getrandom(&s->header.salt, sizeof s->header.salt, 0) != sizeof s->header.salt)
                s->header.salt = (uint64_t)s->header.created_ms * 0x9e3779b97f4a7c15u;
        s->chain = s->header.salt;
        s->end = SEGMENT_HEADER_SIZE;
        r = txlog_segment_path(log, s->header.seq, path, sizeof path);
        if (r == 0)
                r = s->fd = os_open(log->os, "txlog:create", path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (r >= 0)
                r = txlog_write_header(log, s);
        if (r < 0) {
                if (s->fd >= 0)
                        os_unlink(log->os, "txlog:create", path);
                segment_free(log->os, s);
                return err_set(e, r, "create %s", path);
        }
        *ret = s;
        return 0;
}

/* The segment that the next record goes to. */
static int
ready_tail(struct txlog *log, struct err *e)
{
        struct segment *s;
        int r;

        if (log->tail != NULL && log->tail->end < log->segment_bytes)
                return 0;
        r = create_segment(log, &s, e);
        if (r < 0)
                return r;
        pthread_mutex_lock(&log->lock);
        s->lsn_start = log->end_lsn - s->end;
        if (log->tail != NULL) {
                log->tail->next = s;
                txlog_close_if_durable(log, log->tail);
        } else {
                log->head = s;
        }
        log->tail = s;
        pthread_mutex_unlock(&log->lock);
        return 0;
}

/* --- append --- */

/* Zeros that are being written ahead must not land on what is appended. That takes as long as writing to memory does;
 * who appends holds locks, and must not wait until they are on the disk. */
static void
wait_for_zeros(struct txlog *log, uint64_t end)
{
        pthread_mutex_lock(&log->lock);
        while (log->is_zeroing && log->tail == log->filling && end > log->fill_from)
                pthread_cond_wait(&log->zeroed, &log->lock);
        if (end > log->tail->allocated)
                log->tail->allocated = end; /* and make_space begins behind it */
        pthread_mutex_unlock(&log->lock);
}

static int
flush_gather(struct gather *g)
{
        struct txlog *log = g->log;
        struct segment *s = log->tail;
        size_t n = g->size - FRAME_SIZE;
        uint64_t off = s->end + FRAME_SIZE + g->written;
        int r;

        wait_for_zeros(log, off + n);
        r = os_pwrite_all(log->os, "txlog:append", s->fd, g->buf + FRAME_SIZE, n, (off_t)off);
        if (r == 0) {
                g->written += n;
                g->size = FRAME_SIZE;
        }
        return r;
}

static int
grow_gather(struct gather *g, size_t need)
{
        size_t want = g->capacity == 0 ? GATHER_MIN : g->capacity;
        uint8_t *p;

        while (want < need)
                want *= 2;
        if (want == g->capacity)
                return 0;
        p = realloc(g->buf, want);
        if (p == NULL)
                return -ENOMEM;
        g->buf = p;
        g->capacity = want;
        return 0;
}

static int
gather_write(struct byte_sink *sink, const void *buf, size_t n)
{
        struct gather *g = (struct gather *)sink;
        int r = g->error;

        if (r == 0 && g->size + n > GATHER_MAX && g->size > FRAME_SIZE) {
                struct err ignored;

                r = ready_tail(g->log, &ignored);
                if (r == 0)
                        r = flush_gather(g);
        }
        if (r == 0)
                r = grow_gather(g, g->size + n + 8);
        if (r < 0) {
                g->error = r;
                return r;
        }
        memcpy(g->buf + g->size, buf, n);
        g->size += n;
        g->payload += n;
        g->crc = ltx_crc64(g->crc, buf, n);
        return 0;
}

/* After a failed write the frame's place may hold a whole frame all the same: takes its magic away. Where there is no
 * room for that either, nothing is appended until there is. */
static int
cut_failed(struct txlog *log)
{
        static const uint8_t zeros[CUT_SIZE];
        int r = os_pwrite_all(log->os, "txlog:cut", log->tail->fd, zeros, sizeof zeros,
                              (off_t)log->tail->end);

        log->wants_cut = r < 0;
        return r;
}

struct byte_sink *
txlog_append_begin(struct txlog *log)
{
        struct gather *g = &log->gather;

        g->sink.write = gather_write;
        g->log = log;
        g->payload = g->crc = g->written = 0;
        g->error = log->is_broken ? -EIO : txlog_wake(log);
        if (g->error == 0 && log->wants_cut)
                g->error = cut_failed(log);
        if (grow_gather(g, FRAME_SIZE) < 0)
                return NULL;
        g->size = FRAME_SIZE;
        return &g->sink;
}

void
txlog_append_abort(struct txlog *log)
{
        struct gather *g = &log->gather;

        if (g->capacity > 8 * GATHER_MIN) { /* an idle log holds little memory */
                free(g->buf);
                g->buf = NULL;
                g->capacity = 0;
        }
        g->size = 0;
}

/* What is at hand in one write, or the rest of a long record and then its frame header. */
static int
write_framed(struct txlog *log, struct record_frame *f)
{
        struct gather *g = &log->gather;
        struct segment *s = log->tail;
        int r = 0;

        if (g->written > 0 && g->size > FRAME_SIZE)
                r = flush_gather(g);
        record_frame_encode(f, s->chain, g->buf);
        if (r == 0) {
                if (g->written == 0)
                        wait_for_zeros(log, s->end + g->size);
                r = os_pwrite_all(log->os, "txlog:append", s->fd, g->buf, g->size, (off_t)s->end);
        }
        return r;
}

static int
check_next(struct txlog *log, const struct txlog_record *r, struct err *e)
{
        uint64_t last = last_txid(log);

        if (r->min_txid == 0 || r->max_txid < r->min_txid)
                return err_set(e, E_FORMAT, "append transactions %016llx to %016llx",
                               (unsigned long long)r->min_txid, (unsigned long long)r->max_txid);
        if (last == 0 || r->min_txid == last + 1 || (r->min_txid == 1 && r->max_txid > last))
                return 0;
        return err_set(e, E_POS_MISMATCH, "append transaction %016llx to a log that ends at %016llx",
                       (unsigned long long)r->min_txid, (unsigned long long)last);
}

int
txlog_append_commit(struct txlog *log, const struct txlog_record *record, uint64_t *ret_lsn,
                    struct err *e)
{
        struct gather *g = &log->gather;
        struct record_frame f = { .record = *record, .payload_crc = g->crc };
        uint64_t off, previous;
        int r;

        f.record.size_bytes = g->payload;
        r = g->error < 0 ? err_set(e, g->error, "write the log in %s", log->dir)
                         : check_next(log, record, e);
        /* A long record has begun in a segment: it stays there. */
        if (r == 0 && g->written == 0)
                r = ready_tail(log, e);
        if (r == 0) {
                f.tag = record_frame_tag(log->tail->header.salt);
                if (txlog_synced_lsn(log) >= log->tail->lsn_start + log->tail->end)
                        f.tag |= RECORD_FRAME_PREVIOUS_DURABLE;
                r = write_framed(log, &f);
                if (r < 0) {
                        err_set(e, r, "append to the log in %s", log->dir);
                        (void)cut_failed(log);
                }
        }
        if (r == 0) {
                pthread_mutex_lock(&log->lock);
                off = log->tail->end;
                previous = log->tail->chain;
                segment_note_record(log->tail, &f, off, previous);
                log->tail->is_durable = false;
                log->end_lsn = log->tail->lsn_start + log->tail->end;
                *ret_lsn = log->end_lsn;
                pthread_mutex_unlock(&log->lock);
        }
        txlog_append_abort(log);
        return r;
}

/* LSNs only grow: what was appended stays counted, and so is what takes it away. With the lock of syncs: the end that one
 * of them reaches must be the end. */
static void
move_end_back(struct txlog *log)
{
        struct segment *s = log->tail;

        pthread_mutex_lock(&log->lock);
        s->lsn_start += s->end - s->before.off + CUT_SIZE;
        s->end = s->before.off;
        s->chain = s->before.chain;
        s->has_records = s->before.has_records;
        s->last = s->before.last;
        while (s->n_marks > 0 && s->marks[s->n_marks - 1].off >= s->end)
                s->n_marks--;
        s->is_durable = false;
        log->end_lsn = s->lsn_start + s->end;
        pthread_mutex_unlock(&log->lock);
}

int
txlog_undo_last(struct txlog *log, uint64_t txid, struct err *e)
{
        struct segment *s = log->tail;
        int r;

        if (s == NULL || !s->has_records || s->last.max_txid != txid || s->before.off == 0)
                return err_set(e, E_NOT_FOUND, "transaction %016llx at the end of the log in %s",
                               (unsigned long long)txid, log->dir);
        txlog_lock_syncs(log);
        move_end_back(log);
        pthread_mutex_unlock(&log->sync_lock);
        r = cut_failed(log);
        if (r < 0)
                return err_set(e, r, "take transaction %016llx out of the log in %s",
                               (unsigned long long)txid, log->dir);
        s->before.off = 0;
        return 0;
}

void
txlog_close(struct txlog *log)
{
        if (log == NULL)
                return;
        if (log->readers != NULL)
                return; /* its memory is somebody's still: better lost than read after it was freed */
        while (log->head != NULL) {
                struct segment *s = log->head;

                log->head = s->next;
                segment_free(log->os, s);
        }
        pthread_cond_destroy(&log->zeroed);
        pthread_mutex_destroy(&log->lock);
        pthread_mutex_destroy(&log->sync_lock);
        free(log->gather.buf);
        free(log->dir);
        free(log);
}
