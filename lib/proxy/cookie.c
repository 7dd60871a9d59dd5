#include "proxy/cookie.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NAME "__txid"
#define TERM_NAME "__txid_term"
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
parse_cookie_hex(struct slice s, uint64_t *ret)
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
        return parse_cookie_hex((struct slice){ s.p, DIGITS }, &ret->hash) &&
               ret->hash != COOKIE_ANY_DB &&
               parse_cookie_hex((struct slice){ s.p + DIGITS + 1, DIGITS }, &ret->txid);
}

bool
cookie_parse(struct slice value, struct cookie *ret)
{
        struct cookie_position p = { COOKIE_ANY_DB, 0 };
        struct slice word;

        ret->n = 0;
        ret->term = 0;
        if (parse_cookie_hex(value, &p.txid)) {
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

/* The value in @word, if it is "@name=VALUE". */
static bool
take_value(struct slice word, const char *name, struct slice *ret)
{
        size_t n = strlen(name);

        if (word.n <= n || memcmp(word.p, name, n) != 0)
                return false;
        *ret = (struct slice){ word.p + n, word.n - n };
        return true;
}

bool
cookie_find(const struct head *request, struct cookie *ret)
{
        bool is_found = false, is_good = false;
        uint64_t term = 0;

        for (size_t i = 0; i < request->n_fields; i++) {
                struct slice list, word, value;

                if (!slice_is(head_name(request, i), "cookie"))
                        continue;
                list = head_value(request, i);
                while (slice_next(&list, ';', &word)) {
                        if (!is_found && take_value(word, NAME "=", &value)) {
                                is_found = true;
                                is_good = cookie_parse(value, ret);
                        } else if (take_value(word, TERM_NAME "=", &value) &&
                                   !parse_cookie_hex(value, &term)) {
                                term = 0;
                        }
                }
        }
        ret->term = term;
        return is_good;
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

static void
format_field(const char *name, const char *value, int64_t wall_ms, char *buf, size_t size)
{
        time_t expires = (time_t)(wall_ms / 1000 + MAX_AGE_S);
        char date[40];
        struct tm tm;

        if (gmtime_r(&expires, &tm) == NULL)
                memset(&tm, 0, sizeof tm);
        /* Without setlocale, as here, names of days and months are English. */
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        snprintf(buf, size, "%s=%s; Path=/; Expires=%s; HttpOnly", name, value, date);
}

void
cookie_format_field(const struct cookie *c, int64_t wall_ms, char ret[COOKIE_FIELD_SIZE])
{
        char value[COOKIE_VALUE_SIZE];

        cookie_format(c, value);
        format_field(NAME, value, wall_ms, ret, COOKIE_FIELD_SIZE);
}

void
cookie_format_term_field(const struct cookie *c, int64_t wall_ms, char ret[COOKIE_TERM_FIELD_SIZE])
{
        char value[DIGITS + 1];

        snprintf(value, sizeof value, "%016" PRIx64, c->term);
        format_field(TERM_NAME, value, wall_ms, ret, COOKIE_TERM_FIELD_SIZE);
}
