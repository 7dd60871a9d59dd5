/* lib/base/utf8.h - text for outputs that are UTF-8, from names of files, which need not be.
 *
 * One rule wherever a name is shown (JSON, metrics, log): a byte that is no part of a UTF-8 character is written as
 * \xHH. What is asked for is the name itself. */
#ifndef LITEFS_BASE_UTF8_H
#define LITEFS_BASE_UTF8_H

#include <stddef.h>

/* The length of the character at @s, which a zero byte ends, or 0 when there is none. */
size_t utf8_length(const char *s);
/* @s as it is shown, cut to @size with its end; four times as long as @s is enough. @ret. */
char *utf8_show(const char *s, char *ret, size_t size);

#endif
