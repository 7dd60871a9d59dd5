/* Opening a log: what of the segments is valid, and what a crash has left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "txlog/txlog_internal.h"

#define DEFAULT_SEGMENT_BYTES (16u << 20)

static struct txlog *
txlog_allocate(const struct os *os, const char *dir, const struct txlog_options *options)
{
        struct txlog *log = calloc(1, sizeof *log);

        if (log == NULL || (log->dir = strdup(dir)) == NULL) {
                free(log);
                return NULL;
        }
        log->os = os;
        log->segment_bytes = options != NULL && options->segment_bytes > 0 ? options->segment_bytes
                                                                           : DEFAULT_SEGMENT_BYTES;
        pthread_mutex_init(&log->lock, NULL);
        pthread_mutex_init(&log->sync_lock, NULL);
        pthread_cond_init(&log->zeroed, NULL);
        return log;
}

struct names {
        uint64_t *seqs;
        size_t n;
        size_t capacity;
};

static int
add_segment_name(void *arg, const char *name)
{
        struct names *names = arg;
        unsigned long long seq;
        char expect[32];

        if (sscanf(name, "%16llx.seg", &seq) != 1)
                return 0;
        snprintf(expect, sizeof expect, "%016llx.seg", seq);
        if (strcmp(expect, name) != 0)
                return 0;
        if (names->n == names->capacity) {
                size_t want = names->capacity == 0 ? 16 : names->capacity * 2;
                uint64_t *p = realloc(names->seqs, want * sizeof *p);

                if (p == NULL)
                        return -ENOMEM;
                names->seqs = p;
                names->capacity = want;
        }
        names->seqs[names->n++] = seq; /* names come sorted, and so do numbers of fixed width */
        return 0;
}

static int
open_segment(struct txlog *log, uint64_t seq, struct segment **ret, uint64_t *ret_size, int *ret_header)
{
        struct segment *s = calloc(1, sizeof *s);
        char path[PATH_MAX];
        struct stat st;
        int r;

        if (s == NULL)
                return -ENOMEM;
        s->fd = -1;
        r = txlog_segment_path(log, seq, path, sizeof path);
        if (r == 0)
                r = s->fd = os_open(log->os, "txlog:open", path, log->is_readonly ? O_RDONLY : O_RDWR,
                                    0);
        if (r >= 0)
                r = os_fstat(log->os, "txlog:open", s->fd, &st);
        if (r >= 0) {
                *ret_header = segment_header_read(log->os, s->fd, &s->header);
                if (*ret_header < 0 && *ret_header > -4096)
                        r = *ret_header; /* could not be read, which says nothing about its content */
        }
        if (r < 0) {
                segment_free(log->os, s);
                return r;
        }
        if (*ret_header == 0 && s->header.seq != seq)
                *ret_header = E_FORMAT;
        s->chain = s->header.salt;
        s->end = SEGMENT_HEADER_SIZE;
        s->has_name_synced = true;
        *ret_size = (uint64_t)st.st_size;
        *ret = s;
        return 0;
}

/* Walks the frames to the end of the chain. */
static int
scan_segment(struct txlog *log, struct segment *s, uint64_t size, bool is_last, uint64_t verify_from,
             struct txlog_record *last, bool *has_last)
{
        struct record_frame f;
        int r;

        while ((r = record_frame_read(log->os, s->fd, s->end, size, s->chain, &f)) > 0) {
                if (*has_last && f.record.min_txid != last->max_txid + 1 &&
                    !(f.record.min_txid == 1 && f.record.max_txid > last->max_txid))
                        return 0;
                if (is_last || f.record.max_txid > verify_from) {
                        r = record_frame_check_payload(log->os, s->fd, s->end, &f);
                        if (r < 0)
                                return r == E_CHECKSUM ? 0 : r;
                }
                segment_note_record(s, &f, s->end, s->chain);
                *last = f.record;
                *has_last = true;
        }
        return r;
}

/* Bytes behind the last record that are not zeros: a record that was not finished. */
static int
count_torn(struct txlog *log, const struct segment *s, uint64_t size, uint64_t *ret_bytes)
{
        uint8_t buf[4096];
        uint64_t off = s->end, last = 0;

        while (off < size) {
                ssize_t n = os_pread_all(log->os, "txlog:open", s->fd, buf, sizeof buf, (off_t)off);

                if (n < 0)
                        return (int)n;
                if (n == 0)
                        break;
                for (ssize_t i = 0; i < n; i++)
                        if (buf[i] != 0)
                                last = off + (uint64_t)i + 1;
                off += (uint64_t)n;
        }
        *ret_bytes = last > s->end ? last - s->end : 0;
        return 0;
}

static int
damaged(const struct txlog *log, uint64_t seq, uint64_t off, struct err *e)
{
        return err_text(
                e, E_CORRUPT_DB,
                "%s/%016llx.seg is damaged at offset %llu: a record is missing or changed that was "
                "durable; restore the file from a backup, or the database from a replica",
                log->dir, (unsigned long long)seq, (unsigned long long)off);
}

/* Takes away what lies behind the last record. Left there, it could be a log again: once the torn record is
 * appended a second time, byte for byte the same, whole records behind it would continue it. */
static int
cut_torn(struct txlog *log, struct err *e)
{
        struct segment *s = log->tail;
        uint64_t n = 0;
        int r;

        if (s == NULL)
                return 0;
        r = count_torn(log, s, s->allocated, &n);
        log->torn_bytes += n;
        if (r == 0 && n > 0) {
                /* What is missing is the next transaction: a proof comes after it. */
                uint64_t next = s->has_records ? s->last.max_txid + 1 : s->header.previous_txid + 1;

                r = record_frame_find_durable(log->os, s->fd, s->end, s->allocated, s->header.salt,
                                              next + 1);
                if (r > 0)
                        return damaged(log, s->header.seq, s->end, e);
        }
        if (r == 0 && n > 0 && !log->is_readonly) {
                r = os_ftruncate(log->os, "txlog:open", s->fd, (off_t)s->end);
                s->allocated = s->end;
        }
        return r < 0 ? err_set(e, r, "cut the torn end of %s/%016llx.seg", log->dir,
                               (unsigned long long)s->header.seq)
                     : 0;
}

static void
append_segment(struct txlog *log, struct segment *s)
{
        s->lsn_start = log->end_lsn - SEGMENT_HEADER_SIZE;
        log->end_lsn = s->lsn_start + s->end;
        if (log->tail != NULL)
                log->tail->next = s;
        else
                log->head = s;
        log->tail = s;
}

/* Removes the segments from @names[i] on: they were never acknowledged as durable. */
static int
drop_from(struct txlog *log, const struct names *names, size_t i)
{
        char path[PATH_MAX];
        int r = 0;

        if (log->is_readonly)
                return 0;
        for (size_t j = names->n; r == 0 && j > i; j--) {
                struct stat st;

                r = txlog_segment_path(log, names->seqs[j - 1], path, sizeof path);
                if (r == 0 && os_lstat(log->os, "txlog:open", path, &st) == 0)
                        log->torn_bytes += (uint64_t)st.st_size;
                if (r == 0)
                        r = os_unlink(log->os, "txlog:open", path);
                if (r == 0) /* or a power loss could bring back one behind a gap */
                        r = os_sync_dir(log->os, "txlog:open", log->dir);
        }
        return r;
}

struct scan {
        struct names names;
        uint64_t verify_from;
        struct txlog_record last;
        bool has_last;
};

/* Whether a segment behind the @i-th says that the one before it was durable: then they all were up to there. */
static int
was_durable(struct txlog *log, const struct scan *scan, size_t i, bool *ret)
{
        *ret = false;
        for (size_t j = i + 1; j < scan->names.n && !*ret; j++) {
                struct segment *s;
                uint64_t size;
                int header, r = open_segment(log, scan->names.seqs[j], &s, &size, &header);

                if (r < 0)
                        return r;
                /* One that is there and wrong cannot be asked: rather too much damage than too little. */
                *ret = header == 0 ? s->header.is_previous_durable : header != E_NOT_FOUND;
                segment_free(log->os, s);
        }
        return 0;
}

/* A header that never became durable belongs to a segment of which nothing was ever acknowledged as durable, and
 * so do the segments behind it, which may have got further than it. One that is there and wrong is damage. */
static int
end_before(struct txlog *log, const struct scan *scan, size_t i, int header, struct err *e)
{
        bool is_damage = header != E_NOT_FOUND;
        int r = is_damage ? 0 : was_durable(log, scan, i, &is_damage);

        if (r < 0)
                return err_set(e, r, "read the log in %s", log->dir);
        return is_damage ? damaged(log, scan->names.seqs[i], 0, e) : 0;
}

/* One segment: 1 to go on, 0 when the log ends before it. */
static int
take_segment(struct txlog *log, struct scan *scan, size_t i, struct err *e)
{
        bool is_last = i + 1 == scan->names.n;
        struct segment *s;
        uint64_t size;
        int r, header;

        r = open_segment(log, scan->names.seqs[i], &s, &size, &header);
        if (r < 0)
                return err_set(e, r, "open %s/%016llx.seg", log->dir,
                               (unsigned long long)scan->names.seqs[i]);
        if (header < 0) {
                segment_free(log->os, s);
                return end_before(log, scan, i, header, e);
        }
        r = scan_segment(log, s, size, is_last, scan->verify_from, &scan->last, &scan->has_last);
        if (r < 0) {
                segment_free(log->os, s);
                return err_set(e, r, "read %s/%016llx.seg", log->dir,
                               (unsigned long long)scan->names.seqs[i]);
        }
        s->allocated = size;
        s->is_durable = false;
        append_segment(log, s);
        return 1;
}

/* Whether the segment after the tail begins where the tail ends: else there is a gap. */
static int
check_joint(struct txlog *log, struct scan *scan, size_t next, bool *ret_is_gap, bool *ret_was_durable)
{
        struct segment *s;
        uint64_t size;
        int header, r;

        *ret_is_gap = *ret_was_durable = false;
        r = open_segment(log, scan->names.seqs[next], &s, &size, &header);
        if (r < 0)
                return r;
        if (header == 0) {
                *ret_was_durable = s->header.is_previous_durable;
                *ret_is_gap = s->header.previous_txid != (scan->has_last ? scan->last.max_txid : 0);
        }
        segment_free(log->os, s);
        if (scan->names.seqs[next] == scan->names.seqs[next - 1] + 1)
                return 0;
        *ret_is_gap = true; /* a segment in between is gone */
        return was_durable(log, scan, next - 1, ret_was_durable);
}

static int
take_all(struct txlog *log, struct scan *scan, struct err *e)
{
        bool is_gap, was_durable;
        size_t i;
        int r = 1, joint;

        for (i = 0; i < scan->names.n && r > 0; i++) {
                r = take_segment(log, scan, i, e);
                if (r <= 0 || i + 1 == scan->names.n)
                        continue;
                joint = check_joint(log, scan, i + 1, &is_gap, &was_durable);
                if (joint < 0)
                        return err_set(e, joint, "read %s/%016llx.seg", log->dir,
                                       (unsigned long long)scan->names.seqs[i + 1]);
                if (is_gap && was_durable)
                        return damaged(log, scan->names.seqs[i], log->tail->end, e);
                if (is_gap) {
                        r = 0;
                        i++;
                        break;
                }
        }
        if (r < 0)
                return r;
        if (r == 0) {
                /* The loop counted past the segment that ended the log when take_segment refused it. */
                size_t from = log->tail == NULL ? 0 : i;

                if (from > 0 && from <= scan->names.n &&
                    log->tail->header.seq < scan->names.seqs[from - 1])
                        from--;
                r = drop_from(log, &scan->names, from);
                if (r < 0)
                        return err_set(e, r, "remove an unfinished segment in %s", log->dir);
        }
        return 0;
}

/* Everything that was found is made durable now: whoever reads it may build on it. */
static int
sync_what_was_found(struct txlog *log, struct err *e)
{
        log->synced_lsn = 0;
        if (log->tail == NULL || log->is_readonly)
                return 0;
        return txlog_sync(log, log->end_lsn, e);
}

/* The directory, durable: it may be there from a run that ended before it had synced it. */
static int
make_log_dir(struct txlog *log)
{
        char parent[PATH_MAX];
        int r;

        if (log->is_readonly)
                return 0;
        r = os_mkdir_all(log->os, "txlog:open", log->dir, 0700);
        if (r == 0 && snprintf(parent, sizeof parent, "%s/..", log->dir) < (int)sizeof parent)
                r = os_sync_dir(log->os, "txlog:open", parent);
        return r;
}

static bool
is_readonly_or_whole(const struct txlog *log, const struct scan *scan)
{
        return log->is_readonly || !scan->has_last || scan->last.max_txid >= scan->verify_from;
}

static int
open_segments(struct txlog *log, uint64_t verify_from_txid, struct err *e)
{
        struct scan scan = { .verify_from = verify_from_txid };
        int r = make_log_dir(log);

        log->end_lsn = SEGMENT_HEADER_SIZE;
        if (r == 0)
                r = os_list_dir(log->os, "txlog:open", log->dir, add_segment_name, &scan.names);
        if (r < 0)
                err_set(e, r, "open the log in %s", log->dir);
        else
                r = take_all(log, &scan, e);
        /* The base moves to durable records only: what is missing now is no torn tail, and stays for whoever can
         * make something of it. */
        if (r == 0 && !is_readonly_or_whole(log, &scan))
                r = damaged(log, log->tail->header.seq, log->tail->end, e);
        if (r == 0)
                r = cut_torn(log, e);
        if (r == 0)
                r = sync_what_was_found(log, e);
        free(scan.names.seqs);
        return r;
}

static int
open_as(const struct os *os, const char *dir, const struct txlog_options *options, bool is_readonly,
        uint64_t verify_from_txid, struct txlog **ret, struct err *e)
{
        struct txlog *log = txlog_allocate(os, dir, options);
        int r;

        if (log == NULL)
                return err_set(e, -ENOMEM, "open the log in %s", dir);
        log->is_readonly = is_readonly;
        r = open_segments(log, verify_from_txid, e);
        if (r < 0) {
                txlog_close(log);
                return r;
        }
        *ret = log;
        return 0;
}

int
txlog_open(const struct os *os, const char *dir, const struct txlog_options *options,
           uint64_t verify_from_txid, struct txlog **ret, struct err *e)
{
        return open_as(os, dir, options, false, verify_from_txid, ret, e);
}

int
txlog_open_readonly(const struct os *os, const char *dir, struct txlog **ret, struct err *e)
{
        int r = -ENOENT;

        /* A segment may be dropped by retention between listing and opening: look again. */
        for (int tries = 0; tries < 10 && r == -ENOENT; tries++)
                r = open_as(os, dir, NULL, true, UINT64_MAX, ret, e);
        return r;
}

int
txlog_swap_begin(struct txlog *log)
{
        int r;

        pthread_mutex_lock(&log->lock);
        r = log->readers != NULL ? -EAGAIN : 0;
        log->is_swapping = r == 0;
        pthread_mutex_unlock(&log->lock);
        return r;
}

void
txlog_swap_abort(struct txlog *log)
{
        pthread_mutex_lock(&log->lock);
        log->is_swapping = false;
        pthread_mutex_unlock(&log->lock);
}

int
txlog_swap_commit(struct txlog *log, struct txlog *other)
{
        struct segment *head;

        txlog_lock_syncs(log);
        pthread_mutex_lock(&log->lock);
        if (!log->is_swapping || log->readers != NULL || log->filling != NULL) {
                pthread_mutex_unlock(&log->lock);
                pthread_mutex_unlock(&log->sync_lock);
                return -EBUSY;
        }
        head = log->head;
        log->head = other->head;
        log->tail = other->tail;
        log->end_lsn = other->end_lsn;
        log->synced_lsn = other->synced_lsn;
        log->torn_bytes = other->torn_bytes;
        log->is_broken = log->is_sync_broken = log->wants_cut = log->has_synced = false;
        log->is_swapping = false;
        pthread_mutex_unlock(&log->lock);
        pthread_mutex_unlock(&log->sync_lock);
        other->head = head;
        other->tail = NULL;
        txlog_close(other);
        return 0;
}

uint64_t
txlog_torn_bytes(const struct txlog *log)
{
        return log->torn_bytes;
}

void
txlog_describe_end(const struct txlog *log, char *buf, size_t size)
{
        const struct segment *s = log->tail;

        if (s == NULL)
                snprintf(buf, size, "%s", log->dir);
        else
                snprintf(buf, size, "%s/%016llx.seg at offset %llu", log->dir,
                         (unsigned long long)s->header.seq, (unsigned long long)s->end);
}
