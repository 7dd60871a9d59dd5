#include "store/carry.h"

#include "base/log.h"
#include "db/carry.h"
#include "store/store_internal.h"

#define STORE_TAG 0x73746f7265u

static int
store_count_db(void *arg, struct db *db)
{
        (void)db;
        ++*(uint64_t *)arg;
        return 0;
}

static int
store_carry_out_db(void *arg, struct db *db)
{
        parcel_put_text(arg, db_name(db));
        db_carry_out(db, arg);
        return 0;
}

int
store_lock_fd(const struct store *s)
{
        return s->lock_fd;
}

void
store_carry_out(struct store *s, struct parcel *p)
{
        uint64_t n = 0;

        (void)store_each(s, store_count_db, &n);
        parcel_put(p, STORE_TAG);
        parcel_put(p, n);
        (void)store_each(s, store_carry_out_db, p);
}

static int
store_leave_db(void *arg, struct db *db)
{
        (void)arg;
        db_leave(db);
        return 0;
}

void
store_leave(struct store *s)
{
        (void)store_each(s, store_leave_db, NULL);
}

/* Nothing else has come upon the database yet. */
static void
lose_database(struct store *s, const char *name, struct db *db, const char *why)
{
        if (db != NULL) {
                workers_drain(s->config.workers); /* spare.c looks at all */
                (void)db_list_put_broken(&s->dbs, name, why);
                db_close(db);
        }
        log_event(
                LOG_ERROR, name,
                "not taken over, the other databases serve: %s. Its open files answer errors until the node is "
                "restarted, which recovers what the log has",
                why);
}

static int
store_carry_in_db(struct store *s, const char *name, struct parcel_reader *r, bool is_alone,
                  struct err *e)
{
        struct db *db = store_find(s, name);
        struct err why = ERR_INIT;
        int error;

        if (db != NULL) {
                error = db_carry_in(db, r, &why);
        } else {
                db_carry_skip(r);
                error = err_text(&why, E_CORRUPT_DB, "database %s is not there any more", name);
                if (store_is_broken(s, name))
                        db_list_why_broken(&s->dbs, name, why.text);
        }
        if (is_alone && r->error == 0 && (error == E_CHECKSUM || error == E_CORRUPT_DB)) {
                lose_database(s, name, db, why.text);
                return 0;
        }
        if (error < 0)
                err_text(e, error, "%s", why.text);
        return error;
}

int
store_carry_in(struct store *s, struct parcel_reader *r, bool is_alone, struct err *e)
{
        uint64_t n;
        int error = 0;

        s->env.is_resumed = false;
        parcel_expect(r, STORE_TAG);
        n = parcel_get(r);
        for (uint64_t i = 0; i < n && error == 0 && r->error == 0; i++) {
                const char *name = parcel_get_text(r);

                if (r->error == 0)
                        error = store_carry_in_db(s, name, r, is_alone, e);
        }
        if (error == 0)
                error = parcel_check(r, e);
        return error < 0 ? error : store_start_housekeeping(s, e);
}
