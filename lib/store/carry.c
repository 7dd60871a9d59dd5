#include "store/carry.h"

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

int
store_carry_in(struct store *s, struct parcel_reader *r, struct err *e)
{
        uint64_t n;
        int error = 0;

        s->env.is_resumed = false;
        parcel_expect(r, STORE_TAG);
        n = parcel_get(r);
        for (uint64_t i = 0; i < n && error == 0 && r->error == 0; i++) {
                const char *name = parcel_get_text(r);
                struct db *db = store_find(s, name);

                if (db != NULL)
                        error = db_carry_in(db, r, e);
                else if (r->error == 0)
                        error = err_text(e, E_CORRUPT_DB, "database %s does not open any more", name);
        }
        return error < 0 ? error : parcel_check(r, e);
}
