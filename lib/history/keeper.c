#include "history/keeper.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/pacer.h"
#include "base/thread.h"
#include "history/images.h"
#include "history/keep.h"

struct keeper {
        struct keeper_config config;
        struct keep_policy policy;
        struct pacer pacer;
        struct trouble trouble;
        bool has_failed; /* in this round */
        pthread_t thread;
};

static bool
keeper_goes_on(void *arg)
{
        struct keeper *k = arg;

        return pacer_rest_from_work(&k->pacer, 1);
}

static void
report_unkept(struct keeper *k, const struct db *db, int r, const struct err *e)
{
        char count[TROUBLE_COUNT_SIZE];

        k->has_failed = true;
        if (trouble_note(&k->trouble, monotonic_ms(), r, count))
                log_event(LOG_WARN, db_name(db), "its history is not kept: %s%s", e->text, count);
}

/* 0, or 1 when the thread is to end. */
static int
keep_one(void *arg, struct db *db)
{
        struct keeper *k = arg;
        struct err e = ERR_INIT;
        char dir[PATH_MAX];
        int r = store_db_path(k->config.store, db, HISTORY_DIR, dir, sizeof dir);

        if (r < 0)
                err_set(&e, r, "%s", HISTORY_DIR);
        else
                r = history_keep(&k->policy, db, dir, &e);
        if (r < 0 && r != -ECANCELED)
                report_unkept(k, db, r, &e);
        else if (r > 0)
                log_event(LOG_INFO, db_name(db), "the whole database is kept for past states");
        return r == -ECANCELED || (r > 0 && !keeper_goes_on(k));
}

static void *
run_keeper(void *arg)
{
        struct keeper *k = arg;

        pacer_begin(&k->pacer);
        do {
                k->has_failed = false;
                if (store_each(k->config.store, keep_one, k) == 0 && !k->has_failed)
                        k->trouble = (struct trouble){ 0 };
        } while (pacer_rest(&k->pacer, k->config.interval_ms));
        return NULL;
}

static void
release_keeper(struct keeper *k)
{
        pacer_release(&k->pacer);
        free(k);
}

int
keeper_new(const struct keeper_config *config, struct keeper **ret, struct err *e)
{
        const struct db_env *env = store_env(config->store);
        struct keeper *k = calloc(1, sizeof *k);
        int r;

        if (k == NULL)
                return err_set(e, -ENOMEM, "keep past states");
        k->config = *config;
        k->policy = (struct keep_policy){
                .os = env->os,
                .clock = env->clock,
                .keep_ms = config->keep_ms,
                .max_bytes = config->max_bytes,
                .arg = k,
                .goes_on = keeper_goes_on,
        };
        pacer_init(&k->pacer);
        r = thread_start(&k->thread, run_keeper, k);
        if (r < 0) {
                release_keeper(k);
                return err_set(e, r, "keep past states");
        }
        *ret = k;
        return 0;
}

void
keeper_free(struct keeper *k)
{
        if (k == NULL)
                return;
        pacer_stop(&k->pacer);
        pthread_join(k->thread, NULL);
        release_keeper(k);
}
