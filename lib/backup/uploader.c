#include "backup/uploader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"

#define RETRY_MS 1000
#define RETRY_MAX_MS 60000
#define SOON_MS \
        1000 /* until a database that was busy, or a cluster that is not known yet, is tried again */

struct uploader {
        struct uploader_config config;
        struct upload_config upload_config;
        char lineage[40];
        pthread_t thread;
        bool has_thread;
        atomic_bool is_dirty; /* something was committed since the last pass began */

        pthread_mutex_t lock; /* a leaf; guards all below */
        pthread_cond_t wake, done;
        bool role_changed, is_stopping, has_ended;
        int64_t stop_at_ms;
        uint64_t n_asked, n_done; /* of uploader_sync: passes that had all of it */
        bool is_leading;
        char trouble[ERR_TEXT_SIZE];
        uint64_t n_failures;
        struct upload **uploads; /* added by the thread alone, never taken out */
        size_t n, capacity;

        /* The thread's own: */
        bool is_probed;
        size_t first; /* whose turn is the first in the next pass */
        struct backoff backoff;
        struct trouble said;
};

/* With the lock. */
static void
uploader_wait_until(struct uploader *up, pthread_cond_t *c, int64_t at_ms)
{
        if (at_ms == INT64_MAX) {
                pthread_cond_wait(c, &up->lock);
        } else {
                struct timespec ts = monotonic_timespec(at_ms);

                pthread_cond_timedwait(c, &up->lock, &ts);
        }
}

/* --- databases --- */

static struct upload *
find_upload(struct uploader *up, const struct db *db)
{
        for (size_t i = 0; i < up->n; i++)
                if (upload_db(up->uploads[i]) == db)
                        return up->uploads[i];
        return NULL;
}

static int
add_upload(struct uploader *up, struct db *db)
{
        struct upload *u = NULL;
        int r;

        if (up->n == up->capacity) {
                size_t capacity = up->capacity == 0 ? 16 : up->capacity * 2;
                struct upload **grown = realloc(up->uploads, capacity * sizeof(struct upload *));

                if (grown == NULL)
                        return -ENOMEM;
                up->uploads = grown;
                up->capacity = capacity;
        }
        r = upload_new(&up->upload_config, db, &u);
        if (r == 0)
                up->uploads[up->n++] = u;
        return r;
}

struct gathering {
        struct uploader *up;
        size_t n_seen;
};

/* The store lists them in name order, and new ones are few: most stand where they stood. */
static int
gather_database(void *arg, struct db *db)
{
        struct gathering *g = arg;
        struct uploader *up = g->up;
        int r = 0;

        if (up->config.is_wanted != NULL && !up->config.is_wanted(up->config.arg, db_name(db)))
                return 0;
        pthread_mutex_lock(&up->lock);
        if ((g->n_seen >= up->n || upload_db(up->uploads[g->n_seen]) != db) &&
            find_upload(up, db) == NULL)
                r = add_upload(up, db);
        pthread_mutex_unlock(&up->lock);
        g->n_seen++;
        return r;
}

/* --- a pass --- */

static void
note_trouble(struct uploader *up, int code, const struct err *e)
{
        char count[TROUBLE_COUNT_SIZE];

        pthread_mutex_lock(&up->lock);
        up->n_failures++;
        memcpy(up->trouble, e->text, sizeof up->trouble);
        pthread_mutex_unlock(&up->lock);
        if (trouble_note(&up->said, monotonic_ms(), code, count))
                log_warn("backup to %s: %s%s", up->config.dest->url, e->text, count);
}

/* At the start: a node that does not lead would find out only when it has to. */
static void
say_what_is_not_ready(struct uploader *up)
{
        const struct err *e = &up->config.dest->not_ready;
        char count[TROUBLE_COUNT_SIZE];

        if (e->code != 0 && trouble_note(&up->said, monotonic_ms(), e->code, count))
                log_warn("backup to %s: it is asked again when something is to go there%s", e->text,
                         count);
}

static void
forget_trouble(struct uploader *up)
{
        backoff_reset(&up->backoff);
        pthread_mutex_lock(&up->lock);
        up->n_failures = 0;
        up->trouble[0] = '\0';
        pthread_mutex_unlock(&up->lock);
}

static void
note_success(struct uploader *up)
{
        char count[TROUBLE_COUNT_SIZE];

        forget_trouble(up);
        if (trouble_end(&up->said, monotonic_ms(), count))
                log_info("backup to %s works again: %s", up->config.dest->url, count);
}

static void
forget_all(struct uploader *up)
{
        for (size_t i = 0; i < up->n; i++)
                upload_forget(up->uploads[i]);
}

static bool
must_end(struct uploader *up)
{
        bool must;

        pthread_mutex_lock(&up->lock);
        must = up->is_stopping && monotonic_ms() >= up->stop_at_ms;
        pthread_mutex_unlock(&up->lock);
        return must;
}

/* Each from the one on whose turn it is, so that one that fails does not keep the others from theirs. The time when the next
 * one is due, on the wall clock, or an error. */
static int
step_all(struct uploader *up, bool is_last, int64_t *ret_due_ms, struct err *e)
{
        size_t n = up->n;
        bool was_busy = false;

        *ret_due_ms = INT64_MAX;
        for (size_t i = 0; i < n; i++) {
                size_t at = (up->first + i) % n;
                struct upload *u = up->uploads[at];
                int r;

                if (must_end(up) || !store_is_primary(up->config.store))
                        return 0;
                r = is_last ? upload_flush(u, e) : upload_step(u, e);
                if (r < 0 && r != -EAGAIN) {
                        up->first = (at + 1) % n;
                        return r;
                }
                was_busy |= r == -EAGAIN;
                if (upload_due_ms(u) < *ret_due_ms)
                        *ret_due_ms = upload_due_ms(u);
        }
        if (was_busy)
                *ret_due_ms = clock_wall_ms(up->config.clock) + SOON_MS;
        return was_busy;
}

/* Once is enough. */
static int
probe(struct uploader *up, struct err *e)
{
        int r = dest_probe(up->config.dest, e);

        if (r < 0)
                return r;
        up->is_probed = true;
        if (up->config.dest->ignores_conditions)
                log_warn(
                        "backup to %s: the destination ignores If-None-Match: only the cluster's lease keeps two "
                        "nodes from writing there at the same time",
                        up->config.dest->url);
        return 0;
}

static int
begin_leading(struct uploader *up, struct err *e)
{
        int r = up->is_leading ? 0 : up->config.lineage(up->config.arg, up->lineage, e);

        if (r == 0 && !up->is_leading && !up->is_probed)
                r = probe(up, e);
        if (r < 0 || up->is_leading)
                return r;
        forget_all(up);
        pthread_mutex_lock(&up->lock);
        up->is_leading = true;
        pthread_mutex_unlock(&up->lock);
        return 0;
}

static void
end_leading(struct uploader *up)
{
        if (!up->is_leading)
                return;
        forget_all(up);
        pthread_mutex_lock(&up->lock);
        up->is_leading = false;
        pthread_cond_broadcast(&up->done);
        pthread_mutex_unlock(&up->lock);
}

/* When the next one is due, CLOCK_MONOTONIC. */
static int64_t
run_pass(struct uploader *up, bool is_last)
{
        struct gathering g = { up, 0 };
        int64_t due_ms = INT64_MAX, left;
        struct err e = ERR_INIT;
        uint64_t asked;
        int r;

        pthread_mutex_lock(&up->lock);
        asked = up->n_asked;
        pthread_mutex_unlock(&up->lock);
        atomic_store(&up->is_dirty, false);
        if (!store_is_primary(up->config.store)) {
                end_leading(up);
                forget_trouble(up); /* it is the next primary's to find out */
                return INT64_MAX;
        }
        r = begin_leading(up, &e);
        if (r == -EAGAIN)
                return monotonic_ms() + SOON_MS;
        if (r == 0 && store_each(up->config.store, gather_database, &g) < 0)
                r = err_set(&e, -ENOMEM, "databases");
        if (r == 0)
                r = step_all(up, is_last, &due_ms, &e);
        if (r < 0) {
                note_trouble(up, r, &e);
                return monotonic_ms() + backoff_next_ms(&up->backoff);
        }
        note_success(up);
        pthread_mutex_lock(&up->lock);
        if (r == 0)
                up->n_done = asked;
        pthread_cond_broadcast(&up->done);
        pthread_mutex_unlock(&up->lock);
        if (due_ms == INT64_MAX)
                return INT64_MAX;
        left = due_ms - clock_wall_ms(up->config.clock);
        return monotonic_ms() + (left > 0 ? left : 0);
}

/* --- the thread --- */

/* Sleeps until a pass is due: true; false: the end. With the lock. */
static bool
wait_for_pass(struct uploader *up, int64_t due_ms, bool is_retry)
{
        int64_t at_ms = due_ms;

        while (!up->is_stopping && !up->role_changed && up->n_asked == up->n_done) {
                /* While it fails, nothing that is committed makes it come sooner. */
                if (!is_retry && atomic_load(&up->is_dirty) &&
                    at_ms > monotonic_ms() + up->config.sync_ms)
                        at_ms = monotonic_ms() + up->config.sync_ms;
                if (monotonic_ms() >= at_ms)
                        break;
                uploader_wait_until(up, &up->wake, at_ms);
        }
        /* Somebody waits for a pass: not faster than it can succeed. */
        while (!up->is_stopping && !up->role_changed && is_retry && monotonic_ms() < due_ms)
                uploader_wait_until(up, &up->wake, due_ms);
        /* This node may have ceased to lead, and lead again: others have written meanwhile. */
        if (up->role_changed)
                up->is_leading = false;
        up->role_changed = false;
        return !up->is_stopping;
}

static void *
run_uploader(void *arg)
{
        struct uploader *up = arg;
        int64_t due_ms = 0;

        pthread_mutex_lock(&up->lock);
        while (wait_for_pass(up, due_ms, up->n_failures > 0)) {
                pthread_mutex_unlock(&up->lock);
                due_ms = run_pass(up, false);
                pthread_mutex_lock(&up->lock);
                /* Who asks a node that does not lead is told so. */
                if (!up->is_leading)
                        up->n_done = up->n_asked;
        }
        pthread_mutex_unlock(&up->lock);
        if (up->is_leading)
                (void)run_pass(up, true);
        pthread_mutex_lock(&up->lock);
        up->has_ended = true;
        pthread_cond_broadcast(&up->done);
        pthread_mutex_unlock(&up->lock);
        return NULL;
}

/* --- for others --- */

void
uploader_committed(struct uploader *up)
{
        if (atomic_exchange(&up->is_dirty, true))
                return;
        pthread_mutex_lock(&up->lock);
        pthread_cond_signal(&up->wake);
        pthread_mutex_unlock(&up->lock);
}

void
uploader_role_changed(struct uploader *up)
{
        pthread_mutex_lock(&up->lock);
        up->role_changed = true;
        pthread_cond_signal(&up->wake);
        pthread_mutex_unlock(&up->lock);
}

int
uploader_sync(struct uploader *up, int64_t timeout_ms, struct err *e)
{
        int64_t until_ms = monotonic_ms() + timeout_ms;
        uint64_t mine;
        int r = 0;

        if (!store_is_primary(up->config.store))
                return err_set(e, E_NOT_PRIMARY, "backup to %s", up->config.dest->url);
        pthread_mutex_lock(&up->lock);
        mine = ++up->n_asked;
        pthread_cond_signal(&up->wake);
        while (up->n_done < mine && !up->has_ended && monotonic_ms() < until_ms)
                uploader_wait_until(up, &up->done, until_ms);
        if (up->n_done < mine)
                r = err_text(e, -ETIMEDOUT, "backup to %s: %s", up->config.dest->url,
                             up->trouble[0] != '\0' ? up->trouble : "it takes longer");
        pthread_mutex_unlock(&up->lock);
        return r;
}

void
uploader_get_status(struct uploader *up, struct uploader_status *ret)
{
        pthread_mutex_lock(&up->lock);
        ret->is_leading = up->is_leading;
        ret->n_failures = up->n_failures;
        memcpy(ret->trouble, up->trouble, sizeof ret->trouble);
        pthread_mutex_unlock(&up->lock);
}

const struct dest *
uploader_dest(const struct uploader *up)
{
        return up->config.dest;
}

/* Without the lock, under which a database's may not be taken: uploads stay until the end. */
void
uploader_each(struct uploader *up, void (*fn)(void *arg, struct db *db, const struct upload_status *s),
              void *arg)
{
        struct upload **uploads;
        struct upload_status s;
        size_t n;

        pthread_mutex_lock(&up->lock);
        n = up->is_leading ? up->n : 0;
        uploads = malloc((n + 1) * sizeof(struct upload *));
        if (uploads != NULL)
                for (size_t i = 0; i < n; i++)
                        uploads[i] = up->uploads[i];
        pthread_mutex_unlock(&up->lock);
        for (size_t i = 0; uploads != NULL && i < n; i++) {
                upload_get_status(uploads[i], &s);
                fn(arg, upload_db(uploads[i]), &s);
        }
        free(uploads);
}

/* --- life --- */

static void
init_conditions(struct uploader *up)
{
        pthread_mutex_init(&up->lock, NULL);
        thread_cond_init(&up->wake);
        thread_cond_init(&up->done);
}

static void
release_uploader(struct uploader *up)
{
        for (size_t i = 0; i < up->n; i++)
                upload_free(up->uploads[i]);
        free(up->uploads);
        pthread_cond_destroy(&up->wake);
        pthread_cond_destroy(&up->done);
        pthread_mutex_destroy(&up->lock);
        free(up);
}

int
uploader_new(const struct uploader_config *config, struct uploader **ret, struct err *e)
{
        struct uploader *up = calloc(1, sizeof *up);
        int r;

        if (up == NULL)
                return err_set(e, -ENOMEM, "backup to %s", config->dest->url);
        up->config = *config;
        up->upload_config =
                (struct upload_config){ .os = config->os,
                                        .clock = config->clock,
                                        .tmp_dir = config->tmp_dir,
                                        .is_compressed = config->is_compressed,
                                        .dest = config->dest,
                                        .lineage = up->lineage,
                                        .writer = config->writer,
                                        .slot = config->slot,
                                        .level_ms = { 5 * 60000, 30000, 5 * 60000, 60 * 60000 },
                                        .snapshot_ms = config->snapshot_ms,
                                        .keep_ms = config->keep_ms };
        backoff_init(&up->backoff, RETRY_MS, RETRY_MAX_MS, (uint64_t)monotonic_ms() ^ (uintptr_t)up);
        init_conditions(up);
        say_what_is_not_ready(up);
        r = thread_start(&up->thread, run_uploader, up);
        if (r < 0) {
                release_uploader(up);
                return err_set(e, r, "backup to %s", config->dest->url);
        }
        up->has_thread = true;
        *ret = up;
        return 0;
}

void
uploader_stop(struct uploader *up, int64_t timeout_ms)
{
        if (!up->has_thread)
                return;
        pthread_mutex_lock(&up->lock);
        up->is_stopping = true;
        up->stop_at_ms = monotonic_ms() + timeout_ms;
        pthread_cond_signal(&up->wake);
        while (!up->has_ended && monotonic_ms() < up->stop_at_ms)
                uploader_wait_until(up, &up->done, up->stop_at_ms);
        pthread_mutex_unlock(&up->lock);
        dest_cancel(up->config.dest);
        pthread_join(up->thread, NULL);
        up->has_thread = false;
}

void
uploader_free(struct uploader *up)
{
        if (up == NULL)
                return;
        uploader_stop(up, 0);
        dest_free(up->config.dest);
        release_uploader(up);
}
