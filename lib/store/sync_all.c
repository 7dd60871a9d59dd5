#include "store/sync_all.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/workers.h"
#include "store/store_internal.h"

#define AT_ONCE 4          /* syncs that wait for the disk at a time */
#define WRITE_OUT_FROM 32u /* databases */

struct sync_round;

struct sync_job {
        struct work work;
        struct sync_round *round;
};

struct sync_round {
        struct store *s;
        struct db **dbs;
        uint32_t n, capacity;
        _Atomic uint32_t next;   /* the first that no job has taken */
        _Atomic uint32_t n_jobs; /* that have not ended */
        void (*done)(void *arg);
        void *arg;
        struct sync_job jobs[AT_ONCE];
        struct sync_job write_out;
};

static void
sync_one(struct store *s, struct db *db)
{
        struct err e = ERR_INIT;

        if (db_sync_applied(db, &e) < 0)
                log_event(LOG_ERROR, db_name(db), "%s", e.text);
        else if (s->listener != NULL)
                s->listener(s->listener_arg, db);
}

static int
collect_unsynced(void *arg, struct db *db)
{
        struct sync_round *round = arg;

        if (!db_has_unsynced(db))
                return 0;
        if (round->n == round->capacity) {
                uint32_t want = round->capacity == 0 ? 64 : round->capacity * 2;
                struct db **p = realloc(round->dbs, want * sizeof(struct db *));

                if (p == NULL) {
                        sync_one(round->s, db);
                        return 0;
                }
                round->dbs = p;
                round->capacity = want;
        }
        round->dbs[round->n++] = db;
        return 0;
}

static void
end_sync_round(struct sync_round *round)
{
        if (round->done != NULL)
                round->done(round->arg);
        free(round->dbs);
        free(round);
}

static void
run_syncs(struct work *w)
{
        struct sync_round *round = ((struct sync_job *)w)->round;
        uint32_t i;

        while ((i = atomic_fetch_add(&round->next, 1)) < round->n)
                sync_one(round->s, round->dbs[i]);
        if (atomic_fetch_sub(&round->n_jobs, 1) == 1)
                end_sync_round(round);
}

static void
post_syncs(struct sync_round *round)
{
        uint32_t n = round->n < AT_ONCE ? round->n : AT_ONCE;

        atomic_store(&round->n_jobs, n);
        for (uint32_t i = 0; i < n; i++) { /* the last one may free the round */
                round->jobs[i] = (struct sync_job){ { run_syncs, NULL }, round };
                workers_post(round->s->config.workers, &round->jobs[i].work);
        }
}

/* Many logs are written out in one go, so that each fdatasync finds nothing left to write. Only those say whether it is on
 * the disk: what this call says counts for nothing. */
static void
run_write_out(struct work *w)
{
        struct sync_round *round = ((struct sync_job *)w)->round;
        int fd = open(round->s->config.data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0) {
                (void)syncfs(fd);
                close(fd);
        }
        post_syncs(round);
}

static int
is_unsynced(void *arg, struct db *db)
{
        (void)arg;
        return db_has_unsynced(db);
}

bool
store_has_unsynced(struct store *s)
{
        return store_each(s, is_unsynced, NULL) != 0;
}

void
store_sync_applied(struct store *s, void (*done)(void *arg), void *arg)
{
        struct sync_round *round = calloc(1, sizeof *round);

        if (round == NULL) {
                log_error("out of memory: logs are not synced");
                if (done != NULL)
                        done(arg);
                return;
        }
        *round = (struct sync_round){ .s = s, .done = done, .arg = arg };
        store_each(s, collect_unsynced, round);
        if (round->n == 0) {
                end_sync_round(round);
        } else if (round->n >= WRITE_OUT_FROM && s->config.os == os_host()) {
                round->write_out = (struct sync_job){ { run_write_out, NULL }, round };
                workers_post(s->config.workers, &round->write_out.work);
        } else {
                post_syncs(round);
        }
}
