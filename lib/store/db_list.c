#include "store/db_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/db.h"

struct db_list_entry {
        char *name;
        struct db *db; /* NULL: it did not open, and */
        char *why;     /* NULL when memory was out, too */
};

void
db_list_init(struct db_list *l)
{
        *l = (struct db_list){ .n = 0 };
        pthread_rwlock_init(&l->lock, NULL);
}

void
db_list_release(struct db_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                db_close(l->entries[i].db);
                free(l->entries[i].name);
                free(l->entries[i].why);
        }
        free(l->entries);
        pthread_rwlock_destroy(&l->lock);
}

/* Where @name is, or would be. With the lock. */
static size_t
find_index(const struct db_list *l, const char *name)
{
        size_t lo = 0, hi = l->n;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (strcmp(l->entries[mid].name, name) < 0)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

static struct db_list_entry *
find_entry(const struct db_list *l, const char *name)
{
        size_t i = find_index(l, name);

        return i < l->n && strcmp(l->entries[i].name, name) == 0 ? &l->entries[i] : NULL;
}

static int
insert(struct db_list *l, const char *name, struct db *db, char *why)
{
        size_t i = find_index(l, name);
        char *copy = strdup(name);

        if (copy == NULL)
                return -ENOMEM;
        if (l->n == l->capacity) {
                size_t want = l->capacity == 0 ? 16 : l->capacity * 2;
                struct db_list_entry *p = realloc(l->entries, want * sizeof *p);

                if (p == NULL) {
                        free(copy);
                        return -ENOMEM;
                }
                l->entries = p;
                l->capacity = want;
        }
        memmove(l->entries + i + 1, l->entries + i, (l->n - i) * sizeof *l->entries);
        l->entries[i] = (struct db_list_entry){ copy, db, why };
        l->n++;
        return 0;
}

/* Takes @why over. */
static int
enter(struct db_list *l, const char *name, struct db *db, char *why)
{
        struct db_list_entry *en;
        int r = 0;

        pthread_rwlock_wrlock(&l->lock);
        en = find_entry(l, name);
        if (en != NULL) {
                free(en->why);
                en->db = db;
                en->why = why;
        } else {
                r = insert(l, name, db, why);
        }
        pthread_rwlock_unlock(&l->lock);
        if (r < 0)
                free(why);
        return r;
}

int
db_list_put(struct db_list *l, const char *name, struct db *db)
{
        return enter(l, name, db, NULL);
}

int
db_list_put_broken(struct db_list *l, const char *name, const char *why)
{
        return enter(l, name, NULL, strdup(why));
}

void
db_list_why_broken(struct db_list *l, const char *name, char buf[ERR_TEXT_SIZE])
{
        const struct db_list_entry *en;

        pthread_rwlock_rdlock(&l->lock);
        en = find_entry(l, name);
        snprintf(buf, ERR_TEXT_SIZE, "%s", en != NULL && en->why != NULL ? en->why : "");
        pthread_rwlock_unlock(&l->lock);
}

struct db *
db_list_find(struct db_list *l, const char *name)
{
        struct db_list_entry *en;
        struct db *db;

        pthread_rwlock_rdlock(&l->lock);
        en = find_entry(l, name);
        db = en != NULL ? en->db : NULL;
        pthread_rwlock_unlock(&l->lock);
        return db;
}

bool
db_list_is_broken(struct db_list *l, const char *name)
{
        struct db_list_entry *en;
        bool is_broken;

        pthread_rwlock_rdlock(&l->lock);
        en = find_entry(l, name);
        is_broken = en != NULL && en->db == NULL;
        pthread_rwlock_unlock(&l->lock);
        return is_broken;
}

bool
db_list_has_broken(struct db_list *l)
{
        bool has = false;

        pthread_rwlock_rdlock(&l->lock);
        for (size_t i = 0; i < l->n && !has; i++)
                has = l->entries[i].db == NULL;
        pthread_rwlock_unlock(&l->lock);
        return has;
}

int
db_list_each(struct db_list *l, int (*fn)(void *arg, struct db *db), void *arg)
{
        struct db **list;
        size_t n = 0;
        int r = 0;

        /* A copy, so that @fn may take its time and the list may grow meanwhile. */
        pthread_rwlock_rdlock(&l->lock);
        list = malloc((l->n + 1) * sizeof *list);
        for (size_t i = 0; list != NULL && i < l->n; i++)
                if (l->entries[i].db != NULL)
                        list[n++] = l->entries[i].db;
        pthread_rwlock_unlock(&l->lock);
        if (list == NULL)
                return -ENOMEM;
        for (size_t i = 0; i < n && r == 0; i++)
                r = fn(arg, list[i]);
        free(list);
        return r;
}

void
db_list_each_broken(struct db_list *l, void (*fn)(void *arg, const char *name), void *arg)
{
        pthread_rwlock_rdlock(&l->lock);
        for (size_t i = 0; i < l->n; i++)
                if (l->entries[i].db == NULL)
                        fn(arg, l->entries[i].name);
        pthread_rwlock_unlock(&l->lock);
}
