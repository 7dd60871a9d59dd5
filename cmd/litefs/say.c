#include "cmd/litefs/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/monotonic.h"

#define AFTER_NS 1000000000
#define EVERY_NS 100000000

void
say_done(const struct say *s, json_t *result, const char *fmt, ...)
{
        va_list ap;

        if (s->is_json) {
                char *text = result != NULL ? json_dumps(result, JSON_INDENT(2)) : NULL;

                puts(text != NULL ? text : "{}");
                free(text);
        } else if (!s->is_quiet && isatty(STDOUT_FILENO) == 1) {
                va_start(ap, fmt);
                vprintf(fmt, ap);
                va_end(ap);
                putchar('\n');
        }
        json_decref(result);
}

void
say_begin(struct say *s)
{
        s->begin_ns = monotonic_ns();
        s->shown_ns = 0;
        s->is_shown = false;
}

void
say_progress(struct say *s, const char *fmt, ...)
{
        int64_t now = monotonic_ns();
        va_list ap;

        if (s->is_quiet || now - s->begin_ns < AFTER_NS || now - s->shown_ns < EVERY_NS ||
            isatty(STDERR_FILENO) != 1)
                return;
        s->shown_ns = now;
        s->is_shown = true;
        fputc('\r', stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputs("\033[K", stderr);
}

void
say_end(struct say *s)
{
        if (s->is_shown)
                fputs("\r\033[K", stderr);
        s->is_shown = false;
}
