/* lib/proxy/cookie.h - the cookies __txid and __txid_term, by which a client reads its own writes.
 *
 *   __txid=TXID                    the position of the one database that proxy.db names (as LiteFS 0.5)
 *   __txid=HASH:TXID&HASH:TXID...  positions of any databases; HASH is that of the name, for a client need not learn
 *                                  how its neighbours' databases are called
 *
 *   __txid_term=TERM               the term that they were written in: a position is one of a history. Apart from the
 *                                  others, as programs that know LiteFS read and write __txid alone
 *
 * Numbers are 16 hexadecimal digits. What does not look so is no cookie. */
#ifndef LITEFS_PROXY_COOKIE_H
#define LITEFS_PROXY_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/head.h"

#define COOKIE_MAX_DBS 64 /* at 34 bytes each; browsers take 4 KiB */
#define COOKIE_VALUE_SIZE (COOKIE_MAX_DBS * 34 + 1)
#define COOKIE_ANY_DB 0 /* as the hash: the database that proxy.db names */

struct cookie {
        uint64_t term; /* 0: not known */
        unsigned n;
        struct cookie_position {
                uint64_t hash, txid;
        } dbs[COOKIE_MAX_DBS];
};

/* Never COOKIE_ANY_DB. */
uint64_t cookie_hash(const char *db_name);
/* Those in the fields called Cookie; false: there is no __txid. */
bool cookie_find(const struct head *request, struct cookie *ret);
bool cookie_parse(struct slice value, struct cookie *ret);
/* Sets a database's position, replacing what is there for it; of too many databases the first ones go. */
void cookie_set(struct cookie *c, uint64_t hash, uint64_t txid);
void cookie_format(const struct cookie *c, char ret[COOKIE_VALUE_SIZE]);

#define COOKIE_FIELD_SIZE (COOKIE_VALUE_SIZE + 128)
#define COOKIE_TERM_FIELD_SIZE 160
/* The values of Set-Cookie, good for five minutes. */
void cookie_format_field(const struct cookie *c, int64_t wall_ms, char ret[COOKIE_FIELD_SIZE]);
void cookie_format_term_field(const struct cookie *c, int64_t wall_ms, char ret[COOKIE_TERM_FIELD_SIZE]);

#endif
