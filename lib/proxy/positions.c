/* Reading one's own writes: the positions in a client's cookie, and those of the databases. */
#include "proxy/positions.h"

#include "db/db.h"

static uint64_t
position_here(struct db *db)
{
        struct db_info info;

        db_get_info(db, &info);
        return info.pos.txid;
}

/* NULL: not known here, and nothing to wait for. */
static struct db *
find_db_by_hash(struct proxy *p, uint64_t hash)
{
        if (p->recent != NULL)
                return recent_find(p->recent, hash);
        if (hash != COOKIE_ANY_DB && hash != cookie_hash(p->config.db))
                return NULL;
        return store_find(p->config.store, p->config.db);
}

/* What the primary has of @db (NULL: who is it), as it was at some moment after the request came; NULL: not known yet. */
static const struct answer *
ask_primary_position(struct client *c, struct db *db)
{
        return c->waits_since > 0 ? asks_get(c->proxy->asks, db, c->waits_since) : NULL;
}

/* Whether positions here are of the history that the cookie's are of, or of what has become of it. What a former primary
 * has committed last may be in no history but its own. */
static bool
is_of_history(struct client *c, const struct cookie *cookie)
{
        struct store *store = c->proxy->config.store;
        uint64_t confirmed = store_confirmed_term(store), known = store_known_term(store);
        const struct answer *now;

        if (confirmed > 0 && confirmed >= (cookie->term > 0 ? cookie->term : known))
                return true;
        if (confirmed == 0 || confirmed < known)
                return false; /* until a primary of that term, or a later one, has sent what it has */
        now = ask_primary_position(c, NULL);
        return now != NULL && now->term == confirmed; /* the term of the cookie is one that is lost */
}

static bool
has_position(struct client *c, const struct cookie_position *wanted)
{
        struct db *db = find_db_by_hash(c->proxy, wanted->hash);
        const struct answer *now;

        if (db == NULL || position_here(db) >= wanted->txid)
                return true;
        now = ask_primary_position(c, db);
        return now != NULL && now->txid < wanted->txid; /* nobody has it */
}

bool
positions_reached(struct client *c)
{
        struct cookie cookie;
        bool has_all = true;

        if (!cookie_find(&c->request.head, &cookie))
                return true;
        if (!is_of_history(c, &cookie))
                return false;
        for (unsigned i = 0; i < cookie.n; i++)
                has_all = has_position(c, &cookie.dbs[i]) && has_all; /* all are asked for at once */
        return has_all;
}

static bool
one_position(struct proxy *p, struct cookie *ret)
{
        struct db *db = store_find(p->config.store, p->config.db);

        ret->n = 0;
        if (db == NULL)
                return false;
        cookie_set(ret, COOKIE_ANY_DB, position_here(db));
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
                uint64_t txid = db != NULL ? position_here(db) : 0;

                if (db != NULL)
                        cookie_set(ret, had.dbs[i].hash,
                                   txid < had.dbs[i].txid ? txid : had.dbs[i].txid);
        }
        while (n-- > 0)
                cookie_set(ret, written[n].hash, position_here(written[n].db));
        return ret->n > 0;
}

bool
positions_cookies(struct client *c, char ret[COOKIE_FIELD_SIZE], char ret_term[COOKIE_TERM_FIELD_SIZE])
{
        struct proxy *p = c->proxy;
        int64_t now = clock_wall_ms(p->config.clock);
        struct cookie cookie;

        if (!(p->recent != NULL ? all_positions(c, &cookie) : one_position(p, &cookie)))
                return false;
        cookie.term = store_confirmed_term(p->config.store);
        cookie_format_field(&cookie, now, ret);
        cookie_format_term_field(&cookie, now, ret_term);
        return true;
}
