#include "fuse/wal_watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/passed.h"
#include "fuse/fuse_internal.h"

#define BUSY_MS 20   /* after something has come: look every millisecond */
#define CALM_MS 2000 /* and then, for who stood still in between: */
#define CALM_EVERY_MS 50
#define DEAD_AFTER_MS 20 /* a writer needs microseconds from its sync to the wal-index */
#define DEAD_EVERY_MS 50

struct watched {
        struct db *db;
        int wd;              /* of inotify, while it is idle; -1 */
        bool is_active;      /* is looked at */
        bool wants_look;     /* at once, and its time begins anew */
        int64_t since_ms;    /* when something came last */
        int64_t look_ms;     /* the next look */
        int64_t prepared_ms; /* since when one waits; 0: none */
        int64_t asked_ms;    /* when a visitor was asked last */
};

struct wal_watch {
        struct session *s;
        pthread_t thread;
        pthread_mutex_t lock; /* guards the list */
        struct watched *list;
        size_t n, capacity;
        int inotify_fd, wake_fd;
        bool is_ending;
        bool has_thread; /* else it is paused; of who starts and stops it */
};

static int64_t
now_ms(void)
{
        return clock_boot_ms(clock_host());
}

/* --- told by others --- */

static void
poke(struct wal_watch *ww)
{
        uint64_t one = 1;

        (void)!write(ww->wake_fd, &one, sizeof one);
}

static struct watched *
find_watched(struct wal_watch *ww, const struct db *db)
{
        for (size_t i = 0; i < ww->n; i++)
                if (ww->list[i].db == db)
                        return &ww->list[i];
        return NULL;
}

static struct watched *
add_watched(struct wal_watch *ww, struct db *db)
{
        if (ww->n == ww->capacity) {
                size_t want = ww->capacity == 0 ? 16 : ww->capacity * 2;
                struct watched *p = realloc(ww->list, want * sizeof *p);

                if (p == NULL)
                        return NULL;
                ww->list = p;
                ww->capacity = want;
        }
        ww->list[ww->n] = (struct watched){ .db = db, .wd = -1 };
        return &ww->list[ww->n++];
}

static void
activate(struct session *s, struct db *db, bool adds)
{
        struct wal_watch *ww = s->wal_watch;
        struct watched *w;

        if (ww == NULL)
                return;
        pthread_mutex_lock(&ww->lock);
        w = find_watched(ww, db);
        if (w == NULL && adds)
                w = add_watched(ww, db);
        if (w != NULL)
                w->is_active = w->wants_look = true;
        pthread_mutex_unlock(&ww->lock);
        poke(ww);
}

void
wal_watch_add(struct session *s, struct db *db)
{
        activate(s, db, true);
}

void
wal_watch_wake(struct session *s, struct db *db)
{
        activate(s, db, false);
}

/* --- looking --- */

/* The kernel tells of the next write. Without its help it is looked at for ever. */
static bool
listen(struct wal_watch *ww, struct watched *w)
{
        char path[PATH_MAX];

        if (store_db_path(ww->s->store, w->db, "wal", path, sizeof path) < 0)
                return false;
        w->wd = inotify_add_watch(ww->inotify_fd, path, IN_MODIFY | IN_ONESHOT);
        return w->wd >= 0;
}

static void
look_for_the_dead(struct wal_watch *ww, struct watched *w, int64_t now)
{
        if (w->prepared_ms == 0)
                w->prepared_ms = now;
        if (now - w->prepared_ms < DEAD_AFTER_MS || now - w->asked_ms < DEAD_EVERY_MS)
                return;
        w->asked_ms = now;
        mount_check_wal_index(ww->s, w->db);
}

/* On a copy: whoever wakes it need not wait for the database's lock. */
static void
look_at(struct wal_watch *ww, struct watched *w, int64_t now)
{
        struct db_look look;
        bool was_wanted = w->wants_look;
        int r = db_wal_look(w->db, &look);

        w->wants_look = false;
        if (was_wanted || look.is_moving || r == E_BUSY)
                w->since_ms = now;
        if (look.is_prepared) {
                look_for_the_dead(ww, w, now);
                w->since_ms = now;
        } else {
                w->prepared_ms = 0;
        }
        if (now - w->since_ms < BUSY_MS) {
                w->look_ms = now + 1;
                return;
        }
        w->look_ms = now + CALM_EVERY_MS;
        if (w->wd < 0) {
                if (listen(ww, w)) /* what came before the kernel listened: */
                        w->wants_look = true;
        } else {
                w->is_active = now - w->since_ms < CALM_MS;
        }
}

static void
look_at_index(struct wal_watch *ww, size_t i, int64_t now)
{
        struct watched copy, *w = &ww->list[i];

        if (!w->is_active || (!w->wants_look && now < w->look_ms))
                return;
        copy = *w;
        w->wants_look = false;
        pthread_mutex_unlock(&ww->lock);
        look_at(ww, &copy, now);
        pthread_mutex_lock(&ww->lock);
        w = &ww->list[i]; /* the list only grows */
        copy.is_active = copy.is_active || w->wants_look;
        copy.wants_look = copy.wants_look || w->wants_look;
        *w = copy;
}

/* How long until the next look; -1: for ever. */
static int
look_at_all(struct wal_watch *ww)
{
        int64_t now = now_ms(), next = INT64_MAX;

        pthread_mutex_lock(&ww->lock);
        for (size_t i = 0; i < ww->n; i++)
                look_at_index(ww, i, now);
        for (size_t i = 0; i < ww->n; i++)
                if (ww->list[i].is_active)
                        next = ww->list[i].wants_look       ? now
                               : ww->list[i].look_ms < next ? ww->list[i].look_ms
                                                            : next;
        pthread_mutex_unlock(&ww->lock);
        return next == INT64_MAX ? -1 : next <= now ? 0 : (int)(next - now);
}

static void
take_events(struct wal_watch *ww)
{
        _Alignas(struct inotify_event) char buf[4096];
        ssize_t n;

        while ((n = read(ww->inotify_fd, buf, sizeof buf)) > 0) {
                pthread_mutex_lock(&ww->lock);
                for (ssize_t at = 0; at < n;) {
                        const struct inotify_event *ev = (const struct inotify_event *)(buf + at);

                        for (size_t i = 0; i < ww->n; i++)
                                if (ww->list[i].wd == ev->wd) {
                                        ww->list[i].wd = -1;
                                        ww->list[i].is_active = ww->list[i].wants_look = true;
                                }
                        at += (ssize_t)sizeof *ev + ev->len;
                }
                pthread_mutex_unlock(&ww->lock);
        }
}

static void *
run_watch(void *arg)
{
        struct wal_watch *ww = arg;
        struct pollfd fds[2] = { { ww->inotify_fd, POLLIN, 0 }, { ww->wake_fd, POLLIN, 0 } };
        bool is_ending = false;
        uint64_t n;

        while (!is_ending) {
                (void)poll(fds, 2, look_at_all(ww));
                (void)!read(ww->wake_fd, &n, sizeof n);
                take_events(ww);
                pthread_mutex_lock(&ww->lock);
                is_ending = ww->is_ending;
                pthread_mutex_unlock(&ww->lock);
        }
        return NULL;
}

static void
watch_each(struct session *s, void (*fn)(struct db *db))
{
        struct wal_watch *ww = s->wal_watch;

        if (ww == NULL)
                return;
        pthread_mutex_lock(&ww->lock);
        for (size_t i = 0; i < ww->n; i++) {
                struct db *db = ww->list[i].db;

                pthread_mutex_unlock(&ww->lock);
                fn(db);
                pthread_mutex_lock(&ww->lock);
        }
        pthread_mutex_unlock(&ww->lock);
}

static void
flush_db(struct db *db)
{
        struct db_look ignored;

        (void)db_wal_look(db, &ignored);
}

void
wal_watch_flush(struct session *s)
{
        watch_each(s, flush_db);
}

static void
take_rest_of_db(struct db *db)
{
        db_wal_set_index(db, -1);
}

void
wal_watch_take_rest(struct session *s)
{
        watch_each(s, take_rest_of_db);
}

/* --- life --- */

static void
free_watch(struct wal_watch *ww)
{
        if (ww->inotify_fd >= 0)
                close(ww->inotify_fd);
        if (ww->wake_fd >= 0)
                close(ww->wake_fd);
        pthread_mutex_destroy(&ww->lock);
        free(ww->list);
        free(ww);
}

static int
start_looking(struct wal_watch *ww)
{
        int r = -pthread_create(&ww->thread, NULL, run_watch, ww);

        ww->has_thread = r == 0;
        return r;
}

static void
end_looking(struct wal_watch *ww)
{
        if (!ww->has_thread)
                return;
        pthread_mutex_lock(&ww->lock);
        ww->is_ending = true;
        pthread_mutex_unlock(&ww->lock);
        poke(ww);
        pthread_join(ww->thread, NULL);
        ww->has_thread = ww->is_ending = false;
}

int
wal_watch_start(struct session *s)
{
        struct wal_watch *ww = calloc(1, sizeof *ww);
        int r;

        if (ww == NULL)
                return -ENOMEM;
        ww->s = s;
        pthread_mutex_init(&ww->lock, NULL);
        ww->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        ww->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = ww->inotify_fd < 0 || ww->wake_fd < 0 ? -errno : start_looking(ww);
        if (r < 0) {
                free_watch(ww);
                return r;
        }
        s->wal_watch = ww;
        return 0;
}

void
wal_watch_stop(struct session *s)
{
        struct wal_watch *ww = s->wal_watch;

        if (ww == NULL)
                return;
        end_looking(ww);
        s->wal_watch = NULL;
        free_watch(ww);
}

void
wal_watch_pause(struct session *s)
{
        if (s->wal_watch != NULL)
                end_looking(s->wal_watch);
}

/* What came meanwhile is there to be seen, whatever the kernel has told. */
void
wal_watch_go_on(struct session *s)
{
        struct wal_watch *ww = s->wal_watch;
        int r;

        if (ww == NULL || ww->has_thread)
                return;
        for (size_t i = 0; i < ww->n; i++)
                ww->list[i].is_active = ww->list[i].wants_look = true;
        r = start_looking(ww);
        if (r < 0)
                log_error(
                        "WALs that are passed through are not looked at, so commits wait for the node's end to be "
                        "captured: %s",
                        strerror(-r));
}
