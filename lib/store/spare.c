#include "store/spare.h"

#include <errno.h>
#include <stdlib.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "store/store_internal.h"

#define COUNT_MS 100
#define COUNT_SINCE 32u

void
spare_init(struct store *s)
{
        pthread_mutex_init(&s->spare.lock, NULL);
        pthread_mutex_init(&s->spare.count_lock, NULL);
}

void
spare_end(struct store *s)
{
        atomic_store(&s->spare.is_over, true);
}

void
spare_release(struct store *s)
{
        pthread_mutex_destroy(&s->spare.lock);
        pthread_mutex_destroy(&s->spare.count_lock);
}

struct all {
        struct db **dbs;
        size_t n, capacity;
};

static int
collect_database(void *arg, struct db *db)
{
        struct all *all = arg;

        if (all->n == all->capacity) {
                size_t want = all->capacity == 0 ? 64 : all->capacity * 2;
                struct db **p = realloc(all->dbs, want * sizeof(struct db *));

                if (p == NULL)
                        return -ENOMEM;
                all->dbs = p;
                all->capacity = want;
        }
        all->dbs[all->n++] = db;
        return 0;
}

/* --- how many there are --- */

/* Where the kernel does not tell, they are counted ten times a second at the most; what was let through since is added. */
static unsigned
count_open_files(struct spare *sp, int64_t now_ms)
{
        unsigned n = descriptors_told();

        if (n > 0)
                return n;
        pthread_mutex_lock(&sp->count_lock);
        if (now_ms - sp->counted_ms >= COUNT_MS || sp->n_since >= COUNT_SINCE) {
                sp->n_open = descriptors_counted();
                sp->n_since = 0;
                sp->counted_ms = now_ms;
        }
        n = sp->n_open + sp->n_since;
        pthread_mutex_unlock(&sp->count_lock);
        return n;
}

static unsigned
count_now(struct store *s)
{
        return count_open_files(&s->spare, clock_boot_ms(s->config.clock));
}

bool
spare_is_wanted(struct store *s)
{
        return count_now(s) >= descriptors_for_files(descriptors_limit()) / 2;
}

bool
spare_may_open(struct store *s)
{
        bool may = count_now(s) < descriptors_for_files(descriptors_limit());

        pthread_mutex_lock(&s->spare.count_lock);
        s->spare.n_since += may;
        pthread_mutex_unlock(&s->spare.count_lock);
        return may;
}

/* --- making more --- */

void
spare_descriptors(struct store *s)
{
        struct spare *sp = &s->spare;
        unsigned enough = descriptors_for_files(descriptors_limit()) / 2, n = count_now(s);
        struct all all = { 0 };

        if (n < enough)
                return;
        pthread_mutex_lock(&sp->lock);
        (void)db_list_each(&s->dbs, collect_database,
                           &all); /* without memory those that there was room for */
        for (size_t i = 0; i < 2 * all.n && n >= enough; i++) {
                unsigned n_closed = db_rest(all.dbs[sp->hand++ % all.n]);

                n -= n_closed < n ? n_closed : n;
        }
        pthread_mutex_unlock(&sp->lock);
        free(all.dbs);
}

static void
run_spare(struct work *w)
{
        struct store *s = (struct store *)((char *)w - offsetof(struct store, spare.work));

        atomic_store(&s->spare.is_posted, false);
        spare_descriptors(s);
}

void
spare_soon(struct store *s)
{
        if (atomic_load(&s->spare.is_over) || !spare_is_wanted(s) ||
            atomic_exchange(&s->spare.is_posted, true))
                return;
        s->spare.work = (struct work){ run_spare, NULL };
        workers_post(s->config.workers, &s->spare.work);
}

bool
store_may_open(struct store *s, const char *name)
{
        unsigned limit = descriptors_limit();
        char count[TROUBLE_COUNT_SIZE];
        bool is_told, may = spare_may_open(s);

        spare_soon(s);
        if (may)
                return true;
        pthread_mutex_lock(&s->spare.count_lock);
        is_told = trouble_note(&s->spare.refused, clock_boot_ms(s->config.clock), -ENFILE, count);
        pthread_mutex_unlock(&s->spare.count_lock);
        if (is_told)
                log_event(
                        LOG_WARN, name,
                        "not opened: the %u file descriptors for databases and files are in use (of %u, the rest is for "
                        "connections); raise the limit: LimitNOFILE of the unit, ulimits of the container%s",
                        descriptors_for_files(limit), limit, count);
        return false;
}
