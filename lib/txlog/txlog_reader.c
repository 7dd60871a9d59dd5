#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "txlog/txlog_internal.h"
#include "ltx/checksum.h"

/* The segment that @seq names, or the one after it. With the lock. */
static struct segment *
segment_from(struct txlog *log, uint64_t seq)
{
        struct segment *s = log->head;

        while (s != NULL && s->header.seq < seq)
                s = s->next;
        return s;
}

/* Stands the reader at @s's beginning, or at the last mark that is not past what it looks for. With the
 * lock. */
static void
stand_in(struct txlog_reader *r, const struct segment *s)
{
        r->seq = s->header.seq;
        r->off = SEGMENT_HEADER_SIZE;
        r->chain = s->header.salt;
        for (uint32_t i = 0; i < s->n_marks && s->marks[i].txid <= r->after_txid + 1; i++) {
                r->off = s->marks[i].off;
                r->chain = s->marks[i].chain;
        }
}

static int
reader_open_segment(struct txlog_reader *r)
{
        char path[PATH_MAX];
        int rc = txlog_segment_path(r->log, r->seq, path, sizeof path);

        os_close(r->log->os, "txlog:read", r->fd);
        r->fd = -1;
        if (rc == 0)
                rc = r->fd = os_open(r->log->os, "txlog:read", path, O_RDONLY, 0);
        return rc < 0 ? rc : 0;
}

static int
find_start(struct txlog_reader *r, struct err *e)
{
        struct txlog *log = r->log;
        struct segment *s, *found = NULL;
        bool is_gone = false;

        pthread_mutex_lock(&log->lock);
        if (log->is_swapping) {
                pthread_mutex_unlock(&log->lock);
                return err_set(e, -EAGAIN, "the log in %s is being replaced", log->dir);
        }
        for (s = log->head; s != NULL && found == NULL; s = s->next)
                if (s->has_records && s->last.max_txid > r->after_txid)
                        found = s;
        if (found != NULL && found->first.min_txid > r->after_txid + 1)
                is_gone = true;
        if (found == NULL)
                found = log->tail;
        if (found != NULL && !is_gone)
                stand_in(r, found);
        if (!is_gone) {
                r->next = log->readers;
                log->readers = r;
        }
        pthread_mutex_unlock(&log->lock);
        if (is_gone)
                return err_set(e, E_NOT_FOUND, "transaction %016llx is not in the log any more",
                               (unsigned long long)r->after_txid + 1);
        return 0;
}

static ssize_t read_payload(struct byte_src *src, void *buf, size_t n);

int
txlog_reader_open(struct txlog *log, uint64_t after_txid, struct txlog_reader **ret, struct err *e)
{
        struct txlog_reader *r = calloc(1, sizeof *r);
        int rc;

        if (r == NULL)
                return err_set(e, -ENOMEM, "read the log");
        r->src.read = read_payload;
        r->log = log;
        r->fd = -1;
        r->after_txid = after_txid;
        rc = find_start(r, e);
        if (rc < 0) {
                free(r);
                return rc;
        }
        *ret = r;
        return 0;
}

static ssize_t
read_payload(struct byte_src *src, void *buf, size_t n)
{
        struct txlog_reader *r = (struct txlog_reader *)src;
        ssize_t got;

        if (n > r->payload_left)
                n = (size_t)r->payload_left;
        if (n == 0)
                return 0;
        got = os_pread_all(r->log->os, "txlog:read", r->fd, buf, n, (off_t)r->payload_off);
        if (got < 0)
                return got;
        if ((size_t)got < n)
                return E_CHECKSUM;
        r->crc = ltx_crc64(r->crc, buf, n);
        r->payload_off += n;
        r->payload_left -= n;
        if (r->payload_left == 0 && r->crc != r->frame.payload_crc)
                return E_CHECKSUM;
        return got;
}

/* How far the reader's segment goes, moving on to the next when it is at its end: 1, or 0 at the log's end. */
static int
find_limit(struct txlog_reader *r, uint64_t *ret_limit)
{
        struct txlog *log = r->log;
        struct segment *s;
        bool has_moved = false;
        int rc = 1;

        pthread_mutex_lock(&log->lock);
        s = segment_from(log, r->seq);
        if (s != NULL && (s->header.seq != r->seq || (r->off >= s->end && s->next != NULL))) {
                s = s->header.seq != r->seq ? s : s->next;
                stand_in(r, s);
                has_moved = true;
        }
        if (s == NULL || r->off >= s->end)
                rc = 0;
        else
                *ret_limit = s->end;
        pthread_mutex_unlock(&log->lock);
        if (rc > 0 && (has_moved || r->fd < 0)) {
                int o = reader_open_segment(r);

                if (o < 0)
                        return o;
        } else if (has_moved) {
                os_close(log->os, "txlog:read", r->fd);
                r->fd = -1;
        }
        return rc;
}

int
txlog_reader_next(struct txlog_reader *r, struct txlog_record *ret, struct byte_src **ret_src,
                  struct err *e)
{
        uint64_t limit;
        int rc;

        for (;;) {
                rc = find_limit(r, &limit);
                if (rc <= 0)
                        return rc < 0 ? err_set(e, rc, "open %s/%016llx.seg", r->log->dir,
                                                (unsigned long long)r->seq)
                                      : 0;
                rc = record_frame_read(r->log->os, r->fd, r->off, limit, r->chain, &r->frame);
                if (rc <= 0)
                        return err_set(e, rc < 0 ? rc : E_CHECKSUM, "%s/%016llx.seg at offset %llu",
                                       r->log->dir, (unsigned long long)r->seq,
                                       (unsigned long long)r->off);
                r->off_of_record = r->off;
                r->payload_off = r->off + FRAME_SIZE;
                r->payload_left = r->frame.record.size_bytes;
                r->crc = 0;
                r->off = record_frame_end(r->off, r->frame.record.size_bytes);
                r->chain = r->frame.chain;
                if (r->frame.record.max_txid > r->after_txid)
                        break;
        }
        r->after_txid = r->frame.record.max_txid;
        *ret = r->frame.record;
        *ret_src = &r->src;
        return 1;
}

void
txlog_reader_close(struct txlog_reader *r)
{
        struct txlog_reader **p;

        if (r == NULL)
                return;
        pthread_mutex_lock(&r->log->lock);
        for (p = &r->log->readers; *p != r; p = &(*p)->next)
                ;
        *p = r->next;
        pthread_mutex_unlock(&r->log->lock);
        os_close(r->log->os, "txlog:read", r->fd);
        free(r);
}

void
txlog_reader_get_place(const struct txlog_reader *r, struct txlog_place *ret)
{
        *ret = (struct txlog_place){ r->seq, r->fd, r->off_of_record + FRAME_SIZE };
}

uint64_t
txlog_seek_time(struct txlog *log, int64_t time_ms)
{
        uint64_t before = 0, after_txid = 0;
        bool is_first = true;

        pthread_mutex_lock(&log->lock);
        for (const struct segment *s = log->head; s != NULL; s = s->next) {
                if (!s->has_records)
                        continue;
                /* A snapshot says where it leads to, not where it comes from. */
                if (is_first)
                        before = s->first.min_txid - 1;
                if (is_first || s->first.timestamp_ms <= time_ms)
                        after_txid = before;
                before = s->last.max_txid;
                is_first = false;
        }
        pthread_mutex_unlock(&log->lock);
        return after_txid;
}

/* --- where another log has been --- */

/* The first record that reaches past @after_txid: 1, 0 when there is none; E_NOT_FOUND. */
static int
find_record(struct txlog *log, uint64_t after_txid, struct txlog_record *ret, struct err *e)
{
        struct txlog_reader *reader;
        struct byte_src *src;
        int r = txlog_reader_open(log, after_txid, &reader, e);

        if (r == 0) {
                r = txlog_reader_next(reader, ret, &src, e);
                txlog_reader_close(reader);
        }
        return r;
}

static enum txlog_history
compare_sums(uint64_t a, uint64_t b)
{
        return a == b ? TXLOG_HISTORY_OURS : TXLOG_HISTORY_OTHER;
}

int
txlog_find_history(struct txlog *log, struct ltx_pos pos, enum txlog_history *ret, struct err *e)
{
        struct txlog_record record;
        int r;

        *ret = pos.txid == 0 ? TXLOG_HISTORY_OURS : TXLOG_HISTORY_UNKNOWN;
        if (pos.txid == 0)
                return 0;
        r = find_record(log, pos.txid - 1, &record, NULL);
        if (r > 0 && record.max_txid == pos.txid)
                *ret = compare_sums(record.post_apply_checksum, pos.checksum);
        else if (r == E_NOT_FOUND && (r = find_record(log, pos.txid, &record, NULL)) > 0 &&
                 record.min_txid == pos.txid + 1)
                *ret = compare_sums(record.pre_apply_checksum, pos.checksum);
        return r < 0 && r != E_NOT_FOUND ? err_set(e, r, "look for a position in the log") : 0;
}
