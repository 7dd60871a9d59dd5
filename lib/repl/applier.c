#include "repl/applier_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define QUEUED_BYTES_MAX (32u << 20) /* of all databases; one transaction more than that may be there */
#define QUEUED_MAX 4096u             /* transactions */
/* Of a database whose readers, or whose disk, are in the way. What is more is dropped, to be asked for again. */
#define BLOCKED_BYTES_MAX (4u << 20)
#define BLOCKED_MAX 512u
#define RETRY_FIRST_MS 1
#define RETRY_MAX_MS 50
#define BATCH_MAX 64
#define FAILURE_PAUSE_MS 100 /* at most, before it is tried again; doubled for each failure after that */
#define FAILURE_PAUSE_MAX_MS 12800

int
applier_new(const struct applier_config *config, struct applier **ret)
{
        struct applier *a = calloc(1, sizeof *a);

        if (a == NULL)
                return -ENOMEM;
        a->config = *config;
        *ret = a;
        return 0;
}

static void
free_received(struct received *rx)
{
        received_release(rx);
        free(rx);
}

static void
free_item(struct item *it)
{
        struct queue *q = it->q;

        q->n_bytes -= it->rx->ltx.size_bytes;
        q->n_items--;
        q->a->n_items--;
        if (it->is_held)
                q->a->n_held--;
        else
                q->a->n_bytes -= it->rx->ltx.size_bytes;
        free_received(it->rx);
        free(it);
}

static void
free_items(struct item *list)
{
        while (list != NULL) {
                struct item *it = list;

                list = it->next;
                free_item(it);
        }
}

static void
free_queued(struct queue *q)
{
        free_items(q->head);
        q->head = NULL;
        q->tail = &q->head;
}

/* --- batches --- */

static void queue_report(struct mail *m);

static void
start_batch(struct queue *q)
{
        struct item **end = &q->head;

        if (q->is_running || q->head == NULL)
                return;
        for (int i = 0; i < BATCH_MAX && *end != NULL; i++)
                end = &(*end)->next;
        q->batch = q->head;
        q->head = *end;
        *end = NULL;
        if (q->head == NULL)
                q->tail = &q->head;
        q->is_running = true;
        q->is_invalid = false;
        if (q->db != NULL)
                db_set_receiving(q->db, true);
        q->e = (struct err)ERR_INIT;
        applier_job_post(q, queue_report);
}

static void
put_back_batch(struct queue *q)
{
        struct item **end = &q->batch;

        while (*end != NULL)
                end = &(*end)->next;
        *end = q->head;
        if (q->head == NULL)
                q->tail = end == &q->batch ? &q->head : end;
        q->head = q->batch;
        q->batch = NULL;
}

static int64_t
applier_now_ms(const struct applier *a)
{
        return clock_boot_ms(store_env(a->config.store)->clock);
}

/* One more; how long to wait. @words: for the log; NULL: whoever is told logs it. */
static int64_t
note_unapplied(struct queue *q, const char *words, const struct err *e)
{
        char count[TROUBLE_COUNT_SIZE];

        if (words != NULL && trouble_note(&q->said, applier_now_ms(q->a), e->code, count))
                log_event(LOG_WARN, q->name, "%s: %s%s", words, e->text, count);
        return backoff_next_ms(&q->failures);
}

static void
note_applied(struct queue *q)
{
        char count[TROUBLE_COUNT_SIZE];

        backoff_reset(&q->failures);
        if (trouble_end(&q->said, applier_now_ms(q->a), count))
                log_event(LOG_INFO, q->name, "transactions are applied again, after %s", count);
}

static void
report_done(struct queue *q)
{
        const struct applier_config *c = &q->a->config;
        struct item *list = NULL, *it;

        while ((it = q->done) != NULL) { /* newest first: turn round */
                q->done = it->next;
                it->next = list;
                list = it;
        }
        while ((it = list) != NULL) {
                struct ltx_pos pos = { it->rx->record.max_txid, it->rx->record.post_apply_checksum };
                bool is_transaction = it->rx->ownership == NULL;

                list = it->next;
                free_item(it);
                if (!is_transaction)
                        continue;
                note_applied(q);
                if (!q->is_dead)
                        c->applied(c->arg, q->db, pos);
        }
}

static void
fire_drained(struct applier *a)
{
        if ((a->was_full && !applier_is_full(a)) || a->n_items == 0) {
                a->was_full = false;
                a->config.drained(a->config.arg);
        }
}

/* Nothing of what came behind it is of use: whoever is told asks for what is. */
static void
tell_failure(struct queue *q)
{
        const struct applier_config *c = &q->a->config;

        free_items(q->batch);
        q->batch = NULL;
        free_queued(q);
        q->is_failing = q->is_cut = q->is_lost = false;
        if (q->is_invalid)
                c->invalid(c->arg, q->name, &q->e);
        else
                c->failed(c->arg, q->name, q->db, q->result, &q->e);
}

/* The database's readers, or the disk, must not fill the queues of all. */
static void
cut(struct queue *q)
{
        struct applier *a = q->a;

        if (!q->is_blocked || q->head == NULL || q->head->next == NULL ||
            (q->n_bytes <= BLOCKED_BYTES_MAX && q->n_items <= BLOCKED_MAX && !applier_is_full(a)))
                return;
        free_items(q->head->next);
        q->head->next = NULL;
        q->tail = &q->head->next;
        if (!q->head->is_held) {
                q->head->is_held = true;
                a->n_held++;
                a->n_bytes -= q->head->rx->ltx.size_bytes;
        }
        q->is_cut = true;
}

/* What could not be kept is asked for when the timer fires. */
static void
pause_lost(struct queue *q)
{
        int64_t pause_ms = note_unapplied(q, "transaction not received, asking for it again", &q->lost);

        q->is_lost = q->is_invalid = false;
        q->is_running = q->is_waiting = q->is_failing = q->is_cut = true;
        q->result = q->lost.code;
        q->e = q->lost;
        if (q->db == NULL)
                q->db = store_find(q->a->config.store, q->name);
        loop_timer_start(q->retry, pause_ms);
}

/* What was dropped is asked for now. */
static void
end_cut(struct queue *q)
{
        const struct applier_config *c = &q->a->config;

        if (!q->is_cut || q->head != NULL)
                return;
        if (q->is_lost) {
                pause_lost(q);
                return;
        }
        q->is_cut = false;
        c->cut(c->arg, q->name, q->db);
}

static void
queue_go_on(struct queue *q)
{
        q->retry_ms = 0;
        q->is_running = q->is_blocked = false;
        end_cut(q);
        start_batch(q);
        if (!q->is_running && q->db != NULL)
                db_set_receiving(q->db, false);
        fire_drained(q->a);
}

static void
queue_retry(void *arg)
{
        struct queue *q = arg;

        q->is_waiting = false;
        if (q->is_failing) {
                tell_failure(q);
                queue_go_on(q);
                return;
        }
        q->is_running = false;
        start_batch(q);
}

/* A job without a batch gives the locks back. */
static void
release_locks(struct queue *q)
{
        applier_job_post(q, queue_report);
}

static void
try_again(struct queue *q, int64_t pause_ms)
{
        put_back_batch(q);
        q->is_blocked = q->is_waiting = true;
        loop_timer_start(q->retry, pause_ms);
        cut(q);
        fire_drained(q->a);
}

/* Nothing is wrong with the transaction: to have it sent again would not help. */
static bool
is_for_the_moment(int code)
{
        return code == -ENOSPC || code == -EDQUOT || code == -EIO || code == -EMFILE ||
               code == -ENFILE || code == -ENOMEM;
}

static void
report_failure(struct queue *q)
{
        bool is_passing = is_for_the_moment(q->result), is_first = q->failures.n_failures == 0;
        int64_t pause_ms = note_unapplied(q,
                                          q->is_invalid ? NULL
                                          : is_passing
                                                  ? "transaction not applied, trying again"
                                                  : "transaction not applied, asking the primary again",
                                          &q->e);

        if (is_passing) {
                try_again(q, pause_ms);
        } else if (!is_first && !q->is_invalid) {
                free_items(q->batch);
                q->batch = NULL;
                free_queued(q);
                q->is_waiting = q->is_failing = q->is_cut = true;
                loop_timer_start(q->retry, pause_ms);
                fire_drained(q->a);
        } else {
                tell_failure(q);
                queue_go_on(q);
        }
}

static void
queue_report(struct mail *m)
{
        struct queue *q = (struct queue *)((char *)m - offsetof(struct queue, mail));
        struct applier *a = q->a;

        report_done(q);
        if (q->is_dead) {
                free_items(q->batch);
                q->batch = NULL;
                q->is_dead = false;
                if (q->handle != NULL) {
                        release_locks(q);
                        fire_drained(a);
                        return;
                }
        } else if (q->result == -EAGAIN) {
                q->retry_ms = q->retry_ms == 0                 ? RETRY_FIRST_MS
                              : q->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS
                                                               : q->retry_ms * 2;
                try_again(q, q->retry_ms);
                return;
        } else if (q->result < 0) {
                report_failure(q);
                return;
        }
        queue_go_on(q);
}

static bool
is_called(const void *item, const void *key)
{
        return strcmp(((const struct queue *)item)->name, key) == 0;
}

static struct queue *
find_queue(struct applier *a, const char *name)
{
        uint64_t hash = map_hash_text(name);
        struct queue *q = map_find(&a->by_name, hash, is_called, name);

        if (q != NULL)
                return q;
        q = calloc(1, sizeof *q);
        if (q == NULL)
                return NULL;
        q->a = a;
        q->tail = &q->head;
        backoff_init(&q->failures, FAILURE_PAUSE_MS, FAILURE_PAUSE_MAX_MS,
                     hash ^ (uint64_t)applier_now_ms(a));
        q->name = strdup(name);
        if (q->name == NULL || loop_timer_new(a->config.loop, queue_retry, q, &q->retry) < 0 ||
            map_put(&a->by_name, hash, q) < 0) {
                loop_timer_free(q->retry);
                free(q->name);
                free(q);
                return NULL;
        }
        q->next = a->queues;
        a->queues = q;
        return q;
}

int
applier_push(struct applier *a, const char *name, struct received *rx, struct err *e)
{
        struct queue *q = find_queue(a, name);
        struct item *it;

        if (q != NULL && q->is_cut) {
                free_received(rx);
                return 0;
        }
        it = q == NULL ? NULL : calloc(1, sizeof *it);
        if (it == NULL)
                return err_set(e, -ENOMEM, "queue a transaction of %s", name);
        it->q = q;
        it->rx = rx;
        *q->tail = it;
        q->tail = &it->next;
        q->n_bytes += rx->ltx.size_bytes;
        q->n_items++;
        a->n_bytes += rx->ltx.size_bytes;
        a->n_items++;
        start_batch(q);
        if (q->is_waiting)
                cut(q);
        a->was_full |= applier_is_full(a);
        return 0;
}

int
applier_lose(struct applier *a, const char *name, const struct err *why)
{
        struct queue *q = find_queue(a, name);

        if (q == NULL)
                return -ENOMEM;
        if (q->is_cut) /* as what else came behind */
                return 0;
        q->lost = *why;
        if (q->is_running)
                q->is_lost = q->is_cut = true;
        else
                pause_lost(q);
        return 0;
}

bool
applier_is_full(const struct applier *a)
{
        return a->n_bytes > QUEUED_BYTES_MAX || a->n_items - a->n_held > QUEUED_MAX;
}

bool
applier_has_gaps(const struct applier *a)
{
        const struct queue *q = a->queues;

        while (q != NULL && !q->is_cut && !q->is_failing)
                q = q->next;
        return q != NULL;
}

bool
applier_is_whole(const struct applier *a)
{
        return a->n_items == 0 && !applier_has_gaps(a);
}

bool
applier_is_empty(const struct applier *a)
{
        return a->n_items == 0;
}

void
applier_clear(struct applier *a)
{
        for (struct queue *q = a->queues; q != NULL; q = q->next) {
                free_queued(q);
                q->is_cut = q->is_lost = false;
                if (!q->is_waiting) {
                        q->is_dead = q->is_running;
                        continue;
                }
                loop_timer_cancel(q->retry);
                q->is_waiting = q->is_failing = q->is_blocked = false;
                release_locks(q);
        }
}

void
applier_free(struct applier *a)
{
        if (a == NULL)
                return;
        while (a->queues != NULL) {
                struct queue *q = a->queues;

                a->queues = q->next;
                loop_timer_free(q->retry);
                if (q->handle != NULL)
                        a->config.ops->end(q->handle);
                free_items(q->head);
                free_items(q->batch);
                free_items(q->done);
                free(q->name);
                free(q);
        }
        map_release(&a->by_name);
        free(a);
}
