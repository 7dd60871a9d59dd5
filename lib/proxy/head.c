#include "proxy/head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEPT_BYTES 4096u

void
head_reset(struct head *h)
{
        if (h->capacity > KEPT_BYTES)
                head_release(h);
        h->n = h->n_fields = 0;
        h->line_n = 0;
        h->is_in_value = false;
}

void
head_release(struct head *h)
{
        free(h->bytes);
        free(h->fields);
        *h = (struct head){ 0 };
}

static int
add_bytes(struct head *h, const char *s, size_t n)
{
        size_t capacity = h->capacity > 0 ? h->capacity : 1024;
        char *grown;

        if (n > HEAD_MAX_BYTES - h->n)
                return -E2BIG;
        if (n == 0)
                return 0; /* there may be no memory to add it to yet */
        if (h->n + n > h->capacity) {
                while (capacity < h->n + n)
                        capacity *= 2;
                grown = realloc(h->bytes, capacity);
                if (grown == NULL)
                        return -ENOMEM;
                h->bytes = grown;
                h->capacity = capacity;
        }
        memcpy(h->bytes + h->n, s, n);
        h->n += n;
        return 0;
}

static int
head_add_field(struct head *h)
{
        size_t capacity = h->fields_capacity > 0 ? 2 * h->fields_capacity : 16;
        struct head_field *grown;

        if (h->n_fields == HEAD_MAX_FIELDS)
                return -E2BIG;
        if (h->n_fields == h->fields_capacity) {
                grown = realloc(h->fields, capacity * sizeof *grown);
                if (grown == NULL)
                        return -ENOMEM;
                h->fields = grown;
                h->fields_capacity = capacity;
        }
        h->fields[h->n_fields++] = (struct head_field){ .at = (uint32_t)h->n };
        h->is_in_value = false;
        return 0;
}

int
head_add_line(struct head *h, const char *s, size_t n)
{
        int r = add_bytes(h, s, n);

        if (r == 0)
                h->line_n += (uint32_t)n;
        return r;
}

int
head_add_name(struct head *h, const char *s, size_t n)
{
        int r = 0;

        if (h->n_fields == 0 || h->is_in_value)
                r = head_add_field(h);
        if (r == 0)
                r = add_bytes(h, s, n);
        if (r == 0)
                h->fields[h->n_fields - 1].name_n += (uint32_t)n;
        return r;
}

int
head_add_value(struct head *h, const char *s, size_t n)
{
        int r;

        if (h->n_fields == 0)
                return -EINVAL;
        h->is_in_value = true;
        r = add_bytes(h, s, n);
        if (r == 0)
                h->fields[h->n_fields - 1].value_n += (uint32_t)n;
        return r;
}

struct slice
head_line(const struct head *h)
{
        return (struct slice){ h->bytes, h->line_n };
}

struct slice
head_name(const struct head *h, size_t i)
{
        return (struct slice){ h->bytes + h->fields[i].at, h->fields[i].name_n };
}

struct slice
head_value(const struct head *h, size_t i)
{
        const struct head_field *f = &h->fields[i];

        return slice_trim((struct slice){ h->bytes + f->at + f->name_n, f->value_n });
}

size_t
head_find(const struct head *h, const char *name, struct slice *ret)
{
        size_t n = 0;

        for (size_t i = 0; i < h->n_fields; i++) {
                if (!slice_is(head_name(h, i), name))
                        continue;
                if (n++ == 0 && ret != NULL)
                        *ret = head_value(h, i);
        }
        return n;
}

bool
head_has_word(const struct head *h, const char *name, const char *word)
{
        for (size_t i = 0; i < h->n_fields; i++) {
                struct slice list, w;

                if (!slice_is(head_name(h, i), name))
                        continue;
                list = head_value(h, i);
                while (slice_next(&list, ',', &w))
                        if (slice_is(w, word))
                                return true;
        }
        return false;
}

bool
slice_is(struct slice s, const char *text)
{
        return s.n == strlen(text) && strncasecmp(s.p, text, s.n) == 0;
}

static bool
is_blank(char c)
{
        return c == ' ' || c == '\t';
}

struct slice
slice_trim(struct slice s)
{
        while (s.n > 0 && is_blank(s.p[0])) {
                s.p++;
                s.n--;
        }
        while (s.n > 0 && is_blank(s.p[s.n - 1]))
                s.n--;
        return s;
}

bool
slice_next(struct slice *list, char separator, struct slice *ret)
{
        const char *end;

        if (list->n == 0)
                return false;
        end = memchr(list->p, separator, list->n);
        *ret = (struct slice){ list->p, end != NULL ? (size_t)(end - list->p) : list->n };
        list->p += ret->n;
        list->n -= ret->n;
        if (end != NULL) {
                list->p++;
                list->n--;
        }
        *ret = slice_trim(*ret);
        return true;
}
