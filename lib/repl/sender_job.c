/* What a worker reads for a sender, a chunk at a time, and what becomes of it: it is sent, and the next is read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repl/stream_sender_internal.h"
#include "store/ownership.h"

#define CHUNK_BYTES (512u << 10) /* read by one job */
#define OPEN_MAX \
        4u /* records that are half sent: each lasts as much longer, and a snapshot costs while it lasts */
#define SNAPSHOT_RETRY_MS 20

void
sender_destroy(struct stream_sender *f)
{
        void (*freed)(void *arg) = f->config.freed;
        void *arg = f->config.arg;

        sender_table_release(&f->table);
        outbox_release(&f->out);
        name_set_free(f->listed);
        frame_decoder_free(f->decoder);
        free(f);
        if (freed != NULL)
                freed(arg);
}

int
sender_send(struct stream_sender *f, const struct frame *frame)
{
        return f->transport == NULL ? -ENOTCONN : stream_transport_send(f->transport, frame);
}

void
stream_sender_end(struct stream_sender *f, int code, const char *text,
                  const struct frame_successor *successor)
{
        struct frame frame = { .type = FRAME_ERROR };

        if (f->transport == NULL)
                return;
        if (successor != NULL && f->has_peer && sender_spoken(f) >= FRAME_VERSION_PING) {
                struct frame next = { .type = FRAME_SUCCESSOR, .successor = *successor };

                (void)sender_send(f, &next);
        }
        frame.error.code = (uint16_t)code;
        strncpy(frame.error.text, text, FRAME_TEXT_MAX);
        (void)sender_send(f, &frame);
        f->transport->ops->finish(f->transport);
}

void
sender_end_now(struct stream_sender *f)
{
        loop_timer_cancel(f->end);
        stream_sender_end(f, f->end_code, f->end_text,
                          f->end_successor.boot_id != 0 ? &f->end_successor : NULL);
        f->end_code = 0;
}

/* --- on a worker --- */

static uint64_t
hash_ownership(const struct path_ownership *po)
{
        uint64_t h = 14695981039346656037u;

        for (unsigned i = 0; i < po->n; i++) {
                h = (h ^ po->at[i].mode) * 1099511628211u;
                h = (h ^ po->at[i].uid) * 1099511628211u;
                h = (h ^ po->at[i].gid) * 1099511628211u;
        }
        return h | 1;
}

/* Mode and owner, if they have changed: before the next transaction, for that may be what was to be kept from others. */
static int
put_ownership(struct stream_sender *f, struct sender_entry *en)
{
        struct frame frame = { .type = FRAME_OWNERSHIP };
        struct path_ownership *po = &frame.ownership.path;
        uint64_t version = store_ownership_version(f->config.store);
        int r;

        if (en->cursor.has_new_file) /* what was sent before it is of the one before, or was of none */
                en->owned_version = en->owned_hash = 0;
        en->cursor.has_new_file = false;
        if (sender_spoken(f) < FRAME_VERSION_OWNERSHIP || en->owned_version == version ||
            en->cursor.pos.txid == 0 || log_cursor_is_in_record(&en->cursor))
                return 0;
        r = store_read_ownership(f->config.store, en->cursor.db, po);
        en->owned_version = version;
        if (r < 0 || hash_ownership(po) == en->owned_hash)
                return 0; /* deleted, or a directory is: there is nobody to keep it from */
        strncpy(frame.ownership.name, db_name(en->cursor.db), sizeof frame.ownership.name - 1);
        en->owned_hash = hash_ownership(po);
        return outbox_put(&f->out, &frame, &f->e);
}

/* Up to @end bytes in the outbox. */
static int
read_entry(struct stream_sender *f, struct sender_entry *en, size_t end, bool *must_wait)
{
        int r = put_ownership(f, en);

        if (r < 0)
                return r;
        en->had_turn = true;
        r = f->out.n >= end ? 1
                            : log_cursor_read(&en->cursor, f->config.self.term, &f->next_stream,
                                              end - f->out.n, &f->out, &f->e);
        if (r == 0 && put_ownership(f, en) < 0) /* of what it has only now */
                return f->e.code;
        en->has_more = r != 0;
        *must_wait |= r == -EAGAIN;
        if (r >= 0 || r == -EAGAIN)
                return 0;
        /* The others go on: what was sent of this one is taken back. */
        en->error = r;
        en->e = f->e;
        return log_cursor_abandon(&en->cursor, &f->out, &f->e);
}

/* A little of each database in turn, so that a snapshot, or a transaction that takes minutes on this link, does not hold up the
 * others' transactions: what is short goes first, and what is half sent has the rest of the chunk, which is half of it at
 * least. A replica that takes one record at a time has the one that is half sent to its end. */
static int
read_entries(struct stream_sender *f)
{
        bool is_interleaved = sender_spoken(f) >= FRAME_VERSION_INTERLEAVED, must_wait = false;
        struct sender_entry *en = f->job_entries, *between;
        unsigned n_open = 0;
        int r = 0;

        for (; en != NULL && log_cursor_is_in_record(&en->cursor); en = en->next_in_turn)
                n_open++;
        between = en;
        for (unsigned max = is_interleaved ? OPEN_MAX : 1, i = n_open;
             r == 0 && en != NULL && i < max && f->out.n < CHUNK_BYTES / (n_open > 0 ? 2 : 1);
             en = en->next_in_turn) {
                r = read_entry(f, en, CHUNK_BYTES / (n_open > 0 ? 2 : 1), &must_wait);
                i += log_cursor_is_in_record(&en->cursor);
        }
        for (en = f->job_entries; r == 0 && en != between && f->out.n < CHUNK_BYTES;
             en = en->next_in_turn)
                r = read_entry(f, en, CHUNK_BYTES, &must_wait);
        return r < 0 ? r : must_wait ? -EAGAIN : 0;
}

/* --- the job --- */

static void sender_report(struct mail *m);

static void
sender_run(struct work *w)
{
        struct stream_sender *f =
                (struct stream_sender *)((char *)w - offsetof(struct stream_sender, work));

        f->result = read_entries(f);
        f->mail = (struct mail){ sender_report, NULL };
        if (loop_post(f->config.loop, &f->mail) < 0 && atomic_exchange(&f->job, JOB_NONE) == JOB_LEFT)
                sender_destroy(f);
}

/* A database that was renamed goes there once it has come under its new name; where that has another history by now, or is no
 * more, at once. */
static bool
may_be_let_go(struct stream_sender *f, const struct ltx_mark *held)
{
        struct db *to = store_find_hash(f->config.store, held->renamed_name);
        const struct sender_entry *en;
        struct db_info info;

        if (to == NULL)
                return true;
        db_get_info(to, &info);
        en = sender_table_find(&f->table, to);
        return info.pos.txid < held->renamed_at || (en != NULL && en->acked.txid >= held->renamed_at);
}

void
sender_let_go(struct stream_sender *f)
{
        if (sender_has_job(f))
                return; /* which has the cursors, and calls this when it ends */
        f->n_held = 0;
        for (struct sender_entry *en = f->table.list; en != NULL; en = en->next) {
                if (en->cursor.held_txid == 0)
                        continue;
                if (may_be_let_go(f, &en->cursor.held)) {
                        log_cursor_let_go(&en->cursor);
                        sender_table_mark(&f->table, en);
                } else {
                        f->n_held++;
                }
        }
}

static bool
has_held(const struct sender_entry *list)
{
        while (list != NULL && list->cursor.held_txid == 0)
                list = list->next_in_turn;
        return list != NULL;
}

void
sender_schedule(struct stream_sender *f)
{
        if (sender_has_job(f) || f->is_blocked || f->transport == NULL || !f->has_positions)
                return;
        f->job_entries = sender_table_take(&f->table);
        if (f->job_entries == NULL)
                return;
        atomic_store(&f->job, JOB_RUNNING);
        f->e = (struct err)ERR_INIT;
        f->out.n = 0;
        f->work = (struct work){ sender_run, NULL };
        workers_post(f->config.workers, &f->work);
}

void
sender_send_ready(struct stream_sender *f)
{
        struct frame frame = { .type = FRAME_READY };

        if (f->is_ready_sent || !sender_table_is_ready(&f->table))
                return;
        f->is_ready_sent = true;
        (void)sender_send(f, &frame);
}

static void
on_failed(void *arg, const struct sender_entry *en)
{
        struct stream_sender *f = arg;

        log_event(LOG_WARN, db_name(en->cursor.db), "not sent to %s for %d s: %s", f->peer.hostname,
                  en->rest_beats, en->e.text);
}

static void
sender_report(struct mail *m)
{
        struct stream_sender *f =
                (struct stream_sender *)((char *)m - offsetof(struct stream_sender, mail));
        bool holds;
        int r = 0;

        if (atomic_exchange(&f->job, JOB_NONE) == JOB_LEFT) {
                sender_destroy(f);
                return;
        }
        holds = has_held(f->job_entries);
        sender_table_settle(&f->table, f->job_entries, on_failed, f);
        if (holds || f->n_held > 0)
                sender_let_go(f);
        if (f->out.n > 0)
                r = stream_transport_write(f->transport, f->out.buf, f->out.n);
        if (f->result < 0 && f->result != -EAGAIN) {
                f->config.broken(f->config.arg, f, &f->e);
                return;
        }
        if (r < 0)
                return; /* closed() is on its way */
        f->is_blocked = r > 0;
        if (f->result == -EAGAIN)
                loop_timer_start(f->retry, SNAPSHOT_RETRY_MS);
        sender_send_ready(f);
        if (f->result == 0)
                sender_schedule(f);
        if (f->end_code != 0 && !sender_has_job(f) && !f->is_blocked && f->result == 0)
                sender_end_now(f);
}
