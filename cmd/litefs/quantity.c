#include "cmd/litefs/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static const struct {
        const char *name;
        int64_t ns;
} units[] = {
        { "ns", 1 },       { "us", 1000 },      { "\xc2\xb5s", 1000 }, { "\xce\xbcs", 1000 },
        { "ms", 1000000 }, { "s", 1000000000 }, { "m", 60000000000 },  { "h", 3600000000000 },
};

/* The unit at @s: its length, 0 when there is none. The longest name wins: "ms" is not "m". */
static size_t
find_unit(const char *s, int64_t *ret_ns)
{
        size_t best = 0;

        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
                size_t n = strlen(units[i].name);

                if (n > best && strncmp(s, units[i].name, n) == 0) {
                        best = n;
                        *ret_ns = units[i].ns;
                }
        }
        return best;
}

/* One number with its unit; moves *@s behind it. */
static int
parse_part(const char **s, int64_t *total)
{
        const char *p = *s;
        int64_t whole = 0, unit, part;
        double fraction = 0, scale = 0.1;
        size_t n;

        if (!isdigit((unsigned char)*p) && *p != '.')
                return -EINVAL;
        for (; isdigit((unsigned char)*p); p++)
                if (__builtin_mul_overflow(whole, 10, &whole) ||
                    __builtin_add_overflow(whole, *p - '0', &whole))
                        return -EINVAL;
        if (*p == '.') {
                if (p == *s && !isdigit((unsigned char)p[1]))
                        return -EINVAL;
                for (p++; isdigit((unsigned char)*p); p++, scale /= 10)
                        fraction += (*p - '0') * scale;
        }
        n = find_unit(p, &unit);
        if (n == 0 || __builtin_mul_overflow(whole, unit, &part) ||
            __builtin_add_overflow(part, (int64_t)(fraction * (double)unit + 0.5), &part) ||
            __builtin_add_overflow(*total, part, total))
                return -EINVAL;
        *s = p + n;
        return 0;
}

int
quantity_parse_duration(const char *s, int64_t *ret_ns)
{
        int64_t total = 0;
        int sign = 1;

        if (*s == '-' || *s == '+')
                sign = *s++ == '-' ? -1 : 1;
        if (strcmp(s, "0") == 0) {
                *ret_ns = 0;
                return 0;
        }
        if (*s == '\0')
                return -EINVAL;
        while (*s != '\0')
                if (parse_part(&s, &total) < 0)
                        return -EINVAL;
        *ret_ns = sign * total;
        return 0;
}

/* The unit at @p, to the end of the string: its bytes, 0 when it is none. */
static int64_t
unit_bytes(const char *p)
{
        static const char prefixes[] = "kmgt";
        const char *k;
        int64_t bytes = 1;

        while (*p == ' ')
                p++;
        k = *p != '\0' ? strchr(prefixes, tolower((unsigned char)*p)) : NULL;
        if (k != NULL) {
                for (const char *i = prefixes; i <= k; i++)
                        bytes *= 1024;
                p++;
                if (*p == '\0')
                        return bytes;
                if (*p == 'i')
                        p++;
        }
        return strcasecmp(p, "b") == 0 ? bytes : 0;
}

int
quantity_parse_size(const char *s, int64_t unit, int64_t *ret_bytes)
{
        int64_t v = 0;

        if (!isdigit((unsigned char)*s))
                return -EINVAL;
        for (; isdigit((unsigned char)*s); s++)
                if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
                        return -EINVAL;
        if (*s != '\0')
                unit = unit_bytes(s);
        if (unit == 0 || __builtin_mul_overflow(v, unit, &v))
                return -EINVAL;
        *ret_bytes = v;
        return 0;
}
