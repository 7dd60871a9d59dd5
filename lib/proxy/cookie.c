#include "proxy/cookie.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NAME "__txid"
#define DIGITS 16
#define MAX_AGE_S 300

uint64_t
cookie_hash(const char *db_name)
{
        uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

        for (; *db_name != '\0'; db_name++)
                h = (h ^ (unsigned char)*db_name) * 0x100000001b3u;
        return h != COOKIE_ANY_DB ? h : 1;
}

static bool
parse_hex(struct slice s, uint64_t *ret)
{
        uint64_t v = 0;

        if (s.n != DIGITS)
                return false;
        for (size_t i = 0; i < s.n; i++) {
                char c = s.p[i];

                if (c >= '0' && c <= '9')
                        v = v << 4 | (uint64_t)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        v = v << 4 | (uint64_t)(c - 'a' + 10);
                else if (c >= 'A' && c <= 'F')
                        v = v << 4 | (uint64_t)(c - 'A' + 10);
                else
                        return false;
        }
        *ret = v;
        return true;
}

static bool
parse_pair(struct slice s, struct cookie_position *ret)
{
        if (s.n != 2 * DIGITS + 1 || s.p[DIGITS] != ':')
                return false;
        return parse_hex((struct slice){ s.p, DIGITS }, &ret->hash) && ret->hash != COOKIE_ANY_DB &&
               parse_hex((struct slice){ s.p + DIGITS + 1, DIGITS }, &ret->txid);
}

bool
cookie_parse(struct slice value, struct cookie *ret)
{
        struct cookie_position p = { COOKIE_ANY_DB, 0 };
        struct slice word;

        ret->n = 0;
        if (parse_hex(value, &p.txid)) {
                ret->dbs[ret->n++] = p;
                return true;
        }
        while (slice_next(&value, '&', &word)) {
                if (ret->n == COOKIE_MAX_DBS || !parse_pair(word, &p))
                        return false;
                ret->dbs[ret->n++] = p;
        }
        return ret->n > 0;
}

bool
cookie_find(const struct head *request, struct cookie *ret)
{
        for (size_t i = 0; i < request->n_fields; i++) {
                struct slice list, word;

                if (!slice_is(head_name(request, i), "cookie"))
                        continue;
                list = head_value(request, i);
                while (slice_next(&list, ';', &word)) {
                        size_t n = strlen(NAME "=");

                        if (word.n > n && memcmp(word.p, NAME "=", n) == 0)
                                return cookie_parse((struct slice){ word.p + n, word.n - n }, ret);
                }
        }
        return false;
}

void
cookie_set(struct cookie *c, uint64_t hash, uint64_t txid)
{
        unsigned i = 0;

        while (i < c->n && c->dbs[i].hash != hash)
                i++;
        if (i == COOKIE_MAX_DBS)
                i = 0;
        if (i < c->n) {
                memmove(c->dbs + i, c->dbs + i + 1, (c->n - i - 1) * sizeof *c->dbs);
                c->n--;
        }
        c->dbs[c->n++] = (struct cookie_position){ hash, txid };
}

void
cookie_format(const struct cookie *c, char ret[COOKIE_VALUE_SIZE])
{
        char *p = ret;

        *p = '\0';
        for (unsigned i = 0; i < c->n; i++) {
                if (c->dbs[i].hash != COOKIE_ANY_DB)
                        p += snprintf(p, 2 * DIGITS, "%s%016" PRIx64 ":", i > 0 ? "&" : "",
                                      c->dbs[i].hash);
                p += snprintf(p, DIGITS + 1, "%016" PRIx64, c->dbs[i].txid);
        }
}

void
cookie_format_field(const struct cookie *c, int64_t wall_ms, char ret[COOKIE_FIELD_SIZE])
{
        time_t expires = (time_t)(wall_ms / 1000 + MAX_AGE_S);
        char value[COOKIE_VALUE_SIZE], date[40];
        struct tm tm;

        if (gmtime_r(&expires, &tm) == NULL)
                memset(&tm, 0, sizeof tm);
        /* Without setlocale, as here, names of days and months are English. */
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        cookie_format(c, value);
        snprintf(ret, COOKIE_FIELD_SIZE, NAME "=%s; Path=/; Expires=%s; HttpOnly", value, date);
}
