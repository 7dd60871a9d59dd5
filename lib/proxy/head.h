/* lib/proxy/head.h - the head of an HTTP/1 message: what is left of its first line, and its fields, in the order in
 * which they came.
 *
 * Filled piece by piece as a parser finds them; bounded. Slices point into the head and are good until it is added
 * to or reset. */
#ifndef LITEFS_PROXY_HEAD_H
#define LITEFS_PROXY_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_MAX_BYTES (64u * 1024) /* of all its text */
#define HEAD_MAX_FIELDS 256u

struct slice {
        const char *p;
        size_t n;
};

struct head_field {
        uint32_t at, name_n, value_n; /* the value follows the name */
};

struct head {
        char *bytes;
        size_t n, capacity;
        struct head_field *fields;
        size_t n_fields, fields_capacity;
        uint32_t line_n;
        bool is_in_value;
};

/* Empty again; keeps a little memory for the next. */
void head_reset(struct head *h);
void head_release(struct head *h);

/* A piece of the request's target or of the response's reason, which come first; of a field's name; of its value.
 * 0, -ENOMEM, or -E2BIG over the bounds. */
int head_add_line(struct head *h, const char *s, size_t n);
int head_add_name(struct head *h, const char *s, size_t n);
int head_add_value(struct head *h, const char *s, size_t n);

struct slice head_line(const struct head *h);
struct slice head_name(const struct head *h, size_t i);
/* Without blanks around it. */
struct slice head_value(const struct head *h, size_t i);

/* How many fields are called @name; *@ret is the first one's value. */
size_t head_find(const struct head *h, const char *name, struct slice *ret);
/* Whether one of the comma-separated words of the fields called @name is @word. */
bool head_has_word(const struct head *h, const char *name, const char *word);

/* Case does not count. */
bool slice_is(struct slice s, const char *text);
struct slice slice_trim(struct slice s);
/* Takes the next word of a list off @list: false at its end. */
bool slice_next(struct slice *list, char separator, struct slice *ret);

#endif
