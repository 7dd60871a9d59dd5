/* Reading one's own writes: the positions in a client's cookie, and those of the databases. */
#include "db/db.h"
#include "proxy/proxy_internal.h"

static uint64_t
position_of(struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        return info.pos.txid;
}

/* NULL: not known here, and nothing to wait for. */
static struct db *
find_db(struct proxy *p, uint64_t hash)
{
        if (p->recent != NULL)
                return recent_find(p->recent, hash);
        if (hash != COOKIE_ANY_DB && hash != cookie_hash(p->config.db))
                return NULL;
        return store_find(p->config.store, p->config.db);
}

bool
positions_reached(struct client *c)
{
        struct cookie cookie;

        if (!cookie_find(&c->request.head, &cookie))
                return true;
        for (unsigned i = 0; i < cookie.n; i++) {
                struct db *db = find_db(c->proxy, cookie.dbs[i].hash);

                if (db != NULL && position_of(db) < cookie.dbs[i].txid)
                        return false;
        }
        return true;
}

static bool
one_position(struct proxy *p, struct cookie *ret)
{
        struct db *db = store_find(p->config.store, p->config.db);

        ret->n = 0;
        if (db == NULL)
                return false;
        cookie_set(ret, COOKIE_ANY_DB, position_of(db));
        return true;
}

/* What the client had, as far as this node has it, and what was written since its request began. */
static bool
all_positions(struct client *c, struct cookie *ret)
{
        struct recent_entry written[COOKIE_MAX_DBS];
        struct recent *recent = c->proxy->recent;
        unsigned n = recent_since(recent, c->commits_before, written, COOKIE_MAX_DBS);
        struct cookie had = { 0 };

        ret->n = 0;
        if (n == 0 || !cookie_find(&c->request.head, &had))
                had.n = 0;
        for (unsigned i = 0; i < had.n; i++) {
                struct db *db = recent_find(recent, had.dbs[i].hash);
                uint64_t txid = db != NULL ? position_of(db) : 0;

                if (db != NULL)
                        cookie_set(ret, had.dbs[i].hash,
                                   txid < had.dbs[i].txid ? txid : had.dbs[i].txid);
        }
        while (n-- > 0)
                cookie_set(ret, written[n].hash, position_of(written[n].db));
        return ret->n > 0;
}

bool
positions_cookie(struct client *c, char ret[COOKIE_FIELD_SIZE])
{
        struct proxy *p = c->proxy;
        struct cookie cookie;

        if (!(p->recent != NULL ? all_positions(c, &cookie) : one_position(p, &cookie)))
                return false;
        cookie_format_field(&cookie, clock_wall_ms(p->config.clock), ret);
        return true;
}
