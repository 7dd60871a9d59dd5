/* The list of segments: what the log holds by it, and what all files here do with one of them. */
#include "txlog/txlog_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- one segment --- */

int
txlog_segment_path(const struct txlog *log, uint64_t seq, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%016llx.seg", log->dir, (unsigned long long)seq);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int
txlog_write_header(const struct txlog *log, const struct segment *s)
{
        uint8_t buf[SEGMENT_HEADER_SIZE];

        segment_header_encode(&s->header, buf);
        return os_pwrite_all(log->os, "txlog:header", s->fd, buf, sizeof buf, 0);
}

void
segment_note_record(struct segment *s, const struct record_frame *f, uint64_t off,
                    uint64_t previous_chain)
{
        /* A snapshot begins at 1 whatever came before it. */
        uint64_t after_txid = s->has_records ? s->last.max_txid : f->record.min_txid - 1;

        s->before = (struct segment_end){ off, previous_chain, s->has_records, s->last };
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

/* Nobody writes to it or syncs it any more, but for make_space; it is not the tail, or about to be that no more.
 * With the lock. */
void
txlog_close_if_durable(struct txlog *log, struct segment *s)
{
        if (!s->is_durable || s == log->filling)
                return;
        os_close(log->os, "txlog:close", s->fd);
        s->fd = -1;
}

void
segment_free(const struct os *os, struct segment *s)
{
        os_close(os, "txlog:close", s->fd);
        free(s->marks);
        free(s);
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

uint64_t
txlog_bytes_behind(struct txlog *log, uint64_t txid)
{
        uint64_t bytes = 0;

        pthread_mutex_lock(&log->lock);
        for (struct segment *s = log->head; s != NULL; s = s->next)
                if (s->has_records && s->first.max_txid > txid)
                        bytes += s->end;
        pthread_mutex_unlock(&log->lock);
        return bytes;
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
