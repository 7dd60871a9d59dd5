#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Set once, before threads start. The one piece of global state: a logger handed through every
 * call would buy nothing but arguments. */
static struct log_config config = { LOG_TEXT, false, false, STDERR_FILENO };

static const char *const level_names[] = { "DEBUG", "INFO", "WARN", "ERROR" };

struct line {
        char text[2048];
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

static void
put(struct line *l, const char *s, size_t n)
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
        put(l, s, strlen(s));
}

/* The escapes that Go's and JSON's quoted strings share. */
static void
put_quoted(struct line *l, const char *s)
{
        char esc[8];

        put_str(l, "\"");
        for (; *s != '\0'; s++) {
                unsigned char c = (unsigned char)*s;

                if (c == '"' || c == '\\') {
                        esc[0] = '\\';
                        esc[1] = (char)c;
                        put(l, esc, 2);
                } else if (c == '\n') {
                        put(l, "\\n", 2);
                } else if (c < 0x20 || c == 0x7f) {
                        snprintf(esc, sizeof esc, "\\u%04x", c);
                        put_str(l, esc);
                } else {
                        put(l, s, 1);
                }
        }
        put_str(l, "\"");
}

static void
format_time(char *buf, size_t size)
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
        put_quoted(l, msg);
        if (db != NULL) {
                put_str(l, " db=");
                put_quoted(l, db);
        }
}

static void
format_json(struct line *l, const char *time, const char *level, const char *db, const char *msg)
{
        put_str(l, "{");
        if (config.has_timestamp) {
                put_str(l, "\"time\":");
                put_quoted(l, time);
                put_str(l, ",");
        }
        put_str(l, "\"level\":");
        put_quoted(l, level);
        put_str(l, ",\"msg\":");
        put_quoted(l, msg);
        if (db != NULL) {
                put_str(l, ",\"db\":");
                put_quoted(l, db);
        }
        put_str(l, "}");
}

void
log_event(enum log_level level, const char *db, const char *fmt, ...)
{
        struct line l = { .n = 0 };
        char msg[1024], time[40];
        va_list ap;

        if (level == LOG_DEBUG && !config.is_debug)
                return;
        va_start(ap, fmt);
        vsnprintf(msg, sizeof msg, fmt, ap);
        va_end(ap);
        format_time(time, sizeof time);
        if (config.format == LOG_JSON)
                format_json(&l, time, level_names[level], db, msg);
        else
                format_text(&l, time, level_names[level], db, msg);
        l.text[l.n++] = '\n';
        if (write(config.fd, l.text, l.n) < 0)
                return; /* nobody left to tell */
}
