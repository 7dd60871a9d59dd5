/* Appending, syncing, space ahead, retention. How a crash is survived:
 *
 * A record is one frame, and a frame checks out only when all its bytes are there; the frames of a segment are
 * a chain. So the valid records of the last segment are a prefix of what was appended, and synced ones are in
 * it. A new segment is begun without waiting for the old one to be durable; sync makes the old one durable
 * first, then notes that in the new one's header, then syncs that. So at open, if the old one's chain ends
 * early, the note tells damage (an error) from a crash before the sync (nothing after the gap was ever
 * acknowledged as durable: the newer segment goes). */
#include "db/txlog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "db/txlog_internal.h"
#include "ltx/checksum.h"

#define GATHER_MAX (1u << 20)
#define GATHER_MIN 8192u
#define SPACE_MIN (64u << 10)
#define SPACE_MAX (1u << 20)

int
txlog_segment_path(const struct txlog *log, uint64_t seq, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%016llx.seg", log->dir, (unsigned long long)seq);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

void
segment_free(const struct os *os, struct segment *s)
{
        os_close(os, "txlog:close", s->fd);
        free(s->marks);
        free(s);
}

void
segment_note_record(struct segment *s, const struct record_frame *f, uint64_t off,
                    uint64_t previous_chain)
{
        /* A snapshot begins at 1 whatever came before it. */
        uint64_t after_txid = s->has_records ? s->last.max_txid : f->record.min_txid - 1;

        if (!s->has_records)
                s->first = f->record;
        s->has_records = true;
        s->last = f->record;
        s->chain = f->chain;
        s->end = record_frame_end(off, f->record.size_bytes);
        if (s->n_marks > 0 && off - s->marks[s->n_marks - 1].off < MARK_EVERY)
                return;
        if (s->n_marks == s->marks_capacity) {
                uint32_t want = s->marks_capacity == 0 ? 4 : s->marks_capacity * 2;
                struct mark *p = realloc(s->marks, want * sizeof *p);

                if (p == NULL)
                        return; /* a longer walk for readers, no more */
                s->marks = p;
                s->marks_capacity = want;
        }
        s->marks[s->n_marks++] = (struct mark){ after_txid + 1, off, previous_chain };
}

/* --- segments --- */

static int64_t
wall_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
write_header(const struct txlog *log, const struct segment *s)
{
        uint8_t buf[SEGMENT_HEADER_SIZE];

        segment_header_encode(&s->header, buf);
        return os_pwrite_all(log->os, "txlog:header", s->fd, buf, sizeof buf, 0);
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
                r = s->fd = os_open(log->os, "txlog:create", path, O_RDWR | O_CREAT | O_TRUNC, 0666);
        if (r >= 0)
                r = write_header(log, s);
        if (r < 0) {
                if (s->fd >= 0)
                        os_unlink(log->os, "txlog:create", path);
                segment_free(log->os, s);
                return err_set(e, r, "create %s", path);
        }
        *ret = s;
        return 0;
}

/* Nobody writes to it or syncs it any more, but for make_space; it is not the tail, or about to be that no more.
 * With the lock. */
static void
close_if_durable(struct txlog *log, struct segment *s)
{
        if (!s->is_durable || s == log->filling)
                return;
        os_close(log->os, "txlog:close", s->fd);
        s->fd = -1;
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
                close_if_durable(log, log->tail);
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
        static const uint8_t zeros[8];
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
        g->error = log->is_broken ? -EIO : log->wants_cut ? cut_failed(log) : 0;
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
write_record(struct txlog *log, struct record_frame *f)
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
                r = write_record(log, &f);
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

/* --- sync --- */

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
                r = write_header(log, s);
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
                close_if_durable(log, s);
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
        pthread_mutex_lock(&log->sync_lock);
        r = sync_up_to(log, lsn, e);
        pthread_mutex_unlock(&log->sync_lock);
        return r;
}

uint64_t
txlog_end_lsn(struct txlog *log)
{
        uint64_t lsn;

        pthread_mutex_lock(&log->lock);
        lsn = log->end_lsn;
        pthread_mutex_unlock(&log->lock);
        return lsn;
}

uint64_t
txlog_synced_lsn(struct txlog *log)
{
        uint64_t lsn;

        pthread_mutex_lock(&log->lock);
        lsn = log->synced_lsn;
        pthread_mutex_unlock(&log->lock);
        return lsn;
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

        if (s == NULL || log->filling != NULL)
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

int
txlog_make_space(struct txlog *log)
{
        bool is_sync_lost = false, is_mine;
        struct segment *s;
        int r;

        pthread_mutex_lock(&log->lock);
        is_mine = claim_space(log);
        s = log->tail;
        pthread_mutex_unlock(&log->lock);
        if (!is_mine)
                return 0;
        r = write_zeros(log, s->fd, log->fill_from, log->fill_to);
        end_zeroing(log);
        if (r == 0) {
                r = os_fdatasync(log->os, "txlog:space", s->fd);
                is_sync_lost = r < 0;
        }
        pthread_mutex_lock(&log->lock);
        if (r == 0 && log->fill_to > s->allocated)
                s->allocated = log->fill_to;
        /* The kernel tells of a lost write once, and it may have been a record's: nobody else will learn. */
        if (is_sync_lost)
                log->is_sync_broken = log->is_broken = true;
        log->filling = NULL;
        if (s != log->tail)
                close_if_durable(log, s);
        pthread_mutex_unlock(&log->lock);
        return r;
}

/* --- what there is --- */

bool
txlog_last(struct txlog *log, struct txlog_record *ret)
{
        bool found = false;

        pthread_mutex_lock(&log->lock);
        for (struct segment *s = log->head; s != NULL; s = s->next) {
                if (!s->has_records)
                        continue;
                *ret = s->last;
                found = true;
        }
        pthread_mutex_unlock(&log->lock);
        return found;
}

bool
txlog_first(struct txlog *log, struct txlog_record *ret)
{
        bool found = false;

        pthread_mutex_lock(&log->lock);
        for (struct segment *s = log->head; s != NULL && !found; s = s->next) {
                found = s->has_records;
                if (found)
                        *ret = s->first;
        }
        pthread_mutex_unlock(&log->lock);
        return found;
}

void
txlog_get_stat(struct txlog *log, struct txlog_stat *ret)
{
        *ret = (struct txlog_stat){ 0 };
        pthread_mutex_lock(&log->lock);
        for (struct segment *s = log->head; s != NULL; s = s->next) {
                ret->segments++;
                ret->bytes += s->end;
                ret->allocated_bytes += s->allocated > s->end ? s->allocated : s->end;
        }
        pthread_mutex_unlock(&log->lock);
}

/* --- retention --- */

static bool
is_pinned(const struct txlog *log, const struct segment *s)
{
        for (const struct txlog_reader *r = log->readers; r != NULL; r = r->next)
                if (r->seq <= s->header.seq)
                        return true;
        return false;
}

/* Takes the oldest segment out of the list if the policy lets it go. */
static struct segment *
take_droppable(struct txlog *log, const struct txlog_retention *policy)
{
        struct segment *s;
        uint64_t total = 0;
        bool is_old, is_big;

        pthread_mutex_lock(&log->lock);
        for (s = log->head; s != NULL; s = s->next)
                total += s->end;
        s = log->head;
        if (s != NULL) {
                is_old = policy->max_age_ms > 0 &&
                         s->last.timestamp_ms < policy->now_ms - policy->max_age_ms;
                is_big = policy->max_bytes > 0 && total > policy->max_bytes;
                if (s == log->tail || s == log->filling || !s->is_durable || is_pinned(log, s) ||
                    (s->has_records &&
                     (s->last.max_txid > policy->keep_after_txid || !(is_old || is_big))))
                        s = NULL;
        }
        if (s != NULL)
                log->head = s->next;
        pthread_mutex_unlock(&log->lock);
        return s;
}

int
txlog_retain(struct txlog *log, const struct txlog_retention *policy, struct err *e)
{
        struct segment *s;
        char path[PATH_MAX];
        int n = 0, r = 0;

        while (r == 0 && (s = take_droppable(log, policy)) != NULL) {
                r = txlog_segment_path(log, s->header.seq, path, sizeof path);
                if (r == 0)
                        r = os_unlink(log->os, "txlog:drop", path);
                if (r == -ENOENT)
                        r = 0;
                /* One by one: a power loss that undid this unlink but not the next would leave a gap. */
                if (r == 0)
                        r = os_sync_dir(log->os, "txlog:drop", log->dir);
                if (r < 0) {
                        /* Still there, so still the oldest: the next must not go before it. */
                        pthread_mutex_lock(&log->lock);
                        s->next = log->head;
                        log->head = s;
                        pthread_mutex_unlock(&log->lock);
                        break;
                }
                segment_free(log->os, s);
                n++;
        }
        return r < 0 ? err_set(e, r, "drop %s", path) : n;
}

void
txlog_close(struct txlog *log)
{
        if (log == NULL)
                return;
        assert(log->readers == NULL);
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
