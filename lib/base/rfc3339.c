#include "base/rfc3339.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* @n digits at @s, or -1. */
static int
take_digits(const char *s, int n)
{
        int v = 0;

        for (int i = 0; i < n; i++) {
                if (!isdigit((unsigned char)s[i]))
                        return -1;
                v = v * 10 + (s[i] - '0');
        }
        return v;
}

/* Behind the seconds: 0 and the milliseconds, and *@s moves on. */
static int
take_fraction(const char **s, int64_t *ms)
{
        const char *p = *s;
        int64_t unit = 100;

        if (*p != '.')
                return 0;
        for (p++; isdigit((unsigned char)*p); p++, unit /= 10)
                *ms += (*p - '0') * unit;
        if (p == *s + 1)
                return -EINVAL;
        *s = p;
        return 0;
}

static int
take_zone(const char *s, int64_t *ret_ms)
{
        int hours, minutes;

        *ret_ms = 0;
        if (strcasecmp(s, "Z") == 0)
                return 0;
        if ((s[0] != '+' && s[0] != '-') || strlen(s) != 6 || s[3] != ':')
                return -EINVAL;
        hours = take_digits(s + 1, 2);
        minutes = take_digits(s + 4, 2);
        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
                return -EINVAL;
        *ret_ms = (hours * 60 + minutes) * 60000LL * (s[0] == '-' ? -1 : 1);
        return 0;
}

int
rfc3339_parse(const char *s, int64_t *ret_ms)
{
        static const char form[] = "dddd-dd-ddTdd:dd:dd";
        struct tm tm = { 0 }, same;
        int64_t ms = 0, zone_ms;
        time_t t;

        for (int i = 0; form[i] != '\0'; i++) {
                char c = s[i];

                if (form[i] == 'd' ? !isdigit((unsigned char)c)
                                   : c != form[i] && !(form[i] == 'T' && (c == 't' || c == ' ')))
                        return -EINVAL;
        }
        tm.tm_year = take_digits(s, 4) - 1900;
        tm.tm_mon = take_digits(s + 5, 2) - 1;
        tm.tm_mday = take_digits(s + 8, 2);
        tm.tm_hour = take_digits(s + 11, 2);
        tm.tm_min = take_digits(s + 14, 2);
        tm.tm_sec = take_digits(s + 17, 2);
        same = tm;
        t = timegm(&same);
        /* The 30th of February is no day. */
        if (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon || same.tm_hour != tm.tm_hour ||
            same.tm_min != tm.tm_min || same.tm_sec != tm.tm_sec)
                return -EINVAL;
        s += sizeof form - 1;
        if (take_fraction(&s, &ms) < 0 || take_zone(s, &zone_ms) < 0)
                return -EINVAL;
        *ret_ms = (int64_t)t * 1000 + ms - zone_ms;
        return 0;
}

void
rfc3339_format(int64_t wall_ms, char ret[RFC3339_SIZE])
{
        time_t s = (time_t)(wall_ms / 1000);
        int ms = (int)(wall_ms % 1000);
        struct tm tm;
        size_t n;

        if (ms < 0) {
                ms += 1000;
                s--;
        }
        if (gmtime_r(&s, &tm) == NULL)
                memset(&tm, 0, sizeof tm);
        n = strftime(ret, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
        if (ms > 0) {
                n += (size_t)snprintf(ret + n, RFC3339_SIZE - n, ".%03d", ms);
                while (ret[n - 1] == '0')
                        n--;
        }
        ret[n++] = 'Z';
        ret[n] = '\0';
}
