/* Who may change a database, and when.
 *
 *   OPENING ---- the opener ends ----> READY          db_open, and the new state of a replacement
 *   READY ------ an owner begins ----> EXCLUSIVE      a hold that is passed on to a worker, too
 *   EXCLUSIVE -- the owner ends -----> READY          a worker that passes it on to the next stays EXCLUSIVE
 *   any -------- db_fail ------------> FAILED         memory and disk may disagree: reads go on, the rest answers EIO
 *
 * A move that the table lacks is one more reason to fail: whoever made it would have worked on a database that is
 * another's.
 *
 * In READY there is a hold, or nobody. db->use.access is the hold or the owner, db->use.keeper the keeper. Only what takes the
 * files or the log away (a drop, a replacement) and a keeper rule each other out: housekeeping waits for the disk, for
 * seconds if need be, and neither commits nor captures may wait for that; the few that must are let in by E_BUSY and
 * another try, which deletions and changes of history can bear. */
#include "db/access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/db_internal.h"

enum kind { FOR_A_HOLD, AS_OWNER, AS_KEEPER };

struct actor {
        const char *name; /* for messages: who has the database */
        enum kind kind;
        unsigned from;    /* states in which it may begin; a keeper: beside which it may */
        bool takes_files; /* away, or the log */
        bool goes_beside; /* a commit that waits to be published: passed.h */
};

#define IN(state) (1u << (state))

static const struct actor actors[N_DB_ACTORS] = {
        [DB_BY_NOBODY] = { "nobody", FOR_A_HOLD, .from = 0 },
        [DB_BY_OPENING] = { "recovery", AS_OWNER, .from = IN(DB_OPENING), .takes_files = true },
        [DB_BY_CLOSING] = { "the end of litefs", AS_OWNER, .from = IN(DB_READY), .takes_files = true,
                            .goes_beside = true },
        [DB_BY_CALL] = { "a call of an application", FOR_A_HOLD, .from = IN(DB_READY),
                         .goes_beside = true },
        [DB_BY_DROP] = { "a deletion", FOR_A_HOLD, .from = IN(DB_READY), .takes_files = true },
        [DB_BY_SYNC] = { "a sync", FOR_A_HOLD, .from = IN(DB_READY), .goes_beside = true },
        [DB_BY_CAPTURE] = { "a large commit", AS_OWNER, .from = IN(DB_READY), .goes_beside = true },
        [DB_BY_GROUP] = { "a commit over several databases", AS_OWNER, .from = IN(DB_READY) },
        [DB_BY_ADOPTION] = { "a file that becomes the database", AS_OWNER, .from = IN(DB_READY) },
        [DB_BY_APPLY] = { "a transaction that is applied", AS_OWNER, .from = IN(DB_READY) },
        [DB_BY_APPLIED_DROP] = { "a deletion that is applied", AS_OWNER, .from = IN(DB_READY),
                                 .takes_files = true },
        [DB_BY_REPLACEMENT] = { "another history that takes its place", AS_OWNER, .from = IN(DB_READY),
                                .takes_files = true },
        [DB_BY_RENAME] = { "a rename", AS_OWNER, .from = IN(DB_READY), .takes_files = true },
        [DB_BY_HOUSEKEEPING] = { "housekeeping", AS_KEEPER, .from = IN(DB_READY) | IN(DB_EXCLUSIVE),
                                 .goes_beside = true },
};

static const struct {
        const char *name;
        unsigned to;
} states[] = {
        [DB_OPENING] = { "opening", IN(DB_READY) | IN(DB_FAILED) },
        [DB_READY] = { "ready", IN(DB_EXCLUSIVE) | IN(DB_FAILED) },
        [DB_EXCLUSIVE] = { "exclusive", IN(DB_READY) | IN(DB_EXCLUSIVE) | IN(DB_FAILED) },
        [DB_FAILED] = { "failed", 0 },
};

/* --- states; with the lock --- */

void
db_fail(struct db *db, const char *why)
{
        if (db->use.state == DB_FAILED)
                return;
        db->use.state = DB_FAILED;
        db_meter_error(db->env, DB_ERROR_STOPPED);
        log_event(LOG_ERROR, db->name, "writing is stopped until litefs is restarted, reads go on: %s",
                  why);
        db_show(db);
}

static void
move_to(struct db *db, enum db_state to)
{
        char why[96];

        if ((states[db->use.state].to & IN(to)) != 0) {
                db->use.state = to;
                return;
        }
        if (db->use.state == DB_FAILED) /* its owner ends: it stays failed */
                return;
        snprintf(why, sizeof why, "it cannot go from %s to %s", states[db->use.state].name,
                 states[to].name);
        db_fail(db, why);
}

/* --- begin --- */

/* Who is in the way, else DB_BY_NOBODY. */
static enum db_actor
who_is_in_the_way(const struct db *db, enum db_actor who)
{
        const struct actor *actor = &actors[who];

        if ((actor->from & IN(db->use.state)) == 0)
                return db->use.access != NULL ? db->use.access->who : DB_BY_OPENING;
        if (actor->kind == AS_KEEPER && db->use.keeper != NULL)
                return db->use.keeper->who;
        if (actor->kind == AS_KEEPER && db->use.access != NULL &&
            actors[db->use.access->who].takes_files)
                return db->use.access->who;
        if (actor->takes_files && db->use.keeper != NULL)
                return db->use.keeper->who;
        if (!actor->goes_beside && db->passed.prepared != NULL)
                return DB_BY_CALL;
        return DB_BY_NOBODY;
}

/* With the lock, which stays. */
static int
begin_locked(struct db *db, enum db_actor who, struct db_access *ret, struct db_waiter *w, struct err *e)
{
        enum db_actor other;
        int r;

        if (db->use.state == DB_FAILED)
                return err_set(e, -EIO, "the database is stopped after an earlier error");
        other = who_is_in_the_way(db, who);
        if (other != DB_BY_NOBODY) {
                db->use.is_wanted = true;
                if (w != NULL) {
                        w->next = db->use.waiters;
                        db->use.waiters = w;
                }
                return err_set(e, E_BUSY, "%s has the database", actors[other].name);
        }
        if (actors[who].kind != AS_KEEPER && (r = db_wake(db)) < 0)
                return err_set(e, r, "open %s again", db->name);
        if (actors[who].kind == AS_KEEPER)
                db->use.keeper = ret;
        else
                db->use.access = ret;
        if (actors[who].kind != AS_KEEPER)
                atomic_fetch_add(&db->use.n_at_work, 1);
        if (actors[who].kind == AS_OWNER && who != DB_BY_OPENING)
                move_to(db, DB_EXCLUSIVE);
        return 0;
}

static int
begin_access(struct db *db, enum db_actor who, struct db_access *ret, struct db_waiter *w, struct err *e)
{
        enum kind kind = actors[who].kind;
        uint8_t *room;
        int r;

        *ret = (struct db_access){ .db = db, .who = who };
        if (kind == AS_OWNER) {
                ret->room = malloc(2 * IMAGE_PAGE_MAX);
                if (ret->room == NULL)
                        return err_set(e, -ENOMEM, "work on %s", db->name);
        }
        db_lock(db);
        r = begin_locked(db, who, ret, w, e);
        if (r == 0 && kind == FOR_A_HOLD) {
                ret->n_locks = 1;
                ret->room = db->image.page_buf;
                return 0;
        }
        room = ret->room;
        if (r < 0)
                *ret = (struct db_access){ 0 }; /* from the unlock on it may be the waiter's */
        else
                db_show(db);
        pthread_mutex_unlock(&db->lock);
        if (r < 0)
                free(room);
        return r;
}

int
db_access_begin(struct db *db, enum db_actor who, struct db_access *ret, struct err *e)
{
        return begin_access(db, who, ret, NULL, e);
}

int
db_access_begin_or_wait(struct db *db, enum db_actor who, struct db_access *ret, struct db_waiter *w,
                        struct err *e)
{
        return begin_access(db, who, ret, w, e);
}

int
db_access_pass(struct db_access *a, enum db_actor who, struct db_access *ret)
{
        struct db *db = a->db;
        int r = access_check(a, NULL);

        if (r < 0)
                return r;
        *ret = (struct db_access){ .db = db, .who = who };
        if (actors[a->who].kind == AS_OWNER) {
                ret->room = a->room;
                a->room = NULL;
        } else {
                ret->room = malloc(2 * IMAGE_PAGE_MAX);
                if (ret->room == NULL)
                        return -ENOMEM;
        }
        a->is_passed_on = true;
        db->use.access = ret;
        move_to(db, DB_EXCLUSIVE);
        return 0;
}

/* --- end --- */

/* Those who wait, in the order in which they came. With the lock. */
static struct db_waiter *
take_access_waiters(struct db *db)
{
        struct db_waiter *list = NULL, *w;

        while ((w = db->use.waiters) != NULL) {
                db->use.waiters = w->next;
                w->next = list;
                list = w;
        }
        return list;
}

static void
call_waiters(struct db_waiter *list)
{
        while (list != NULL) {
                struct db_waiter *w = list;

                list = w->next;
                w->fn(w);
        }
}

/* Those that wait, and whoever has an eye on idle databases. Without the lock. */
static void
tell_idle(struct db *db, struct db_waiter *waiters, bool is_wanted)
{
        call_waiters(waiters);
        if (is_wanted && db->env->idle != NULL)
                db->env->idle(db->env->arg, db);
}

static void
end_hold(struct db_access *a)
{
        struct db *db = a->db;

        if (!a->is_passed_on)
                db->use.access = NULL;
        db_show(db);
        if (!a->is_passed_on) /* else whoever has it now is at work */
                atomic_fetch_sub(&db->use.n_at_work, 1);
        *a = (struct db_access){ 0 };
        pthread_mutex_unlock(&db->lock);
}

static void
end_owner(struct db_access *a)
{
        struct db *db = a->db;
        struct db_waiter *waiters;

        free(a->room);
        if (a->is_passed_on) {
                *a = (struct db_access){ 0 };
                return;
        }
        db_lock(db);
        db->use.access = NULL;
        db->use.is_wanted = false;
        move_to(db, DB_READY);
        waiters = take_access_waiters(db);
        db->has_news = true; /* what was committed may be sent now: see db_replicable_txid */
        db_show(db);
        atomic_fetch_sub(&db->use.n_at_work, 1);
        pthread_mutex_unlock(&db->lock);
        *a = (struct db_access){ 0 };
        tell_idle(db, waiters, true);
}

static void
end_keeper(struct db_access *a)
{
        struct db *db = a->db;
        struct db_waiter *waiters = NULL;
        bool is_wanted;

        db_lock(db);
        db->use.keeper = NULL;
        is_wanted = db->use.is_wanted;
        if (db->use.state != DB_EXCLUSIVE) { /* else its owner's end is what they wait for */
                db->use.is_wanted = false;
                waiters = take_access_waiters(db);
        }
        pthread_mutex_unlock(&db->lock);
        *a = (struct db_access){ 0 };
        tell_idle(db, waiters, is_wanted);
}

void
db_access_end(struct db_access *a)
{
        struct db *db = a->db;

        if (db == NULL)
                return;
        if (a->who == DB_BY_OPENING) { /* nobody knows of it, or somebody else has its lock */
                free(a->room);
                db->use.access = NULL;
                move_to(db, DB_READY);
                db->has_news = db->rest.was_used = false;
                db_show(db);
                atomic_fetch_sub(&db->use.n_at_work, 1);
                *a = (struct db_access){ 0 };
        } else if (actors[a->who].kind == AS_OWNER) {
                end_owner(a);
        } else if (actors[a->who].kind == AS_KEEPER) {
                end_keeper(a);
        } else {
                end_hold(a);
        }
}

void
access_tell_free(struct db *db)
{
        struct db_waiter *waiters = NULL;
        bool is_wanted;

        pthread_mutex_lock(&db->lock);
        is_wanted = db->use.is_wanted && db->use.state == DB_READY;
        if (is_wanted) {
                db->use.is_wanted = false;
                waiters = take_access_waiters(db);
        }
        pthread_mutex_unlock(&db->lock);
        tell_idle(db, waiters, is_wanted);
}

/* --- while it lasts --- */

void
access_lock(struct db_access *a)
{
        if (a->n_locks++ == 0)
                db_lock(a->db);
}

void
access_unlock(struct db_access *a)
{
        if (--a->n_locks > 0)
                return;
        db_show(a->db);
        pthread_mutex_unlock(&a->db->lock);
}

int
access_check(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        bool is_failed;

        access_lock(a);
        if (db->use.access != a && db->use.keeper != a)
                db_fail(db, "a process without access to it was about to change it");
        is_failed = db->use.state == DB_FAILED;
        access_unlock(a);
        return is_failed ? err_set(e, -EIO, "the database is stopped after an earlier error") : 0;
}
