#include <errno.h>
#include <stddef.h>

#include "base/log.h"
#include "repl/applier_internal.h"
#include "store/rename_intents.h"

/* What was announced is in rx->record; what came must be that. */
static int
verify(struct queue *q, struct item *it)
{
        struct txlog_record announced = it->rx->record;
        const struct txlog_record *rec = &it->rx->record;
        int r;

        if (it->is_verified || it->rx->is_absent || it->rx->ownership != NULL)
                return 0;
        r = received_verify(it->rx, &q->e);
        if (r == 0 && (rec->min_txid != announced.min_txid || rec->max_txid != announced.max_txid ||
                       rec->commit != announced.commit || rec->page_size != announced.page_size ||
                       rec->pre_apply_checksum != announced.pre_apply_checksum ||
                       rec->post_apply_checksum != announced.post_apply_checksum))
                r = err_text(&q->e, E_FORMAT, "it is not the one announced");
        q->is_invalid = r == E_FORMAT || r == E_CHECKSUM;
        it->is_verified = r == 0;
        return r;
}

/* Before any lock is taken. A transaction behind a bad one is never reached. */
static int
verify_batch(struct queue *q)
{
        int r = 0;

        for (struct item *it = q->batch; it != NULL && r == 0; it = it->next)
                r = verify(q, it);
        return r;
}

static int
find_queue_db(struct queue *q)
{
        struct store *s = q->a->config.store;
        int r;

        if (q->db != NULL || q->batch == NULL)
                return 0;
        if (q->batch->rx->ownership != NULL) { /* which makes no database */
                q->db = store_find(s, q->name);
                return 0;
        }
        if (store_is_broken(s, q->name) && q->batch->rx->record.min_txid == 1)
                r = store_replace_broken(s, q->name, &q->db, &q->e);
        else
                r = store_create_db(s, q->name, &q->db, &q->e);
        if (r == 0)
                db_set_receiving(q->db, true);
        return r;
}

/* A database can do without: it is tried again with the next connection. */
static void
apply_ownership(struct queue *q, const struct path_ownership *po)
{
        const struct applier_config *c = &q->a->config;
        struct err e = ERR_INIT;

        if (q->db != NULL && c->ops->take_ownership != NULL &&
            c->ops->take_ownership(c->ops_arg, q->db, po, &e) < 0 && e.code != -ENOENT)
                log_event(LOG_WARN, q->name, "%s", e.text);
}

static int
apply_one(struct queue *q, const struct received *rx)
{
        const struct applier_config *c = &q->a->config;
        int r = find_queue_db(q);

        if (r == 0 && rx->ownership != NULL) {
                apply_ownership(q, rx->ownership);
                return 0;
        }
        if (r == 0 && q->handle == NULL)
                r = c->ops->begin(c->ops_arg, q->db, &q->handle);
        if (r == 0)
                r = c->ops->apply(q->handle, rx, &q->e);
        if (r >= 0 && !rx->is_absent)
                rename_intents_note(c->store, q->db, rx);
        return r;
}

static int
apply_batch(struct queue *q)
{
        int r = verify_batch(q);

        while (r == 0 && q->batch != NULL) {
                struct item *it = q->batch;

                r = apply_one(q, it->rx);
                if (r < 0)
                        break;
                q->batch = it->next;
                it->next = q->done;
                q->done = it;
        }
        return r;
}

static void
run_batch(struct work *w)
{
        struct queue *q = (struct queue *)((char *)w - offsetof(struct queue, work));

        q->result = apply_batch(q);
        /* Locks are kept only while they keep readers from coming in between. */
        if (q->result != -EAGAIN && q->handle != NULL) {
                q->a->config.ops->end(q->handle);
                q->handle = NULL;
        }
        q->mail = (struct mail){ q->report, NULL };
        (void)loop_post(q->a->config.loop, &q->mail); /* fails when the loop stops: nobody waits then */
}

void
applier_job_post(struct queue *q, void (*report)(struct mail *m))
{
        q->report = report;
        q->work = (struct work){ run_batch, NULL };
        workers_post(q->a->config.workers, &q->work);
}
