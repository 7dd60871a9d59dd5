#include "repl/applier.h"

#include <errno.h>
#include <stdlib.h>

#define QUEUED_BYTES_MAX (32u << 20) /* of all databases; one transaction more than that may be there */
#define QUEUED_MAX 4096u             /* transactions */
#define RETRY_FIRST_MS 1
#define RETRY_MAX_MS 50
#define BATCH_MAX 64
#define FAILURE_PAUSE_MS \
        100 /* before the second failure is told; doubled for each after that, up to 12.8 s */

struct item {
        struct item *next;
        struct received *rx;
};

/* The transactions of one database. The list is the loop's; a batch of it belongs to the job while one runs. */
struct queue {
        struct queue *next;
        struct applier *a;
        struct db *db;
        struct item *head, **tail;
        struct work work;
        struct mail mail;
        struct loop_timer *retry;
        int retry_ms;
        bool is_running;     /* a job or the retry timer is under way */
        bool is_waiting;     /* the timer */
        bool is_failing;     /* for the timer, to tell of a failure that came again */
        unsigned n_failures; /* since one was applied */
        bool is_dead;        /* what the job has was cleared away meanwhile */

        /* The job's while is_running. */
        struct item *batch;
        void *handle;
        int result;
        struct err e;
        struct item *done; /* those applied, newest first */
};

struct applier {
        struct applier_config config;
        struct queue *queues;
        uint64_t n_bytes;
        uint32_t n_items;
        bool was_full;
};

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
free_item(struct applier *a, struct item *it)
{
        if (a != NULL) {
                a->n_bytes -= it->rx->ltx.size_bytes;
                a->n_items--;
        }
        received_release(it->rx);
        free(it->rx);
        free(it);
}

static void
free_items(struct applier *a, struct item *list)
{
        while (list != NULL) {
                struct item *it = list;

                list = it->next;
                free_item(a, it);
        }
}

/* --- on the pool --- */

static int
apply_batch(struct queue *q)
{
        const struct applier_config *c = &q->a->config;
        int r = 0;

        if (q->handle == NULL)
                r = c->ops->begin(c->ops_arg, q->db, &q->handle);
        while (r == 0 && q->batch != NULL) {
                struct item *it = q->batch;

                r = c->ops->apply(q->handle, it->rx, &q->e);
                if (r < 0)
                        break;
                q->batch = it->next;
                it->next = q->done;
                q->done = it;
        }
        return r;
}

static void report(struct mail *m);

static void
run(struct work *w)
{
        struct queue *q = (struct queue *)((char *)w - offsetof(struct queue, work));

        q->result = apply_batch(q);
        /* Locks are kept only while they keep readers from coming in between. */
        if (q->result != -EAGAIN && q->handle != NULL) {
                q->a->config.ops->end(q->handle);
                q->handle = NULL;
        }
        q->mail = (struct mail){ report, NULL };
        (void)loop_post(q->a->config.loop, &q->mail); /* fails when the loop stops: nobody waits then */
}

/* --- on the loop --- */

static void
start(struct queue *q)
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
        db_set_receiving(q->db, true);
        q->e = (struct err)ERR_INIT;
        q->work = (struct work){ run, NULL };
        workers_post(q->a->config.workers, &q->work);
}

static void
put_back(struct queue *q)
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

                list = it->next;
                free_item(q->a, it);
                q->n_failures = 0;
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
        free_items(q->a, q->batch);
        free_items(q->a, q->head);
        q->batch = q->head = NULL;
        q->tail = &q->head;
        q->is_failing = false;
        q->a->config.failed(q->a->config.arg, q->db, q->result, &q->e);
}

/* A database that fails again and again must not have its primary send all of it again and again. */
static int
failure_pause_ms(const struct queue *q)
{
        unsigned doublings = q->n_failures - 1 < 7 ? q->n_failures - 1 : 7;

        return q->n_failures <= 1 ? 0 : FAILURE_PAUSE_MS << doublings;
}

static void
go_on(struct queue *q)
{
        q->retry_ms = 0;
        q->is_running = false;
        start(q);
        if (!q->is_running)
                db_set_receiving(q->db, false);
        fire_drained(q->a);
}

static void
retry(void *arg)
{
        struct queue *q = arg;

        q->is_waiting = false;
        if (q->is_failing) {
                tell_failure(q);
                go_on(q);
                return;
        }
        q->is_running = false;
        start(q);
}

/* A job without a batch gives the locks back. */
static void
release_locks(struct queue *q)
{
        q->work = (struct work){ run, NULL };
        workers_post(q->a->config.workers, &q->work);
}

static void
report(struct mail *m)
{
        struct queue *q = (struct queue *)((char *)m - offsetof(struct queue, mail));
        struct applier *a = q->a;

        report_done(q);
        if (q->is_dead) {
                free_items(a, q->batch);
                q->batch = NULL;
                q->is_dead = false;
                if (q->handle != NULL) {
                        release_locks(q);
                        fire_drained(a);
                        return;
                }
        } else if (q->result == -EAGAIN) {
                put_back(q);
                q->retry_ms = q->retry_ms == 0                 ? RETRY_FIRST_MS
                              : q->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS
                                                               : q->retry_ms * 2;
                q->is_waiting = true;
                loop_timer_start(q->retry, q->retry_ms);
                fire_drained(a);
                return;
        } else if (q->result < 0) {
                q->n_failures++;
                if (failure_pause_ms(q) > 0) {
                        q->is_waiting = q->is_failing = true;
                        loop_timer_start(q->retry, failure_pause_ms(q));
                        return;
                }
                tell_failure(q);
        }
        go_on(q);
}

static struct queue *
find_queue(struct applier *a, struct db *db)
{
        struct queue *q;

        for (q = a->queues; q != NULL && q->db != db; q = q->next)
                ;
        if (q != NULL)
                return q;
        q = calloc(1, sizeof *q);
        if (q == NULL)
                return NULL;
        q->a = a;
        q->db = db;
        q->tail = &q->head;
        if (loop_timer_new(a->config.loop, retry, q, &q->retry) < 0) {
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
        struct item *it = calloc(1, sizeof *it);
        struct queue *q;
        struct db *db;
        int r;

        r = it == NULL ? err_set(e, -ENOMEM, "queue a transaction")
                       : store_create_db(a->config.store, name, &db, e);
        q = r == 0 ? find_queue(a, db) : NULL;
        if (r == 0 && q == NULL)
                r = err_set(e, -ENOMEM, "queue a transaction");
        if (r < 0) {
                free(it);
                return r;
        }
        it->rx = rx;
        *q->tail = it;
        q->tail = &it->next;
        a->n_bytes += rx->ltx.size_bytes;
        a->n_items++;
        a->was_full |= applier_is_full(a);
        start(q);
        return 0;
}

bool
applier_is_full(const struct applier *a)
{
        return a->n_bytes > QUEUED_BYTES_MAX || a->n_items > QUEUED_MAX;
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
                free_items(a, q->head);
                q->head = NULL;
                q->tail = &q->head;
                if (!q->is_waiting) {
                        q->is_dead = q->is_running;
                        continue;
                }
                loop_timer_cancel(q->retry);
                q->is_waiting = q->is_failing = false;
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
                free_items(NULL, q->head);
                free_items(NULL, q->batch);
                free_items(NULL, q->done);
                free(q);
        }
        free(a);
}
