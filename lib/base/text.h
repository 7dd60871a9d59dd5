/* lib/base/text.h - text that grows. One check, at the end: text that could not grow stays as it was and says so. */
#ifndef LITEFS_BASE_TEXT_H
#define LITEFS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
        char *s; /* NULL while empty, else a zero byte follows */
        size_t n, capacity;
        bool is_cut; /* memory ran out */
};

void text_add(struct text *t, const char *s, size_t n);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Frees; it is empty again. */
void text_release(struct text *t);

#endif
