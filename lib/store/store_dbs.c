/* The databases of a store: found, made, and opened as it begins. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/workers.h"
#include "ltx/header.h"
#include "store/dbname.h"
#include "store/orphans.h"
#include "store/spare.h"
#include "store/store_internal.h"

#define N_OPENERS 8

struct db *
store_find(struct store *s, const char *name)
{
        return db_list_find(&s->dbs, name);
}

struct hash_search {
        uint32_t hash;
        struct db *found;
};

static int
compare_hash(void *arg, struct db *db)
{
        struct hash_search *hs = arg;

        if (ltx_name_hash(db_name(db)) != hs->hash)
                return 0;
        hs->found = db;
        return 1;
}

struct db *
store_find_hash(struct store *s, uint32_t name_hash)
{
        struct hash_search hs = { .hash = name_hash };

        (void)store_each(s, compare_hash, &hs);
        return hs.found;
}

bool
store_is_broken(struct store *s, const char *name)
{
        return db_list_is_broken(&s->dbs, name);
}

bool
store_has_broken(struct store *s)
{
        return db_list_has_broken(&s->dbs);
}

void
store_each_broken(struct store *s, void (*fn)(void *arg, const char *name), void *arg)
{
        db_list_each_broken(&s->dbs, fn, arg);
}

int
store_each(struct store *s, int (*fn)(void *arg, struct db *db), void *arg)
{
        return db_list_each(&s->dbs, fn, arg);
}

static int
db_dir(struct store *s, const char *name, char *buf, size_t size)
{
        char dir[DBNAME_MAX + 1];
        int r = dbname_encode(name, dir);

        if (r == 0) {
                int n = snprintf(buf, size, "%s/dbs/%s", s->config.data_dir, dir);

                r = n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
        }
        return r;
}

int
store_db_path(struct store *s, const struct db *db, const char *file, char *buf, size_t size)
{
        size_t n;
        int r = db_dir(s, db_name(db), buf, size);

        if (r < 0)
                return r;
        n = strlen(buf);
        r = snprintf(buf + n, size - n, "/%s", file);
        return r < 0 || (size_t)r >= size - n ? -ENAMETOOLONG : 0;
}

/* Opens @name and enters it. With create_lock; the list is free for others meanwhile, for this waits for the disk. */
static int
open_new(struct store *s, const char *name, struct db **ret, struct err *e)
{
        char dir[PATH_MAX];
        struct db *db;
        int r = db_dir(s, name, dir, sizeof dir);

        if (r == -ENAMETOOLONG)
                return err_text(
                        e, r,
                        "the path of a database in the mount has %u bytes at most, a '/' or '%%' counts as "
                        "three: give it a shorter one",
                        DBNAME_MAX);
        if (r < 0)
                return err_set(e, r, "database %s", name);
        spare_descriptors(s);
        r = store_may_open(s, name)
                    ? 0
                    : err_text(e, -ENFILE, "too many files are open for one more database");
        if (r == 0)
                r = db_open(&s->env, name, dir, &db, e);
        if (r < 0)
                return r;
        r = db_list_put(&s->dbs, name, db);
        if (r < 0) {
                db_close(db);
                return err_set(e, r, "database %s", name);
        }
        *ret = db;
        spare_soon(s);
        return 0;
}

int
store_create_db(struct store *s, const char *name, struct db **ret, struct err *e)
{
        struct db *db = store_find(s, name);
        int r = 0;

        if (db == NULL) {
                pthread_mutex_lock(&s->create_lock);
                db = store_find(s, name);
                if (db == NULL)
                        r = store_is_broken(s, name) ? err_set(e, -EIO, "database %s did not open", name)
                                                     : open_new(s, name, &db, e);
                pthread_mutex_unlock(&s->create_lock);
        }
        if (r == 0)
                *ret = db;
        return r;
}

static int
set_damaged_aside(struct store *s, const char *name, struct err *e)
{
        char dir[DBNAME_MAX + 1];
        int r = dbname_encode(name, dir);

        if (r < 0)
                return err_set(e, r, "set %s aside", name);
        r = orphans_take_damaged(s->config.os, s->config.data_dir, dir, clock_wall_ms(s->config.clock),
                                 e);
        if (r == 0)
                log_event(LOG_WARN, name,
                          "it did not open, and the primary has it: what is here is kept in %s/orphans",
                          s->config.data_dir);
        return r;
}

int
store_replace_broken(struct store *s, const char *name, struct db **ret, struct err *e)
{
        int r = 0;

        pthread_mutex_lock(&s->create_lock);
        *ret = store_find(s, name);
        if (*ret == NULL) {
                r = set_damaged_aside(s, name, e);
                if (r == 0)
                        r = open_new(s, name, ret, e);
        }
        pthread_mutex_unlock(&s->create_lock);
        return r;
}

static int
open_one(void *arg, const char *dir)
{
        struct store *s = arg;
        char name[DBNAME_MAX + 1], path[PATH_MAX];
        struct err e = ERR_INIT;
        struct db *db = NULL;
        struct stat st;
        int r;

        r = snprintf(path, sizeof path, "%s/dbs/%s", s->config.data_dir, dir);
        if (r < 0 || (size_t)r >= sizeof path || dbname_decode(dir, name) < 0 ||
            os_lstat(s->config.os, "store:list", path, &st) < 0 || !S_ISDIR(st.st_mode)) {
                log_warn("%s/dbs/%s is not a database directory, ignored", s->config.data_dir, dir);
                return 0;
        }
        r = db_open(&s->env, name, path, &db, &e);
        if (r < 0) {
                if (!s->config.is_resumed) /* else store_carry_in knows what comes of it */
                        log_event(LOG_ERROR, name, "not opened, the other databases serve: %s", e.text);
                return db_list_put_broken(&s->dbs, name, e.text);
        }
        if (spare_is_wanted(s))
                (void)db_rest(db);
        return db_list_put(&s->dbs, name, db);
}

/* --- several at once --- */

struct opening {
        struct work work;
        struct opening *next;
        struct store *s;
        int result;
        char dir[];
};

static void
run_opening(struct work *w)
{
        struct opening *o = (struct opening *)w;

        o->result = open_one(o->s, o->dir);
}

struct openings {
        struct store *s;
        struct workers *pool;
        struct opening *list;
};

static int
post_opening(void *arg, const char *dir)
{
        struct openings *all = arg;
        struct opening *o = malloc(sizeof *o + strlen(dir) + 1);

        if (o == NULL)
                return -ENOMEM;
        *o = (struct opening){ { run_opening, NULL }, all->list, all->s, 0 };
        memcpy(o->dir, dir, strlen(dir) + 1);
        all->list = o;
        workers_post(all->pool, &o->work);
        return 0;
}

/* Applications wait for it, and it waits for the disk: for each database alone. */
static int
open_together(struct store *s, const char *dbs)
{
        struct openings all = { .s = s };
        struct opening *o;
        int r = workers_new(N_OPENERS, &all.pool);

        if (r < 0)
                return r;
        r = os_list_dir(s->config.os, "store:list", dbs, post_opening, &all);
        workers_free(all.pool);
        while ((o = all.list) != NULL) {
                all.list = o->next;
                r = r < 0 ? r : o->result;
                free(o);
        }
        return r;
}

int
store_open_dbs(struct store *s, struct err *e)
{
        char *dbs;
        int r = asprintf(&dbs, "%s/dbs", s->config.data_dir) < 0 ? -ENOMEM : 0;

        if (r == 0) {
                r = s->config.is_resumed ? open_together(s, dbs)
                                         : os_list_dir(s->config.os, "store:list", dbs, open_one, s);
                free(dbs);
        }
        return r < 0 ? err_set(e, r, "open the databases in %s/dbs", s->config.data_dir) : 0;
}
