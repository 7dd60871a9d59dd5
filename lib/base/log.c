#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

/* Set once, before threads start. The one piece of global state: a logger handed through every
 * call would buy nothing but arguments. */
static struct log_config config = { LOG_TEXT, false, false, STDERR_FILENO };

static const char *const level_names[] = { "DEBUG", "INFO", "WARN", "ERROR" };

/* A byte of a message becomes six at most, \u001b; so nothing that must follow it is ever cut off. */
#define MESSAGE_MAX 1024
#define NAME_MAX_SHOWN 512

struct line {
        char text[6 * (MESSAGE_MAX + NAME_MAX_SHOWN) + 256];
        size_t n;
};

void
log_configure(const struct log_config *c)
{
        config = *c;
}

bool
log_is_debug(void)
{
        return config.is_debug;
}

bool
log_is_json(void)
{
        return config.format == LOG_JSON;
}

static void
line_put(struct line *l, const char *s, size_t n)
{
        size_t room = sizeof l->text - 4 - l->n;

        if (n > room)
                n = room;
        memcpy(l->text + l->n, s, n);
        l->n += n;
}

static void
put_str(struct line *l, const char *s)
{
        line_put(l, s, strlen(s));
}

/* The escapes that Go's and JSON's quoted strings share. */
static void
line_put_quoted(struct line *l, const char *text, size_t max)
{
        const unsigned char *s = (const unsigned char *)text, *end = s + strnlen(text, max);
        char esc[8];

        put_str(l, "\"");
        while (s < end) {
                size_t n = utf8_length((const char *)s);

                if (*s == '"' || *s == '\\')
                        snprintf(esc, sizeof esc, "\\%c", *s);
                else if (*s == '\n')
                        snprintf(esc, sizeof esc, "\\n");
                else if (*s < 0x20 || *s == 0x7f)
                        snprintf(esc, sizeof esc, "\\u%04x", *s);
                else if (n == 0 || n > (size_t)(end - s))
                        snprintf(esc, sizeof esc, "\\\\x%02x", *s),
                                n = 1; /* also where a cut message ends */
                else
                        snprintf(esc, sizeof esc, "%.*s", (int)n, (const char *)s);
                put_str(l, esc);
                s += n;
        }
        put_str(l, "\"");
}

static void
format_log_time(char *buf, size_t size)
{
        struct timespec ts;
        struct tm tm;
        size_t n;

        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(buf + n, size - n, ".%03ldZ", ts.tv_nsec / 1000000);
}

static void
format_text(struct line *l, const char *time, const char *level, const char *db, const char *msg)
{
        if (config.has_timestamp) {
                put_str(l, "time=");
                put_str(l, time);
                put_str(l, " ");
        }
        put_str(l, "level=");
        put_str(l, level);
        put_str(l, " msg=");
        line_put_quoted(l, msg, MESSAGE_MAX);
        if (db != NULL) {
                put_str(l, " db=");
                line_put_quoted(l, db, NAME_MAX_SHOWN);
        }
}

static void
format_json(struct line *l, const char *time, const char *level, const char *db, const char *msg)
{
        put_str(l, "{");
        if (config.has_timestamp) {
                put_str(l, "\"time\":");
                line_put_quoted(l, time, MESSAGE_MAX);
                put_str(l, ",");
        }
        put_str(l, "\"level\":");
        line_put_quoted(l, level, MESSAGE_MAX);
        put_str(l, ",\"msg\":");
        line_put_quoted(l, msg, MESSAGE_MAX);
        if (db != NULL) {
                put_str(l, ",\"db\":");
                line_put_quoted(l, db, NAME_MAX_SHOWN);
        }
        put_str(l, "}");
}

void
log_event(enum log_level level, const char *db, const char *fmt, ...)
{
        struct line l = { .n = 0 };
        char msg[MESSAGE_MAX], time[40];
        va_list ap;

        if (level == LOG_DEBUG && !config.is_debug)
                return;
        va_start(ap, fmt);
        vsnprintf(msg, sizeof msg, fmt, ap);
        va_end(ap);
        format_log_time(time, sizeof time);
        if (config.format == LOG_JSON)
                format_json(&l, time, level_names[level], db, msg);
        else
                format_text(&l, time, level_names[level], db, msg);
        l.text[l.n++] = '\n';
        if (write(config.fd, l.text, l.n) < 0)
                return; /* nobody left to tell */
}
