#include "backup/drill.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/restore.h"
#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"

#define FIRST_PART 24 /* the first round comes after so much of the interval: nodes are restarted */

#define TRIES 3

typedef unsigned long long ull;

struct drill {
        struct drill_config config;
        pthread_t thread;
        atomic_bool is_stopping;
        pthread_mutex_t lock; /* a leaf; guards the status */
        pthread_cond_t wake;
        struct drill_status status;
        struct drill_status round; /* the thread's own: the one that is under way */
};

/* --- one database --- */

static int
check_history(struct db *db, struct ltx_pos pos, struct err *e)
{
        enum txlog_history history = TXLOG_HISTORY_UNKNOWN;
        struct db_info info;
        int r;

        db_get_info(db, &info);
        if (ltx_pos_equal(pos, info.pos))
                return 0;
        r = txlog_find_history(db_log(db), pos, &history, e);
        if (r == 0 && (history == TXLOG_HISTORY_OTHER || pos.txid > info.pos.txid))
                r = err_text(e, E_POS_MISMATCH,
                             "%016llx/%016llx is restored, where this database has never been",
                             (ull)pos.txid, (ull)pos.checksum);
        return r;
}

static int
restore_newest(struct drill *d, struct db *db, int fd, struct err *e)
{
        const struct backup_progress stop = { .is_stopped = &d->is_stopping };
        struct backup_target newest = { 0, false };
        struct backup_objects objects = { 0 }, plan = { 0 };
        struct backup_image_state s;
        int r = backup_list(d->config.dest, db_name(db), &objects, e);

        if (r == 0)
                r = backup_plan_make(&objects, &newest, &plan, e);
        if (r == 0)
                r = backup_restore(d->config.dest, db_name(db), &plan, d->config.os, fd, &stop, &s, e);
        if (r == 0)
                r = check_history(db, s.pos, e);
        backup_objects_release(&objects);
        backup_objects_release(&plan);
        return r;
}

/* While the backup goes on, longer pieces take the place of those that were listed. */
static int
restore_patiently(struct drill *d, struct db *db, int fd, struct err *e)
{
        int r = E_NOT_FOUND;

        for (int i = 0; i < TRIES && r == E_NOT_FOUND; i++) {
                r = os_ftruncate(d->config.os, "drill:size", fd, 0);
                if (r == 0)
                        r = restore_newest(d, db, fd, e);
        }
        return r;
}

static int
drill_database(struct drill *d, struct db *db, struct err *e)
{
        int fd = os_open(d->config.os, "drill:open", d->config.tmp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC,
                         0600);
        int r;

        if (fd < 0)
                return err_set(e, fd, "a file in %s", d->config.tmp_dir);
        r = restore_patiently(d, db, fd, e);
        os_close(d->config.os, "drill:close", fd);
        return r;
}

/* --- a round --- */

static int
drill_each(void *arg, struct db *db)
{
        struct drill *d = arg;
        struct err e = ERR_INIT;

        if (atomic_load(&d->is_stopping) || !store_is_primary(d->config.store))
                return -ECANCELED;
        if (!db_exists(db) || (d->config.is_wanted != NULL && !d->config.is_wanted(d->config.arg, db)))
                return 0;
        d->round.n_databases++;
        if (drill_database(d, db, &e) == 0 || atomic_load(&d->is_stopping))
                return 0;
        d->round.n_failed++;
        memcpy(d->round.trouble, e.text, sizeof d->round.trouble);
        log_event(LOG_ERROR, db_name(db), "the backup at %s cannot be restored: %s", d->config.dest->url,
                  e.text);
        return 0;
}

/* One that the role or the end has cut short says nothing. */
static void
run_drill_round(struct drill *d)
{
        d->round = (struct drill_status){ 0 };
        if (!store_is_primary(d->config.store) || store_each(d->config.store, drill_each, d) < 0)
                return;
        d->round.done_ms = clock_wall_ms(d->config.clock);
        pthread_mutex_lock(&d->lock);
        d->status = d->round;
        pthread_mutex_unlock(&d->lock);
        if (d->round.n_failed == 0)
                log_info("backup drill: %llu databases were restored from %s and proved",
                         (ull)d->round.n_databases, d->config.dest->url);
}

/* False: the end. */
static bool
drill_rest(struct drill *d, int64_t ms)
{
        struct timespec until = monotonic_after_ms(ms);

        pthread_mutex_lock(&d->lock);
        while (!atomic_load(&d->is_stopping) && pthread_cond_timedwait(&d->wake, &d->lock, &until) == 0)
                ;
        pthread_mutex_unlock(&d->lock);
        return !atomic_load(&d->is_stopping);
}

static void *
run_drill(void *arg)
{
        struct drill *d = arg;
        int64_t ms = d->config.interval_ms / FIRST_PART;

        while (drill_rest(d, ms > 0 ? ms : 1)) {
                run_drill_round(d);
                ms = d->config.interval_ms;
        }
        return NULL;
}

/* --- life --- */

int
drill_new(const struct drill_config *config, struct drill **ret, struct err *e)
{
        struct drill *d = calloc(1, sizeof *d);
        int r;

        if (d == NULL)
                return err_set(e, -ENOMEM, "backup drill");
        d->config = *config;
        pthread_mutex_init(&d->lock, NULL);
        thread_cond_init(&d->wake);
        r = thread_start(&d->thread, run_drill, d);
        if (r < 0) {
                pthread_cond_destroy(&d->wake);
                pthread_mutex_destroy(&d->lock);
                free(d);
                return err_set(e, r, "backup drill");
        }
        *ret = d;
        return 0;
}

void
drill_get_status(struct drill *d, struct drill_status *ret)
{
        pthread_mutex_lock(&d->lock);
        *ret = d->status;
        pthread_mutex_unlock(&d->lock);
}

void
drill_free(struct drill *d)
{
        if (d == NULL)
                return;
        pthread_mutex_lock(&d->lock);
        atomic_store(&d->is_stopping, true);
        pthread_cond_signal(&d->wake);
        pthread_mutex_unlock(&d->lock);
        dest_cancel(d->config.dest);
        pthread_join(d->thread, NULL);
        dest_free(d->config.dest);
        pthread_cond_destroy(&d->wake);
        pthread_mutex_destroy(&d->lock);
        free(d);
}
