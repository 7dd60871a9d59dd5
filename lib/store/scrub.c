#include "store/scrub.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/pacer.h"
#include "base/thread.h"

#define REST_FACTOR 4       /* rests so many times as long as it worked */
#define DESCRIPTORS_MS 1000 /* until it asks again for those that others have */

struct scrub {
        struct store *store;
        struct pacer pacer;
        unsigned n_verified, n_damaged;
        pthread_t thread;
};

static bool
scrub_rest(void *arg)
{
        struct scrub *sc = arg;

        return pacer_rest_from_work(&sc->pacer, REST_FACTOR);
}

static void
report_scrubbed(struct scrub *sc, struct db *db, int r, const struct err *e)
{
        char path[PATH_MAX];

        sc->n_damaged += r == E_CHECKSUM;
        if (store_db_path(sc->store, db, "", path, sizeof path) < 0)
                path[0] = '\0';
        if (r != E_CHECKSUM)
                log_event(LOG_WARN, db_name(db), "not verified: %s", e->text);
        else
                log_event(
                        LOG_ERROR, db_name(db),
                        "the file has changed since litefs wrote it: %s. Stop litefs, move %s out of the way, and "
                        "start it: a replica fetches the database again; on a lone primary, then `litefs import "
                        "-name %s BACKUP`",
                        e->text, path, db_name(db));
}

/* One database: 0, or 1 when the thread is to end. One that rests, while others have all the descriptors, waits for its turn. */
static int
verify_one(struct scrub *sc, struct db *db)
{
        const struct db_pace pace = { sc, scrub_rest };
        struct err e = ERR_INIT;
        int r = db_verify(db, &pace, &e);

        while (r == -ENFILE) {
                if (!pacer_rest(&sc->pacer, DESCRIPTORS_MS))
                        return 1;
                e = (struct err)ERR_INIT;
                r = db_verify(db, &pace, &e);
        }
        sc->n_verified++;
        if (r < 0)
                report_scrubbed(sc, db, r, &e);
        return scrub_rest(sc) ? 0 : 1;
}

struct list {
        struct db **dbs;
        size_t n, capacity;
};

static int
count_db(void *arg, struct db *db)
{
        struct list *l = arg;

        (void)db;
        l->capacity++;
        return 0;
}

/* Databases that were made since they were counted were read by nobody before they were written. */
static int
list_db(void *arg, struct db *db)
{
        struct list *l = arg;

        if (l->n < l->capacity && db_exists(db))
                l->dbs[l->n++] = db;
        return 0;
}

static void *
run_scrub(void *arg)
{
        struct scrub *sc = arg;
        struct list l = { 0 };

        pacer_begin(&sc->pacer);
        (void)store_each(sc->store, count_db, &l);
        l.dbs = calloc(l.capacity + 1, sizeof *l.dbs);
        if (l.dbs == NULL) {
                log_event(LOG_WARN, NULL, "databases are not verified: out of memory");
                return NULL;
        }
        (void)store_each(sc->store, list_db, &l);
        for (size_t i = 0; i < l.n && verify_one(sc, l.dbs[i]) == 0; i++)
                ;
        free(l.dbs);
        if (sc->n_verified > 0 && sc->n_verified == l.n)
                log_event(LOG_INFO, NULL, "verified: %u databases, %u damaged", sc->n_verified,
                          sc->n_damaged);
        return NULL;
}

static void
release_scrub(struct scrub *sc)
{
        pacer_release(&sc->pacer);
        free(sc);
}

int
scrub_new(struct store *s, struct scrub **ret)
{
        struct scrub *sc = calloc(1, sizeof *sc);
        int r;

        if (sc == NULL)
                return -ENOMEM;
        sc->store = s;
        pacer_init(&sc->pacer);
        r = thread_start(&sc->thread, run_scrub, sc);
        if (r < 0) {
                release_scrub(sc);
                return r;
        }
        *ret = sc;
        return 0;
}

void
scrub_free(struct scrub *sc)
{
        if (sc == NULL)
                return;
        pacer_stop(&sc->pacer);
        pthread_join(sc->thread, NULL);
        release_scrub(sc);
}
