/* Letting go of the log's old end. */
#include "txlog/txlog_internal.h"

#include <errno.h>

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
