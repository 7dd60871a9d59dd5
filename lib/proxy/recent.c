#include "proxy/recent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "proxy/list.h"

struct entry {
        struct list by_time; /* the last one marked is first */
        struct recent_entry e;
        uint64_t marked;
        struct entry *next; /* of its bucket */
};

struct recent {
        pthread_mutex_t lock;
        struct list by_time;
        struct entry **buckets;
        size_t n, n_buckets; /* a power of two */
        uint64_t now;
};

int
recent_new(struct recent **ret)
{
        struct recent *r = calloc(1, sizeof *r);

        if (r == NULL)
                return -ENOMEM;
        r->n_buckets = 64;
        r->buckets = calloc(r->n_buckets, sizeof(struct entry *));
        if (r->buckets == NULL) {
                free(r);
                return -ENOMEM;
        }
        pthread_mutex_init(&r->lock, NULL);
        list_init(&r->by_time);
        *ret = r;
        return 0;
}

void
recent_free(struct recent *r)
{
        if (r == NULL)
                return;
        for (size_t i = 0; i < r->n_buckets; i++) {
                struct entry *next;

                for (struct entry *en = r->buckets[i]; en != NULL; en = next) {
                        next = en->next;
                        free(en);
                }
        }
        pthread_mutex_destroy(&r->lock);
        free(r->buckets);
        free(r);
}

static struct entry **
recent_bucket(const struct recent *r, uint64_t hash)
{
        return &r->buckets[hash & (r->n_buckets - 1)];
}

/* Twice the buckets, or as many as before when there is no memory. */
static void
grow_buckets(struct recent *r)
{
        struct recent bigger = { .n_buckets = 2 * r->n_buckets };

        bigger.buckets = calloc(bigger.n_buckets, sizeof(struct entry *));
        if (bigger.buckets == NULL)
                return;
        for (size_t i = 0; i < r->n_buckets; i++) {
                struct entry *next;

                for (struct entry *en = r->buckets[i]; en != NULL; en = next) {
                        struct entry **b = recent_bucket(&bigger, en->e.hash);

                        next = en->next;
                        en->next = *b;
                        *b = en;
                }
        }
        free(r->buckets);
        r->buckets = bigger.buckets;
        r->n_buckets = bigger.n_buckets;
}

static struct entry *
find_recent(const struct recent *r, uint64_t hash)
{
        struct entry *en = *recent_bucket(r, hash);

        while (en != NULL && en->e.hash != hash)
                en = en->next;
        return en;
}

static struct entry *
find_or_add(struct recent *r, uint64_t hash, struct db *db)
{
        struct entry *en = find_recent(r, hash);

        if (en != NULL)
                return en;
        en = calloc(1, sizeof *en);
        if (en == NULL)
                return NULL;
        if (r->n == r->n_buckets)
                grow_buckets(r);
        en->e = (struct recent_entry){ hash, db };
        en->next = *recent_bucket(r, hash);
        *recent_bucket(r, hash) = en;
        list_init(&en->by_time);
        r->n++;
        return en;
}

int
recent_add(struct recent *r, uint64_t hash, struct db *db)
{
        struct entry *en;

        pthread_mutex_lock(&r->lock);
        en = find_or_add(r, hash, db);
        pthread_mutex_unlock(&r->lock);
        return en != NULL ? 0 : -ENOMEM;
}

void
recent_mark(struct recent *r, uint64_t hash, struct db *db)
{
        struct entry *en;

        pthread_mutex_lock(&r->lock);
        en = find_or_add(r, hash, db);
        if (en != NULL) {
                en->marked = ++r->now;
                list_remove(&en->by_time);
                list_push(&r->by_time, &en->by_time);
        }
        pthread_mutex_unlock(&r->lock);
}

uint64_t
recent_now(struct recent *r)
{
        uint64_t now;

        pthread_mutex_lock(&r->lock);
        now = r->now;
        pthread_mutex_unlock(&r->lock);
        return now;
}

struct db *
recent_find(struct recent *r, uint64_t hash)
{
        struct entry *en;

        pthread_mutex_lock(&r->lock);
        en = find_recent(r, hash);
        pthread_mutex_unlock(&r->lock);
        return en != NULL ? en->e.db : NULL;
}

unsigned
recent_since(struct recent *r, uint64_t since, struct recent_entry *ret, unsigned max)
{
        unsigned n = 0;

        pthread_mutex_lock(&r->lock);
        for (struct list *l = r->by_time.next; l != &r->by_time && n < max; l = l->next) {
                struct entry *en = LIST_ENTRY(l, struct entry, by_time);

                if (en->marked <= since)
                        break;
                ret[n++] = en->e;
        }
        pthread_mutex_unlock(&r->lock);
        return n;
}
