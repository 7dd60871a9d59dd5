/* lib/base/base64.h - bytes as text (RFC 4648, section 4: with padding). */
#ifndef LITEFS_BASE_BASE64_H
#define LITEFS_BASE_BASE64_H

#include <stddef.h>

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)
/* BASE64_SIZE(@n) bytes, with a zero behind. */
void base64_encode(const void *data, size_t n, char *ret);
/* The number of bytes, or -1: not base64, or more than @size. */
int base64_decode(const char *text, void *ret, size_t size);

#endif
