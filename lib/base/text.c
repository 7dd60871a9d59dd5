#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
text_make_room(struct text *t, size_t n)
{
        size_t capacity = t->capacity > 0 ? t->capacity : 1024;
        char *grown;

        if (t->is_cut)
                return false;
        if (t->n + n < t->capacity)
                return true;
        while (capacity <= t->n + n)
                capacity *= 2;
        grown = realloc(t->s, capacity);
        if (grown == NULL) {
                t->is_cut = true;
                return false;
        }
        t->s = grown;
        t->capacity = capacity;
        return true;
}

void
text_add(struct text *t, const char *s, size_t n)
{
        if (!text_make_room(t, n))
                return;
        memcpy(t->s + t->n, s, n);
        t->n += n;
        t->s[t->n] = '\0';
}

void
text_printf(struct text *t, const char *fmt, ...)
{
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        if (n < 0 || !text_make_room(t, (size_t)n))
                return;
        va_start(ap, fmt);
        (void)vsnprintf(t->s + t->n, (size_t)n + 1, fmt, ap);
        va_end(ap);
        t->n += (size_t)n;
}

void
text_release(struct text *t)
{
        free(t->s);
        *t = (struct text){ 0 };
}
