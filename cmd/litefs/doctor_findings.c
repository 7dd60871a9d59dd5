/* What litefs doctor has found, and how it is printed. */
#include "cmd/litefs/answer.h"
#include "cmd/litefs/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = { "OK", "WARN", "FAIL" };

void
doctor_add(struct doctor *d, enum doctor_level level, const char *check, const char *next,
           const char *fmt, ...)
{
        char text[1200];
        json_t *o;
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        o = json_pack("{s:s, s:s}", "level", level_names[level], "check", check);
        /* A path need not be UTF-8, and JSON is. */
        if (json_object_set_new(o, "text", json_string(text)) < 0)
                json_object_set_new(o, "text", json_string("(a name that is not UTF-8)"));
        if (next != NULL && next[0] != '\0')
                json_object_set_new(o, "next", json_string(next));
        json_array_append_new(d->findings, o);
}

void
doctor_print(const struct doctor *d, bool is_quiet)
{
        size_t i;
        json_t *f;

        json_array_foreach(d->findings, i, f)
        {
                const char *next = answer_text(f, "next");

                if (is_quiet && strcmp(answer_text(f, "level"), "OK") == 0)
                        continue;
                printf("%-4s  %-10s  %s%s%s\n", answer_text(f, "level"), answer_text(f, "check"),
                       answer_text(f, "text"), next[0] != '\0' ? "; next: " : "", next);
        }
}

int
doctor_print_json(const struct doctor *d)
{
        char *s = json_dumps(d->findings, JSON_INDENT(2));

        if (s == NULL)
                return -ENOMEM;
        puts(s);
        free(s);
        return 0;
}

bool
doctor_has_failed(const struct doctor *d)
{
        size_t i;
        json_t *f;

        json_array_foreach(d->findings, i,
                           f) if (strcmp(answer_text(f, "level"), "FAIL") == 0) return true;
        return false;
}
