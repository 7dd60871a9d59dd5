/* lib/http/text.h - text that grows. One check, at the end: text that could not grow stays as it was and says so. */
#ifndef LITEFS_HTTP_TEXT_H
#define LITEFS_HTTP_TEXT_H

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

#define TEXT_TIME_SIZE 32
/* RFC 3339 in UTC with up to milliseconds, zeros at the end left out, as Go writes it: "2026-11-21T01:37:19.62Z". */
void text_format_time(int64_t wall_ms, char ret[TEXT_TIME_SIZE]);

#endif
